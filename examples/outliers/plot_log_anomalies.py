"""
Log anomalies: how to check a near-perfect AUROC
================================================

Learn when not to trust a result. A server writes a log, a parser turns its lines into
events, and a session becomes a row of counts, one per kind of event. Detectors of
abnormal sessions are often reported with an area under the ROC curve (AUROC) of 0.99 or
more. This example reproduces such a result, checks it by three questions, and repeats
the evaluation without duplicates.
"""

# %%
# The data
# --------
#
# Sessions of the Hadoop file system (HDFS), as prepared by the authors of DeepLog [1]_:
# one row per data block, one column per kind of event. Events are numbered and have no
# names. Many sessions are equal; the file contains each distinct vector of counts once,
# with its number of sessions.

import sys
from pathlib import Path

import numpy as np
import pandas as pd

# The path of this script: the gallery does not set __file__.
DATA = Path(sys.argv[0]).resolve().parents[1] / "data" / "hdfs_sessions.npz"
if not DATA.exists():
    raise SystemExit(f"examples/data/{DATA.name} of the repository is not at {DATA}")
with np.load(DATA) as archive:
    events = [f"event {number}" for number in range(archive["counts"].shape[1])]
    vectors = pd.DataFrame(archive["counts"].astype(float), columns=events)
    n_sessions, is_anomaly = archive["n_sessions"], archive["is_anomaly"]

normal, abnormal = vectors[~is_anomaly], vectors[is_anomaly]
inventory = pd.DataFrame(
    {
        "sessions": [n_sessions[~is_anomaly].sum(), n_sessions[is_anomaly].sum()],
        "distinct vectors": [len(normal), len(abnormal)],
        "found in both": len(normal.merge(abnormal)),
    },
    index=["normal", "anomaly"],
)
print(inventory.to_string())

# %%
# First question: how many distinct rows are there? The thousands of normal sessions
# consist of a few dozen vectors. Second question: does any vector occur in both
# classes? None does. So a lookup in a list of vectors, without any learning, classifies
# every session correctly that it has seen before.
#
# The usual protocol
# ------------------
#
# Half of the normal sessions, drawn at random, are for training; the others and all
# anomalies are the test set. Square roots give small and large counts similar noise.
# All columns then have the same unit, so ``scaling="global"`` is used, which keeps
# their weights.
#
# There are five methods. Two learn nothing: the lookup in the list of seen vectors, and
# the count of events of kinds that never occurred in training. The others are the
# residual of PCA, which is common for logs, :class:`~sklearn.ensemble.IsolationForest`,
# and :class:`~skae.AutoencoderOutlierDetector`.

import warnings

from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from skae import AutoencoderOutlierDetector
from skae.exceptions import InitialWeightsWarning


def seen_before(train, test):
    known = set(map(bytes, train.to_numpy()))
    return [bytes(row) not in known for row in test.to_numpy()]


def new_events(train, test):
    return np.square(test.loc[:, (train == 0).all()]).sum(axis=1)


def pca_residual(train, test):
    pca = PCA(0.9, svd_solver="full").fit(train)
    residual = test - pca.inverse_transform(pca.transform(test))
    return np.square(residual).sum(axis=1)


def isolation_forest(train, test):
    return -IsolationForest(random_state=0).fit(train).score_samples(test)


def autoencoder(train, test):
    detector = AutoencoderOutlierDetector(scaling="global", random_state=0)
    with warnings.catch_warnings():
        # Where there are fewer than 80 distinct vectors, it stays PCA.
        warnings.simplefilter("ignore", InitialWeightsWarning)
        detector.fit(train)
    return -detector.score_samples(test)


METHODS = {
    "list of seen vectors": seen_before,
    "events never seen": new_events,
    "IsolationForest": isolation_forest,
    "PCA residual": pca_residual,
    "autoencoder": autoencoder,
}


def aurocs(train, test, label):
    """Return the area under the ROC curve of each method."""
    train, test = np.sqrt(train), np.sqrt(test)
    return {
        name: roc_auc_score(label, method(train, test))
        for name, method in METHODS.items()
    }


sessions = vectors.loc[vectors.index.repeat(n_sessions)]
label = np.repeat(is_anomaly, n_sessions)
rng = np.random.default_rng(0)
for_training = ~label & (rng.random(len(label)) < 0.5)
by_session = aurocs(
    sessions[for_training], sessions[~for_training], label[~for_training]
)

# %%
# A protocol without duplicates
# -----------------------------
#
# A detector is needed for sessions that it has *not* seen. So duplicates are dropped
# before the split: the distinct normal vectors are split into five folds; each fold is
# the test set once, together with all distinct anomalies, and the other folds are for
# training. The lookup can only guess now. Every vector counts once, however often it
# occurred.

folds = []
for train, test in KFold(5, shuffle=True, random_state=0).split(normal):
    rows = pd.concat([normal.iloc[test], abnormal])
    folds.append(
        aurocs(normal.iloc[train], rows, np.arange(len(rows)) >= len(test)),
    )
folds = pd.DataFrame(folds)

results = pd.DataFrame(
    {
        "by session": by_session,
        "by vector": folds.mean(),
        "lowest fold": folds.min(),
    }
)
print("AUROC")
print(results.to_string(float_format="{:.3f}".format))

