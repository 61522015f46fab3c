"""
Network intrusion: outliers in a table with mixed columns
=========================================================

Learn how to use a detector behind encoders of your own. Tables of real systems contain
categories, bytes that span nine powers of ten, counts and rates. This example brings
them to a common scale with a :class:`~sklearn.compose.ColumnTransformer`, followed by
:class:`~skae.AutoencoderOutlierDetector` in a pipeline, and explains the scores in the
columns of the table.
"""

# %%
# The data
# --------
#
# Connections in a simulated network, from the KDD Cup 1999, as fetched by scikit-learn
# (2 MB, once). The data are old, and known for duplicates and for attacks that are too
# easy to detect [1]_. Results on them compare detectors, but do not show how well a
# network of today is protected. Duplicates are dropped here. Normal connections are
# used for training and for the thresholds. The test set has other normal connections,
# and at most a hundred of each kind of attack, so that floods do not outweigh
# everything else.

import numpy as np
import pandas as pd
from sklearn.datasets import fetch_kddcup99

try:
    raw = fetch_kddcup99(percent10=True, n_retries=1)
except OSError as error:
    raise SystemExit(
        "The KDD Cup 1999 data could not be fetched. Run this example once with a "
        "network: scikit-learn keeps them in sklearn.datasets.get_data_home(). "
        f"({error})"
    ) from error

kind = pd.Series(raw.target).map(lambda label: label.decode().rstrip("."))
rng = np.random.default_rng(0)
shuffled = kind.iloc[rng.permutation(len(kind))]
# Enough of each kind to remain after duplicates are dropped.
enough = shuffled.map({"normal": 20_000}).fillna(2_000)
shuffled = shuffled[shuffled.groupby(shuffled).cumcount() < enough]

CATEGORIES = ["protocol_type", "service", "flag"]
connections = pd.DataFrame(raw.data[shuffled.index], columns=raw.feature_names)
connections[CATEGORIES] = connections[CATEGORIES].map(bytes.decode)
measured = connections.columns.drop(CATEGORIES)
connections[measured] = connections[measured].astype(float)
connections["kind"] = shuffled.to_numpy()
connections = connections.drop_duplicates(ignore_index=True)
kind = connections.pop("kind")

place = kind.groupby(kind).cumcount()
normal = kind == "normal"
train = connections[normal & (place < 5000)]
calibration = connections[normal & (place >= 5000) & (place < 7000)]
in_test = (normal & (place >= 7000) & (place < 9000)) | (~normal & (place < 100))
test, kind = connections[in_test], kind[in_test]
print(f"{len(train)} to train on, {len(calibration)} for the threshold; in the test:")
print(kind.value_counts().to_string(header=False))

# %%
# Preprocessing
# -------------
#
# - Bytes, seconds and rare counts are skewed by powers of ten: take their logarithm.
# - Counts of connections in the last seconds accumulate at both ends: take their
#   quantile among the training rows, from 0 to 1.
# - Rates are between 0 and 1 already.
# - Categories are encoded as columns of zeros and ones. Values that are rare in
#   training share one column, and unseen values use the same column: both are rare.
#
# All columns then have about the same range, and ``scaling="global"`` keeps it. The
# default would divide by the standard deviation, and a service used by one connection
# in a thousand would outweigh everything else.

from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    QuantileTransformer,
)

RATES = [name for name in measured if name.endswith("_rate")]
COUNTS = ["count", "srv_count", "dst_host_count", "dst_host_srv_count"]
SKEWED = [name for name in measured if name not in RATES + COUNTS]

logarithm = make_pipeline(
    FunctionTransformer(np.log1p, np.expm1, feature_names_out="one-to-one"),
    MinMaxScaler(),
)
one_hot = OneHotEncoder(
    min_frequency=20, handle_unknown="infrequent_if_exist", sparse_output=False
)
columns = ColumnTransformer(
    [
        ("skewed", logarithm, SKEWED),
        ("counts", QuantileTransformer(n_quantiles=200, random_state=0), COUNTS),
        ("rates", "passthrough", RATES),
        ("categories", one_hot, CATEGORIES),
    ],
    verbose_feature_names_out=False,
)

# %%
# Three detectors
# ---------------
#
# All use the same preprocessing, and a threshold that 1 % of the calibration rows
# exceed.

from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from skae import AutoencoderOutlierDetector

