"""
Image compression compared with JPEG
====================================

How many bits does a code need? This example rounds the components of a code and
measures their entropy, so that an autoencoder, PCA and JPEG are compared in the same
units: quality in decibels against bits per pixel. The image codec of 1992 is hard to
beat.
"""

# %%
# The photograph
# --------------
#
# ``china.jpg`` of scikit-learn in grey. Patches of 8 x 8 pixels, the block size of
# JPEG, from the left third are the training rows. The rest, cut into blocks without
# overlap, is compressed.

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
# Counting bits
# -------------
#
# Each component is divided by a step, the same for all, and rounded. The number of bits
# is that of an ideal entropy coder with the frequencies of the *training* patches for
# each component: minus the binary logarithm of the frequency, averaged over the blocks
# to compress. One is added to all counts, so that integers that do not occur in
# training have a cost too.
#
# The tables of frequencies and the model are not counted: some hundred kilobytes of
# weights, which sender and receiver must both have. For one photograph they would
# exceed its size. The JPEG file is counted as a whole, including tables. JPEG also uses
# the correlation between neighbouring blocks, at least for their means; the other
# methods do not.


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
# The methods
# -----------
#
# - PCA with all 64 components, which with rounding is a transform codec: components
#   that round to zero cost next to nothing.
# - Two autoencoders, with 8 and 32 components per block.
# - An autoencoder with a discrete code: :class:`~skae.bottlenecks.FiniteScalar` rounds
#   during training already, so the decoder is trained with rounded codes. It is one
#   point, not a curve, since another rate requires another model.

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
    "PCA, 64 components": [rounded(pca, step) for step in steps],
    "skae, 8 components": [rounded(small, step) for step in steps],
    "skae, 32 components": [rounded(large, step) for step in steps],
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
print("PSNR in dB by bits per pixel, interpolated")
print(table.drop("skae, 8 symbols").to_string(float_format="{:.1f}".format, na_rep="-"))
print(f"skae, 8 symbols: {decibels:.1f} dB at {bits:.2f} bit")

# %%
# JPEG is better at all small file sizes. PCA reaches it only near one bit per pixel.
# The autoencoder with 32 components is about equal to PCA until the missing components
# matter. With eight components this is the case soon, and smaller steps cannot restore
# what the code omits. The discrete code has the worst quality for its size. On new
# blocks of a photograph the nonlinear code gains next to nothing over a linear one.
#
# Learnt codecs that beat JPEG are far larger, use far more than one block, and are
# trained on many photographs.

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

# For each curve, the picture closest to 0.3 bit.
part = np.s_[150:310, :220]
panels = below.subplots(1, 4)
panels[0].imshow(right[part], cmap="gray", vmin=0, vmax=255)
panels[0].set_title("original, 8 bit", fontsize="medium")
for ax, name in zip(
    panels[1:], [*list(curves)[:2], "skae, 32 components"], strict=True
):
    bits, decibels, image = min(curves[name], key=lambda point: abs(point[0] - 0.3))
    ax.imshow(image[part], cmap="gray", vmin=0, vmax=255)
    ax.set_title(f"{name}\n{bits:.2f} bit, {decibels:.1f} dB", fontsize="medium")
for ax in panels:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
plt.show()
