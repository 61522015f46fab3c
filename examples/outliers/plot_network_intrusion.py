"""
Network intrusion: a detector behind encoders of your own
=========================================================

Learn how to use a detector behind a :class:`~sklearn.compose.ColumnTransformer`, and
how to get its alerts explained in the columns of the table. Connections in a network
have categories, bytes that span nine powers of ten, counts and rates. They are brought
to a common scale first, and every attack is a kind that the detector has not seen.
"""

# %%
# Connections
# -----------
#
# **The data are made up**, by the function below. The records of real networks are
# either confidential or, such as those of the KDD Cup 1999, old, full of duplicates and
# too easy [1]_; :func:`sklearn.datasets.fetch_kddcup99` has them, with columns of the
# same kind as here. A connection has a service, a state in which it ended, bytes in
# both directions, and counts of what its source did in the seconds before.
#
# Of the six kinds of attack, some stand out in one column, as a flood does. Others have
# usual values that do not go together: a name server is asked for what fits into no
# name, much is sent where otherwise much is received, or a session that stays open is
# silent but for a few bytes at a time.

import numpy as np
import pandas as pd

SERVICES = {  # share, bytes sent, bytes received, seconds
    "http": (0.5, 350, 6000, 0.4),
    "dns": (0.25, 45, 110, 0.02),
    "smtp": (0.1, 3000, 400, 1.5),
    "ssh": (0.05, 4000, 9000, 200),
    "ftp": (0.05, 600, 1500, 8),
    "ntp": (0.05, 48, 48, 0.01),
}


def ordinary(n, rng):
    """Make ordinary connections, a data frame of n rows."""
    share, sent, received, seconds = np.array(list(SERVICES.values())).T
    kind = rng.choice(len(SERVICES), size=n, p=share)
    size = rng.normal(0, 0.7, n)  # of what is done: bytes and seconds go together
    busy = rng.gamma(1.5, 4, n)
    failing = rng.beta(1, 25, n)
    failure = rng.choice(["refused", "reset"], n)
    state = np.where(rng.random(n) < failing, failure, "closed")
    is_open = state == "closed"

    def spread(scale):
        return rng.lognormal(0, scale, n)

    return pd.DataFrame(
        {
            "service": np.array(list(SERVICES))[kind],
            "state": state,
            "seconds": seconds[kind] * np.exp(0.8 * size) * spread(0.4),
            "bytes_sent": np.rint(sent[kind] * np.exp(0.6 * size) * spread(0.3)),
            "bytes_received": np.rint(
                is_open * received[kind] * np.exp(size) * spread(0.4)
            ),
            "connections_2s": 1 + rng.poisson(busy),
            "hosts_2s": 1 + rng.binomial(rng.poisson(busy), 0.3),
            "failed_rate": np.clip(failing + rng.normal(0, 0.02, n), 0, 1),
        }
    )


def attack(kind, n, rng):
    """Make connections of one kind of attack: ordinary ones, of which parts change."""
    rows = ordinary(20 * n, rng)
    services = {
        "password guesses": "ssh",
        "data through DNS": "dns",
        "upload of a database": "http",
        "remote control": "http",
    }
    if kind in services:
        rows = rows[(rows["service"] == services[kind]) & (rows["state"] == "closed")]
    rows = rows.head(n).copy()
    n = len(rows)
    if kind == "flood":
        rows["state"], rows["bytes_received"] = "refused", 0
        rows["connections_2s"] = rng.integers(200, 500, n)
        rows["failed_rate"] = rng.uniform(0.8, 1, n)
    elif kind == "scan of hosts":
        rows["hosts_2s"] = rows["connections_2s"] + rng.integers(3, 10, n)
        rows["failed_rate"] = rng.uniform(0.3, 0.6, n)
        rows["seconds"] = rng.uniform(0, 0.02, n)
    elif kind == "password guesses":
        rows["seconds"] = rng.uniform(1, 4, n)
        rows["bytes_sent"] = rng.integers(900, 1300, n)
        rows["bytes_received"] = rng.integers(1500, 2200, n)
    elif kind == "data through DNS":
        rows["bytes_sent"] = rng.integers(150, 250, n)
    elif kind == "upload of a database":
        sent = rows["bytes_sent"] * 40
        rows["bytes_sent"], rows["bytes_received"] = sent, rows["bytes_sent"]
    elif kind == "remote control":
        rows["seconds"] = rng.uniform(60, 600, n)
    return rows


