"""
Denoising images of 28 x 28 pixels
==================================

Learn how to pass images, how to train for a noise that you know, and what to compare
with. A denoising autoencoder, with dense layers and with convolutions, removes strong
noise from handwritten digits, beside a median filter, the Wiener filter and PCA.
"""

# %%
# The images
# ----------
#
# 2,000 digits of MNIST, of 28 x 28 pixels with 16 grey values: 150 of each digit to
# train on, 50 to judge by. They come in one picture, with one digit in each line.
# Estimators take one row per image, so the last axes are flattened. All of MNIST comes
# with ``fetch_openml("mnist_784")``; more images make all results below better.

import inspect
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

# The path of this script: the gallery does not set __file__.
FOLDER = Path(inspect.currentframe().f_code.co_filename).parent.parent / "data"
DATA = FOLDER / "mnist.png"
if not DATA.exists():
    raise SystemExit(f"examples/data/{DATA.name} of the repository is not at {DATA}")

SIDE = 28
picture = plt.imread(DATA)[..., 0]  # grey, so that red, green and blue are the same
images = picture.reshape(10, SIDE, 200, SIDE).swapaxes(1, 2)
train = images[:, :150].reshape(1500, -1)
test = images[:, 150:].reshape(500, -1)

NOISE = 0.5
rng = np.random.default_rng(0)
noisy = test + NOISE * rng.normal(size=test.shape).astype(np.float32)

# %%
# The models
# ----------
#
# The strength of :class:`~skae.corruptions.Gaussian` counts in units of the data: the
# root of the mean variance of the columns. In each step of training the network gets
# images with new noise, and has to return the clean ones.
#
# The default network has dense layers. :class:`~skae.architectures.Conv` gets the shape
# of an image, channels first.

from skae import AutoencoderTransformer
from skae.architectures import Conv
from skae.corruptions import Gaussian

corruption = Gaussian(NOISE / np.sqrt(train.var(axis=0).mean()))
networks = {
    "skae, dense layers": AutoencoderTransformer(
        64, corruption=corruption, max_epochs=30, early_stopping=False, random_state=0
    ),
    "skae, convolutions": AutoencoderTransformer(
        64,
        architecture=Conv((1, SIDE, SIDE), channels=(16, 32)),
        corruption=corruption,
        max_epochs=20,
        early_stopping=False,
        random_state=0,
    ),
}

# %%
# Filters do not need to be trained: they know that neighbouring pixels are alike, but
# not what a digit is. PCA knows digits: noise spreads over all directions, digits over
# a few, so that some of it is lost on the way through the code. Its number of
# components is the best of four *for the test images*, and so are the sizes of the
# filters, in their favour.

import pandas as pd
from scipy.ndimage import median_filter
from scipy.signal import wiener
from sklearn.decomposition import PCA


def filtered(function, size):
    """Return the noisy images after a filter of size x size pixels."""
    return np.stack([function(row.reshape(SIDE, SIDE), size).ravel() for row in noisy])


def error(restored):
    """Return the mean squared error of a pixel."""
    return np.mean((np.clip(restored, 0, 1) - test) ** 2)


def best(candidates):
    """Return the images with the smallest error."""
    return min(candidates, key=error)


restored = {
    "noisy": noisy,
    "median filter": best([filtered(median_filter, size) for size in (3, 5)]),
    "Wiener filter": best([filtered(wiener, size) for size in (3, 5, 7)]),
}
linear = [PCA(k, random_state=0).fit(train) for k in (16, 32, 48, 64)]
restored["PCA"] = best([pca.inverse_transform(pca.transform(noisy)) for pca in linear])
for name, model in networks.items():
    restored[name] = model.fit(train).reconstruct(noisy)

# %%
# Two numbers: the error of a pixel, and how many digits a classifier recognises that
# was trained on clean ones.

from sklearn.svm import SVC

digit = np.repeat(np.arange(10), 150)
classifier = SVC(gamma="scale").fit(train, digit)
labels = np.repeat(np.arange(10), 50)
rows = {
    name: {
        "error x 1000": 1000 * error(group),
        "recognised": classifier.score(np.clip(group, 0, 1), labels),
    }
    for name, group in (restored | {"clean": test}).items()
}
print(pd.DataFrame(rows).T.to_string(float_format="{:.2f}".format))

# %%
# The networks have the smallest errors. A classifier that was trained on clean images
# gains little from any of them over the filters: denoise for the eye, or for a step
# that needs the pixels. With 1,500 images dense layers are as good as convolutions;
# with more of them convolutions are ahead: :doc:`/guide/evidence`. If the noise cannot
# be imitated, but there are pairs of noisy and clean images, pass them as ``fit(noisy,
# X_target=clean)``. :doc:`/guide/corruptions` has other kinds of noise.

shown = ["noisy", "Wiener filter", "PCA", "skae, dense layers", "skae, convolutions"]
figure, grid = plt.subplots(
    len(shown) + 1, 10, figsize=(9, 5.6), layout="constrained", squeeze=False
)
for axes, name in zip(grid, [*shown, "clean"], strict=True):
    group = (restored | {"clean": test})[name]
    for ax, image in zip(axes, group[3::50].reshape(-1, SIDE, SIDE), strict=True):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    colour = "#d1495b" if "skae" in name else "black"
    axes[0].set_ylabel(
        name.replace(", ", ",\n"), rotation=0, ha="right", va="center", color=colour
    )
plt.show()
