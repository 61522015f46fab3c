"""
Compressing a photograph, beside JPEG
=====================================

A code is short, but what does it cost to store? Components are rounded, and what is
left is counted in bits. Then an autoencoder, PCA and JPEG are in the same units:
quality in decibels against bits per pixel. The image codec of 1992 is hard to beat.
"""

# %%
# The photograph
# --------------
#
# ``china.jpg`` of scikit-learn in grey. The left third is there to learn from: patches
# of 8 x 8 pixels, the block size of JPEG. The rest, cut into blocks without overlap, is
# to be compressed.

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image
from sklearn.feature_extraction.image import extract_patches_2d

SIDE = 8

photo = load_sample_image("china.jpg") @ np.array([0.299, 0.587, 0.114])
left, right = photo[:424, :208], photo[:424, 208:].round().astype(np.uint8)
train = extract_patches_2d(left, (SIDE, SIDE), max_patches=20_000, random_state=0)
train = train.reshape(len(train), -1).astype(np.float32)
height, width = right.shape
blocks = right.reshape(height // SIDE, SIDE, width // SIDE, SIDE).swapaxes(1, 2)
blocks = blocks.reshape(-1, SIDE**2).astype(np.float32)


def picture(blocks):
    grey = blocks.clip(0, 255).round().astype(np.uint8)
    grid = grey.reshape(height // SIDE, width // SIDE, SIDE, SIDE)
    return grid.swapaxes(1, 2).reshape(height, width)


def psnr(image):
    return 10 * np.log10(255**2 / np.square(image - right.astype(float)).mean())


# %%
# What is counted
# ---------------
#
# Each component is divided by a step, the same for all, and rounded. The bits are those
# of an ideal entropy coder that knows how often each integer came up in the *training*
# patches, component by component: minus the logarithm of that share, averaged over the
# blocks to be compressed. An integer that never came up there is not free either, for
# one is added to all counts.
#
# Not counted are the tables of shares and the model itself, some hundred kilobytes of
# weights, which sender and receiver must both have; for one photograph they would
# outweigh it. JPEG's file is counted whole, tables included. It, in turn, uses what
# neighbouring blocks have in common, at least for their means; the others do not.


def bits_per_pixel(symbols, seen):
    """Return the bits for integers, one column per component, given training ones."""
    bits = 0.0
    for column, known in zip(symbols.T, seen.T, strict=True):
        low, high = min(column.min(), known.min()), max(column.max(), known.max())
        counts = 1 + np.bincount(known - low, minlength=high - low + 1)
        bits -= np.log2(counts[column - low] / counts.sum()).mean()
    return bits / SIDE**2


def rounded(model, step):
    code, seen = (
        np.round(model.transform(rows) / step).astype(int) for rows in (blocks, train)
    )
    image = picture(model.inverse_transform((code * step).astype(np.float32)))
    return bits_per_pixel(code, seen), psnr(image), image


def jpeg(quality):
    file = io.BytesIO()
    Image.fromarray(right).save(file, "JPEG", quality=quality, optimize=True)
    image = np.asarray(Image.open(file))
    return 8 * len(file.getvalue()) / right.size, psnr(image), image


# %%
# The contestants
# ---------------
#
# PCA with all 64 components, which with rounding is a transform codec: components that
# round to zero cost next to nothing. Two autoencoders with 8 and 32 numbers per block.
# And one whose code is made of symbols to begin with:
# :class:`~skae.bottlenecks.FiniteScalar` rounds in training already, so that the
# decoder has seen what rounding does. It is one point, not a curve: another rate is
# another model.

import pandas as pd
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae.bottlenecks import FiniteScalar

settings = {"max_epochs": 20, "early_stopping": False, "random_state": 0}
pca = PCA(random_state=0).fit(train)
small = AutoencoderTransformer(8, **settings).fit(train)
large = AutoencoderTransformer(32, **settings).fit(train)
symbolic = AutoencoderTransformer(8, bottleneck=FiniteScalar(8), **settings).fit(train)

steps = [400, 250, 180, 130, 90, 60, 40, 30]
curves = {
    "JPEG": [jpeg(quality) for quality in (3, 5, 10, 20, 30, 40, 50, 60, 70)],
    "PCA, 64 numbers": [rounded(pca, step) for step in steps],
    "skae, 8 numbers": [rounded(small, step) for step in steps],
    "skae, 32 numbers": [rounded(large, step) for step in steps],
    "skae, 8 symbols": [
        (
            bits_per_pixel(symbolic.quantize(blocks), symbolic.quantize(train)),
            psnr(image := picture(symbolic.reconstruct(blocks))),
            image,
        )
    ],
}

rates = [0.15, 0.25, 0.4, 0.6]
table = {}
for name, points in curves.items():
    bits, decibels, _ = zip(*points, strict=True)
    table[name] = np.interp(rates, bits, decibels, left=np.nan, right=np.nan)
table = pd.DataFrame(table, index=[f"{rate} bit" for rate in rates]).T
bits, decibels, _ = curves["skae, 8 symbols"][0]
print("Decibels at so many bits per pixel, between measured points")
print(table.drop("skae, 8 symbols").to_string(float_format="{:.1f}".format, na_rep="-"))
print(f"skae, 8 symbols: {decibels:.1f} dB at {bits:.2f} bit")

# %%
# JPEG is ahead wherever files are small. Only towards one bit per pixel does PCA reach
# it. The autoencoder with 32 numbers is about equal to PCA until the components that it
# does not have are missing; with eight numbers that is soon, and smaller steps cannot
# bring back what the code leaves out. The symbols are the worst bargain. On new blocks
# of a photograph the bend of the code gains next to nothing over a flat space.
#
# Learnt codecs that do beat JPEG are far larger, see far more than a block, and train
# on many photographs.

import matplotlib.pyplot as plt

COLOURS = ["#30638e", "#8a8f98", "#edae49", "#d1495b", "#d1495b"]
figure = plt.figure(figsize=(11, 6.4), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1, 0.9])
ax = above.subplots()
for (name, points), colour in zip(curves.items(), COLOURS, strict=True):
    bits, decibels, _ = zip(*points, strict=True)
    marker = "D" if len(points) == 1 else "o"
    ax.plot(bits, decibels, marker=marker, color=colour, label=name, markersize=5)
ax.set(xlabel="bits per pixel", ylabel="PSNR, dB", xlim=(0, 1), ylim=(19, 29))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower right")

# Of each curve, the picture that comes nearest to 0.3 bit.
part = np.s_[150:310, :220]
panels = below.subplots(1, 4)
panels[0].imshow(right[part], cmap="gray", vmin=0, vmax=255)
panels[0].set_title("original, 8 bit", fontsize="medium")
for ax, name in zip(panels[1:], [*list(curves)[:2], "skae, 32 numbers"], strict=True):
    bits, decibels, image = min(curves[name], key=lambda point: abs(point[0] - 0.3))
    ax.imshow(image[part], cmap="gray", vmin=0, vmax=255)
    ax.set_title(f"{name}\n{bits:.2f} bit, {decibels:.1f} dB", fontsize="medium")
for ax in panels:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
plt.show()
