"""
Predictive maintenance: machines that differ, and seasons that drift
====================================================================

Learn how to watch machines that were not among those that the detector was trained on.
Rows of one machine resemble each other, so they have to be held out together
(``groups``), or the threshold is far too strict. And the conditions change: the page
shows how to notice it, and what to do.
"""

# %%
# Pumps
# -----
#
# **The data are made up**, by the function below: pumps with six sensors, read four
# times a day. Every pump differs a little from the others. Load and the temperature of
# the room drive the other sensors. Some pumps fail: over two weeks a bearing wears out,
# which shows first in how the vibration goes with the load, and then in the
# temperature.

from copy import deepcopy

import numpy as np
import pandas as pd

READINGS = 4  # a day


def pumps(n_pumps, n_days, first_day, n_failing, seed):
    """Make readings of pumps.

    Parameters
    ----------
    n_pumps, n_days : int
    first_day : int
        The room is warmest around day 200 of the year.
    n_failing : int
        The last pumps fail, each on one of the last ten days.
    seed : int

    Returns
    -------
    table : DataFrame, one row per reading, in the order of pumps and time
    pump : ndarray of int
    day : ndarray of float
    left : ndarray of float
        Days until the pump fails; infinite if it does not.
    """
    rng = np.random.default_rng(seed)
    n = n_days * READINGS
    pump = np.repeat(np.arange(n_pumps), n)
    day = np.tile(first_day + np.arange(n) / READINGS, n_pumps)

    def own(spread):
        return np.repeat(rng.normal(0, spread, n_pumps), n)

    fails = np.full(n_pumps, np.inf)
    if n_failing:
        end = first_day + n_days
        fails[-n_failing:] = rng.uniform(end - 10, end, n_failing)
    left = np.repeat(fails, n) - day
    wear = np.clip(1 - left / 14, 0, 1) ** 1.5
    load = np.clip(0.6 + own(0.05) + rng.normal(0, 0.15, len(pump)), 0.1, 1)
    room = 18 - 8 * np.cos(2 * np.pi * (day - 20) / 365) + rng.normal(0, 1, len(pump))
    speed = 1450 * (1 + own(0.01)) - 30 * load
    vibration = (1 + own(0.12)) * (0.6 + 1.5 * load**2 + 1.6 * wear * load)
    vibration *= rng.lognormal(0, 0.05, len(pump))
    flow = (40 + own(1.5)) * load ** (1 / 3) * (1 - 0.05 * wear)
    current = (8 + own(0.3)) * (0.4 + load) + rng.normal(0, 0.1, len(pump))
    bearing = room + own(1.5) + 22 * load + 12 * wear**2
    table = pd.DataFrame(
        {
            "current": current,
            "speed": speed + rng.normal(0, 2, len(pump)),
            "flow": flow + rng.normal(0, 0.3, len(pump)),
            "vibration": vibration,
            "bearing temperature": bearing + rng.normal(0, 0.7, len(pump)),
            "room temperature": room,
        }
    )
    kept = left > 0
    return table[kept], pump[kept], day[kept], left[kept]


train, pump, _, _ = pumps(32, 21, first_day=60, n_failing=0, seed=0)
other, _, _, _ = pumps(48, 14, first_day=60, n_failing=0, seed=1)
print(train.round(2).head(3).to_string())

# %%
# Hold out whole pumps
# --------------------
#
# Without ``groups`` the threshold is set on random readings of the pumps that the
# network has seen, and each has a near copy among the training rows. What a *new* pump
# looks like is shown only by pumps that are held out as a whole.

import warnings

from skae import AutoencoderOutlierDetector
from skae.exceptions import DependentRowsWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DependentRowsWarning)
    by_row = AutoencoderOutlierDetector(random_state=0).fit(train)
by_pump = AutoencoderOutlierDetector(random_state=0).fit(train, groups=pump)
print("False alarms on healthy pumps that are new, asked for: about 1 %")
for name, detector in {"by row": by_row, "by pump": by_pump}.items():
    alarms = detector.predict(other) == -1
    print(f"{name:>8}: {alarms.mean():.1%}")

# %%
# The rate is that of readings, and 32 pumps are few to know it by: a pump that differs
# from all others raises many alarms. So alerts go by pumps, not by readings.
#
# Failures
# --------
#
# Twelve of 36 new pumps fail. An alert is raised when four readings in a row, those of
# a day, are outliers.