KINDS = [
    "flood",
    "scan of hosts",
    "password guesses",
    "data through DNS",
    "upload of a database",
    "remote control",
]
rng = np.random.default_rng(0)
train, calibration, test = ordinary(5000, rng), ordinary(2000, rng), ordinary(4000, rng)
attacks = {kind: attack(kind, 80, rng) for kind in KINDS}
kind = np.repeat(["ordinary", *KINDS], [len(test), *map(len, attacks.values())])
test = pd.concat([test, *attacks.values()], ignore_index=True)
print(train.head(4).round(3).to_string())

# %%
# Preprocessing
# -------------
#
# - Bytes, seconds and counts are skewed by powers of ten: take their logarithm.
# - Rates are between 0 and 1 already.
# - Categories are encoded as columns of zeros and ones. Values that are rare in
#   training share one column, and unseen values use the same column.
#
# The detector would take the categories as they are; an encoder of your own lets you
# say which of them are the same.

from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

SKEWED = ["seconds", "bytes_sent", "bytes_received", "connections_2s", "hosts_2s"]


def log(x):
    return np.log(x + 0.01)


def undo_log(x):
    return np.exp(x) - 0.01


logarithm = make_pipeline(
    FunctionTransformer(log, undo_log, feature_names_out="one-to-one"),
    StandardScaler(),
)
one_hot = OneHotEncoder(
    min_frequency=20, handle_unknown="infrequent_if_exist", sparse_output=False
)
columns = ColumnTransformer(
    [
        ("skewed", logarithm, SKEWED),
        ("rates", StandardScaler(), ["failed_rate"]),
        ("categories", one_hot, ["service", "state"]),
    ],
    verbose_feature_names_out=False,
)

# %%
# Three detectors
# ---------------
#
# All use the same preprocessing, and a threshold that 1 % of the calibration rows
# exceed. ``scaling="global"`` keeps the scale that the encoders have made.

from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from skae import AutoencoderOutlierDetector

detectors = {
    "IsolationForest": IsolationForest(random_state=0),
    "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
    "skae": AutoencoderOutlierDetector(scaling="global", random_state=0),
}
models, found = {}, {}
for name, detector in detectors.items():
    model = models[name] = make_pipeline(columns, detector).fit(train)
    threshold = np.quantile(model.score_samples(calibration), 0.01)
    flagged = pd.Series(model.score_samples(test) < threshold)
    found[name] = flagged.groupby(kind).mean()[["ordinary", *KINDS]]
found = pd.DataFrame(found)
found.index.name = None
print("Share flagged, at about 1 % false alarms")
print(found.to_string(float_format="{:.0%}".format))

# %%
# Explanations in the columns of the table
# ----------------------------------------
#
# The detector sees encoded columns. :func:`skae.inspection.explain` goes back through
# the steps before it. Of one attack of each kind, the two columns with the largest
# shares of the score:

from skae.inspection import explain

explanation = explain(models["skae"], test[kind != "ordinary"])
names = kind[kind != "ordinary"]
reasons = explanation.to_frame(top_k=2).assign(kind=names.repeat(2))
one_each = reasons.groupby("kind").head(2).set_index("kind").loc[KINDS]
one_each = one_each[["feature", "value", "expected", "share"]]
print(one_each.to_string(float_format="{:.3g}".format))

# %%
# IsolationForest splits one column at a time, most of them zeros and ones here, and
# finds floods only. LocalOutlierFactor is better than the autoencoder at guessed
# passwords, and at data that leave through the name server. It gives no reasons.
#
# Left: the share of each kind of attack that is found. Right: why an upload was
# flagged.

import matplotlib.pyplot as plt

COLOURS = ["#8a8f98", "#30638e", "#d1495b"]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
place = np.arange(len(KINDS))
for i, name in enumerate(found):
    shares = found.loc[KINDS, name]
    left.barh(place + 0.27 * (i - 1), shares, 0.25, color=COLOURS[i], label=name)
left.set_yticks(place, KINDS)
left.set(ylim=(5.6, -1.2), xticks=[0, 0.5, 1])
left.set_title("Share of attacks found at 1 % false alarms", loc="left")
left.legend(frameon=False, ncols=3, loc="upper center", fontsize="small")
left.spines[["top", "right"]].set_visible(False)
upload = int(np.flatnonzero(names == "upload of a database")[1])
explanation.plot(row=upload, top_k=4, ax=right, bar_kw={"color": "#d1495b"})
right.set_title("Why an upload of a database is flagged", loc="right")
right.set_title("", loc="left")
right.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# .. [1] Tavallaee, Bagheri, Lu & Ghorbani, "A Detailed Analysis of the KDD CUP 99 Data
#    Set", CISDA 2009.
