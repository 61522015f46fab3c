"""
Anomalies in a time series with sliding windows
===============================================

Learn how to find events in a time series. A detector needs rows, but a time series is
one long column. Sliding windows turn it into a table in which each row contains the
last 24 hours. The data are taxi passengers in New York, with five known events. The
autoencoder is compared with a moving z-score, the distance to the mean week, and
:class:`~sklearn.ensemble.IsolationForest` on the same windows.
"""

# %%
# The data
# --------
#
# Taxi passengers in New York, counted every half hour from July 2014 to January 2015, a
# series of the Numenta Anomaly Benchmark [1]_. Five windows are labelled: the New York
# marathon (when the clocks also changed), Thanksgiving, Christmas, New Year and a
# snowstorm.
#
# July to September are for training. October, up to the first labelled window, is for
# the thresholds, and the rest is the test. The split is by time, not at random:
# overlapping windows are nearly copies of each other.

import sys
from pathlib import Path

import numpy as np
import pandas as pd

# The path of this script: the gallery does not set __file__.
DATA = Path(sys.argv[0]).resolve().parents[1] / "data" / "nyc_taxi.npz"
if not DATA.exists():
    raise SystemExit(f"examples/data/{DATA.name} of the repository is not at {DATA}")
with np.load(DATA) as archive:
    passengers = archive["passengers"].astype(float)
    labelled = archive["labelled"]

EVENTS = ["marathon", "Thanksgiving", "Christmas", "New Year", "snowstorm"]
DAY, WEEK = 48, 7 * 48
time = pd.date_range("2014-07-01", periods=len(passengers), freq="30min")

# A window is assigned to the time of its last half hour.
windows = np.lib.stride_tricks.sliding_window_view(passengers, DAY)
end = np.arange(DAY - 1, len(passengers))
october = np.searchsorted(time, "2014-10-01")
for_training = end < october
for_threshold = (end >= october + DAY - 1) & (end < labelled[0, 0])
in_test = end >= labelled[0, 0]

event_of = np.full(len(passengers), -1)
for number, (first, after) in enumerate(labelled):
    event_of[first:after] = number
event_of = event_of[end]
is_quiet = in_test & (event_of < 0)
print(f"{len(windows)} windows of {DAY} half hours, {sum(in_test)} of them in the test")

# %%
# Four scores
# -----------
#
# Higher values are more abnormal in all of them. The mean week is what a person who
# knows the taxi traffic would compare with: the mean and standard deviation of July to
# September for each half hour of the week, and the mean squared deviation over the last
# 24 hours.
#
# Windows that start half an hour apart are nearly equal, so every fourth is enough for
# training. All columns of a window have the same unit, hence ``scaling="global"``.
# ``architecture=Conv((1, 48))`` would use convolutions instead of the default network;
# it takes several times as long.

from sklearn.ensemble import IsolationForest

from skae import AutoencoderOutlierDetector

series = pd.Series(passengers)
last_week = series.shift().rolling(WEEK)
moving = ((series - last_week.mean()) / last_week.std()).abs().fillna(0)

half_hour = np.arange(len(series)) % WEEK
known = series[:october].groupby(half_hour[:october])
deviation = (series - known.mean()[half_hour].to_numpy()) / known.std()[
    half_hour
].to_numpy()
from_mean_week = deviation.pow(2).rolling(DAY).mean()

train = windows[for_training][::4]
forest = IsolationForest(random_state=0).fit(train)
detector = AutoencoderOutlierDetector(scaling="global", random_state=0).fit(train)

abnormality = {
    "moving z-score": moving.to_numpy()[end],
    "mean week": from_mean_week.to_numpy()[end],
    "IsolationForest": -forest.score_samples(windows),
    "autoencoder": -detector.score_samples(windows),
}

# %%
# Alarms at a fixed false alarm rate
# ----------------------------------
#
# The threshold is the one that 1 % of the windows of October exceed. `calibrate` sets
# it for the detector; the other methods use the same rank of their scores. An event is
# found if there is an alarm in its labelled window. All other alarms count as false,
# whatever their cause.

from sklearn.metrics import roc_auc_score

RATE = 0.01
detector.calibrate(windows[for_threshold], false_positive_rate=RATE)
rank = int(RATE * (for_threshold.sum() + 1))

thresholds, alarms, rows = {}, {}, {}
for name, score in abnormality.items():
    thresholds[name] = np.sort(score[for_threshold])[-rank]
    alarms[name] = score > thresholds[name]
    found = set(event_of[alarms[name] & in_test]) - {-1}
    false = alarms[name] & is_quiet
    rows[name] = {
        "found": f"{len(found)} of {len(EVENTS)}",
        "false alarms": f"{false.sum() / is_quiet.sum():.1%}",
        "days with any": len(set(time[end[false]].date)),
        "AUROC": roc_auc_score(event_of[in_test] >= 0, score[in_test]),
    }
assert np.isclose(thresholds["autoencoder"], -detector.offset_)
print(f"From {time[labelled[0, 0]]:%d %B} on; requested false alarm rate {RATE:.0%}")
print(pd.DataFrame(rows).T.to_string(float_format="{:.3f}".format))

