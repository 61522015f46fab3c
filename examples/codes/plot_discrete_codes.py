"""
Discrete codes: images as a few integers
========================================

Learn how to represent an image by a few integers, for storage, counting, hashing or
language models. Two bottlenecks produce discrete codes:
:class:`~skae.bottlenecks.VectorQuantized` replaces parts of the code by entries of
learnt codebooks, and :class:`~skae.bottlenecks.FiniteScalar` rounds each component to a
few levels. This example compares them, at the same number of bits per image, with
k-means (a codebook of whole images) and with the rounded scores of PCA.
"""

# %%
# Encoding and decoding
# ---------------------
#
# ``quantize`` returns the integers, and ``dequantize`` the images that they represent.

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.bottlenecks import FiniteScalar, VectorQuantized

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, stratify=y, random_state=0
)


def codebooks(n_bits):
    """Symbols of four bits, each for two components."""
    groups = n_bits // 4
    bottleneck = VectorQuantized(16, n_groups=groups)
    return AutoencoderTransformer(2 * groups, bottleneck=bottleneck, random_state=0)


def levels(n_bits):
    """Symbols of two bits, each for one component."""
    bottleneck = FiniteScalar(levels=4)
    return AutoencoderTransformer(n_bits // 2, bottleneck=bottleneck, random_state=0)


BITS = [4, 8, 16, 32]
fitted = {
    (name, n_bits): make(n_bits).fit(X_train)
    for name, make in {"VectorQuantized": codebooks, "FiniteScalar": levels}.items()
    for n_bits in BITS
}
model = fitted["VectorQuantized", 16]
symbols = model.quantize(X_test)
restored = model.dequantize(symbols)
print("Three test images in 16 bits each:")
print(symbols[:3])
print("equal to reconstruct:", np.allclose(restored, model.reconstruct(X_test)))

# %%
# Comparison at the same number of bits
# -------------------------------------
#
# For a fair comparison each PCA score is rounded to the centres of one-dimensional
# k-means, and the bits are allocated greedily: each further bit goes to the component
# whose error it reduces most. For k-means on whole images, 8 bits are a codebook of 256
# images, learnt from 1257; 16 bits would be 65,536.

pca = PCA(16, random_state=0).fit(X_train)
scores = pca.transform(X_train)
grids = [
    [KMeans(2**b, random_state=0).fit(scores[:, [i]]) for b in range(6)]
    for i in range(pca.n_components_)
]
errors = np.array([[grid.inertia_ for grid in component] for component in grids])


def rounded_pca(n_bits):
    bits = np.zeros(pca.n_components_, dtype=int)
    everyone = np.arange(len(bits))
    for _ in range(n_bits):
        gain = errors[everyone, bits] - errors[everyone, np.minimum(bits + 1, 5)]
        bits[gain.argmax()] += 1

    def reconstruct(X):
        rounded = np.empty((len(X), len(bits)))
        for i, score in enumerate(pca.transform(X).T[:, :, np.newaxis]):
            grid = grids[i][bits[i]]
            rounded[:, i] = grid.cluster_centers_[grid.predict(score), 0]
        return pca.inverse_transform(rounded)

    return reconstruct


def whole_images(n_bits):
    kmeans = KMeans(2**n_bits, n_init=3, random_state=0).fit(X_train)
    return lambda X: kmeans.cluster_centers_[kmeans.predict(X)]


restore = {
    ("k-means", 4): whole_images(4),
    ("k-means", 8): whole_images(8),
    **{("PCA, rounded", n_bits): rounded_pca(n_bits) for n_bits in BITS},
    **{key: model.reconstruct for key, model in fitted.items()},
}


def explained(reconstruct, X):
    residual, spread = X - reconstruct(X), X - X_train.mean(axis=0)
    return 1 - np.sum(residual**2) / np.sum(spread**2)


results = pd.DataFrame(
    [
        {
            "method": name,
            "bits": n_bits,
            "R2 train": explained(reconstruct, X_train),
            "R2 test": explained(reconstruct, X_test),
        }
        for (name, n_bits), reconstruct in restore.items()
    ]
)
table = results.pivot(index="method", columns="bits", values=["R2 train", "R2 test"])
print("\nR² by bits per image")
print(table.loc[["k-means", "PCA, rounded", "VectorQuantized", "FiniteScalar"]]
      .to_string(float_format="{:.3f}".format, na_rep="-"))  # fmt: skip

use = pd.DataFrame(
    {
        name: {
            "symbols per image": fitted[name, 16].quantize(X_test).shape[1],
            "values per symbol": n_values,
            "perplexity": fitted[name, 16].perplexity_,
        }
        for name, n_values in (("VectorQuantized", 16), ("FiniteScalar", 4))
    }
).T
print("\nUsage of the symbols, 16 bits")
print(use.to_string(float_format="{:.1f}".format))

# %%
# At 4 and 8 bits k-means is the best method. As long as a codebook of whole images can
# be learnt, nothing is simpler or better. But its size doubles with every bit. At 8
# bits there is one codebook image for every five training images, and the error on new
# images is far larger; at 16 bits it is not feasible. Codes of several symbols
# represent as many images as there are combinations. They are better than the rounded
# scores of PCA at all sizes, most of all at 8 bits. The two bottlenecks differ little;
# ``FiniteScalar`` has fewer parameters.
#
# The perplexity is the effective number of values in use. It is close to the number of
# values, so no bits are wasted.
#
# Plot
# ----
#
# R² against bits, and the reconstructions of ten test images.

import matplotlib.pyplot as plt

COLOURS = {
    "k-means": "#30638e",
    "PCA, rounded": "#8a8f98",
    "VectorQuantized": "#edae49",
    "FiniteScalar": "#d1495b",
}
plt.rcParams["axes.titlesize"] = "medium"
figure = plt.figure(figsize=(12, 4.2), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 1.6])
ax = left.subplots()
for name, colour in COLOURS.items():
    rows = results[results["method"] == name]
    ax.plot(rows["bits"], rows["R2 test"], "o-", color=colour, label=name)
ax.set(xscale="log", xlabel="bits per image", title="R² on new images")
ax.set_xticks(BITS, BITS)
ax.minorticks_off()
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

examples = np.array([X_test[y_test == digit][0] for digit in range(10)])
shown = {
    "new images, 64 grey values": examples,
    "k-means, 8 bits": restore["k-means", 8](examples),
    "PCA, rounded, 16 bits": restore["PCA, rounded", 16](examples),
    "VectorQuantized, 16 bits": restore["VectorQuantized", 16](examples),
    "FiniteScalar, 16 bits": restore["FiniteScalar", 16](examples),
}


def show(ax, images, title):
    """Draw images of 8 x 8 pixels side by side."""
    padded = np.pad(images.reshape(-1, 8, 8), ((0, 0), (0, 0), (1, 1)))
    ax.imshow(np.hstack(list(padded)), cmap="gray_r", vmin=0, vmax=16)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="left")


for ax, (name, images) in zip(right.subplots(5, 1), shown.items(), strict=True):
    show(ax, images, name)
plt.show()
