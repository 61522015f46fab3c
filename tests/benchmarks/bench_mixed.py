"""Tables of numbers and categories: detection, and categories restored.

Tables: the normal training rows of NSL-KDD with its three categories as words, scored
on its test rows, with and without the four features that are constant in the training
rows; and two made ones, of which half of the normal rows train.

- "machines": two latent numbers decide six numbers, with noise, and three categories of
  3, 4 and 6 values. In an outlier one of the features is that of another row.
- "places": a region, a city of 30 with the region that it is in, a product of 12 whose
  frequencies depend on the region, and the price and the weight of the product. An
  outlier has the city of another region, or another product, or another price.

Detection: AUROC, and recall at 1 and 5 % false alarms, of skae with categories, of skae
behind a ColumnTransformer with StandardScaler and OneHotEncoder, and of IsolationForest
on ordinal codes and on one-hot columns.

Restored: a tenth of the categories is removed, in training and test rows; which share
of those of test rows `AutoencoderImputer` gives back, beside the most frequent category
and a random forest for each feature.

    SKAE_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/bench_mixed.py
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
import torch
from _data import data_folder
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from skae import AutoencoderImputer, AutoencoderOutlierDetector


def with_swaps(X, n_outliers, columns, rng):
    """Return rows of which the last ones have one entry of another row."""
    columns = list(columns)
    X = X.copy()
    rows = np.arange(len(X) - n_outliers, len(X))
    for i, name in zip(rows, rng.choice(columns, n_outliers), strict=True):
        value, others = X[name].iloc[i], X[name]
        if others.dtype == "category":
            different = others[others != value]
        else:
            far = (others - value).abs() > others.std()
            different = others[far]
        X.loc[X.index[i], name] = different.iloc[rng.randint(len(different))]
    return X


def machines(seed, n=4000, n_outliers=400):
    rng = np.random.RandomState(seed)
    z = rng.normal(size=(n, 2))
    W = rng.normal(size=(2, 6))
    X = pd.DataFrame(
        np.tanh(z @ W) + 0.1 * rng.normal(size=(n, 6)),
        columns=[f"sensor{j}" for j in range(6)],
    )
    angle = np.arctan2(z[:, 1], z[:, 0])
    for name, score, k in (
        ("mode", z[:, 0], 3),
        ("material", z[:, 1], 4),
        ("operator", angle, 6),
    ):
        edges = np.quantile(score, np.linspace(0, 1, k + 1)[1:-1])
        noisy = score + 0.05 * rng.normal(size=n)
        X[name] = pd.Categorical([f"{name}{i}" for i in np.digitize(noisy, edges)])
    return split(X, n_outliers, rng)


def places(seed, n=4000, n_outliers=400):
    rng = np.random.RandomState(seed)
    region = rng.choice(5, n, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    city = 6 * region + rng.choice(6, n, p=[0.5, 0.2, 0.1, 0.1, 0.07, 0.03])
    liked = rng.dirichlet(0.3 * np.ones(12), size=5)
    product = np.array([rng.choice(12, p=liked[r]) for r in region])
    price, weight = rng.lognormal(3, 1, size=12), rng.lognormal(0, 0.7, size=12)
    X = pd.DataFrame(
        {
            "region": pd.Categorical([f"region{i}" for i in region]),
            "city": pd.Categorical([f"city{i}" for i in city]),
            "product": pd.Categorical([f"product{i}" for i in product]),
            "price": price[product] * rng.lognormal(0, 0.05, n),
            "weight": weight[product] * rng.lognormal(0, 0.05, n),
        }
    )
    return split(X, n_outliers, rng)


def split(X, n_outliers, rng):
    half = (len(X) - n_outliers) // 2
    X = with_swaps(X, n_outliers, X.columns, rng)
    labels = np.arange(len(X)) >= len(X) - n_outliers
    return X.iloc[:half], X.iloc[half:], labels[half:]


def network_traffic(seed):
    with np.load(data_folder() / "nsl_kdd.npz") as archive:
        normal = archive["y_train20"] == 0
        tables = []
        for part in ("train20", "test"):
            X = pd.DataFrame(archive[f"X_num_{part}"].astype(float))
            X.columns = archive["num_names"].astype(str)
            for j, name in enumerate(archive["cat_names"].astype(str)):
                X[name] = pd.Categorical(archive[f"X_cat_{part}"][:, j].astype(str))
            tables.append(X)
        return tables[0][normal], tables[1], archive["y_test"] == 1


def varying_traffic(seed):
    """Return the same without the four features that are constant in training."""
    train, test, labels = network_traffic(seed)
    names = train.columns[train.nunique() > 1]
    return train[names], test[names], labels


TABLES = {
    "NSL-KDD": network_traffic,
    "NSL-KDD, varying features": varying_traffic,
    "machines": machines,
    "places": places,
}


def encoded(X, categories):
    numbers = X.columns.difference(X.select_dtypes("category").columns, sort=False)
    return make_column_transformer(
        (StandardScaler(), numbers), (categories, X.columns.difference(numbers))
    )


def detectors(X, seed):
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    skae = AutoencoderOutlierDetector(random_state=seed)
    forest = IsolationForest(random_state=seed)
    return {
        "skae": skae,
        "skae one-hot": make_pipeline(encoded(X, one_hot), skae),
        "forest ordinal": make_pipeline(encoded(X, ordinal), forest),
        "forest one-hot": make_pipeline(encoded(X, one_hot), forest),
    }


def detect(train, test, labels, seed):
    found = {}
    for name, detector in detectors(train, seed).items():
        start = time.perf_counter()
        score = -detector.fit(train).score_samples(test)
        seconds = time.perf_counter() - start
        false, true, _ = roc_curve(labels, score, drop_intermediate=False)
        at = [
            true[np.searchsorted(false, rate, side="right") - 1]
            for rate in (0.01, 0.05)
        ]
        found[name] = [roc_auc_score(labels, score), *at, seconds]
    return found


def thinned(X, names, rng):
    """Return rows without a tenth of their categories, and which are removed."""
    removed = pd.DataFrame(rng.uniform(size=(len(X), len(names))) < 0.1)
    removed.columns, removed.index = names, X.index
    given = X.copy()
    given[names] = X[names].mask(removed)
    return given, removed


def restore(train, test, seed):
    rng = np.random.RandomState(seed)
    names = train.select_dtypes("category").columns
    train, _ = thinned(train, names, rng)
    given, removed = thinned(test, names, rng)
    filled = AutoencoderImputer(random_state=seed).fit(train).transform(given)
    hits = {"skae": [], "most frequent": [], "forests": []}
    ordinal = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1
    )
    for name in names:
        gone, known = removed[name].to_numpy(), train[name].notna()
        truth = test[name][gone].astype(str).to_numpy()
        others = train.drop(columns=name)
        forest = make_pipeline(
            encoded(others, ordinal), RandomForestClassifier(random_state=seed)
        )
        forest.fit(others[known], train[name][known].astype(str))
        guess = forest.predict(given.drop(columns=name)[gone])
        hits["skae"].append(np.mean(filled[name][gone].astype(str) == truth))
        hits["most frequent"].append(np.mean(truth == str(train[name].mode()[0])))
        hits["forests"].append(np.mean(guess == truth))
    return {name: np.mean(values) for name, values in hits.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("Detection: AUROC, recall at 1 and 5 % false alarms, seconds.")
    for table in arguments.tables:
        splits = [TABLES[table](seed) for seed in arguments.seeds]
        runs = [
            detect(*s, seed) for s, seed in zip(splits, arguments.seeds, strict=True)
        ]
        for name in runs[0]:
            mean = np.mean([run[name] for run in runs], axis=0)
            print(f"{table:26s} {name:16s}" + "".join(f"{v:8.3f}" for v in mean))
    print("Restored: share of removed categories that are given back.")
    for table in arguments.tables:
        runs = []
        for seed in arguments.seeds:
            train, test, labels = TABLES[table](seed)
            runs.append(restore(train, test[~labels], seed))
        mean = {name: np.mean([run[name] for run in runs]) for name in runs[0]}
        print(f"{table:26s} " + "  ".join(f"{k} {v:.3f}" for k, v in mean.items()))


if __name__ == "__main__":
    main()
