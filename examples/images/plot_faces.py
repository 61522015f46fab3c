"""
Eigenfaces and a convolutional autoencoder
==========================================

Learn how convolutions compare with PCA on photographs. A photograph of a face has
thousands of pixels, but faces vary in far fewer ways. *Eigenfaces*, the principal
components of photographs, are the classical low-dimensional representation. This
example compares them with convolutional autoencoders of the same code size on two
tasks: reconstructing new photographs of people in the training data, and of people who
are not. The results differ.
"""

# %%
# The data
# --------
#
# The Olivetti faces: 400 photographs of 64 x 64 pixels, ten of each of 40 people, with
# varying light, pose and expression. scikit-learn downloads them once and keeps them.
#
# The photographs are split into training, validation and test sets in two ways: by
# photograph, so that all people are in all sets, and by person, so that nobody is in
# two of them.

import numpy as np
from sklearn.datasets import fetch_olivetti_faces

try:
    faces, person = fetch_olivetti_faces(return_X_y=True)
except OSError as error:
    raise SystemExit(
        "The Olivetti faces could not be fetched. Run this example once with a "
        "network: scikit-learn keeps them in sklearn.datasets.get_data_home(). "
        f"({error})"
    ) from error

photograph = np.arange(400) % 10
splits = {
    "new photographs": (photograph < 7, photograph == 7, photograph > 7),
    "new people": (person < 28, (person >= 28) & (person < 32), person >= 32),
}

# %%
# 280 photographs are few for a network. Data augmentation, by mirroring and by shifts
# of up to three pixels, gives four times as many. PCA is fitted on the same ones.


def with_copies(faces, n_moved=2, shift=3):
    """Add mirrored images, and shifted copies of both."""
    rng = np.random.default_rng(0)
    images = faces.reshape(-1, 64, 64)
    both = [images, images[:, :, ::-1]]
    moved = []
    for i in range(n_moved):
        dy, dx = rng.integers(2 * shift + 1, size=2)
        framed = np.pad(both[i % 2], ((0, 0), (shift, shift), (shift, shift)), "edge")
        moved.append(framed[:, dy : dy + 64, dx : dx + 64])
    return np.concatenate(both + moved).reshape(-1, 64 * 64)


# %%
# The networks
# ------------
#
# The encoder has three convolutions and a dense layer. There are two versions:
#
# - The default has a linear path and starts at PCA. It departs from PCA only if the
#   validation photographs confirm a gain.
# - The textbook network has a random start and no linear path. It finds another
#   solution, which is not tied to PCA.
#
# ``X_val`` is important. The default, a random tenth of the rows, would contain shifted
# copies of training photographs, and could not distinguish memorised faces from
# generalisation. The number of epochs is small to keep the example short, so the
# convergence warning is suppressed.

import warnings

import pandas as pd
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer
from skae.architectures import Conv
from skae.metrics import reconstruction_scorer

CODE_SIZE = 8
warnings.simplefilter("ignore", ConvergenceWarning)


def autoencoder(max_epochs, **start):
    conv = Conv((1, 64, 64), (8, 16, 32), hidden_layer_sizes=(128,), **start)
    return AutoencoderTransformer(
        CODE_SIZE,
        architecture=conv,
        lr=2e-3,  # convolutions need a smaller learning rate than tables
        max_epochs=max_epochs,
        random_state=0,
    )


models, results = {}, {}
for question, (learn, stop, report) in splits.items():
    train = with_copies(faces[learn])
    candidates = {
        "PCA": PCA(CODE_SIZE, random_state=0).fit(train),
        "skae, starts at PCA": autoencoder(7),
        "skae, starts at random": autoencoder(9, linear_path=False, start="random"),
    }
    for name, model in candidates.items():
        if name != "PCA":
            model.fit(train, X_val=faces[stop])
        score = reconstruction_scorer(model, faces[report])
        results.setdefault(name, {})[question] = score
        models[question, name] = model

print(f"R² on test photographs, {CODE_SIZE} components")
print(pd.DataFrame(results).T.to_string(float_format="{:.3f}".format))

# %%
# The networks reconstruct new photographs of known people better than PCA: the
# differences between people are not a linear subspace, and the network can memorise
# each of them. New people do not benefit. With four other people as the validation set
# the default stayed PCA. The network with the random start has no such fallback and is
# worse than PCA. For new people, with as few to train on, use eigenfaces.
#
# The first test photograph of seven known and of three new people:

import matplotlib.pyplot as plt

shown = {
    "new photographs": np.flatnonzero(splits["new photographs"][2])[:56:8],
    "new people": np.flatnonzero(splits["new people"][2])[:30:10],
}
figure = plt.figure(figsize=(11, 4.9), layout="constrained")
parts = figure.subfigures(1, 2, width_ratios=[8.2, 3])
for part, (question, chosen) in zip(parts, shown.items(), strict=True):
    part.suptitle(question)
    grid = part.subplots(4, len(chosen))
    for axes, name in zip(grid, ["photograph", *results], strict=True):
        images = faces[chosen]
        if name != "photograph":
            model = models[question, name]
            images = model.inverse_transform(model.transform(images))
        for ax, image in zip(axes, images.reshape(-1, 64, 64), strict=True):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        if question == "new photographs":
            label = name.replace(", ", ",\n")
            axes[0].set_ylabel(label, rotation=0, ha="right", va="center")
plt.show()
