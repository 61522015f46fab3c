"""
Outlier detection workflow: from training to alerts in a stream
===============================================================

Learn what it takes to use a detector in practice: a threshold with a known false alarm
rate, explanations that a person can check, and monitoring, because new rows may differ
from those used to set the threshold. This example shows five steps on a stream with
real drift: train, score, explain, set a threshold, flag and act. The figures are
written to ``workflow_explained.png`` and ``workflow_stream.png``.
"""

# %%
# The data
# --------
#
# The digits of scikit-learn were cut out of forms that people filled in by hand, about
# 128 digits each. They are still in that order: fourteen forms, one after the other,
# each beginning with the same digits. Handwriting differs between people, so the data
# contain real drift.
#
# Suppose that the field contains octal numbers. Then 0 to 7 are normal, and 8 and 9 are
# *foreign*. Forms 1 to 5 are for training, and forms 6 to 14 arrive later, one by one.
# Of the foreign digits in those every fourth is kept, so that they are rare.
#
# **Faults are synthetic**, since the data contain none. In six later forms, chosen at
# random, ten consecutive scans are damaged: by dust on the glass, which makes a column
# black; by a dead line of the sensor, which makes a row white; or by a wrong setting
# that inverts black and white. The labels are known but hidden from the detector. They
# are used in place of the person who checks the alerts, and for evaluation.

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

FORMS_START_AT = [0, 130, 256, 386, 516, 646, 776]
FORMS_START_AT += [905, 1029, 1157, 1287, 1415, 1545, 1667]
LATER = range(6, 15)

pixels, digit = load_digits(return_X_y=True, as_frame=True)
form = np.searchsorted(FORMS_START_AT, np.arange(len(pixels)), side="right")
is_octal = (digit < 8).to_numpy()

rng = np.random.default_rng(0)
kind = np.where(is_octal, "normal", "foreign").astype(object)
images = pixels.to_numpy(copy=True).reshape(-1, 8, 8)
faults = ["dust", "dead line", "inverted"]
for later, fault in zip(rng.permutation(LATER)[:6], 2 * faults, strict=True):
    candidates = np.flatnonzero(is_octal & (form == later))
    start, where = rng.integers(len(candidates) - 9), rng.integers(8)
    hit = candidates[start : start + 10]
    if fault == "dust":
        images[hit, :, where] = 16
    elif fault == "dead line":
        images[hit, where, :] = 0
    else:
        images[hit] = 16 - images[hit]
    kind[hit] = fault

train = pixels[is_octal & (form < 6)]
in_stream = (form >= 6) & (is_octal | (np.cumsum(~is_octal) % 4 == 0))
stream = pd.DataFrame(images.reshape(-1, 64), columns=pixels.columns)[in_stream]
kind, form_of = kind[in_stream], form[in_stream]
is_normal = kind == "normal"
KINDS = ["foreign", *faults]
print(f"{len(train)} normal digits to train on; later")
print(pd.Series(kind).value_counts().to_string())

# %%
# Train
# -----
#
# Train on normal rows. A quarter of them is held back for the threshold. All pixels
# have the same unit, so ``scaling="global"`` is used: the default divides each column
# by its own standard deviation, and a speck in a corner that is nearly always white
# would outweigh a wrong digit.

from skae import AutoencoderOutlierDetector

detector = AutoencoderOutlierDetector(
    scaling="global", calibration_fraction=0.25, random_state=0
).fit(train)

# %%
# Score
# -----
#
# Lower values of ``score_samples`` are more abnormal. The area under the ROC curve
# (AUROC) is the probability that a row of the given kind has a lower score than a
# normal row. It needs labels, but no threshold.

from sklearn.ensemble import IsolationForest

from skae.metrics import make_outlier_scorer

auroc = make_outlier_scorer()
forest = IsolationForest(random_state=0).fit(train)
rankings = pd.DataFrame(
    {
        name: {
            a_kind: auroc(
                model,
                stream[is_normal | (kind == a_kind)],
                kind[is_normal | (kind == a_kind)] != "normal",
            )
            for a_kind in KINDS
        }
        for name, model in (("autoencoder", detector), ("IsolationForest", forest))
    }
)
print("AUROC against the normal digits of forms 6 to 14")
print(rankings.to_string(float_format="{:.3f}".format))

