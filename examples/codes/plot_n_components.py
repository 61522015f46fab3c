"""
Choosing the number of components
=================================

Learn how to choose the size of the code, the most important parameter. More components
always improve the reconstruction, so the reconstruction error cannot choose it, and the
elbow of a curve is not a reliable rule. This example shows what ``"auto"`` and a share
of the variance select, what PCA would select, and how to choose by the score of the
downstream task with its standard error.
"""

# %%
# Two scores for each width
# -------------------------
#
# The data are the digits of scikit-learn, and the code is the input of a logistic
# regression. One search fits PCA and the autoencoder with five widths on four folds and
# computes two scores on the held-out rows: the R² of the reconstruction, by
# :func:`~skae.metrics.reconstruction_scorer` for both, and the accuracy of the
# classifier. :func:`~skae.metrics.one_standard_error` selects the smallest width whose
# accuracy is within one standard error of the best.

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.metrics import one_standard_error, reconstruction_scorer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, stratify=y, random_state=0
)


def pipeline(reducer):
    steps = [("reduce", reducer), ("scale", StandardScaler())]
    return Pipeline([*steps, ("classify", LogisticRegression(max_iter=1000))])


def reconstruction(pipeline, X, y):
    return reconstruction_scorer(pipeline["reduce"], X)


WIDTHS, N_FOLDS = [2, 4, 8, 16, 32], 4
search = GridSearchCV(
    pipeline(PCA()),
    {
        "reduce": [PCA(random_state=0), AutoencoderTransformer(random_state=0)],
        "reduce__n_components": WIDTHS,
    },
    scoring={"accuracy": "accuracy", "reconstruction": reconstruction},
    refit=one_standard_error("reduce__n_components", score="accuracy"),
    cv=N_FOLDS,
).fit(X_train, y_train)


def fold_scores(metric):
    """Return an array of shape (methods, widths, folds)."""
    names = [f"split{fold}_test_{metric}" for fold in range(N_FOLDS)]
    folds = np.transpose([search.cv_results_[name] for name in names])
    return folds.reshape(2, len(WIDTHS), N_FOLDS)


accuracy, r2 = fold_scores("accuracy"), fold_scores("reconstruction")
columns = {"components": WIDTHS}
for number, name in enumerate(["PCA", "autoencoder"]):
    columns[f"{name} R2"] = r2[number].mean(axis=1)
    columns[f"{name} accuracy"] = accuracy[number].mean(axis=1)
    columns[f"{name} s.e."] = accuracy[number].std(axis=1, ddof=1) / np.sqrt(N_FOLDS)
print(f"{N_FOLDS} folds of the training rows")
print(pd.DataFrame(columns).to_string(index=False, float_format="{:.3f}".format))
chosen = search.best_params_["reduce__n_components"]
print(f"\nOne standard error: {chosen}")

# %%
# The R² increases up to the last line of the table. The accuracy does not: beyond some
# width the differences are smaller than their standard errors. With few components the
# autoencoder is clearly better than PCA in both scores. With many components there is
# little left to gain, and the classifier does not benefit. Whether the autoencoder is
# worth its training time depends on the selected width.
#
# The elbow is not a reliable rule
# --------------------------------
#
# A common advice is to take the elbow of the curve, often defined as the point farthest
# from the line through both ends. This point depends on how many components are drawn
# and on the scale of the axis. For the variance explained by PCA:

explained = np.cumsum(PCA().fit(X_train).explained_variance_ratio_)


def elbow(n_shown, scale=np.asarray):
    """Return the elbow of the curve of the first components."""
    across, up = scale(np.arange(1, n_shown + 1)), explained[:n_shown]
    across, up = (
        (values - values[0]) / (values[-1] - values[0]) for values in (across, up)
    )
    return 1 + int(np.argmax(up - across))


RANGES = [10, 20, 40, 64]
elbows = pd.DataFrame(
    {
        "linear axis": [elbow(n) for n in RANGES],
        "logarithmic axis": [elbow(n, np.log) for n in RANGES],
    },
    index=pd.Index(RANGES, name="components drawn"),
)
print(elbows.to_string())

# %%
# The elbow can be at almost any width, and is 1 where the curve has none at all. It may
# suggest which widths to try, but not which one to choose.
#
# What the rules select
# ---------------------
#
# A float is a share of the variance, and works as in PCA: the smallest number of
# components with which *PCA* explains more than that share. ``"auto"`` is 0.9, but at
# most half of the possible number. The autoencoder then explains more than the
# requested share. ``PCA("mle")`` is Minka's estimate of the true dimension, for rows in
# a linear subspace plus noise of equal variance. All selections use the training rows;
# the scores are those of the test rows.