# %%
# The moving z-score uses one value and the last week: an evening looks like an
# anomaly, and a quiet holiday does not. IsolationForest uses windows, but hardly the
# relations between their columns. The mean week and the autoencoder find all events;
# the autoencoder finds Thanksgiving only by a small margin. The mean week has the
# better AUROC. But traffic drifts away from the summer, and much of January is beyond
# its threshold from October. The autoencoder has no information about weeks or half
# hours: it learns what days look like.
#
# Its false alarms are still more than requested, and are spread over more days than
# those of any other method. The guarantee of `calibrate` holds for independent windows
# from the distribution of October. These windows overlap, and are from another season.
# Some of the false alarms are public holidays without a label. In production, calibrate
# every month on windows confirmed as normal, as in
# :ref:`sphx_glr_auto_examples_outliers_plot_anomaly_workflow.py`.
#
# Plot
# ----
#
# The series with the labelled windows, the score of the autoencoder with its threshold,
# and the alarms of all four methods: dark if they are false, light in October. Bottom:
# the 24 hours with the highest score in each labelled window, and the values that the
# model expected. In the snowstorm it expects negative counts at night, since
# the squared error does not exclude them.

import matplotlib.pyplot as plt
from matplotlib.dates import DateFormatter, MonthLocator

COLOURS = {
    "moving z-score": "#8a8f98",
    "mean week": "#edae49",
    "IsolationForest": "#30638e",
    "autoencoder": "#d1495b",
}
INK = "#22223b"
plt.rcParams["axes.titlesize"] = "medium"
figure = plt.figure(figsize=(10, 8.2), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[2, 1])
counts, scores, strips = above.subplots(
    3, 1, sharex=True, height_ratios=[1.6, 1.1, 1], gridspec_kw={"hspace": 0.03}
)

counts.plot(time[october:], passengers[october:] / 1000, color="#8a8f98", lw=0.6)
counts.set(ylabel="thousand passengers\nper half hour", ylim=(0, 45))
for (first, after), name in zip(labelled, EVENTS, strict=True):
    for ax in (counts, scores, strips):
        ax.axvspan(time[first], time[after - 1], color="#edae49", alpha=0.22, lw=0)
    middle, side = time[(first + after) // 2], "center"
    if name in ("Christmas", "New Year"):  # too close for centred labels
        side = "right" if name == "Christmas" else "left"
        middle = time[after - 1 if name == "Christmas" else first]
    counts.text(middle, 44, name, ha=side, va="top", color=INK, fontsize="small")

shown = end >= october
scores.plot(
    time[end[shown]],
    abnormality["autoencoder"][shown],
    color=COLOURS["autoencoder"],
    lw=0.9,
)
scores.axhline(thresholds["autoencoder"], color=INK, lw=1, ls=(0, (5, 4)))
scores.set(yscale="log", ylabel="abnormality,\nautoencoder")

for place, (name, alarm) in enumerate(reversed(alarms.items())):
    for chosen, colour in (
        (alarm & (event_of >= 0), COLOURS[name]),
        (alarm & is_quiet, INK),
        (alarm & for_threshold, "#c9cdd4"),
    ):
        strips.vlines(time[end[chosen]], place - 0.36, place + 0.36, colour, lw=0.8)
strips.set(yticks=range(len(alarms)), yticklabels=list(alarms)[::-1], ylabel="alarms")
strips.xaxis.set_major_locator(MonthLocator())
strips.xaxis.set_major_formatter(DateFormatter("%d %b"))
strips.set_xlim(time[october], time[-1])

worst = [
    np.flatnonzero(event_of == k)[np.argmax(abnormality["autoencoder"][event_of == k])]
    for k in range(len(EVENTS))
]
expected = detector.explain(windows[worst]).expected
panels = below.subplots(1, len(EVENTS), sharey=True)
for ax, window, usual, row, name in zip(
    panels, windows[worst], expected, worst, EVENTS, strict=True
):
    hours = np.arange(DAY) / 2
    ax.fill_between(hours, window / 1000, usual / 1000, color="#d1495b", alpha=0.15)
    ax.plot(hours, usual / 1000, color="#8a8f98", lw=1.5, label="expected")
    ax.plot(hours, window / 1000, color="#d1495b", lw=1.8, label="observed")
    start = time[end[row] - DAY + 1]
    ax.set(
        title=name, xlabel=f"hours after {start:%a %d %b, %H:%M}", xticks=[0, 12, 24]
    )
    ax.xaxis.label.set_fontsize("small")
panels[0].set_ylabel("thousand passengers")
panels[0].legend(frameon=False, fontsize="small")
for ax in (counts, scores, strips, *panels):
    ax.spines[["top", "right"]].set_visible(False)
strips.tick_params(axis="y", length=0)

# %%
# .. [1] Ahmad, Lavin, Purdy & Agha, "Unsupervised real-time anomaly detection for
#    streaming data", Neurocomputing 262, 2017.
