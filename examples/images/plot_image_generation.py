"""
Generating images with a variational autoencoder
================================================

Learn how to draw new images: a variational autoencoder learns a code with a normal
prior and a decoder from any such code to an image. This example compares generated
digits with real ones, shows the map of a two-dimensional code, and interpolates between
digits. Samples from PCA and from a plain autoencoder are compared by a classifier
trained on real digits.
"""

# %%
# Four models to sample from
# --------------------------
#
# :class:`~skae.losses.Bernoulli` is the loss for grey values in [0, 1]: the decoder
# returns probabilities, and all pixels stay in the range. On images, the textbook
# network with a random start reaches a better bound on held-out rows than the PCA
# start.
#
# The other three are PCA with a normal density of its scores, PCA with a mixture of
# normal densities, and the plain autoencoder, whose ``sample`` fits such a mixture to
# its codes. All have eight components.

import warnings

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import Variational
from skae.exceptions import CollapsedCodeWarning
from skae.losses import Bernoulli

X, y = load_digits(return_X_y=True)
X = X / 16
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, stratify=y, random_state=0
)
# Components that are switched off are expected here, and counted below.
warnings.simplefilter("ignore", CollapsedCodeWarning)


def variational(n_components):
    return AutoencoderTransformer(
        n_components,
        architecture=MLP(linear_path=False, start="random"),
        bottleneck=Variational(),
        loss=Bernoulli(),
        random_state=0,
    ).fit(X_train)


vae = variational(8)
plain = AutoencoderTransformer(8, random_state=0).fit(X_train)
pca = PCA(8, random_state=0).fit(X_train)
scores = pca.transform(X_train)
n_drawn = len(X_test)


def from_pca(n_densities):
    density = GaussianMixture(n_densities, random_state=0).fit(scores)
    return np.clip(pca.inverse_transform(density.sample(n_drawn)[0]), 0, 1)


rng = np.random.RandomState(0)
images = {
    "real, new": X_test,
    "variational": vae.sample(n_drawn, random_state=0),
    "plain, mixture": np.clip(plain.sample(n_drawn, random_state=0), 0, 1),
    "PCA, one normal": from_pca(1),
    "PCA, mixture": from_pca(20),
}
for name, group in images.items():  # samples of a mixture are sorted by its parts
    images[name] = group[rng.permutation(n_drawn)]

# %%
# Quality of the samples
# ----------------------
#
# - *sure*: the share of images on which a classifier trained on real digits has a
#   confidence above 90 %.
# - *digits*: the effective number of different digits (the exponential of the entropy
#   of the predicted classes); ten if all are equally frequent.
# - *told apart*: how often the nearest neighbour of an image, among samples and real
#   test images together, is of the same kind (real or generated). It is one half if
#   samples are as good as real images, and 1 if the two never mix.
# - *spread*: standard deviation of the pixels relative to that of real images.

classifier = LogisticRegression(C=10, max_iter=1000).fit(X_train, y_train)


def told_apart(group, real):
    together = np.concatenate([real, group])
    is_real = np.arange(len(together)) < len(real)
    neighbours = NearestNeighbors(n_neighbors=1).fit(together).kneighbors()[1][:, 0]
    return np.mean(is_real == is_real[neighbours])


rows = {}
for name, group in images.items():
    probability = classifier.predict_proba(group)
    share = np.bincount(probability.argmax(axis=1), minlength=10) / n_drawn
    share = share[share > 0]
    # Compare real images with training rows: with themselves they are duplicates.
    real = X_train[:n_drawn] if name == "real, new" else X_test
    rows[name] = {
        "sure": np.mean(probability.max(axis=1) > 0.9),
        "digits": np.exp(-np.sum(share * np.log(share))),
        "told apart": told_apart(group, real),
        "spread": group.std(axis=0).sum() / X_test.std(axis=0).sum(),
    }
