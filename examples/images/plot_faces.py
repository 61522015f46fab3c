"""
Faces through eight numbers
===========================

A photograph of a face has thousands of pixels, and people differ in far fewer ways.
*Eigenfaces*, the principal components of photographs, are the classical way to say so.
Here a deep network stands beside them, with codes of the same size, and is asked two
questions: does it bring back new photographs of people it knows, and does it bring back
people that it has never seen? The answers differ.
"""

# %%
# Forty people
# ------------
#
# The Olivetti faces: 400 photographs of 64 x 64 pixels, ten of each person, in varying
# light, pose and mood. They are downloaded once and kept by scikit-learn.
#
# Photographs are cut into three parts: one to learn from, one that says when to stop,
# one to report. Once by photograph, so that all people are in all parts; once by
# person, so that nobody is in two of them.

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
# 280 photographs are few for a network. Mirrored and moved by up to three pixels they
# are still faces, and four times as many. PCA learns from the same ones.


def with_copies(faces, n_moved=2, shift=3):
    """Add mirror images, and copies of either that are moved a little."""
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
# Three convolutions, then a dense layer, lead to the code. Two versions of them:
#
# - The default has a linear path and starts at PCA. It leaves PCA only if photographs
#   that it was not trained on say so.
# - The network of the textbooks starts at random and has no linear path. It finds
#   another solution, and nothing ties it to PCA.
#
# ``X_val`` matters. A random tenth of the rows, the default, would hold moved copies of
# photographs that are trained on, and could not tell knowing a face from knowing faces.
# The few epochs, for which a warning is in order, are what an example may take.

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
        lr=2e-3,  # convolutions over whole images take smaller steps than tables
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

print(f"R² on photographs that nothing was trained on, {CODE_SIZE} numbers each")
print(pd.DataFrame(results).T.to_string(float_format="{:.3f}".format))

# %%
# People who are known come back better from the networks: what sets them apart is not a
# flat subspace, and a network has room to remember what each looks like. New people do
# not gain from that. Photographs of four others told the default so, and it stayed PCA,
# while the network that started at random had nowhere to go back to and is behind. For
# new people, with as few to learn from, take eigenfaces.
#
# The first photograph that was kept for the report, of seven known people and of three
# new ones:

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
