"""
Log anomalies: what a near-perfect score says, and what it does not
===================================================================

A server writes a log, a parser turns its lines into events, and a session becomes a
row: how often each event occurred. Detectors of abnormal sessions are then reported
with areas under the ROC curve (AUROC) of 0.99 and more. Here are such data, such a
figure, three questions to ask before it is believed, and what is left of it afterwards.
"""

# %%
# The data
# --------
#
# Sessions of the Hadoop file system, HDFS, as the authors of DeepLog [1]_ prepared
# them: one row per block of data, one column per kind of event. The events have numbers
# and no names. Many sessions are equal, and the file has each distinct vector of counts
# once, with the number of sessions that had it.

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
# Question one: how many rows are there really? Thousands of normal sessions are a few
# dozen vectors. Question two: does any vector occur on both sides? None does. So a list
# of vectors, without any learning, is right about every session that it has seen
# before.
#
# The usual protocol
# ------------------
#
# Half of the normal sessions, drawn at random, train; the others and all anomalies are
# the test. Square roots make the noise of small and of large counts alike, and as all
# columns then have one unit, ``scaling="global"`` leaves them their weights.
#
# Five methods. Two learn nothing: the list of seen vectors, and how many events there
# are of kinds that never occurred in training. The others are the residual of PCA,
# which is common for logs, :class:`~sklearn.ensemble.IsolationForest`, and
# :class:`~skae.AutoencoderOutlierDetector`.

from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from skae import AutoencoderOutlierDetector


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
    return -detector.fit(train).score_samples(test)


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
# An honest protocol
# ------------------
#
# What is asked of a detector is to judge sessions that it has *not* seen. So copies are
# dropped before the split: the distinct normal vectors are cut into five parts, each is
# the test once, together with all distinct anomalies, and the others train. The list
# can only guess now. Every vector counts once, however often it occurred.

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
# By session, the list of seen vectors leaves nothing to be gained, so that the figures
# of the others say little. By vector the list is at 0.5, and the question is whether a
# normal session of a new kind looks more normal than a failure. Much of that is still
# easy: most failures have an event that no normal session has. IsolationForest misses
# just this, because it cannot split a column that never varied in training. What is
# left for learning is the rest, and there the autoencoder is ahead. It is not a deep
# network that does it: a few dozen rows cannot show that one is better, so the model
# stays at PCA, with a score that looks at the code and at neighbours as well as at the
# residual.
#
# Question three: how many alarms? There are more anomalies than normal sessions in this
# selection, which no file system has. At one failure in a thousand sessions, a detector
# that finds all and flags one normal session in a hundred raises ten false alarms for
# each right one, with an area of 0.99 or more.
#
# Reasons
# -------
#
# A list cannot say why. `explain` compares a session with what the model expected of
# it. These are the most frequent anomaly, and the one with the median score. The
# columns with the largest shares, back in counts:

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
# To look at
# ----------
#
# Every distinct vector as a column, the most frequent ones on the left of either part.
# Below them, what each method makes of the two protocols, with the lowest and highest
# fold; and the shares of the two anomalies.

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