print("540 images from each model, models with 8 components")
print(pd.DataFrame(rows).T.to_string(float_format="{:.2f}".format))
print(f"components in use of the variational code: {vae.active_units_}")

# %%
# Samples of PCA from one normal density are superpositions of digits: the classifier
# assigns them to all ten digits, but is confident for few. With a mixture the samples
# of PCA are much better, and the classifier is then more confident than for the
# variational model; but they mix less with real images. Samples of the variational
# model are smoother than real images, as *spread* shows: the decoder averages over a
# region of the code. If only samples are needed, the plain autoencoder with a fitted
# mixture is better than the other three, and still easy to distinguish from real
# images.
#
# Only the variational model has a prior: any code drawn from a normal distribution can
# be decoded, the likelihood of a row has a bound, and components that the data do not
# need are switched off, as some are here.

# %%
# Plot
# ----
#
# Left: real images and samples of each model. Right: a two-dimensional code, decoded on
# a grid of quantiles of the prior, so that each image represents an equal share of the
# samples.

import matplotlib.pyplot as plt
from scipy.stats import norm

N_ROWS, N_COLUMNS, SIDE = 3, 9, 13
plt.rcParams["axes.titlesize"] = "medium"


def mosaic(group, n_columns, margin=2):
    """Put images of 8 x 8 pixels side by side, rows above each other."""
    padded = np.pad(group.reshape(-1, 8, 8), ((0, 0), (0, margin), (0, margin)))
    grid = padded.reshape(-1, n_columns, 8 + margin, 8 + margin).swapaxes(1, 2)
    return grid.reshape(-1, n_columns * (8 + margin))[:-margin, :-margin]


def show(ax, group, n_columns, title):
    ax.imshow(mosaic(group, n_columns), cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, loc="left")
    ax.spines[:].set_visible(False)


map_of_two = variational(2)
quantile = norm.ppf((np.arange(SIDE) + 0.5) / SIDE)
codes = np.stack(np.meshgrid(quantile, -quantile), axis=-1).reshape(-1, 2)

figure = plt.figure(figsize=(11, 7), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 1.75])
for ax, (name, group) in zip(left.subplots(5, 1), images.items(), strict=True):
    show(ax, group[: N_ROWS * N_COLUMNS], N_COLUMNS, name)
show(
    right.subplots(),
    map_of_two.inverse_transform(codes),
    SIDE,
    "variational, two components",
)

# %%
# Interpolation between digits
# ----------------------------
#
# Codes on a straight line between the codes of two test images are decoded. At the
# midpoint PCA gives a superposition of both images. So does the plain autoencoder in
# many cases, since nothing constrains the space between its codes. The prior of the
# variational model does, and its midpoints are better. The classifier is applied to the
# midpoints of 500 pairs.

pairs = rng.randint(len(X_test), size=(500, 2))
halves = {}
for name, model in {"PCA": pca, "plain": plain, "variational": vae}.items():
    middle = model.transform(X_test)[pairs].mean(axis=1)
    probability = classifier.predict_proba(model.inverse_transform(middle))
    halves[name] = np.mean(probability.max(axis=1) > 0.9)
print("\nConfidence above 90 % at the midpoint: ", end="")
print(", ".join(f"{name} {value:.2f}" for name, value in halves.items()))

shares = np.linspace(0, 1, 9)[:, np.newaxis]
figure, axes = plt.subplots(3, 2, figsize=(9, 3.6), layout="constrained")
for column, (first, second) in zip(axes.T, ((0, 6), (4, 9)), strict=True):
    ends = [X_test[y_test == digit][0] for digit in (first, second)]
    for ax, model, name in zip(
        column, (vae, plain, pca), ("variational", "plain", "PCA"), strict=True
    ):
        a, b = model.transform(ends)
        path = np.clip(model.inverse_transform((1 - shares) * a + shares * b), 0, 1)
        show(ax, path, len(shares), f"{name}, from {first} to {second}")
plt.show()
