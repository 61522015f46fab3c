"""
New images from a variational autoencoder
=========================================

A variational autoencoder learns a code that is spread like a normal distribution, and a
decoder that makes an image of any such code: draw a code, decode it, and there is an
image that nobody has written. Here are drawn digits beside real ones, the map of a code
of two numbers, and ways from one digit to another. PCA can be sampled too, and a
classifier that knows real digits says how good the samples are.
"""

# %%
# Four sources of images
# ----------------------
#
# Grey values in [0, 1] call for :class:`~skae.losses.Bernoulli`: the decoder then gives
# probabilities, and no pixel leaves the range. On images the network of the textbooks,
# which starts at random, reaches a better bound on held-out rows than the start at PCA.
#
# The other three: PCA with a normal density of its scores, PCA with a mixture of normal
# densities, and the plain autoencoder, whose ``sample`` fits such a mixture to its
# codes. All have eight components.

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
# That components are given up is what the table below counts, not an accident.
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
for name, group in images.items():  # in no order, as the mixtures have one
    images[name] = group[rng.permutation(n_drawn)]

# %%
# How good are they?
# ------------------
#
# - *sure*: the share of images of which a classifier of real digits is sure by more
#   than 90 %.
# - *digits*: how many different ones it sees (e to the entropy of its answers); ten is
#   all of them equally often.
# - *told apart*: how often the nearest neighbour of an image, among samples and real
#   test images together, is of the same kind as the image. One half is what samples
#   have that are as good as real images; 1 means that real and drawn images never mix.
# - *spread*: standard deviation of the pixels over that of real images.

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
    # Real images are compared with training rows: with themselves they would be copies.
    real = X_train[:n_drawn] if name == "real, new" else X_test
    rows[name] = {
        "sure": np.mean(probability.max(axis=1) > 0.9),
        "digits": np.exp(-np.sum(share * np.log(share))),
        "told apart": told_apart(group, real),
        "spread": group.std(axis=0).sum() / X_test.std(axis=0).sum(),
    }
print("540 images from each source, models with 8 components")
print(pd.DataFrame(rows).T.to_string(float_format="{:.2f}".format))
print(f"components in use of the variational code: {vae.active_units_}")

# %%
# Samples of PCA from one normal density are superpositions: the classifier finds all
# ten digits in them and is sure of few. A mixture of densities helps PCA a good deal,
# and is then surer than the variational model; but its samples mix less with real
# images. What the variational model draws is smoother than real images, as the spread
# says: a decoder that covers a region of the code with one image averages. As a mere
# source of samples, the plain autoencoder with a fitted mixture is ahead of all three,
# and easy to tell from real images still.
#
# What only the variational model has is a prior: any code from a normal distribution is
# an image, a row has a bound on its likelihood, and components that the data do not pay
# for are given up, here some of them.

# %%
# To look at
# ----------
#
# Left: real images and samples of each kind. Right: a code of two numbers, decoded on a
# grid that has the quantiles of the prior, so that each image stands for an equal share
# of what would be drawn.

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
    "variational, a code of two numbers",
)

# %%
# From one digit to another
# -------------------------
#
# On a straight line between the codes of two test images, the decoder says what lies on
# the way. Half way PCA has one image on top of the other, the plain autoencoder often
# has, too, since nothing asked it to fill the space between its codes. The prior of the
# variational model asks for that, and here it is ahead. The classifier looks at the
# middle of 500 ways.

pairs = rng.randint(len(X_test), size=(500, 2))
halves = {}
for name, model in {"PCA": pca, "plain": plain, "variational": vae}.items():
    middle = model.transform(X_test)[pairs].mean(axis=1)
    probability = classifier.predict_proba(model.inverse_transform(middle))
    halves[name] = np.mean(probability.max(axis=1) > 0.9)
print("\nSure of the image half way: ", end="")
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
