"""
Codes of handwritten digits
===========================

A code of a few numbers per image has three uses: to look at, to group images by, and to
tell them apart by. Here each is tried on the digits of scikit-learn, with the code of
an autoencoder, that of PCA, and all pixels. Labels are shown to the classifiers only,
and every score is that of images which neither the code nor what is behind it was
trained on.
"""

# %%
# To look at
# ----------
#
# Two numbers per image. The autoencoder starts at the map of PCA, and then bends it.

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
        f"neighbours are right on {neighbours.score(code, y_test):.0%}",
        xticks=[],
        yticks=[],
    )
    ax.spines[:].set_visible(False)

# %%
# Twice as much of the images is in the two numbers, and digits that PCA has on top of
# each other lie apart. Methods made for maps, such as :class:`~sklearn.manifold.TSNE`,
# draw islands that are clearer still, but have no ``transform`` for new images and no
# way back.
#
# To group and to classify by
# ---------------------------
#
# K-means with ten clusters is fitted on the codes of training images and gives each
# test image a cluster. The adjusted Rand index compares these with the digits: 1 if
# they agree, 0 if by chance. Three random starts, of which the tightest is kept, for
# each of five seeds. Then two classifiers: a linear one, on standardised codes, and ten
# nearest neighbours.

SIZES = [2, 4, 8, 16]
MODELS = {
    "PCA": lambda k: PCA(k, random_state=0),
    "autoencoder": lambda k: AutoencoderTransformer(k, random_state=0),
}


def evaluate(train, test):
    """Score codes by what can be done with them."""
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
        results.append({"code": name, "numbers": size, "R2": r2} | evaluate(*codes))
results.append({"code": "all pixels", "numbers": 64, "R2": 1.0})
results[-1] |= evaluate(X_train, X_test)
results = pd.DataFrame(results)
print("Digits, scores on 540 images that nothing was trained on")
print(results.to_string(index=False, float_format="{:.3f}".format))

# %%
# With two or four numbers the autoencoder is clearly ahead of PCA, for clusters and for
# both classifiers: what PCA cannot say in so few, a bent map can. From eight numbers on
# k-means gains little, even by all pixels. With sixteen numbers PCA is as good for all
# three uses, though the autoencoder still reconstructs more: what it adds are details
# of the strokes that tell no digit from another. For both classifiers all pixels are
# best, if not by much.
#
# So the code depends on its use. To draw and to group, take a small code of an
# autoencoder. To classify images as small as these, sixteen numbers of PCA will do.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
COLOURS = {"PCA": "#8a8f98", "autoencoder": "#d1495b"}
for ax, score in zip(axes, results.columns[3:], strict=True):
    for name, colour in COLOURS.items():
        rows = results[results["code"] == name]
        ax.plot(rows["numbers"], rows[score], "o-", color=colour, label=name)
    ax.axhline(results[score].iloc[-1], color="#30638e", ls="--", lw=1)
    ax.set(title=score, xlabel="numbers per image", xscale="log")
    ax.set_xticks(SIZES, SIZES)
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
axes[1].annotate("all pixels", (2, results.iloc[-1, 4]), (0, -12),
                 textcoords="offset points", color="#30638e")  # fmt: skip
axes[-1].legend(frameon=False, loc="lower right")
plt.show()
