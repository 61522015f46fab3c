"""
Sparse dictionary learning on digits
====================================

Learn a code whose components can be looked at one by one. In a dense code every
component of PCA contributes to every image, and eight numbers are hard to interpret. A
*dictionary* has many more components (atoms), of which each image uses a few. This
example learns 128 atoms for the 64 pixels of scikit-learn's digits, eight per image,
with a sparse autoencoder and with
:class:`~sklearn.decomposition.MiniBatchDictionaryLearning`. It compares the
reconstruction, the accuracy of a classifier, the time, and the atoms.
"""

# %%
# The models
# ----------
#
# Dictionary learning in scikit-learn has no encoder. The code of each image is computed
# by a search: orthogonal matching pursuit selects one atom after the other, and fits
# all weights again after each. The autoencoder learns an encoder instead. ``TopK(8)``
# keeps the eight largest of its 128 outputs, none of them negative. ``MLP(())`` has no
# hidden layers, so an image is a constant plus a weighted sum of eight rows of
# ``components_``.
#
# PCA has eight components, so each image is represented by eight numbers in all three.
# (In a dictionary it also matters which eight.)

from time import perf_counter

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning, SparseCoder
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import TopK

N_ATOMS, N_ACTIVE = 128, 8

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, stratify=y, random_state=0
)
# MiniBatchDictionaryLearning does not centre. For the others it makes no difference.
mean = X_train.mean(axis=0)
train, test = X_train - mean, X_test - mean

models = {
    "PCA": PCA(N_ACTIVE, random_state=0),
    "dictionary learning": MiniBatchDictionaryLearning(
        N_ATOMS,
        transform_algorithm="omp",
        transform_n_nonzero_coefs=N_ACTIVE,
        random_state=0,
    ),
    # At a higher learning rate more atoms are never used.
    "skae": AutoencoderTransformer(
        N_ATOMS,
        architecture=MLP(()),
        bottleneck=TopK(N_ACTIVE),
        lr=5e-3,
        n_iter_no_change=30,
        random_state=0,
    ),
}

# %%
# Evaluation
# ----------
#
# Scores on test images: R² of the reconstruction, and the accuracy of a logistic
# regression on the code. :class:`~sklearn.preprocessing.MaxAbsScaler` scales the codes
# and keeps zeros. The row "atoms of skae, pursuit" uses the atoms of the autoencoder
# without its encoder: the codes are computed by matching pursuit.
#
# *Purity* is a simple measure of whether a component is interpretable: among the ten
# test images in which it is largest, the share of the most frequent digit, averaged
# over the components that at least ten test images use. Labels are not used to learn
# the atoms. "dead" is the share of atoms that no training image uses.


def purity(code):
    shares = []
    for strength in code.T:
        strongest = np.argsort(-strength)[:10]
        if (strength[strongest] > 0).all():
            shares.append(np.bincount(y_test[strongest]).max() / 10)
    return np.mean(shares)


def judge(code_train, code, atoms, constant=0.0):
    classifier = make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(code_train, y_train)
    reconstructed = constant + code @ atoms
    return {
        "R2": r2_score(test, reconstructed, multioutput="variance_weighted"),
        "accuracy": classifier.score(code, y_test),
        "purity": purity(code),
        "dead": np.mean(~np.any(code_train != 0, axis=0)),
    }


codes, outcomes = {}, {}
for name, model in models.items():
    started = perf_counter()
    code_train = model.fit(train).transform(train)
    fitted = perf_counter()
    codes[name] = model.transform(test)
    transformed = perf_counter()
    constant = 0.0
    if name == "skae":
        constant = model.inverse_transform(np.zeros((1, N_ATOMS)))
    outcomes[name] = judge(code_train, codes[name], model.components_, constant) | {
        "fit, s": fitted - started,
        "ms per 1000": 1e6 * (transformed - fitted) / len(test),
    }

atoms = models["skae"].components_
pursuit = SparseCoder(
    atoms / np.linalg.norm(atoms, axis=1, keepdims=True),
    transform_algorithm="omp",
    transform_n_nonzero_coefs=N_ACTIVE,
)
searched = [pursuit.transform(rows - constant) for rows in (train, test)]
outcomes["atoms of skae, pursuit"] = judge(*searched, pursuit.dictionary, constant)

