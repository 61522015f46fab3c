"""
Quickstart: compress a table, find wrong rows, and see why they are wrong
=========================================================================

Learn the two estimators of :mod:`skae` beside the tools that they stand next to. First,
images of digits through a few numbers, beside PCA, and where PCA suffices. Then, the
mistakes in a table of diamonds, found by several detectors at the same false alarm
rate, and the explanation of one of them. At the end a model is saved. The figure is
written to ``quickstart.png``.
"""

# %%
# Dimensionality reduction
# ------------------------
#
# The digits of scikit-learn are images of 8 x 8 pixels, so rows of 64 columns. PCA and
# the autoencoder are fitted with the same code sizes, and judged on rows that neither
# has seen, in two ways: the share of the variance that is left after the way through
# the code, and the accuracy of a classifier that sees only the code.
# (``PCA.score`` is a log-likelihood; :func:`skae.metrics.reconstruction_scorer` is R²
# for both.)

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.metrics import reconstruction_scorer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, stratify=y, random_state=0
)


def accuracy(reducer):
    """Return the accuracy of a classifier of the codes, on new rows."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(reducer.transform(X_train), y_train)
    return classifier.score(reducer.transform(X_test), y_test)


reducers = {}
for size in (2, 8, 32):
    for model in (
        PCA(size, random_state=0),
        AutoencoderTransformer(size, random_state=0),
    ):
        name = "PCA" if isinstance(model, PCA) else "autoencoder"
        reducers[size, name] = model.fit(X_train)

table = pd.DataFrame(
    {
        "R²": {k: reconstruction_scorer(v, X_test) for k, v in reducers.items()},
        "accuracy": {k: accuracy(v) for k, v in reducers.items()},
    }
)
table = table.unstack().swaplevel(axis=1).sort_index(axis=1)
table.index.name = "components"
print("Digits, rows that were not trained on")
print(table.to_string(float_format="{:.2f}".format))

# %%
# With few numbers the autoencoder keeps much more. With many there is little left to
# gain for the classifier: if accuracy is all that counts and 32 numbers are not too
# many, PCA suffices, and takes milliseconds. :doc:`/guide/pca_or_autoencoder` says how
# to decide.
#
# Outlier detection
# -----------------
#
# The table of diamonds that comes with ggplot2 is known for its mistakes: a width of
# 58.9 mm, heights of zero, the weight in the place of the height. They can be checked:
# ``depth`` should be 200 height / (length + width), and in 93 of 53,940 rows it is off
# by more than one percentage point. These are the outliers here, and no detector is
# told the formula. ``examples/data`` has 10,000 rows drawn at random, and behind them
# the rest of the wrong ones.
#
# All detectors are trained on the correct ones of 5,000 rows. With their own thresholds
# they could not be compared, because one raises many times as many false alarms as
# another. So each gets the threshold that 0.1 %, 0.5 % or 1 % of the other correct rows
# exceed, and the question is how many of the mistakes it finds.

import inspect
from pathlib import Path

import numpy as np
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from skae.anomaly_scores import Mahalanobis

# The path of this script: the gallery does not set __file__.
DATA = Path(inspect.currentframe().f_code.co_filename).parent / "data/diamonds.csv.xz"
if not DATA.exists():
    raise SystemExit(f"examples/data/{DATA.name} of the repository is not at {DATA}")

diamonds = pd.read_csv(DATA, index_col="row")
diamonds = diamonds.rename(columns={"x": "length", "y": "width", "z": "height"})
depth = 200 * diamonds["height"] / (diamonds["length"] + diamonds["width"])
is_wrong = (depth - diamonds["depth"]).abs() > 1
measures = diamonds[["carat", "depth", "table", "length", "width", "height"]]
train = measures[:5000][~is_wrong[:5000]]
test, is_wrong = measures[5000:], is_wrong[5000:]
print(f"\nDiamonds: {is_wrong.sum()} mistakes in {len(test)} rows")


class PCAResidual(PCA):
    """The distance to the plane of PCA, as a score of normality."""

    def score_samples(self, X):
        """Return minus the squared distances."""
        return -((X - self.inverse_transform(self.transform(X))) ** 2).sum(axis=1)


detectors = {
    "IsolationForest": IsolationForest(random_state=0),
    "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
    "EllipticEnvelope": EllipticEnvelope(random_state=0),
    "PCA, 3 components": PCAResidual(3),
    "PCA, 4 components": PCAResidual(4),
    "skae, default score": AutoencoderOutlierDetector(random_state=0),
    "skae, Mahalanobis()": AutoencoderOutlierDetector(
        anomaly_score=Mahalanobis(), random_state=0
    ),
}
rows = {}
for name, detector in detectors.items():
    # skae scales inside.
    model = detector if "skae" in name else make_pipeline(StandardScaler(), detector)
    scores = model.fit(train).score_samples(test)
    rows[name] = {
        f"found at {rate:.1%}": np.mean(
            scores[is_wrong] < np.quantile(scores[~is_wrong], rate)
        )
        for rate in (0.001, 0.005, 0.01)
    }
found = pd.DataFrame(rows).T
print(found.to_string(float_format="{:.0%}".format))

# %%
# A mistake breaks the relation of the columns, while each of its values may be quite
# usual. IsolationForest splits one column at a time. Neighbours look at all
# directions alike. The plane of PCA is good with the right number of components, which
# somebody has to know. :class:`~skae.anomaly_scores.Mahalanobis` takes the residual of
# the network in units of its usual spread, and finds nearly all. It is the score for
# tables of this kind, in which all rows follow the same relations; the default score
# is for outliers of any kind. :doc:`/guide/anomaly_scores` has the choice.
#
# This is an illustration, not a benchmark: columns, training rows and the score were
# chosen with these mistakes in view. If the mistakes stay among the training rows, 63
# to 86 % of them are found at 0.5 % false alarms (four seeds). :doc:`/guide/numbers`
# has tables on which nothing was chosen, and those on which others are ahead.
#
# An explanation
# --------------
#
# The threshold comes from rows that training has not seen, with a false alarm rate that
# is promised. ``explain`` then says which columns made a row an outlier, with the value
# and the one that the network expected.

correct = test[~is_wrong]
detector = detectors["skae, Mahalanobis()"]
detector.calibrate(correct[:2500], false_positive_rate=0.005)
alarms = detector.predict(correct[2500:]) == -1
print(f"\nFalse alarms among {len(alarms)} new correct rows: {alarms.mean():.1%}")

row = test.loc[[21655]]
print(f"Row 21655 of the table: {row.to_dict('records')[0]}")
print(f"Label: {detector.predict(row)[0]}")
explanation = detector.explain(row)
reasons = explanation.to_frame(top_k=2)[["feature", "value", "expected", "share"]]
print(reasons.to_string(index=False, float_format="{:.2f}".format))

# %%
# The weight of 1.41 carat was typed into the height.
#
# Save and load
# -------------
#
# The file holds data only, no code, so that it is safe to open.

from tempfile import TemporaryDirectory

import skae

with TemporaryDirectory() as folder:
    path = Path(folder) / "detector.skae"
    skae.save(detector, path)
    same = skae.load(path).score_samples(test) == detector.score_samples(test)
    print(f"\nSaved in {path.stat().st_size / 1000:.0f} kB; same scores: {same.all()}")

# %%
# The figure
# ----------
#
# Above, a new image of each digit, and what is left of it after two and eight
# numbers. Below, the explanation, and the mistakes found at 0.5 % false alarms.

import matplotlib.pyplot as plt

PCA_COLOUR, SKAE_COLOUR = "#8a8f98", "#d1495b"
plt.rcParams["axes.titlesize"] = "medium"
figure = plt.figure(figsize=(10, 7), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1.25, 1], hspace=0.03)

images = {"new image": [X_test[y_test == digit][0] for digit in range(10)]}
for size in (2, 8):
    for name in ("PCA", "autoencoder"):
        reducer = reducers[size, name]
        code = reducer.transform(images["new image"])
        images[f"{size} numbers\n{name}"] = reducer.inverse_transform(code)
for axes, (name, group) in zip(
    above.subplots(len(images), 10), images.items(), strict=True
):
    for ax, image in zip(axes, group, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    colour = SKAE_COLOUR if "auto" in name else "black"
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center", color=colour)

left, right = below.subplots(1, 2)
below.get_layout_engine().set(wspace=0.08)
explanation.plot(top_k=4, ax=left, bar_kw={"color": SKAE_COLOUR})
left.set_title("Why diamond 21655 is flagged: its weight is in the height", loc="left")
left.spines[["top", "right"]].set_visible(False)
shares = found["found at 0.5%"][::-1]
colours = [SKAE_COLOUR if "skae" in name else PCA_COLOUR for name in shares.index]
bars = right.barh(shares.index, shares, color=colours)
right.bar_label(bars, [f"{share:.0%}" for share in shares], padding=3)
right.set(xlim=(0, 1.12), xticks=[], title="Mistakes found, at 0.5 % false alarms")
right.spines[["top", "right", "bottom"]].set_visible(False)
figure.savefig("quickstart.png", dpi=150)
