"""
Card fraud: alerts from payments without labels
===============================================

Learn how to rank payments by how unusual they are, without labels of fraud: mixed
columns and missing values as they are, a threshold by the number of alerts that
somebody can look at each day, and a reason for every alert. A classifier trained on
labels of yesterday's fraud is shown beside it.
"""

# %%
# Payments
# --------
#
# Real payments are confidential, so **these are made up**, by the rules in the function
# below. Customers have a level of spending and pay at usual hours; amounts depend on
# the kind of shop; distance and hours since the last payment fit together. A device is
# known for payments online only, else its age is missing.
#
# Fraud comes in four kinds. In three of them most values are usual by themselves, but
# not together: a copied card is used far away soon after the last payment, a stolen one
# for contactless payments one after the other, and an account that was taken over for
# electronics, late, from a new device. The fourth kind, small payments to find out
# which card numbers work, is many in an hour.

import numpy as np
import pandas as pd

SHOPS = {  # median amount, share of payments, share of them online
    "groceries": (28, 0.38, 0.05),
    "restaurant": (22, 0.22, 0.08),
    "fuel": (55, 0.10, 0.0),
    "clothes": (60, 0.12, 0.5),
    "electronics": (160, 0.05, 0.6),
    "travel": (240, 0.04, 0.8),
    "games": (9, 0.09, 1.0),
}
KINDS = ["card test", "copied card", "stolen card", "account takeover"]


def payments(n, fraud_rate, seed, n_days=30):
    """Make payments of a month.

    Parameters
    ----------
    n : int
        Number of payments.
    fraud_rate : float
        Share of fraud, of four kinds in equal parts.
    seed : int
    n_days : int, default=30

    Returns
    -------
    table : DataFrame of shape (n, 8)
    kind : Series, "normal" or the kind of fraud
    day : Series of int
    """
    rng = np.random.default_rng(seed)
    shop = rng.choice(list(SHOPS), size=n, p=[share for _, share, _ in SHOPS.values()])
    median, _, online = np.array([SHOPS[name] for name in shop]).T
    level = rng.lognormal(0, 0.4, n)  # of the customer
    amount = median * level * rng.lognormal(0, 0.5, n)
    is_online = rng.random(n) < online
    # By day, online also in the evening.
    hour = np.where(is_online, rng.normal(18, 3.5, n), rng.normal(14, 3.5, n)) % 24
    per_day = rng.gamma(3, 0.7, n)
    hours_since = rng.exponential(24 / per_day) + 0.2
    # Somebody who has had a long time may be far away; most are not.
    reach = rng.lognormal(0.8, 0.8, n) * np.minimum(hours_since, 10)
    km = np.where(is_online, 0.0, reach)
    last_hour = rng.poisson(per_day / 24)
    age = np.where(is_online, rng.gamma(2, 200, n), np.nan)
    kind = np.where(rng.random(n) < fraud_rate, rng.choice(KINDS, n), "normal")

    def change(name, column, values):
        mask = kind == name
        column[mask] = np.broadcast_to(values, n)[mask]

    change("card test", amount, rng.uniform(0.5, 3, n))
    change("card test", shop, "games")
    change("card test", is_online, True)
    change("card test", last_hour, rng.integers(4, 12, n))
    change("card test", hours_since, rng.uniform(0.02, 0.2, n))
    change("copied card", is_online, False)
    change("copied card", hours_since, rng.uniform(0.5, 4, n))
    change("copied card", km, rng.uniform(300, 1500, n))
    change("stolen card", is_online, False)
    change("stolen card", shop, rng.choice(["groceries", "restaurant", "fuel"], n))
    change("stolen card", amount, rng.uniform(42, 50, n))
    change("stolen card", last_hour, rng.integers(2, 5, n))
    change("stolen card", hours_since, rng.uniform(0.1, 0.4, n))
    change("stolen card", km, rng.uniform(0.2, 3, n))
    change("account takeover", is_online, True)
    change("account takeover", shop, "electronics")
    change("account takeover", amount, rng.uniform(300, 900, n))
    change("account takeover", hour, rng.uniform(0, 5, n))
    change("account takeover", age, rng.uniform(0, 2, n))

    contactless = ~is_online & (amount < 50) & (rng.random(n) < 0.8)
    channel = np.select([is_online, contactless], ["online", "contactless"], "chip")
    table = pd.DataFrame(
        {
            "amount": amount.round(2),
            "shop": pd.Categorical(shop),
            "channel": pd.Categorical(channel),
            "hour": hour.round(1),
            "hours_since_last": hours_since.round(2),
            "km_since_last": np.where(is_online, 0, km).round(1),
            "payments_last_hour": last_hour,
            "device_age_days": np.where(is_online, age, np.nan).round(),
        }
    )
    day = pd.Series(rng.integers(n_days, size=n), name="day")
    return table, pd.Series(kind, name="kind"), day


train, train_kind, _ = payments(6_000, 0.002, seed=0)
recent, _, recent_day = payments(15_000, 0.002, seed=1)
test, kind, day = payments(15_000, 0.008, seed=2)
is_fraud = (kind != "normal").to_numpy()
print(train.head().to_string())
print(f"\n{is_fraud.sum()} of {len(test)} payments of the next month are fraud")

