"""
Grid search over PCA and autoencoders
=====================================

Learn how to search over methods, numbers of components and corruptions at once: in
scikit-learn these are parameters of one grid. This example searches over PCA and
autoencoders together, with a standard error and a fit time for each candidate, and then
over outlier detectors in the same way.
"""

# %%
# Dimensionality reduction in a pipeline
# --------------------------------------
#
# The data are digits of which 20 % of the pixels of every image, in training and test
# rows, are lost and set to 0. The code is the input of a linear classifier. Candidates
# for the step "reduce" are PCA, the default autoencoder, and an autoencoder trained to
# restore masked pixels, with two masking rates. Parameters of a component are nested
# once more: ``reduce__corruption__rate``.
# :class:`~skae.model_selection.AutoencoderSearchCV` has the interface of
# ``GridSearchCV`` and trains the networks of candidates and folds together where they
# have the same layers and as many rows.

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.corruptions import Masking
from skae.metrics import one_standard_error
from skae.model_selection import AutoencoderSearchCV

images, digit = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
damaged = np.where(rng.random(images.shape) < 0.2, 0.0, images)
X_train, X_test, y_train, y_test = train_test_split(
    damaged, digit, test_size=0.3, stratify=digit, random_state=0
)

WIDTHS, RATES, N_FOLDS = [4, 8, 16], [0.2, 0.5], 3
pipeline = Pipeline(
    [
        ("reduce", PCA()),
        ("scale", StandardScaler()),
        ("classify", LogisticRegression(max_iter=1000)),
    ]
)
widths = {"reduce__n_components": WIDTHS}
grid = [
    {"reduce": [PCA(random_state=0)], **widths},
    {"reduce": [AutoencoderTransformer(random_state=0)], **widths},
    {
        "reduce": [AutoencoderTransformer(corruption=Masking(), random_state=0)],
        "reduce__corruption__rate": RATES,
        **widths,
    },
]
search = AutoencoderSearchCV(
    pipeline,
    grid,
    refit=one_standard_error("reduce__n_components"),
    cv=N_FOLDS,
).fit(X_train, y_train)

# %%
# The standard errors show which differences are meaningful, and the fit times which
# candidates are worth their cost. Each candidate trains on two thirds of the rows.

results = pd.DataFrame(search.cv_results_["params"])
names = []
for reducer, rate in zip(
    results["reduce"], results["reduce__corruption__rate"], strict=True
):
    if isinstance(reducer, PCA):
        names.append("PCA")
    elif np.isnan(rate):
        names.append("autoencoder")
    else:
        names.append(f"masking, {rate}")
splits = [search.cv_results_[f"split{fold}_test_score"] for fold in range(N_FOLDS)]
results = pd.DataFrame(
    {
        "reducer": names,
        "components": results["reduce__n_components"].astype(int),
        "accuracy": search.cv_results_["mean_test_score"],
        "s.e.": np.std(splits, axis=0, ddof=1) / np.sqrt(N_FOLDS),
        "seconds": search.cv_results_["mean_fit_time"],
    }
)
order = results["accuracy"].sort_values(ascending=False).index
print(results.loc[order].to_string(index=False, float_format="{:.3f}".format))
print(
    f"\nOne standard error: {results.loc[search.best_index_, 'reducer']} with "
    f"{results.loc[search.best_index_, 'components']} components, accuracy on the test "
    f"rows {search.best_estimator_.score(X_test, y_test):.3f}"
)

# %%
# With lost pixels, the autoencoder trained with a masking rate of one half is best at
# every width. The default autoencoder is equal or close to PCA: the lost pixels are
# noise that cannot be predicted, and without a clear gain on the validation set
# training keeps the PCA start. All autoencoders take at least tens of times as long as
# PCA.
#
# Each candidate has a fixed ``random_state``, so another search gives the same scores.
#
# Outlier detectors
# -----------------
#
# A search over detectors needs two things. :func:`~skae.metrics.make_outlier_scorer`
# accepts the labels as they are in the table and handles the sign of the scores. The
# folds must train on normal rows only: ``cv`` takes a list of pairs, in which training
# rows are benign and test rows are of both classes. Half of all rows are kept for the
# final comparison.

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import LocalOutlierFactor

from skae import AutoencoderOutlierDetector
from skae.anomaly_scores import Combined, Mahalanobis, Reconstruction
from skae.metrics import make_outlier_scorer

X, is_benign = load_breast_cancer(return_X_y=True)
X, X_end, malignant, malignant_end = train_test_split(
    X, is_benign == 0, test_size=0.5, stratify=is_benign, random_state=0
)
folds = [
    (train[~malignant[train]], test)
    for train, test in StratifiedKFold(5).split(X, malignant)
]
auroc = make_outlier_scorer()
detectors = AutoencoderSearchCV(
    Pipeline([("scale", StandardScaler()), ("detect", IsolationForest())]),
    [
        {"detect": [IsolationForest(random_state=0)]},
        {
            "detect": [LocalOutlierFactor(novelty=True)],
            "detect__n_neighbors": [5, 20, 80],
        },
        {
            "detect": [AutoencoderOutlierDetector(random_state=0)],
            "detect__anomaly_score": [Combined(), Mahalanobis(), Reconstruction()],
        },
    ],
    scoring=auroc,
    refit=False,
    cv=folds,
).fit(X, malignant)

