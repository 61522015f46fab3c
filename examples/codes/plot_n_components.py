"""
How many components? Curves, elbows, and a score that can choose
================================================================

The one parameter that has to be chosen is the width of the code. More components always
reconstruct better, so reconstruction cannot choose it, and looking for an elbow is no
rule either. Here is what ``"auto"`` and a share of the variance do, what PCA would
choose, and how the score of the step behind the code decides, with a standard error.
"""

# %%
# Two scores for each width
# -------------------------
#
# The digits of scikit-learn, with the code as features for a logistic regression. One
# search fits PCA and the autoencoder with five widths to four folds, and looks at two
# scores on the held-out rows: the R² of the reconstruction, which
# :func:`~skae.metrics.reconstruction_scorer` computes alike for both, and the accuracy
# of the classifier. :func:`~skae.metrics.one_standard_error` takes the smallest width
# whose accuracy is within one standard error of the best.

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
# The R² rises to the end of the table. The accuracy does not: beyond some width the
# differences are smaller than their errors. With few components the autoencoder is well
# ahead of PCA in both; with many there is little left to gain, and the classifier does
# not care. So whether it is worth its time depends on the width that is chosen.
#
# An elbow is not a rule
# ----------------------
#
# The usual advice is to take the point where the curve bends, which is often defined as
# the one farthest from the line through both ends. That point depends on how far the
# curve is drawn, and on its axis. Of the variance that PCA explains:

explained = np.cumsum(PCA().fit(X_train).explained_variance_ratio_)


def elbow(n_shown, scale=np.asarray):
    """Return where the curve of the first components bends most."""
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
# There is an elbow for every taste, and 1 where the curve has none at all. A bend is a
# hint where to look, not a choice.
#
# What the rules choose
# ---------------------
#
# A float is a share of the variance, and resolved as PCA does it: the smallest number
# of components with which *PCA* explains more than that. ``"auto"`` is 0.9, but at most
# half of what is possible. The autoencoder then keeps more than the share that was
# asked for. ``PCA("mle")`` is Minka's estimate of the true dimension, for rows that are
# a linear subspace and noise of equal strength. Every choice is made on the training
# rows; the figures are those of the test rows.

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
# The numbers of the rules range from a few components to nearly all. None but one
# standard error looks at what the code is for. At the width that the accuracy chooses,
# PCA does as well behind the classifier as the autoencoder, and is done at once: for
# this task, take PCA. The autoencoder pays where the code must be narrower, or has to
# be decoded.
#
# To look at
# ----------
#
# Left, the R² with the widths of the rules; :class:`~skae.displays.CodeSizeDisplay`
# draws it from the scores above, and its ``from_estimator`` would compute them. Middle,
# the accuracy with its standard errors: all that is in the band is as good as the best,
# and the ring is the smallest of these. Right, elbows of one and the same curve.

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
left.set(title="Reconstruction: always upwards", ylim=(0, 1.02), xlim=(1.8, 70))
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
middle.set(xscale="log", xlabel="components", title="Accuracy: enough is enough")
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