# %%
# Detectors
# ---------
#
# The training rows are payments as they came: twelve of the 6,000 are fraud, and nobody
# knows which. The detector of skae takes the table as it is, except that amounts and
# distances span powers of ten, so that their logarithm is taken. IsolationForest and
# LocalOutlierFactor need encoded categories and filled gaps.
#
# The classifier has what the detectors do not have: labels. But it was trained when
# fraud was of two kinds only, fifty cases of each. The other two are new to it.

from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skae import AutoencoderOutlierDetector

SKEWED = ["amount", "hours_since_last", "km_since_last", "device_age_days"]


def logarithm():
    """Return a step that takes the logarithm of columns, and can be undone."""
    log = FunctionTransformer(
        np.log1p, np.expm1, feature_names_out="one-to-one", check_inverse=False
    )
    return make_column_transformer(
        (log, SKEWED),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")


def encoded(detector):
    """Return a pipeline that encodes and fills in before the detector."""
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    columns = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["shop", "channel"]), remainder=numbers
    )
    return make_pipeline(logarithm(), columns, detector)


models = {
    "IsolationForest": encoded(IsolationForest(random_state=0)),
    "LocalOutlierFactor": encoded(LocalOutlierFactor(novelty=True)),
    "skae": make_pipeline(logarithm(), AutoencoderOutlierDetector(random_state=0)),
}
suspicion = {
    name: -model.fit(train).score_samples(test) for name, model in models.items()
}

known, known_kind, _ = payments(25_000, 0.008, seed=3)
is_known = known_kind.isin(["card test", "stolen card"])
rows = is_known | (known_kind == "normal")
classifier = HistGradientBoostingClassifier(
    categorical_features="from_dtype", random_state=0
).fit(known[rows], is_known[rows])
name = f"classifier, {is_known.sum()} labels"
suspicion[name] = classifier.predict_proba(test)[:, 1]

# %%
# What five alerts a day find
# ---------------------------
#
# Five hundred payments a day, and somebody who looks at five of them. Each model gets
# as many alerts, so what counts is how many of them are fraud, and of which kind.

N_ALERTS = 5 * 30
found = {}
for name, score in suspicion.items():
    alert = np.zeros(len(test), dtype=bool)
    alert[np.argsort(-score)[:N_ALERTS]] = True
    by_kind = pd.Series(alert).groupby(kind).mean()[KINDS]
    found[name] = {"all": alert[is_fraud].mean(), **by_kind}
found = pd.DataFrame(found).T
print(f"Share of the fraud that {N_ALERTS} alerts a month find")
print(found.to_string(float_format="{:.0%}".format))

# %%
# The classifier finds what it was taught, and hardly anything else. The detectors know
# nothing of fraud, and find kinds that nobody has seen yet; whoever has labels uses
# both. LocalOutlierFactor is as good as skae here, each at another kind, once somebody
# has encoded the categories and filled the gaps; it gives no reasons. IsolationForest
# looks at one column at a time and misses the copied cards: far away is usual, and
# soon is usual, but not both.
#
# A threshold
# -----------
#
# Alerts are raised one payment after the other, so that a threshold is needed before
# the month is over. ``n_alerts`` with the days as ``groups`` is the mean number per
# day, on recent payments that were not trained on. No labels are needed.

detector = models["skae"]
to_input = detector[:-1]
detector[-1].calibrate(to_input.transform(recent), n_alerts=5, groups=recent_day)
alert = detector.predict(test) == -1
print(f"\nAlerts per day: {alert.sum() / 30:.1f}, asked for: 5")
print(f"Fraud among the alerts: {is_fraud[alert].mean():.0%}")
print(f"Alerts among the fraud: {alert[is_fraud].mean():.0%}")

# %%
# More than five, because there is more fraud in this month than in the recent one, four
# a day instead of one. :doc:`/guide/threshold` has other ways to set a threshold.

# %%
# Reasons
# -------
#
# :func:`skae.inspection.explain` goes back through the logarithms. The column with the
# largest share of the score, and the share of the code, for two alerts of each kind. If
# that one is large, the payment fits to no group of payments, rather than a column to
# the others:

from skae.inspection import explain

chosen = pd.concat([test[alert & (kind == name)].head(2) for name in KINDS])
explanation = explain(detector, chosen)
reasons = explanation.to_frame(top_k=1).assign(kind=kind[chosen.index].to_numpy())
columns = ["kind", "feature", "value", "expected", "share", "code_share"]
print(reasons[columns].to_string(index=False, float_format="{:.2f}".format))

# %%
# Left: the share of each kind of fraud among as many alerts. Right: why a payment was
# stopped, by a copied card.

import matplotlib.pyplot as plt

COLOURS = ["#8a8f98", "#30638e", "#d1495b", "#edae49"]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
place = np.arange(len(KINDS))
for i, (name, shares) in enumerate(found[KINDS].iterrows()):
    left.bar(place + 0.2 * (i - 1.5), shares, 0.18, color=COLOURS[i], label=name)
left.set_xticks(place, KINDS)
left.set(
    ylim=(0, 1.3), yticks=[0, 0.5, 1], title="Share of fraud found by 5 alerts a day"
)
left.legend(frameon=False, ncols=2, loc="upper left", fontsize="small")
left.spines[["top", "right"]].set_visible(False)
explanation.plot(row=2, top_k=4, ax=right, bar_kw={"color": "#d1495b"})
right.set_title("Why a payment is suspicious", loc="right")
right.set_title("", loc="left")
right.spines[["top", "right"]].set_visible(False)
plt.show()