found = pd.DataFrame(detectors.cv_results_["params"])
of_folds = [detectors.cv_results_[f"split{fold}_test_score"] for fold in range(5)]
labels = found["detect"].map(lambda detector: type(detector).__name__)
settings = found["detect__n_neighbors"].map(lambda n: f"{n:.0f} neighbours")
settings = settings.where(found["detect__n_neighbors"].notna(), "")
scores = found["detect__anomaly_score"]
settings = settings.where(scores.isna(), scores.map(repr))
found = pd.DataFrame(
    {
        "detector": labels,
        "setting": settings,
        "AUROC": detectors.cv_results_["mean_test_score"],
        "s.e.": np.std(of_folds, axis=0, ddof=1) / np.sqrt(5),
        "seconds": detectors.cv_results_["mean_fit_time"],
    }
)
order = found["AUROC"].sort_values(ascending=False).index
print(found.loc[order].to_string(index=False, float_format="{:.3f}".format))

candidates = {
    "best of the search": detectors.best_params_,
    "IsolationForest": {"detect": IsolationForest(random_state=0)},
}
print("\nOn the rows kept for the final comparison")
for name, parameters in candidates.items():
    model = clone(detectors.estimator).set_params(**parameters).fit(X[~malignant])
    print(f"{name:>20} {auroc(model, X_end, malignant_end):.3f}")

# %%
# Most of the differences are not larger than their standard errors. The best candidate
# of a search looks better in the search than on other rows, where plain IsolationForest
# may well be better. Before you choose one, compare on rows that were not used in a
# search.
#
# Plot
# ----
#
# Left: accuracies of the first search; the frame marks the choice of the one standard
# error rule. Middle: the same accuracies against the fit time; larger dots have more
# components. Right: the detectors. Bars are standard errors over the folds.

import matplotlib.pyplot as plt

COLOURS = {
    "PCA": "#8a8f98",
    "autoencoder": "#edae49",
    "masking, 0.2": "#e08a92",
    "masking, 0.5": "#d1495b",
}
INK = "#22223b"
plt.rcParams["axes.titlesize"] = "medium"
figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(11.5, 4.2), layout="constrained", width_ratios=[1, 1.15, 0.9]
)
heat = results.pivot(index="reducer", columns="components", values="accuracy")
heat = heat.loc[list(COLOURS)]
errors = results.pivot(index="reducer", columns="components", values="s.e.")
left.imshow(heat, cmap="Blues", aspect="auto", vmin=heat.min().min() - 0.05)
for i, name in enumerate(heat.index):
    for j, width in enumerate(heat.columns):
        accuracy, error = heat.loc[name, width], errors.loc[name, width]
        left.text(
            j,
            i,
            f"{accuracy:.3f}\n± {error:.3f}",
            ha="center",
            va="center",
            color="white" if accuracy > heat.to_numpy().min() + 0.08 else INK,
        )
chosen = results.loc[search.best_index_]
corner = (
    heat.columns.get_loc(chosen["components"]),
    heat.index.get_loc(chosen["reducer"]),
)
left.add_patch(
    plt.Rectangle(np.array(corner) - 0.49, 0.98, 0.98, fill=False, ec="#d1495b", lw=3)
)
left.set_xticks(range(len(WIDTHS)), WIDTHS)
left.set_yticks(range(len(heat)), heat.index)
left.set(title="Accuracy on the code", xlabel="components")
left.tick_params(length=0)
left.spines[:].set_visible(False)

for name, group in results.groupby("reducer"):
    where = group["seconds"], group["accuracy"]
    middle.errorbar(*where, group["s.e."], lw=1, capsize=3, color=COLOURS[name])
    middle.scatter(*where, 7 * group["components"], COLOURS[name], label=name, zorder=3)
middle.set(xscale="log", xlabel="seconds per fit", title="Accuracy and fit time")
handles, names = middle.get_legend_handles_labels()
shown = [names.index(name) for name in COLOURS]
middle.legend(
    [handles[k] for k in shown],
    [names[k] for k in shown],
    frameon=False,
    loc="center",
    bbox_to_anchor=(0.38, 0.3),
)

found = found.sort_values("AUROC")
is_skae = found["detector"].str.startswith("Autoencoder")
detector = (
    found["detector"].str.replace("OutlierDetector", "") + "\n" + found["setting"]
)
for kind, colour in ((is_skae, "#d1495b"), (~is_skae, "#30638e")):
    right.errorbar(
        found["AUROC"][kind],
        np.flatnonzero(kind),
        xerr=found["s.e."][kind],
        fmt="o",
        color=colour,
        capsize=3,
    )
right.set_yticks(range(len(found)), detector)
right.set(title="Detectors, AUROC")
right.tick_params(axis="y", length=0, labelsize="small")
for ax in (middle, right):
    ax.spines[["top", "right"]].set_visible(False)