# %%
# Explain
# -------
#
# `explain` returns what the model expected instead, and the share of each feature in
# the score. To show typical and not the best cases, these are the scans with the median
# score of their kind. If the shares of the pixels sum to less than one, the remainder
# is the share of the code and belongs to no pixel. If they are spread over the whole
# digit, no single pixel is wrong, but their combination is unusual. A fault that the
# model reconstructs has its share in the code and in neighbouring pixels rather than at
# its own place.

import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

plt.rcParams["axes.titlesize"] = "medium"
INK = "#22223b"
COLOURS = {
    "normal": "#a9b4c2",
    "foreign": "#30638e",
    "dust": "#edae49",
    "dead line": "#d1495b",
    "inverted": "#7b5ea7",
}
heat = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#edae49", "#d1495b"])


def median_of(a_kind):
    """Return the position of the scan with the median score of its kind."""
    members = np.flatnonzero(kind == a_kind)
    order = np.argsort(detector.score_samples(stream.iloc[members]))
    return members[order[len(members) // 2]]


shown = [median_of(a_kind) for a_kind in COLOURS]
explanation = detector.explain(stream.iloc[shown])

figure, grid = plt.subplots(3, len(shown), figsize=(9, 5.8), layout="constrained")
for column, a_kind in enumerate(COLOURS):
    grid[0, column].set_title(a_kind, color=INK, weight="bold")
    for ax, name in zip(grid[:, column], ("value", "expected", "share"), strict=True):
        image = explanation[name][column].reshape(8, 8)
        if name == "share":
            ax.imshow(image, cmap=heat, vmin=0)
            code = explanation.code_share[column]
            ax.set_xlabel(f"largest {image.max():.0%}\ncode {code:.0%}", color=INK)
        else:
            ax.imshow(image, cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("#d5d9e0")
for ax, label in zip(
    grid[:, 0], ("scan", "expected", "share of\nthe score"), strict=True
):
    ax.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)
figure.savefig("workflow_explained.png", dpi=150)

# %%
# Set a threshold
# ---------------
#
# Suppose that a person can check one in twenty normal digits. `calibrate` sets the
# threshold on rows that were not used in training. With 130 of them a rate of 5 % is
# determined by the six most abnormal, a rate of 1 % by a single one.

RATE = 0.05
detector.calibrate(false_positive_rate=RATE)
first_threshold = detector.offset_
held_back = detector.calibration_scores_
print(f"threshold {-first_threshold:.2f}, from {len(held_back)} rows")

# %%
# For batches of rows there is another guarantee, control of the false discovery rate
# (FDR): on average, at most one in ten of the flagged rows is normal. `p_values` and
# :func:`scipy.stats.false_discovery_control` provide it for rows from the distribution
# of the calibration rows, without using the threshold. Its cost is a loss of power.
# With ``n`` calibration rows no p-value is smaller than ``1 / (n + 1)``, so in a batch
# of ``m`` rows at least ``m / (0.1 * (n + 1))`` must be more abnormal than all
# calibration rows before any is flagged. A burst of faults can be flagged, a single
# fault in a hundred rows cannot.
#
# Flag and act
# ------------
#
# The later forms arrive one by one. After each of them:
#
# 1. Rows below the threshold raise an alert, and a person checks them. "right" counts
#    the alerts that were foreign or damaged. The rows flagged with the false discovery
#    rate are listed as well.
# 2. The scores of the form, without confirmed outliers, are compared with the
#    calibration scores by a two-sample Kolmogorov-Smirnov test. Without drift, the
#    p-value is below 0.05 / 9 in any of the nine forms in only one of twenty such
#    streams (Bonferroni correction).
# 3. If it is below, drift is reported, and the threshold is set again on the last three
#    forms, without confirmed outliers. False alarms that were checked stay in: they are
#    the normal rows that determine the threshold. Missed outliers stay in as well,
#    which makes the new threshold slightly too lenient.

from scipy.stats import false_discovery_control, ks_2samp

ALARM = 0.05 / len(LATER)

log, recent = [], []
scores, thresholds = np.empty(len(stream)), np.empty(len(stream))
for later in LATER:
    batch = stream[form_of == later]
    normal = is_normal[form_of == later]

    score = detector.score_samples(batch)
    alert = score < detector.offset_
    confirmed = alert & ~normal
    sure = false_discovery_control(detector.p_values(batch)) <= 0.1
    rest = score[~confirmed]
    drift = ks_2samp(rest, detector.calibration_scores_).pvalue

    scores[form_of == later] = score
    thresholds[form_of == later] = detector.offset_
    recent = [*recent, batch[~confirmed]][-3:]
    log.append(
        {
            "form": later,
            "scans": len(batch),
            "abnormal": np.sum(~normal),
            "right/alerts": f"{np.sum(confirmed)}/{np.sum(alert)}",
            "by FDR": f"{np.sum(sure & ~normal)}/{np.sum(sure)}",
            "false alarms": np.mean(alert[normal]),
            "drift p": drift,
            "": "drift" if drift < ALARM else "",
        }
    )
    if drift < ALARM:
        detector.calibrate(pd.concat(recent), false_positive_rate=RATE)

log = pd.DataFrame(log).set_index("form")
formats = {"false alarms": "{:.1%}".format, "drift p": "{:.2g}".format}
print(log.to_string(formatters=formats))

# %%
# An alert contains more than a score: a table of the features with the largest shares,
# with the index of the row and the names of the columns. The pixels are numbered from
# the top left. ``residual`` is in units of what is usual for the column, so a pixel at
# an edge that is nearly always white stands out. These are the first alerts of the last
# form, with the true kind added.

alerts = stream[(form_of == LATER[-1]) & (scores < thresholds)]
reasons = detector.explain(alerts.head(5)).to_frame(top_k=3)
reasons["true kind"] = reasons["row"].map(pd.Series(kind, stream.index))
print(reasons.to_string(index=False, float_format="{:.2f}".format))

# %%
# The effect of the drift
# -----------------------
#
# The threshold and the p-values were calibrated on other digits of the same five
# writers. Both guarantees fail as soon as another writer appears: see form 6. *Rows
# held back at random represent only more of the same data.* For new writers, machines
# or weeks, calibrate on writers, machines or weeks that are not in the training rows.
#
# Does it help to refit as well? Forms 10 to 14 are evaluated in four ways: with the
# first threshold; with the thresholds that were set when drift was reported; with a
# threshold from all normal rows of forms 6 to 9, as if a person had checked everything
# there; and with a detector that was refitted with forms 6 and 7 included, and
# calibrated on 8 and 9. The last column is the AUROC for all abnormal rows. It is the
# same for the first three, since `calibrate` does not change the model.

from sklearn.metrics import roc_auc_score


def normal_of(*forms):
    return stream[is_normal & np.isin(form_of, forms)]


end = form_of >= 10


def outcome(score, threshold):
    flagged = score < threshold
    shares = {a_kind: np.mean(flagged[kind[end] == a_kind]) for a_kind in KINDS}
    return {
        "false alarms": np.mean(flagged[is_normal[end]]),
        **shares,
        "AUROC": roc_auc_score(~is_normal[end], -score),
    }


outcomes = {
    "first threshold": outcome(scores[end], first_threshold),
    "set on drift": outcome(scores[end], thresholds[end]),
}
detector.calibrate(normal_of(6, 7, 8, 9), false_positive_rate=RATE)
outcomes["set on 6 to 9"] = outcome(scores[end], detector.offset_)
fresh = AutoencoderOutlierDetector(scaling="global", random_state=0)
fresh.fit(pd.concat([train, normal_of(6, 7)]))
fresh.calibrate(normal_of(8, 9), false_positive_rate=RATE)
outcomes["refitted"] = outcome(fresh.score_samples(stream[end]), fresh.offset_)
print(f"Forms 10 to 14, shares flagged; requested false alarm rate {RATE:.0%}")
print(pd.DataFrame(outcomes).T.to_string(float_format="{:.3f}".format))

# %%
# A threshold that is kept while the rows drift gives more alerts of both kinds, and so
# seems to find more. This is due to the threshold: at the requested false alarm rate it
# finds no more than the others. Finding more at that rate requires a better ranking, by
# another score or by training rows of more writers. So set the threshold again when
# drift is reported. Refit when the ranking has become worse: when, with a new
# threshold, a smaller share of the alerts is right than before.
#
# The drift check has two weaknesses. A form is by one writer, so its rows are more
# alike than independent rows. The test assumes independence and reports drift too
# often. The check also uses each form alone, and slow drift may not be significant in
# any of them. A cumulative sum accumulates evidence: for each batch add
# ``np.mean(-np.log(p_values)) - 1.1``, which is about -0.1 on average without drift,
# restart at zero when the sum becomes negative, and report drift when it exceeds a
# limit. This is a CUSUM chart with an allowance of 0.1.
#
# Plot
# ----
#
# Every digit of the stream. Points above the line are alerts, with a ring if the digit
# is normal; triangles are beyond the range of the axis. To the left are the calibration
# rows that the first threshold was set on; the dashed line is the first threshold.
# Below are the drift check, with the bound at which drift is reported, and the false
# alarm rates.

TOP = 18
THIN = {"color": INK, "lw": 1, "ls": (0, (5, 4))}

place = np.arange(len(stream))
place_held_back = np.arange(-len(held_back), 0) - 10
edges = np.append(np.searchsorted(form_of, LATER), len(stream))
centres = (edges[:-1] + edges[1:]) / 2

# sphinx_gallery_thumbnail_number = 2
figure, (above, middle, below) = plt.subplots(
    3,
    1,
    figsize=(11, 8.5),
    height_ratios=[3.4, 1, 1.2],
    sharex=True,
    layout="constrained",
)

above.scatter(place_held_back, -held_back, s=10, color=COLOURS["normal"], lw=0)
for a_kind, colour in COLOURS.items():
    chosen = kind == a_kind
    small = (
        {"s": 10, "lw": 0} if a_kind == "normal" else {"s": 34, "ec": "w", "lw": 0.6}
    )
    beyond = chosen & (-scores > TOP)
    inside = chosen & ~beyond
    above.scatter(place[inside], -scores[inside], color=colour, label=a_kind, **small)
    above.scatter(place[beyond], np.full(beyond.sum(), TOP), 34, colour, marker="^")
wrong = is_normal & (scores < thresholds)
height = np.minimum(-scores[wrong], TOP)
above.scatter(place[wrong], height, 42, "none", ec=INK, lw=0.8, label="false alarm")
above.plot(place, -thresholds, color=INK, lw=1.8, label="threshold")
above.hlines(-first_threshold, place_held_back[0], len(stream), **THIN)
above.set(yscale="log", ylabel="abnormality", ylim=(None, 1.06 * TOP))
above.set(yticks=[3, 5, 10, 15], yticklabels=[3, 5, 10, 15])
above.minorticks_off()

rang = log["drift p"].to_numpy() < ALARM
bars = middle.bar(
    centres,
    -np.log10(log["drift p"]),
    width=84,
    color=np.where(rang, COLOURS["dead line"], COLOURS["normal"]),
)
middle.bar_label(bars, np.where(rang, "drift", ""), color=INK, padding=1)
middle.axhline(-np.log10(ALARM), **THIN)
middle.set(ylabel="drift check\n$-\\log_{10}\\,p$", ylim=(0, 7.5))

for shift, name, colour, limits in (
    (
        -21,
        "first threshold kept",
        COLOURS["normal"],
        np.full(len(stream), first_threshold),
    ),
    (21, "set again on drift", COLOURS["foreign"], thresholds),
):
    false_alarms = pd.Series(scores < limits)[is_normal].groupby(form_of[is_normal])
    rates = 100 * false_alarms.mean()
    below.bar(centres + shift, rates, width=42, color=colour, label=name)
below.axhline(100 * RATE, **THIN)
below.set(
    ylabel="false alarms, %",
    xlim=(place_held_back[0] - 10, len(stream)),
    xticks=[place_held_back.mean(), *centres],
    xticklabels=["held back", *(f"form {later}" for later in LATER)],
)
for ax in (above, middle, below):
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="x", length=0)
    for edge in edges[:-1]:
        ax.axvline(edge, color="#e6e9ee", lw=1, zorder=0)
for ax, n_columns in ((above, 7), (below, 2)):
    ax.legend(
        ncols=n_columns,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        handletextpad=0.4,
    )
figure.savefig("workflow_stream.png", dpi=150)
