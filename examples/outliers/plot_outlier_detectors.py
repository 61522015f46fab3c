"""
Comparison of outlier detectors
===============================

Learn how detectors differ: five of them with default parameters on data sets of
scikit-learn: the ranking of abnormal rows, the running time, the distribution of the
scores, and the decision regions in two dimensions. None of them is best everywhere.
"""

# %%
# The detectors
# -------------
#
# All detectors use standardised columns and train on normal rows. The thresholds are
# the defaults, except that three of the detectors get the same rate: 1 % of the
# training rows. The ranking does not depend on it.

from time import process_time

import numpy as np
import pandas as pd
from sklearn.covariance import EllipticEnvelope
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skae import AutoencoderOutlierDetector
from skae.metrics import make_outlier_scorer

DETECTORS = {
    "autoencoder": AutoencoderOutlierDetector(random_state=0),
    "IsolationForest": IsolationForest(contamination=0.01, random_state=0),
    "LocalOutlierFactor": LocalOutlierFactor(contamination=0.01, novelty=True),
    "OneClassSVM": OneClassSVM(),
    "EllipticEnvelope": EllipticEnvelope(contamination=0.01, random_state=0),
}

# %%
# One-class tasks
# ---------------
#
# One class, or all but one, is normal. 60 % of its rows are for training; the rest and
# all abnormal rows are the test set. Breast cancer: benign is normal. Wine: each of the
# three cultivars in turn. Digits in two groups: one digit is normal (three tasks, easy:
# the others look different), or all but one are (three tasks, hard: the left-out digit
# is made of the same strokes).
#
# Some columns of the digits never vary, and EllipticEnvelope warns about its
# covariance. A cultivar has fewer than 80 rows, and the autoencoder warns that it stays
# PCA. Both warnings are suppressed.

import warnings

from skae.exceptions import InitialWeightsWarning


def tasks():
    """Yield the name of a group, rows, and which of them are abnormal."""
    X, is_benign = load_breast_cancer(return_X_y=True)
    yield "breast cancer", X, is_benign == 0
    X, cultivar = load_wine(return_X_y=True)
    for normal in range(3):
        yield "wine", X, cultivar != normal
    X, digit = load_digits(return_X_y=True)
    for chosen in range(0, 10, 4):
        yield "digits, one is normal", X, digit != chosen
    for chosen in range(0, 10, 4):
        yield "digits, one is not", X, digit == chosen


def split(X, is_outlier):
    """Return training rows, test rows, and labels of these."""
    train, test = train_test_split(X[~is_outlier], test_size=0.4, random_state=0)
    rows = np.concatenate([test, X[is_outlier]])
    return train, rows, np.repeat([False, True], [len(test), is_outlier.sum()])


auroc = make_outlier_scorer()
outcomes = []
for task, X, is_outlier in tasks():
    train, rows, labels = split(X, is_outlier)
    for name, detector in DETECTORS.items():
        model = make_pipeline(StandardScaler(), detector)
        start = process_time()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The covariance matrix", UserWarning)
            warnings.simplefilter("ignore", InitialWeightsWarning)
            model.fit(train)
        area = auroc(model, rows, labels)
        outcomes.append((task, name, area, process_time() - start))
outcomes = pd.DataFrame(outcomes, columns=["task", "detector", "AUROC", "seconds"])
table = outcomes.pivot_table("AUROC", "detector", "task", sort=False)
table["mean of 4"] = table.mean(axis=1)
table["seconds"] = outcomes.groupby("detector")["seconds"].mean()
print("AUROC, means over the tasks of a group; seconds to fit and to score")
print(table.to_string(float_format="{:.3f}".format))

# %%
# If a class looks different from all others, any detector works, and the fastest is the
# best choice. If the difference is in relations between columns, IsolationForest,
# OneClassSVM and EllipticEnvelope are far behind the autoencoder and
# LocalOutlierFactor. These two rank about equally well, and LocalOutlierFactor has no
# training and is many times as fast. The autoencoder additionally has explanations
# (`explain`) and thresholds for a given false alarm rate (`calibrate`), and it does not
# need to store all training rows.
#
# Decision regions
# ----------------
#
# Two columns each: of wine, with two cultivars for training and the third between them,
# and of breast cancer, with benign rows for training. Colours are ranks of the scores
# over the plane; red is abnormal. The line is the threshold: everything outside is
# flagged. Training rows are white, abnormal rows yellow.