DETECTORS = {
    "autoencoder": AutoencoderOutlierDetector(scaling="global", random_state=0),
    "IsolationForest": IsolationForest(random_state=0),
    "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
}
RATE = 0.01
is_attack = (kind != "normal").to_numpy()
flagged, rows, models = {}, {}, {}
for name, detector in DETECTORS.items():
    models[name] = make_pipeline(columns, detector).fit(train)
    score = models[name].score_samples(test)
    usual = np.sort(models[name].score_samples(calibration))
    flagged[name] = score < usual[int(RATE * (len(usual) + 1)) - 1]
    rows[name] = {
        "AUROC": roc_auc_score(is_attack, -score),
        "false alarms": flagged[name][~is_attack].mean(),
        "attacks found": flagged[name][is_attack].mean(),
    }
print(pd.DataFrame(rows).T.to_string(float_format="{:.3f}".format))

found = pd.DataFrame(flagged, index=kind.index)[is_attack].groupby(kind).mean()
found.insert(0, "rows", kind.value_counts())
found = found[found["rows"] >= 10].sort_values("autoencoder")
print("\nShare found, kinds of attack with ten rows and more")
print(found.iloc[::-1].to_string(float_format="{:.2f}".format))

# %%
# Explanations in the columns of the table
# ----------------------------------------
#
# The detector sees encoded columns. :func:`skae.inspection.explain` goes back through
# the steps before it. Of one attack of each kind, the two columns with the largest
# shares of the score:

from skae.inspection import explain

attacks, labels = test[is_attack], kind[is_attack].to_numpy()
explanation = explain(models["autoencoder"], attacks)
reasons = explanation.to_frame(top_k=2).assign(kind=labels.repeat(2))
one_each = reasons.groupby("kind").head(2).set_index("kind").loc[found.index[::-1]]
one_each = one_each[["feature", "value", "expected", "share"]]
print(one_each.to_string(float_format="{:.3g}".format))

# %%
# The shares of a row sum to one. The share of the code belongs to no column. These are
# means over the attacks of each kind:

shares = pd.DataFrame(explanation.share, columns=explanation.feature_names)
shares["code"] = explanation.code_share
by_kind = shares.groupby(labels).mean().loc[found.index[::-1]]
for attack, line in by_kind.iterrows():
    worst = line.nlargest(3)
    print(f"{attack:>15}", *(f"{name} {part:.0%}" for name, part in worst.items()))

# %%
# Broken packets are found by the column that counts them, scans by unusual combinations
# of services and flags. IsolationForest cannot split a column that never varied in
# training, and misses the broken packets. The neighbourhoods of LocalOutlierFactor are
# affected by near-duplicate rows. None of the three finds attacks that look like
# ordinary traffic: an unauthorised download (warezclient) is a normal connection to all
# of them. The AUROC hides this; the share found at a fixed false alarm rate does not.
#
# Plot
# ----
#
# Left: kinds of attack with ten rows and more, ordered by the share that the
# autoencoder finds. Right: the columns of the table with the largest shares of its
# scores.

import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

COLOURS = {
    "autoencoder": "#d1495b",
    "IsolationForest": "#30638e",
    "LocalOutlierFactor": "#8a8f98",
}
plt.rcParams["axes.titlesize"] = "medium"
heat = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#edae49", "#d1495b"])
figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 5), layout="constrained", width_ratios=[1, 1.5], sharey=True
)
ordered = found.loc[by_kind.index]
place = np.arange(len(ordered))
left.hlines(place, 0, ordered["autoencoder"], color="#e8c2c7", lw=2)
for name, size in zip(DETECTORS, (90, 50, 30), strict=True):
    left.scatter(ordered[name], place, size, COLOURS[name], label=name, zorder=3)
left.set(
    yticks=place,
    yticklabels=[f"{kind} ({rows})" for kind, rows in ordered["rows"].items()],
    ylim=(len(place) - 0.5, -0.5),
    xlim=(-0.04, 1.04),
    xlabel="share found",
    title=f"Attacks found at {RATE:.0%} false alarms",
)
left.legend(frameon=False, loc="lower right")
left.tick_params(axis="y", length=0)
left.spines[["top", "right"]].set_visible(False)

top = by_kind.max().nlargest(13).index
image = right.imshow(by_kind[top], cmap=heat, aspect="auto", vmin=0, vmax=0.5)
right.set_xticks(range(len(top)), top, rotation=35, ha="right", fontsize="small")
right.tick_params(length=0)
right.spines[:].set_visible(False)
right.set_title("Mean share of the score by column of the table")
bar = figure.colorbar(image, ax=right, extend="max", pad=0.02, aspect=30)
bar.outline.set_visible(False)

# %%
# .. [1] Tavallaee, Bagheri, Lu & Ghorbani, "A Detailed Analysis of the KDD CUP 99 Data
#    Set", CISDA 2009.