on_pixels = make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=2000))
outcomes["all 64 pixels"] = {
    "accuracy": on_pixels.fit(X_train, y_train).score(X_test, y_test)
}
table = pd.DataFrame(outcomes).T
formats = {"fit, s": "{:.1f}".format, "ms per 1000": "{:.0f}".format}
print(f"Digits, {N_ACTIVE} numbers per image, {len(test)} test images")
print(table.to_string(float_format="{:.3f}".format, formatters=formats, na_rep=""))

# %%
# Dictionary learning has the better reconstruction, but takes longer: it searches for
# the code of each image, where the autoencoder multiplies by one matrix. With the atoms
# of the autoencoder the search is as good, so the loss is due to the encoder, not to
# the dictionary. For the classifier it is the other way round. A linear map with a
# threshold gives similar images similar codes, while a search may select different
# atoms for nearly the same image. Eight active numbers out of 128 are then as good as
# all pixels, but not better.
#
# The components of PCA are also pure at their extremes. But there are only eight for
# ten digits, and each contributes to all images. A few atoms of the autoencoder are
# dead: no training image uses them.
#
# Decomposition of an image
# -------------------------
#
# The upper row of each pair is the partial sum, the lower row the atom that was added,
# times its weight: red adds ink, blue removes ink.

import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

plt.rcParams["axes.titlesize"] = "medium"
INK = "#22223b"
signed = LinearSegmentedColormap.from_list("signed", ["#30638e", "#ffffff", "#d1495b"])


def show(ax, image, title=None, **how):
    ax.imshow(image.reshape(8, 8), **({"cmap": "gray_r", "vmin": 0, "vmax": 16} | how))
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color("#d5d9e0")
    if title is not None:
        ax.set_title(title, color=INK)


DIGITS = [3, 5]
figure, grid = plt.subplots(
    2 * len(DIGITS), N_ACTIVE + 2, figsize=(11, 5.2), layout="constrained"
)
for digit, (above, below) in zip(DIGITS, grid.reshape(len(DIGITS), 2, -1), strict=True):
    row = np.flatnonzero(y_test == digit)[0]
    weights = codes["skae"][row]
    order = np.argsort(-weights)[:N_ACTIVE]
    parts = weights[order, None] * atoms[order]
    sums = mean + constant + np.cumsum(np.vstack([np.zeros(64), parts]), axis=0)
    show(above[0], X_test[row], "test image")
    below[0].axis("off")
    show(above[1], sums[0], "constant")
    below[1].axis("off")
    for k, (part, ax, ax_sum) in enumerate(
        zip(parts, below[2:], above[2:], strict=True), start=1
    ):
        limit = np.abs(parts).max()
        show(ax, part, cmap=signed, vmin=-limit, vmax=limit)
        ax.set_xlabel(f"atom {order[k - 1]}", color=INK)
        show(ax_sum, sums[k], f"+ {k}")

# %%
# The atoms
# ---------
#
# Most atoms are a pattern of pixels to add and pixels to remove, hard to interpret by
# themselves. To interpret an atom, look at the images that use it most. These are the
# six atoms of largest weight in the first image above, each with the ten test images in
# which it is strongest. Some represent one way to write a digit, others a part that
# several digits share, such as a foot or an arc; some are hard to interpret.

row = np.flatnonzero(y_test == DIGITS[0])[0]
chosen = np.argsort(-codes["skae"][row])[:6]
figure, grid = plt.subplots(len(chosen), 12, figsize=(9, 5), layout="constrained")
for k, axes in zip(chosen, grid, strict=True):
    limit = np.abs(atoms[k]).max()
    show(axes[0], atoms[k], cmap=signed, vmin=-limit, vmax=limit)
    axes[0].set_ylabel(f"atom {k}", rotation=0, ha="right", va="center", color=INK)
    axes[1].axis("off")
    strongest = np.argsort(-codes["skae"][:, k])[:10]
    for ax, image in zip(axes[2:], X_test[strongest], strict=True):
        show(ax, image)