import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from scipy.stats import rankdata

INK = "#22223b"
plt.rcParams["axes.titlesize"] = "medium"
shades = LinearSegmentedColormap.from_list(
    "shades", ["#30638e", "#c7d5e3", "#ffffff", "#f0c5ca", "#d1495b"]
)

wine, cancer = load_wine(as_frame=True), load_breast_cancer(as_frame=True)
planes = {
    ("flavanoids", "color_intensity"): (wine.data, wine.target == 1),
    ("mean radius", "mean texture"): (cancer.data, cancer.target == 0),
}
figure, axes = plt.subplots(
    2, len(DETECTORS), figsize=(11, 4.9), layout="constrained", sharey="row"
)
for line, ((across, up), (data, is_outlier)) in zip(axes, planes.items(), strict=True):
    plane = data[[across, up]].to_numpy()
    low, high = plane.min(axis=0), plane.max(axis=0)
    margin = 0.12 * (high - low)
    grid = np.meshgrid(*np.linspace(low - margin, high + margin, 70).T)
    for ax, detector in zip(line, DETECTORS.values(), strict=True):
        model = make_pipeline(StandardScaler(), detector).fit(plane[~is_outlier])
        normality = model.decision_function(np.column_stack([*map(np.ravel, grid)]))
        normality = normality.reshape(grid[0].shape)
        ranks = rankdata(-normality).reshape(normality.shape)
        ax.pcolormesh(*grid, ranks, cmap=shades, rasterized=True)
        ax.contour(*grid, normality, levels=[0], colors=INK, linewidths=1.6)
        for chosen, colour in ((~is_outlier, "white"), (is_outlier, "#edae49")):
            ax.scatter(*plane[chosen].T, s=9, color=colour, ec=INK, lw=0.4)
        ax.set(xticks=[], yticks=[], xlabel=across.replace("_", " "))
    line[0].set_ylabel(up.replace("_", " "))
for ax, name in zip(axes[0], DETECTORS, strict=True):
    ax.set_title(name)

# %%
# EllipticEnvelope fits an ellipse to any data. The others follow the shape of the data.
# OneClassSVM flags half of the training rows at its default, ``nu=0.5``; this affects
# its threshold and not its ranking. IsolationForest splits parallel to the axes, which
# is visible.
#
# Distribution of the scores
# --------------------------
#
# Breast cancer with all columns: :class:`~skae.displays.AnomalyScoreDisplay` works with
# any detector. The dashed line is the threshold; the legend shows the share of rows
# beyond it. Thresholds and score scales differ between the detectors, so compare
# rankings in the last panel, which shows the AUROC table above.

from skae.displays import AnomalyScoreDisplay

COLOURS = ["#d1495b", "#30638e", "#edae49", "#8a8f98", "#7b5ea7"]
train, rows, labels = split(cancer.data.to_numpy(), cancer.target.to_numpy() == 0)
figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
for ax, (name, detector) in zip(axes.flat, DETECTORS.items(), strict=False):
    model = make_pipeline(StandardScaler(), detector).fit(train)
    AnomalyScoreDisplay.from_estimator(model, rows, labels, bins=30, ax=ax)
    ax.set(title=name, ylabel="", ylim=(0, 1.5 * ax.get_ylim()[1]))  # for the legend
    ax.legend(framealpha=1, edgecolor="white", fontsize="small", loc="upper right")

summary = axes.flat[-1]
for (name, line), colour in zip(table.iloc[:, :4].iterrows(), COLOURS, strict=True):
    summary.plot(
        line, range(4), "o", color=colour, markersize=8, alpha=0.85, label=name
    )
summary.set_yticks(range(4), [name.replace(", ", ",\n") for name in table.columns[:4]])
summary.set(title="AUROC", ylim=(3.5, -0.5))
summary.grid(axis="x", color="#e6e9ee")
summary.legend(frameon=False, fontsize="small", loc="center left")
summary.spines[["top", "right"]].set_visible(False)