def first_alerts(detector, table, pump, day):
    """Return the day of the first alert of each pump; NaN if there is none."""
    flagged = pd.Series(detector.predict(table) == -1).groupby(pump)
    in_a_row = flagged.rolling(4).sum().to_numpy() == 4
    return pd.Series(np.where(in_a_row, day, np.nan)).groupby(pump).min()


spring, spring_pump, spring_day, left = pumps(36, 30, 60, n_failing=12, seed=2)
failure = pd.Series(spring_day + left).groupby(spring_pump).first()
first = first_alerts(by_pump, spring, spring_pump, spring_day)
fails = np.isfinite(failure)
ahead = (failure - first)[fails]
print(f"\nFailures announced: {first[fails].notna().sum()} of {fails.sum()}")
print(
    f"Days ahead: {ahead.min():.0f} to {ahead.max():.0f}, median {ahead.median():.0f}"
)
print(f"Healthy pumps with an alert: {first[~fails].notna().sum()} of {(~fails).sum()}")

# %%
# What wears out? The columns with the largest mean share of the score, in the last days
# of the pumps that fail:

near = left < 4
explanation = by_pump.explain(spring[near])
shares = pd.Series(explanation.share.mean(axis=0), explanation.feature_names)
print("Mean share of the score")
print(shares.nlargest(3).to_string(float_format="{:.0%}".format))

# %%
# Drift
# -----
#
# In summer the room is far warmer than in any training row. These pumps are healthy,
# and yet most readings are flagged. The scores say that something has changed before
# anybody has looked at a pump: :func:`scipy.stats.ks_2samp` compares those of a week
# with those of spring.

from scipy.stats import ks_2samp

summer, _, _, _ = pumps(36, 7, 163, n_failing=0, seed=3)
usual, now = by_pump.score_samples(other), by_pump.score_samples(summer)
gap = ks_2samp(usual, now).statistic
print(f"\nLargest difference of the shares of rows below a score: {gap:.2f}")

# %%
# There are two remedies: another threshold, on rows of the summer; or another fit, with
# rows of the summer among the training rows. Both bring the false alarms down to a few
# percent; that is more than in spring, because it gets warmer still after the ten days
# that were added. With another fit more of the readings before a failure are left.

added, added_pump, _, _ = pumps(32, 10, 163, n_failing=0, seed=4)
moved = deepcopy(by_pump).calibrate(added, groups=added_pump)
again = AutoencoderOutlierDetector(random_state=0).fit(
    pd.concat([train, added]), groups=np.r_[pump, 32 + added_pump]
)
hot, hot_pump, hot_day, hot_left = pumps(36, 30, 163, n_failing=12, seed=5)
fails = np.isfinite(hot_left)
rows = {}
for name, detector in {
    "as it was": by_pump,
    "new threshold": moved,
    "new fit": again,
}.items():
    flagged = detector.predict(hot) == -1
    rows[name] = {
        "readings of healthy pumps": flagged[~fails].mean(),
        "last 4 days of failing pumps": flagged[hot_left < 4].mean(),
    }
table = pd.DataFrame(rows).T
print("\nFlagged in summer")
print(table.to_string(float_format="{:.0%}".format))

# %%
# Left: scores of three pumps that fail and of three that do not, against the days.
# Right: what is flagged in summer.

import matplotlib.pyplot as plt

figure, (left_axes, right) = plt.subplots(
    1, 2, figsize=(11, 3.8), layout="constrained", width_ratios=[1.5, 1]
)
score = -by_pump.score_samples(spring)
for k in (33, 34, 35, 0, 1, 2):
    of_pump = spring_pump == k
    style = {"color": "#d1495b"} if k > 30 else {"color": "#8a8f98", "lw": 0.8}
    left_axes.plot(spring_day[of_pump], score[of_pump], **style)
    if k > 30:
        left_axes.plot(spring_day[of_pump][-1], score[of_pump][-1], "kx")
left_axes.axhline(-by_pump.offset_, color="black", ls="--", lw=1)
left_axes.set(xlabel="day of the year", ylabel="anomaly score")
left_axes.set_title("Three pumps that fail (x), and three that do not", loc="left")
table.plot.bar(ax=right, color=["#8a8f98", "#d1495b"], rot=0, width=0.7)
right.legend(frameon=False, fontsize="small")
right.set(ylim=(0, 1.35), yticks=[0, 0.5, 1])
right.set_title("Share of readings that is flagged in summer", loc="left")
for ax in (left_axes, right):
    ax.spines[["top", "right"]].set_visible(False)
plt.show()
