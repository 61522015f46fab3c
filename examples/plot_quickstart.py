"""
An autoencoder where PCA and IsolationForest stand
==================================================

Three everyday jobs on data that scikit-learn ships, each with the established tool and
with :mod:`skae` side by side: features for a classifier, reconstruction of rows that
were not trained on, and outlier detection. What comes out is printed as it is,
whichever is ahead. The figure is written to ``quickstart.png``.
"""

# %%
# Features for a classifier, and reconstruction
# ---------------------------------------------
#
# The digits of scikit-learn: 1797 images of 8 x 8 pixels. PCA and the autoencoder are
# two candidates for one step of a pipeline, each with three code sizes. The search
# looks at two scores on held-out rows: how often the classifier behind the code is
# right, and which share of the variance of the pixels survives the way through the
# code. (``PCA.score`` is a log-likelihood; :func:`skae.metrics.reconstruction_scorer`
# says the same thing of both.)
#
# More components always reconstruct better, so that score cannot choose their number.
# The accuracy does, and :func:`skae.metrics.one_standard_error` prefers the smaller
# code where a larger one is not better by more than the noise of the folds.

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.metrics import make_outlier_scorer, one_standard_error, reconstruction_scorer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, stratify=y, random_state=0
)


def reconstruction(pipeline, X, y):
    return reconstruction_scorer(pipeline["reduce"], X)


pipeline = Pipeline(
    [
        ("reduce", PCA()),
        ("scale", StandardScaler()),
        ("classify", LogisticRegression(max_iter=1000)),
    ]
)
search = GridSearchCV(
    pipeline,
    {
        "reduce": [PCA(random_state=0), AutoencoderTransformer(random_state=0)],
        "reduce__n_components": [4, 8, 16],
    },
    scoring={"accuracy": "accuracy", "reconstruction": reconstruction},
    refit=one_standard_error("reduce__n_components", score="accuracy"),
    cv=3,
    n_jobs=2,
).fit(X_train, y_train)

results = pd.DataFrame(
    {
        "method": [type(m).__name__ for m in search.cv_results_["param_reduce"]],
        "components": search.cv_results_["param_reduce__n_components"].astype(int),
        "accuracy": search.cv_results_["mean_test_accuracy"],
        "reconstruction R2": search.cv_results_["mean_test_reconstruction"],
    }
)
chosen = results.loc[search.best_index_]
print("Digits, three folds of the training rows")
print(results.to_string(index=False, float_format="{:.3f}".format))
print(
    f"\nChosen: {chosen['method']} with {chosen['components']} components; "
    f"accuracy on the test rows {search.best_estimator_.score(X_test, y_test):.3f}"
)

# %%
# The same on the test rows, with eight numbers per image:

reducers = {
    "PCA": PCA(8, random_state=0).fit(X_train),
    "autoencoder": AutoencoderTransformer(8, random_state=0).fit(X_train),
}
print("\nDigits, test rows, 8 components: reconstruction R2")
for name, reducer in reducers.items():
    print(f"{name:>12} {reconstruction_scorer(reducer, X_test):.3f}")

# %%
# Outliers
# --------
#
# The detector has the conventions of :class:`~sklearn.ensemble.IsolationForest`: fitted
# on rows that are taken for normal, ``predict`` says +1 or -1, and the lower
# ``score_samples``, the more abnormal.
# :func:`skae.metrics.make_outlier_scorer` takes labels in which outliers are 1, and
# returns the area under the ROC curve: the probability that an outlier gets a lower
# score than a normal row.
#
# Two tasks. Breast cancer: 30 measurements of cell nuclei, trained on benign cases
# only. Digits: one of the ten is left out of the training, and is then to be told from
# the others; the digits 0 to 4 in their turn.

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.utils.parallel import Parallel, delayed

auroc = make_outlier_scorer()


