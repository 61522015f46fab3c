"""
Latent codes of handwritten digits: plotting, clustering, classification
========================================================================

Learn what a code of a few numbers per image is good for: plotting, clustering and
classification. This example compares the code of an autoencoder, the code of PCA and
all pixels on the digits of scikit-learn. Labels are used for training classifiers only.
All scores are computed on images that were used to fit neither the code nor the model
that follows.
"""

# %%
# Plotting
# --------
#
# Two numbers per image. The autoencoder is initialised as PCA and trained from there.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_scorer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, stratify=y, random_state=0
)
maps = {
    "PCA": PCA(2, random_state=0).fit(X_train),
    "autoencoder": AutoencoderTransformer(2, random_state=0).fit(X_train),
}

plt.rcParams["axes.titlesize"] = "medium"
figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
colours = plt.colormaps["tab10"](np.arange(10))
for ax, (name, model) in zip(axes, maps.items(), strict=True):
    code = model.transform(X_test)
    neighbours = KNeighborsClassifier(10).fit(model.transform(X_train), y_train)
    ax.scatter(*code.T, s=14, c=colours[y_test], alpha=0.55, linewidths=0)
    for digit in range(10):
        ax.annotate(
            str(digit),
            np.median(code[y_test == digit], axis=0),
            ha="center",
            va="center",
            fontsize=15,
            fontweight="bold",
            color=colours[digit],
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    ax.set(
        title=f"{name}: R² {reconstruction_scorer(model, X_test):.2f}, "
        f"accuracy of 10 neighbours {neighbours.score(code, y_test):.0%}",
        xticks=[],
        yticks=[],
    )
    ax.spines[:].set_visible(False)

# %%
# The autoencoder explains twice as much of the variance, and separates digits that
# overlap with PCA. Methods for visualisation, such as :class:`~sklearn.manifold.TSNE`,
# give clearer clusters, but have no ``transform`` for new images and no inverse.
#
# Clustering and classification
# -----------------------------
#
# K-means with ten clusters is fitted on the codes of the training images and assigns a
# cluster to each test image. The adjusted Rand index compares the clusters with the
# digits: 1 for perfect agreement, 0 for chance. The index is the mean over five seeds;
# each run uses the best of three random starts. The classifiers are a linear one, on
# standardised codes, and ten nearest neighbours.

SIZES = [2, 4, 8, 16]
MODELS = {
    "PCA": lambda k: PCA(k, random_state=0),
    "autoencoder": lambda k: AutoencoderTransformer(k, random_state=0),
}


def evaluate(train, test):
    """Return clustering and classification scores of codes."""
    rand = [
        adjusted_rand_score(
            y_test, KMeans(10, n_init=3, random_state=seed).fit(train).predict(test)
        )
        for seed in range(5)
    ]
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return {
        "k-means, Rand index": np.mean(rand),
        "linear, accuracy": linear.fit(train, y_train).score(test, y_test),
        "neighbours, accuracy": KNeighborsClassifier(10)
        .fit(train, y_train)
        .score(test, y_test),
    }


results = []
for name, make in MODELS.items():
    for size in SIZES:
        model = make(size).fit(X_train)
        codes = model.transform(X_train), model.transform(X_test)
        r2 = reconstruction_scorer(model, X_test)
        results.append({"code": name, "components": size, "R2": r2} | evaluate(*codes))
results.append({"code": "all pixels", "components": 64, "R2": 1.0})
results[-1] |= evaluate(X_train, X_test)
results = pd.DataFrame(results)
print("Digits, scores on 540 test images")
print(results.to_string(index=False, float_format="{:.3f}".format))

# %%
# With two or four components the autoencoder is clearly better than PCA, for clustering
# and for both classifiers: it is not restricted to a linear map. From eight components
# on k-means gains little, even with all pixels. With sixteen components PCA is as good
# for all three uses, although the autoencoder still reconstructs more: the additional
# details of the strokes do not help to distinguish digits. Both classifiers are best
# with all pixels, by a small margin.
#
# The choice depends on the use. For plots and clusters take a small code of an
# autoencoder. To classify images as small as these, sixteen components of PCA are
# enough.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
COLOURS = {"PCA": "#8a8f98", "autoencoder": "#d1495b"}
for ax, score in zip(axes, results.columns[3:], strict=True):
    for name, colour in COLOURS.items():
        rows = results[results["code"] == name]
        ax.plot(rows["components"], rows[score], "o-", color=colour, label=name)
    ax.axhline(results[score].iloc[-1], color="#30638e", ls="--", lw=1)
    ax.set(title=score, xlabel="components", xscale="log")
    ax.set_xticks(SIZES, SIZES)
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
axes[1].annotate("all pixels", (2, results.iloc[-1, 4]), (0, -12),
                 textcoords="offset points", color="#30638e")  # fmt: skip
axes[-1].legend(frameon=False, loc="lower right")
plt.show()