# %%
# By session, the lookup leaves no room for improvement, so the results of the other
# methods are not informative. By vector the lookup is at 0.5, and the task is to tell a
# normal session of a new kind from a failure. Much of this is still easy: most failures
# have an event that no normal session has. IsolationForest misses these, because it
# cannot split a column that never varied in training. On the remaining failures the
# autoencoder is best. This is not due to a deep network: a few dozen rows cannot show
# that a network is better, so the model stays at PCA. The difference is the score,
# which uses the code and neighbours as well as the residual.
#
# Third question: how many alarms are there? This data set has more anomalies than
# normal sessions, unlike any file system in use. With one failure in a thousand
# sessions, a detector that finds all failures and flags one in a hundred normal
# sessions raises ten false alarms for each correct one, at an AUROC of 0.99 or more.
#
# Explanations
# ------------
#
# A lookup cannot explain an alarm. `explain` compares a session with what the model
# expected of it. These are the most frequent anomaly and the one with the median score,
# with the columns with the largest shares, converted back to counts:

with warnings.catch_warnings():
    # The same holds for these 62 vectors.
    warnings.simplefilter("ignore", InitialWeightsWarning)
    detector = AutoencoderOutlierDetector(scaling="global", random_state=0)
    detector.fit(np.sqrt(normal))
order = np.argsort(detector.score_samples(np.sqrt(abnormal)))
chosen = {
    "the most frequent": np.argmax(n_sessions[is_anomaly]),
    "the median score": order[len(order) // 2],
}
explanation = detector.explain(np.sqrt(abnormal.iloc[list(chosen.values())]))
explanation.update(
    index=list(chosen),
    value=np.square(explanation.value),
    expected=np.square(explanation.expected.clip(min=0)).round(1),
)
reasons = explanation.to_frame(top_k=3)[
    ["row", "feature", "value", "expected", "share"]
]
print(reasons.to_string(index=False, float_format="{:.2f}".format))

# %%
# Plot
# ----
#
# Top: every distinct vector is a column, ordered by decreasing frequency within its
# class. Bottom: the AUROC of each method by the two protocols, and the shares of the
# two anomalies.

import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

from skae.displays import ExplanationDisplay

COLOURS = {
    "list of seen vectors": "#edae49",
    "events never seen": "#edae49",
    "IsolationForest": "#30638e",
    "PCA residual": "#8a8f98",
    "autoencoder": "#d1495b",
}
INK = "#22223b"
plt.rcParams["axes.titlesize"] = "medium"
shades = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#30638e", "#22223b"])

figure = plt.figure(figsize=(10, 7.8), layout="constrained")
figure.get_layout_engine().set(hspace=0.06, wspace=0.06)
above, below = figure.subfigures(2, 1, height_ratios=[1.15, 1])
panels = above.subplots(1, 2, width_ratios=[len(normal), len(abnormal)], sharey=True)
for ax, part, name, chosen_rows in (
    (panels[0], normal, "normal", ~is_anomaly),
    (panels[1], abnormal, "anomalies, distinct vectors", is_anomaly),
):
    by_frequency = np.argsort(-n_sessions[chosen_rows].astype(int), kind="stable")
    image = ax.imshow(
        np.log1p(part.to_numpy()[by_frequency]).T,
        aspect="auto",
        cmap=shades,
        interpolation="nearest",
        vmin=0,
        vmax=np.log1p(20),
    )
    ax.set(title=f"{len(part)} {name}", xticks=[], yticks=range(0, 29, 4))
    ax.spines[:].set_color("#d5d9e0")
panels[0].set_ylabel("event")
ticks = np.array([0, 1, 3, 10, 20])
bar = above.colorbar(image, ax=panels, ticks=np.log1p(ticks), pad=0.01, aspect=30)
bar.set_ticklabels([*ticks[:-1].astype(str), "≥ 20"])
bar.set_label("count")
bar.outline.set_visible(False)

scores, *reason_axes = below.subplots(1, 3, width_ratios=[1.9, 1, 1])
place = np.arange(len(METHODS))[::-1]
for shift, protocol, alpha in ((0.2, "by session", 0.35), (-0.2, "by vector", 1)):
    bars = scores.barh(
        place + shift,
        results[protocol],
        height=0.36,
        color=[COLOURS[name] for name in results.index],
        alpha=alpha,
    )
    scores.bar_label(
        bars,
        [f"{area:.3f}  {protocol}" for area in results[protocol]],
        padding=-4,
        color="white" if alpha == 1 else INK,
        fontsize="small",
    )
    for text in scores.texts[-len(METHODS) :]:
        text.set_ha("right")
scores.set(yticks=place, yticklabels=results.index, xlim=(0, 1.0), xlabel="AUROC")
scores.set_title("The same detectors, two protocols")
for row, ax in enumerate(reason_axes):
    ExplanationDisplay.from_explanation(explanation, row=row, top_k=3, ax=ax)
    ax.set_title(f"Why: {explanation.index[row]}", loc="left")
for ax in (scores, *reason_axes):
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)

# %%
# .. [1] Du, Li, Zheng & Srikumar, "DeepLog: Anomaly Detection and Diagnosis from System
#    Logs through Deep Learning", CCS 2017. The logs are those of Xu et al., SOSP 2009;
#    the rows those of an implementation by Yifan Wu.