def compare(X, is_outlier):
    """Fit both detectors to 60 % of the normal rows, and score all others."""
    train, test = train_test_split(X[~is_outlier], test_size=0.4, random_state=0)
    normal_and_outliers = np.concatenate([test, X[is_outlier]])
    labels = np.repeat([0, 1], [len(test), is_outlier.sum()])
    results = {}
    for detector in (
        IsolationForest(random_state=0),
        AutoencoderOutlierDetector(random_state=0),
    ):
        detector.fit(train)
        results[type(detector).__name__] = {
            "AUROC": auroc(detector, normal_and_outliers, labels),
            "normal flagged": np.mean(detector.predict(test) == -1),
            "outliers flagged": np.mean(detector.predict(X[is_outlier]) == -1),
            "scores": detector.score_samples(normal_and_outliers),
        }
    return labels, results


X_cancer, is_benign = load_breast_cancer(return_X_y=True)
cancer_labels, cancer = compare(X_cancer, is_benign == 0)
digits = Parallel(n_jobs=2)(delayed(compare)(X, y == digit) for digit in range(5))

rows = []
for name in cancer:
    for task, outcomes in (
        ("breast cancer", [cancer[name]]),
        ("digits, mean of 5", [results[name] for _, results in digits]),
    ):
        means = {
            key: np.mean([outcome[key] for outcome in outcomes])
            for key in ("AUROC", "normal flagged", "outliers flagged")
        }
        rows.append({"task": task, "detector": name, **means})
table = pd.DataFrame(rows).sort_values("task", kind="stable")
print("\nOutlier detection, default settings, rows that were not trained on")
print(table.to_string(index=False, float_format="{:.3f}".format))

# %%
# To look at
# ----------
#
# Above, one test image of each digit, as it is and as eight numbers bring it back.
# Below, the two scores of the search (bars: one standard error over the folds), and how
# both detectors tell malignant from benign rows.

import matplotlib.pyplot as plt

COLOURS = {"PCA": "#8a8f98", "AutoencoderTransformer": "#d1495b"}
plt.rcParams["axes.titlesize"] = "medium"
figure = plt.figure(figsize=(12, 7), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1.05, 1], hspace=0.04)

examples = np.array([X_test[y_test == digit][0] for digit in range(10)])
images = {"test image": examples}
for name, reducer in reducers.items():
    images[name] = reducer.inverse_transform(reducer.transform(examples))
grid = above.subplots(len(images), 10)
for axes, (name, group) in zip(grid, images.items(), strict=True):
    for ax, image in zip(axes, group, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
above.suptitle("Digits through 8 components")

panels = below.subplots(1, 4)
below.get_layout_engine().set(wspace=0.06)
curves, histograms = panels[:2], panels[2:]
titles = {
    "reconstruction": "Reconstruction, R²",
    "accuracy": "Accuracy behind the code",
}
for ax, (metric, title) in zip(curves, titles.items(), strict=True):
    for name, group in results.groupby("method", sort=False):
        folds = [search.cv_results_[f"split{i}_test_{metric}"] for i in range(3)]
        folds = np.array(folds)[:, group.index]
        ax.errorbar(
            group["components"],
            folds.mean(axis=0),
            yerr=folds.std(axis=0, ddof=1) / np.sqrt(3),
            label="PCA" if name == "PCA" else "autoencoder",
            color=COLOURS[name],
            marker="o",
            capsize=3,
        )
    ax.set(title=title, xlabel="components", xticks=[4, 8, 16])
    ax.spines[["top", "right"]].set_visible(False)
curves[0].legend(frameon=False, loc="lower right")

for ax, (name, outcome) in zip(histograms, cancer.items(), strict=True):
    abnormality = -outcome["scores"]
    on_log_scale = name != "IsolationForest"
    if on_log_scale:
        abnormality = np.log10(abnormality)
    bins = np.linspace(abnormality.min(), abnormality.max(), 31)
    for label, kind, colour in ((0, "benign", "#30638e"), (1, "malignant", "#edae49")):
        chosen = abnormality[cancer_labels == label]
        ax.hist(chosen, bins, density=True, alpha=0.7, label=kind, color=colour)
    ax.set(
        title=f"{name.removesuffix('OutlierDetector')}: AUROC {outcome['AUROC']:.3f}",
        xlabel="log10 abnormality" if on_log_scale else "abnormality",
        yticks=[],
    )
    ax.spines[["top", "right", "left"]].set_visible(False)
histograms[0].legend(frameon=False)
figure.savefig("quickstart.png", dpi=150)