rules = {
    "0.5 of the variance": 0.5,
    "0.8 of the variance": 0.8,
    "auto": "auto",
    "0.95 of the variance": 0.95,
    "PCA(mle)": PCA("mle", svd_solver="full").fit(X_train).n_components_,
    "elbow, 64 drawn": elbow(64),
    "one standard error": chosen,
}
rows = {}
for rule, n_components in rules.items():
    model = pipeline(AutoencoderTransformer(n_components, random_state=0))
    model.fit(X_train, y_train)
    width = model["reduce"].n_components_
    pca = pipeline(PCA(width, random_state=0)).fit(X_train, y_train)
    rows[rule] = {
        "components": width,
        "PCA R2": reconstruction(pca, X_test, y_test),
        "R2": reconstruction(model, X_test, y_test),
        "PCA accuracy": pca.score(X_test, y_test),
        "accuracy": model.score(X_test, y_test),
    }
table = pd.DataFrame(rows).T.astype({"components": int}).sort_values("components")
print("Test rows")
print(table.to_string(float_format="{:.3f}".format))

# %%
# The selected numbers range from a few components to nearly all. Only the one standard
# error rule uses the downstream task. At the width that it selects, the classifier is
# as good with PCA as with the autoencoder, and PCA is fitted at once: use PCA for this
# task. Use the autoencoder if the code must be narrower, or has to be decoded.
#
# Plot
# ----
#
# Left: R² with the widths selected by the rules.
# :class:`~skae.displays.CodeSizeDisplay` draws it from the scores above; its
# ``from_estimator`` would compute them. Middle: the accuracy with standard errors.
# Widths in the band are as good as the best; the ring marks the smallest of them.
# Right: elbows of the same curve for several ranges.

import matplotlib.pyplot as plt

from skae.displays import CodeSizeDisplay

PCA_COLOUR, MODEL, INK = "#8a8f98", "#d1495b", "#22223b"
plt.rcParams["axes.titlesize"] = "medium"
figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(11, 4.2), layout="constrained"
)
CodeSizeDisplay(
    n_components=WIDTHS, scores=r2[1], pca_scores=r2[0], name="autoencoder"
).plot(left)
for rule, width in table["components"].items():
    if rule.startswith("elbow"):
        continue
    left.axvline(width, color=INK, lw=0.8, ls=(0, (2, 3)), zorder=0)
    left.text(
        width * 0.97, 0.03, rule, rotation=90, ha="right", fontsize="x-small", color=INK
    )
left.set(title="R² of the reconstruction", ylim=(0, 1.02), xlim=(1.8, 70))
left.legend(
    *left.get_legend_handles_labels(), framealpha=1, edgecolor="white", loc="upper left"
)

for name, colour, scores in (
    ("PCA", PCA_COLOUR, accuracy[0]),
    ("autoencoder", MODEL, accuracy[1]),
):
    error = scores.std(axis=1, ddof=1) / np.sqrt(N_FOLDS)
    middle.errorbar(
        WIDTHS,
        scores.mean(axis=1),
        error,
        color=colour,
        marker="o",
        capsize=3,
        label=name,
    )
best = np.unravel_index(accuracy.mean(axis=2).argmax(), accuracy.shape[:2])
top = accuracy[best].mean()
error = accuracy[best].std(ddof=1) / np.sqrt(N_FOLDS)
middle.axhspan(top - error, top, color="#edae49", alpha=0.35, lw=0)
middle.plot(
    chosen,
    search.cv_results_["mean_test_accuracy"][search.best_index_],
    "o",
    markersize=15,
    markerfacecolor="none",
    color=INK,
    label="one standard error",
)
middle.set(xscale="log", xlabel="components", title="Accuracy of the classifier")
middle.set_xticks(WIDTHS, WIDTHS)
middle.minorticks_off()
middle.legend(frameon=False, loc="lower right")

right.plot(np.arange(1, 65), explained, color=PCA_COLOUR, lw=2)
for n, colour in zip(RANGES, ["#30638e", "#edae49", MODEL, INK], strict=True):
    bend = elbow(n)
    right.plot([1, n], explained[[0, n - 1]], color=colour, lw=0.8, ls=(0, (4, 3)))
    right.plot(bend, explained[bend - 1], "o", color=colour, label=f"{n} drawn: {bend}")
right.set(title="Elbows of the variance of PCA", xlabel="components")
right.legend(frameon=False, loc="lower right")
for ax in (middle, right):
    ax.spines[["top", "right"]].set_visible(False)
