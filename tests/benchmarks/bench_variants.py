"""Whether each variant does what it is for, beside the plain autoencoder and PCA.

Protocol: MNIST, the first 10,000 training and the first 2,000 test images, grey values
divided by 255, squares of 2 x 2 pixels averaged to images of 14 x 14; every model has
as many components as its table says and at most 60 epochs, all else is default unless
it is in the table. Figures are means over seeds 0, 1 and 2 (the data stay the same),
with half the range behind them. No strength was tuned on the test images. One torch
thread.

    SKAE_DATA=<folder> python tests/benchmarks/bench_variants.py [topic ...]
"""

import sys
import time
import warnings

import numpy as np
import torch
from _data import mnist
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.architectures import MLP, Conv
from skae.bottlenecks import (
    BatchTopK,
    FiniteScalar,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.corruptions import Gaussian, Masking, SaltAndPepper
from skae.losses import Bernoulli
from skae.metrics import reconstruction_scorer
from skae.penalties import L1, Contractive, KLSparsity

SEEDS = (0, 1, 2)
MAX_EPOCHS = 60


def autoencoder(n_components, **parameters):
    """Return what makes a model for a seed."""
    parameters = {"max_epochs": MAX_EPOCHS, **parameters}
    return lambda seed: AutoencoderTransformer(
        n_components, random_state=seed, **parameters
    )


def pca(n_components):
    return lambda seed: PCA(n_components, svd_solver="full")


def reconstruct(model, X):
    return model.inverse_transform(model.transform(X))


def squared_error(model, X):
    """Return the squared error per image, summed over its pixels."""
    return float(np.square(X - reconstruct(model, X)).sum(axis=1).mean())


def accuracy(model, data):
    """Return the accuracy of a linear classifier on the code."""
    classifier = make_pipeline(
        StandardScaler(with_mean=False), LogisticRegression(max_iter=300)
    )
    classifier.fit(model.transform(data.train), data.y_train)
    return 100 * classifier.score(model.transform(data.test), data.y_test)


def compare(title, models, measure, data):
    """Fit each model with each seed, and print what is measured of it."""
    print(f"\n{title}\n", flush=True)
    head = None
    for name, make in models.items():
        rows, begin = [], time.perf_counter()
        for seed in SEEDS:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model = make(seed).fit(data.train)
            warned = {w.category.__name__ for w in caught}
            rows.append(measure(model, data, np.random.RandomState(seed), warned))
        seconds = (time.perf_counter() - begin) / len(SEEDS)
        if head is None:
            head = list(rows[0])
            print("| " + " | ".join(["", *head, "seconds"]) + " |")
            print("|---" * (len(head) + 2) + "|")
        values = np.array([[row[key] for key in head] for row in rows], dtype=float)
        cells = [
            f"{mean:.4g} ± {spread:.2g}" if spread > 0 else f"{mean:.4g}"
            for mean, spread in zip(
                values.mean(axis=0), np.ptp(values, axis=0) / 2, strict=True
            )
        ]
        print("| " + " | ".join([name, *cells, f"{seconds:.0f}"]) + " |", flush=True)


def psnr(X, restored):
    """Return the peak signal-to-noise ratio in decibels, of values in [0, 1]."""
    return float(-10 * np.log10(np.square(X - restored).mean()))


def denoising(data):
    """Restore corrupted digits, with the noise of the training and with another."""

    def measure(model, data, rng, warned):
        X = data.test
        uniform = rng.uniform(size=X.shape)
        salted = np.where(uniform < 0.1, 0, np.where(uniform > 0.9, 1, X))
        blurred = X + 0.3 * rng.normal(size=X.shape)
        noises = {"salt and pepper": salted, "normal noise": blurred}
        return {
            **{f"{n}, dB": psnr(X, reconstruct(model, N)) for n, N in noises.items()},
            "clean, dB": psnr(X, reconstruct(model, X)),
        }

    k, settings = 64, {"scaling": None}
    salt = SaltAndPepper(0.2, low=0, high=1)
    models = {
        "PCA": pca(k),
        "plain": autoencoder(k, **settings),
        "trained with salt and pepper": autoencoder(k, corruption=salt, **settings),
        "trained with normal noise": autoencoder(
            k, corruption=Gaussian(0.3), **settings
        ),
    }
    compare(
        "Denoising: PSNR of what is restored, 20 % salt and pepper or normal noise of "
        "standard deviation 0.3; 64 components",
        models,
        measure,
        data,
    )


def sparse(data):
    """Few active components, their reconstruction and their use to a classifier."""

    def measure(model, data, rng, warned):
        code = model.transform(data.test)
        used = np.abs(code) > 1e-6
        return {
            "active per row": used.sum(axis=1).mean(),
            "never used, %": 100 * (~used.any(axis=0)).mean(),
            "squared error": squared_error(model, data.test),
            "linear accuracy, %": accuracy(model, data),
        }

    linear = MLP(())
    models = {
        "PCA(16)": pca(16),
        "PCA(196), all": pca(196),
        "plain, 16": autoencoder(16),
        "TopK(16) of 512, linear": autoencoder(
            512, architecture=linear, bottleneck=TopK(16)
        ),
        "BatchTopK(16) of 512, linear": autoencoder(
            512, architecture=linear, bottleneck=BatchTopK(16)
        ),
        "TopK(16) of 512, no revival": autoencoder(
            512, architecture=linear, bottleneck=TopK(16, revival=0)
        ),
        "TopK(16) of 512, MLP": autoencoder(512, bottleneck=TopK(16)),
        "L1(0.3), relu, 512": autoencoder(
            512, bottleneck=Plain("relu"), penalty=L1(0.3)
        ),
        "KLSparsity(0.05), sigmoid, 512": autoencoder(
            512, bottleneck=Plain("sigmoid"), penalty=KLSparsity(0.05)
        ),
    }
    compare("Sparse codes", models, measure, data)


def contractive(data):
    """How far the code moves when the input does, in units of its own spread."""

    def measure(model, data, rng, warned):
        X = data.test
        code = model.transform(X)
        spread = np.sqrt(code.var(axis=0).sum())
        images = X.reshape(-1, 14, 14)
        shifts = {
            "normal noise, 0.1": X + 0.1 * rng.normal(size=X.shape),
            "one pixel to the right": np.roll(images, 1, axis=2).reshape(len(X), -1),
        }

        def moved(shifted):
            step = model.transform(shifted) - code
            return np.sqrt(np.square(step).sum(axis=1).mean()) / spread

        return {
            **{name: moved(shifted) for name, shifted in shifts.items()},
            "squared error": squared_error(model, X),
            "linear accuracy, %": accuracy(model, data),
        }

    models = {
        "PCA": pca(16),
        "plain": autoencoder(16),
        **{
            f"Contractive({alpha})": autoencoder(16, penalty=Contractive(alpha))
            for alpha in (0.1, 1.0, 10.0)
        },
    }
    compare(
        "Contractive codes: root mean square movement over spread; 16 components",
        models,
        measure,
        data,
    )


def variational(data):
    """Samples and midpoints, as a classifier of real digits sees them."""
    judge = MLPClassifier((256,), max_iter=40, random_state=0, early_stopping=True)
    judge.fit(data.train, data.y_train)
    print(f"\nThe judge is right on {100 * judge.score(data.test, data.y_test):.1f} %.")

    def certainty(X):
        return 100 * (judge.predict_proba(X.clip(0, 1)).max(axis=1) > 0.9).mean()

    def measure(model, data, rng, warned):
        X = data.test[:1000]
        code = model.transform(X)
        partner = rng.permutation(len(X))
        midpoint = model.inverse_transform((code + code[partner]) / 2)
        if isinstance(model, PCA):
            drawn = rng.normal(size=code.shape) * np.sqrt(model.explained_variance_)
            samples = model.inverse_transform(drawn)
        else:
            samples = model.sample(1000, random_state=rng)
        share = np.bincount(judge.predict(samples.clip(0, 1)), minlength=10) / 1000
        used = share[share > 0]
        return {
            "sure of samples, %": certainty(samples),
            "digits among samples": np.exp(-(used * np.log(used)).sum()),
            "sure of midpoints, %": certainty(midpoint),
            "sure of reconstructions, %": certainty(reconstruct(model, X)),
            "squared error": squared_error(model, X),
            "active": getattr(model, "active_units_", code.shape[1]),
        }

    settings = {"loss": Bernoulli()}
    models = {
        "PCA, normal codes": pca(16),
        "plain, fitted density": autoencoder(16),
        "plain, Bernoulli, fitted density": autoencoder(16, **settings),
        "Variational, squared error": autoencoder(16, bottleneck=Variational()),
        "Variational, Bernoulli": autoencoder(16, bottleneck=Variational(), **settings),
        "Variational(beta=4), Bernoulli": autoencoder(
            16, bottleneck=Variational(4), **settings
        ),
    }
    compare(
        "Generation: a classifier of real digits is more than 90 % sure; 16 components",
        models,
        measure,
        data,
    )


def conv(data):
    """Convolution against dense layers with a code of the same size."""

    def measure(model, data, rng, warned):
        return {
            "squared error": squared_error(model, data.test),
            "R²": reconstruction_scorer(model, data.test),
            "linear accuracy, %": accuracy(model, data),
        }

    textbook = {"norm": None, "linear_path": False, "start": "random"}
    shape = (1, 14, 14)
    models = {
        "PCA": pca(16),
        "MLP, default": autoencoder(16),
        "MLP, textbook": autoencoder(16, architecture=MLP(**textbook)),
        "Conv, default": autoencoder(16, architecture=Conv(shape)),
        "Conv, textbook": autoencoder(16, architecture=Conv(shape, **textbook)),
    }
    compare("Convolution: 16 components", models, measure, data)


def both_errors(model, data, rng, warned):
    """Measure on the rows of the training and on others."""
    return {
        "squared error, training": squared_error(model, data.train),
        "squared error, test": squared_error(model, data.test),
    }


def depth(data):
    """How many hidden layers it takes."""
    models = {"PCA": pca(16)}
    for sizes in ((), (256,), (256,) * 2, (256,) * 3, (256,) * 4):
        models[f"MLP({sizes})"] = autoencoder(16, architecture=MLP(sizes))
    compare("Depth: 16 components", models, both_errors, data)


def depth_of_many(data):
    """The same with all images of the training part, in half as many epochs."""
    models = {"PCA": pca(16)}
    for sizes in ((256,), (256,) * 3):
        models[f"MLP({sizes})"] = autoencoder(
            16, architecture=MLP(sizes), max_epochs=30
        )
    many = mnist(n_test=len(data.test)).shrunk(2)
    compare("Depth, 60,000 images, 30 epochs: 16 components", models, both_errors, many)


def regularised(data):
    """Normalisation and dropout in two hidden layers."""
    models = {}
    for settings in ({}, {"norm": "batch"}, {"norm": "layer"}, {"dropout": 0.2}):
        named = "".join(f", {name}={value}" for name, value in settings.items())
        models[f"MLP((256, 256){named})"] = autoencoder(
            16, architecture=MLP((256, 256), **settings)
        )
    compare("Normalisation and dropout: 16 components", models, both_errors, data)


class ProductKMeans:
    """K-means of equal pieces of the principal components, the classical rival.

    With one piece and all components it is k-means of the rows.
    """

    def __init__(self, n_codes, n_groups, n_components, seed):
        self.pca = PCA(n_components, svd_solver="full")
        self.n_groups = n_groups
        self.make = lambda: KMeans(n_codes, n_init=1, random_state=seed)

    def fit(self, X):
        self.pca.fit(X)
        self.models = [self.make().fit(piece) for piece in self._pieces(X)]
        return self

    def _pieces(self, X):
        # Dealt out in turn, so that each piece has large and small components.
        scores = self.pca.transform(X)
        return [scores[:, i :: self.n_groups] for i in range(self.n_groups)]

    def transform(self, X):
        code = np.empty((len(X), self.pca.n_components_), dtype=X.dtype)
        for i, piece in enumerate(self._pieces(X)):
            model = self.models[i]
            code[:, i :: self.n_groups] = model.cluster_centers_[model.predict(piece)]
        return code

    def inverse_transform(self, code):
        return self.pca.inverse_transform(code)


def discrete(data):
    """Codes of symbols, with as many bits."""

    def measure(model, data, rng, warned):
        perplexity = getattr(model, "perplexity_", np.nan)
        return {
            "squared error, training": squared_error(model, data.train),
            "squared error, test": squared_error(model, data.test),
            "perplexity": perplexity,
        }

    models = {
        "16 numbers: PCA": pca(16),
        "16 numbers: plain": autoencoder(16),
    }
    for n_codes, n_groups, k in ((256, 1, 16), (16, 2, 16), (256, 2, 16), (256, 4, 16)):
        # Of one piece k-means needs no principal components: it sees the pixels.
        n_axes = data.train.shape[1] if n_groups == 1 else k
        bits = n_groups * np.log2(n_codes).astype(int)
        name = f"{n_groups} x {n_codes}"

        def classical(seed, n_codes=n_codes, n_groups=n_groups, n_axes=n_axes):
            return ProductKMeans(n_codes, n_groups, n_axes, seed)

        models[f"{bits} bits: k-means, {name}"] = classical
        models[f"{bits} bits: VectorQuantized, {name}"] = autoencoder(
            k, bottleneck=VectorQuantized(n_codes, n_groups=n_groups)
        )
    models["16 bits: FiniteScalar(4), 8 components"] = autoencoder(
        8, bottleneck=FiniteScalar(4)
    )
    models["32 bits: FiniteScalar(4), 16 components"] = autoencoder(
        16, bottleneck=FiniteScalar(4)
    )
    compare("Discrete codes", models, measure, data)


def overcomplete(data):
    """A code wider than the data, with and without a guard."""
    data = data.shrunk(4)

    def measure(model, data, rng, warned):
        noisy = data.test + 0.3 * rng.normal(size=data.test.shape)
        return {
            "warns": "OvercompleteWarning" in warned,
            "clean, dB": psnr(data.test, reconstruct(model, data.test)),
            "noisy, dB": psnr(data.test, reconstruct(model, noisy)),
            "linear accuracy, %": accuracy(model, data),
        }

    models = {
        "PCA(49), all": pca(49),
        "no guard": autoencoder(128),
        "Masking(0.3)": autoencoder(128, corruption=Masking(0.3)),
        "Gaussian(0.3)": autoencoder(128, corruption=Gaussian(0.3)),
        "Contractive(0.1)": autoencoder(128, penalty=Contractive(0.1)),
        "TopK(8)": autoencoder(128, bottleneck=TopK(8)),
    }
    compare(
        "Overcomplete: 128 components of images shrunk to 7 x 7",
        models,
        measure,
        data,
    )


TOPICS = {
    topic.__name__: topic
    for topic in (
        denoising,
        sparse,
        contractive,
        variational,
        conv,
        depth,
        depth_of_many,
        regularised,
        discrete,
        overcomplete,
    )
}


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = sys.argv[1:] or list(TOPICS)
    unknown = sorted(set(names) - set(TOPICS))
    if unknown:
        sys.exit(f"No topic {', '.join(unknown)}. There are {', '.join(TOPICS)}.")
    data = mnist(10_000, 2_000)
    for name in names:
        TOPICS[name](data if name == "overcomplete" else data.shrunk(2))


if __name__ == "__main__":
    main()
