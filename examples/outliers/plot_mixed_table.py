"""
A table with categories: wrong entries, missing prices and new rows
===================================================================

Learn what to do with a table of numbers and categories, as it comes from a file: pass
it as it is. Here it is the table of diamonds of ggplot2. A detector lists the entries
that look wrong, in the units and categories of the table, a transformer fills in prices
that are missing, and the same model draws new rows.
"""

# %%
# The table
# ---------
#
# Categories are columns with a categorical dtype. Nothing is encoded, scaled or imputed
# by hand. ``examples/data`` has 10,000 rows drawn at random, and behind them all others
# whose ``depth`` does not fit to length, width and height: known mistakes.

import inspect
from pathlib import Path

import numpy as np
import pandas as pd

# The path of this script: the gallery does not set __file__.
FOLDER = Path(inspect.currentframe().f_code.co_filename).parent.parent / "data"
DATA = FOLDER / "diamonds.csv.xz"
if not DATA.exists():
    raise SystemExit(f"examples/data/{DATA.name} of the repository is not at {DATA}")

diamonds = pd.read_csv(DATA, index_col="row")
diamonds = diamonds.rename(columns={"x": "length", "y": "width", "z": "height"})
categories = ["cut", "color", "clarity"]
diamonds = diamonds.astype(dict.fromkeys(categories, "category"))
depth = 200 * diamonds["height"] / (diamonds["length"] + diamonds["width"])
is_wrong = (depth - diamonds["depth"]).abs() > 1
train, test, is_wrong = diamonds[:3000], diamonds[5000:], is_wrong[5000:]
print(train.head(3).to_string())

# %%
# Wrong entries
# -------------
#
# The detector is trained on rows as they come, mistakes included. ``explain`` speaks of
# columns and categories of the table. These are the rows with the lowest scores, with
# the column that has the largest share:

from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

detector = AutoencoderOutlierDetector(random_state=0).fit(train)
scores = detector.score_samples(test)
worst = test.iloc[np.argsort(scores)[:200]]
explanation = detector.explain(worst)
reasons = explanation.to_frame(top_k=1).set_index("row")
columns = ["feature", "value", "expected", "share"]
print("\nEvery tenth of the 200 most abnormal rows")
print(reasons[columns][::10].to_string(float_format="{:.2f}".format))

# %%
# Other detectors need an encoder in front. At a false alarm rate of 1 %, none of them
# finds most of the mistakes: many are too small to be abnormal among all that varies in
# ten columns, and most rows have nothing to do with them. With the six measures alone
# it is another matter: :ref:`sphx_glr_auto_examples_plot_quickstart.py`.

encoder = make_column_transformer(
    (OneHotEncoder(sparse_output=False), categories), remainder=StandardScaler()
)
forest = make_pipeline(encoder, IsolationForest(random_state=0)).fit(train)
lof = make_pipeline(encoder, LocalOutlierFactor(novelty=True)).fit(train)
print("\nMistakes found at 1 % false alarms")
for name, model in {
    "IsolationForest": forest,
    "LocalOutlierFactor": lof,
    "skae": detector,
}.items():
    values = model.score_samples(test)
    found = values[is_wrong] < np.quantile(values[~is_wrong], 0.01)
    print(f"{name:>18} {found.mean():.0%}")

# %%
# Missing prices
# --------------
#
# ``impute`` fills in what is missing from all that is known of a row, without a model
# for each column. For comparison, the price of the five nearest rows.

from sklearn.impute import KNNImputer

model = AutoencoderTransformer(5, scaling="standard", random_state=0).fit(train)
correct = test[~is_wrong][:1000]
holes = correct.assign(price=np.nan)
price = pd.DataFrame({"skae": model.impute(holes)["price"]})
price["median"] = train["price"].median()
encoded = encoder.set_output(transform="pandas").fit(train)
nearest = KNNImputer().set_output(transform="pandas").fit(encoded.transform(train))
rescale = encoded.named_transformers_["remainder"]
j = list(rescale.feature_names_in_).index("price")
filled = nearest.transform(encoded.transform(holes))["remainder__price"]
price["5 nearest"] = filled * rescale.scale_[j] + rescale.mean_[j]
error = price.sub(correct["price"], axis=0).abs().div(correct["price"], axis=0)
print("\nMissing prices: median of the relative error")
print(error.median().to_string(float_format="{:.0%}".format))

# %%
# A model of one column, such as a gradient boosting of the price, is better at that
# column. The autoencoder fills in any.
#
# New rows
# --------
#
# ``sample`` draws rows with the same columns and dtypes.

new = model.sample(3000, random_state=0)
print("\nNew rows")
print(new.head(3).to_string(float_format="{:.2f}".format))
shares = pd.DataFrame(
    {
        name: rows["cut"].value_counts(normalize=True)
        for name, rows in {"table": train, "new rows": new}.items()
    }
)
print(shares.to_string(float_format="{:.0%}".format))

# %%
# On the left a wrong row, explained; in the middle weights and prices of the table and
# of new rows; on the right missing prices and what was filled in.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
row = list(worst.index).index(21655)
explanation.plot(row=row, top_k=4, ax=axes[0])
style = {"s": 3, "alpha": 0.5}
axes[1].scatter(train["carat"], train["price"], color="#8a8f98", label="table", **style)
axes[1].scatter(new["carat"], new["price"], color="#d1495b", label="new", **style)
axes[1].set(xlim=(0, 2.6), xlabel="carat", ylabel="price, $")
axes[1].legend(markerscale=4, frameon=False)
axes[2].scatter(correct["price"], price["skae"], color="#30638e", **style)
axes[2].axline((0, 0), slope=1, color="black", lw=0.8)
axes[2].set(xlabel="price, $", ylabel="filled in, $")
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
