"""Sparse tables: memory, time and error of a fit, and the time of PCA of words.

Prints two tables. The first is of one table of counts in CSR format: memory at its peak
beyond that of the table, seconds per epoch and in all, and the mean squared error of
the reconstruction over the variance, of the same held-out rows. The second is of words:
seconds of a fit over those of TruncatedSVD, medians of interleaved repeats, where the
result is PCA (no hidden layers).

    python tests/benchmarks/bench_sparse.py [n_samples n_features]
"""

import multiprocessing
import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP

N_COMPONENTS = 16
N_EPOCHS = 1
# Entries up to which the networks of the defaults are fitted, too.
MOST = 2 * 10**8


def counts(n_samples, n_features, density=1e-3, n_topics=20):
    """Return counts of which each row has those of two of the topics, CSR."""
    rng = np.random.RandomState(0)
    per_row = max(2, round(density * n_features))
    popular = 1 / np.arange(1, n_features + 1)
    topics = [rng.permutation(n_features) for _ in range(n_topics)]
    which = rng.randint(n_topics, size=(n_samples, per_row))
    which[:, ::2], which[:, 1::2] = which[:, :1], which[:, 1:2]
    drawn = rng.choice(n_features, size=(n_samples, per_row), p=popular / popular.sum())
    columns = np.array(topics)[which, drawn]
    rows = np.repeat(np.arange(n_samples), per_row)
    index = rows, columns.ravel()
    shape = n_samples, n_features
    return sp.csr_array((np.ones(len(rows)), index), shape=shape)


def error_of(model, S, mean):
    """Return the squared error of the reconstruction over that of the mean."""
    error = total = 0.0
    for start in range(0, S.shape[0], 500):
        rows = S[start : start + 500]
        x = rows.toarray()
        error += np.square(x - model.inverse_transform(model.transform(rows))).sum()
        total += np.square(x - mean).sum()
    return error / total


def models():
    how = {"random_state": 0, "max_epochs": N_EPOCHS}
    small = MLP((64,))
    return {
        "TruncatedSVD": TruncatedSVD(N_COMPONENTS, random_state=0),
        "PCA(arpack)": PCA(N_COMPONENTS, svd_solver="arpack", random_state=0),
        "linear": AutoencoderTransformer(N_COMPONENTS, architecture=MLP(()), **how),
        "MLP((64,))": AutoencoderTransformer(N_COMPONENTS, architecture=small, **how),
        "defaults": AutoencoderTransformer(N_COMPONENTS, **how),
        "detector": AutoencoderOutlierDetector(N_COMPONENTS, **how),
    }


def measure(name, n_samples, n_features):
    """Fit a model, and return a line of the table; in a process of its own."""
    warnings.simplefilter("ignore")
    S = counts(n_samples + 2000, n_features)
    train, test = S[:n_samples], S[n_samples:]
    # What is loaded at the first fit is not memory of this one.
    models()["MLP((64,))"].fit(counts(100, 50))
    model, before = models()[name], peak()
    start = time.perf_counter()
    model.fit(train)
    seconds, memory = time.perf_counter() - start, peak() - before
    epoch = getattr(model, "history_", {}).get("seconds", np.array([]))
    epoch = f"{np.mean(epoch):.1f}" if len(epoch) else "-"
    error = error_of(model, test, np.asarray(train.mean(axis=0)).ravel())
    return f"{name:<16}{memory:>9.0f}{epoch:>9}{seconds:>8.1f}{error:>8.3f}"


def peak():
    """Return the largest memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(n_samples, n_features):
    print(
        f"CSR {n_samples} x {n_features}, density 1e-3, "
        f"dense {8 * n_samples * n_features / 2**20:.0f} MB; {N_COMPONENTS} components"
    )
    print(f"{'model':<16}{'peak MB':>9}{'s/epoch':>9}{'s':>8}{'error':>8}")
    context = multiprocessing.get_context("spawn")
    for name in models():
        if name in ("defaults", "detector") and n_samples * n_features > MOST:
            continue
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            print(pool.submit(measure, name, n_samples, n_features).result())


def texts(n_texts=2000, n_words=20_000, n_topics=20, length=120):
    """Return texts of words that are drawn from topics and from all words."""
    rng = np.random.RandomState(0)
    topics = [rng.permutation(n_words) for _ in range(n_topics)]
    popular = 1 / np.arange(1, n_words + 1)
    popular /= popular.sum()
    made = []
    for _ in range(n_texts):
        mixture = rng.dirichlet(np.full(n_topics, 0.1))
        topic = rng.choice(n_topics, length, p=mixture)
        word = rng.choice(n_words, length, p=popular)
        of_topic = np.array(topics)[topic, word]
        common = rng.uniform(size=length) < 0.4
        made.append(" ".join(f"w{w}" for w in np.where(common, word, of_topic)))
    return made


def words():
    X = TfidfVectorizer().fit_transform(texts())
    print(f"\nTF-IDF {X.shape[0]} x {X.shape[1]}: seconds, and over TruncatedSVD's")
    print(
        f"{'components':<12}{'TruncatedSVD':>13}{'PCA(arpack)':>13}{'linear':>9}{'':>7}"
    )
    for k in (8, 50, 100):
        models = (
            TruncatedSVD(k, random_state=0),
            PCA(k, svd_solver="arpack", random_state=0),
            AutoencoderTransformer(k, architecture=MLP(()), random_state=0),
        )
        times = []
        for _ in range(6):
            times.append([])
            for model in models:
                start = time.perf_counter()
                model.fit(X)
                times[-1].append(time.perf_counter() - start)
        svd, pca, linear = np.median(times[1:], axis=0)
        print(f"{k:<12}{svd:>13.3f}{pca:>13.3f}{linear:>9.3f}{linear / svd:>6.2f}x")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    shape = [int(argument) for argument in sys.argv[1:]] or [100_000, 20_000]
    table(*shape)
    words()
