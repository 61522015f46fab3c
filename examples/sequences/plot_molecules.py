"""
Molecules as strings: what a small autoencoder can and cannot do
================================================================

A molecule can be written as a line of text, its SMILES, and a line of text can be made
a row of zeros and ones. So an autoencoder can be given molecules like any other table.
How many of them come back from a code of 128 numbers, beside PCA? Are neighbours in the
code alike? And how many strings made up by the decoder are molecules?

With `RDKit <https://www.rdkit.org>`_ (``pip install rdkit``) molecules are parsed and
drawn. Without it a small check of the syntax stands in, and strings are shown.
"""

# %%
# Strings to rows
# ---------------
#
# Five thousand molecules of ZINC, the test part of Jin, Barzilay & Jaakkola (2018). A
# token is one character, or an atom of several: ``Br``, ``Cl``, ``[C@H]``. Molecules of
# more than 48 tokens, or with a rare one, are left out. A row says for each of 48
# places which token is there, and nothing beyond the end.

import gzip
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

try:
    from rdkit import Chem, RDLogger
except ImportError:
    Chem = None
    print("RDKit is not installed: strings are checked by their syntax only.")
else:
    RDLogger.DisableLog("rdApp.*")  # it reports each string that is no molecule

# The path of this script: the gallery does not set __file__.
DATA = Path(sys.argv[0]).resolve().parents[1] / "data" / "zinc.smi.gz"
if not DATA.exists():
    raise SystemExit(f"examples/data/{DATA.name} of the repository is not at {DATA}")
LENGTH = 48
TOKEN = re.compile(r"\[[^\]]+\]|Br|Cl|.")

with gzip.open(DATA, "rt") as file:
    molecules = [TOKEN.findall(line.strip()) for line in file]
n_molecules_with = Counter(token for tokens in molecules for token in set(tokens))
vocabulary = ["", *sorted(t for t, n in n_molecules_with.items() if n >= 25)]
number_of = {token: i for i, token in enumerate(vocabulary)}
molecules = [m for m in molecules if len(m) <= LENGTH and number_of.keys() >= set(m)]

numbers = np.zeros((len(molecules), LENGTH), dtype=int)
for row, tokens in zip(numbers, molecules, strict=True):
    row[: len(tokens)] = [number_of[token] for token in tokens]
X = np.eye(len(vocabulary), dtype=np.float32)[numbers].reshape(len(numbers), -1)

n_train = 9 * len(X) // 10  # the file is in no order
X_train, X_test, true = X[:n_train], X[n_train:], numbers[n_train:]
smiles = ["".join(tokens) for tokens in molecules]
known, unseen = smiles[:n_train], smiles[n_train:]
print(f"{len(X)} molecules, {LENGTH} places x {len(vocabulary)} tokens")

# %%
# Back from the code
# ------------------
#
# ``Bernoulli`` is the loss for zeros and ones. It takes each of them for a coin of its
# own, and does not know that a place holds one token; the most probable one is taken.
# Whoever wants to do this in earnest takes a softmax per place, a decoder that sees
# what it has written so far, and fifty times as many molecules.
#
# Measured on molecules that were not trained on: the share that comes back exactly, and
# the share of the tokens that do.

from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.losses import Bernoulli

models = {
    "PCA": PCA(128, random_state=0),
    "skae": AutoencoderTransformer(
        128,
        architecture=MLP((256,)),
        loss=Bernoulli(),
        n_iter_no_change=5,  # it learns the training molecules by heart soon
        random_state=0,
    ),
}
codes_train = {name: model.fit_transform(X_train) for name, model in models.items()}
codes_test = {name: model.transform(X_test) for name, model in models.items()}


def most_probable(rows):
    """Return the number of the most probable token for each place."""
    return rows.reshape(len(rows), LENGTH, -1).argmax(axis=2)


def to_strings(rows):
    return ["".join(vocabulary[i] for i in row) for row in most_probable(rows)]


rebuilt = {
    name: model.inverse_transform(codes_test[name]) for name, model in models.items()
}
decoded = {name: most_probable(rows) for name, rows in rebuilt.items()}
table = pd.DataFrame(
    {
        name: {
            "exact": np.mean(np.all(each == true, axis=1)),
            "tokens": np.mean((each == true)[true > 0]),
        }
        for name, each in decoded.items()
    }
).T
print(f"\n{len(X_test)} molecules not trained on, through 128 numbers: what comes back")
print(table.to_string(float_format="{:.3f}".format))

# %%
# The first molecules of the test part. Below each is what comes back of it, wrong
# tokens in red, missing ones as a dot.

import matplotlib.pyplot as plt

INK, RED, GREY = "#22223b", "#d1495b", "#8a8f98"
figure, axes = plt.subplots(6, 1, figsize=(11, 5.6), layout="constrained")
for k, ax in enumerate(axes):
    lines = {"molecule": true[k], "PCA": decoded["PCA"][k], "skae": decoded["skae"][k]}
    for height, (name, line) in enumerate(lines.items()):
        ax.text(-0.8, -height, name, ha="right", va="center", color=GREY)
        for place, (token, right) in enumerate(zip(line, true[k], strict=True)):
            wrong = token != right
            ax.text(
                place,
                -height,
                vocabulary[token] or ("·" if wrong else ""),
                ha="center",
                va="center",
                family="monospace",
                size=11 if len(vocabulary[token]) < 3 else 6,
                color=RED if wrong else INK,
                weight="bold" if wrong else "normal",
            )
    ax.set(xlim=(-4, LENGTH), ylim=(-2.6, 0.6))
    ax.axis("off")

# %%
# Is it a molecule?
# -----------------
#
# The syntax says little of chemistry, but can be checked in a few lines: branches and
# rings are closed, and bonds stand between atoms. RDKit's parser also knows how many
# bonds an atom may have, and which rings can be aromatic.


def is_balanced(string):
    """Return whether a string could be a SMILES, as far as its brackets go."""
    depth, rings, before = 0, Counter(), "("
    for token in TOKEN.findall(string):
        if token == "(":
            if before in "(=#/\\-":
                return False
            depth += 1
        elif token == ")":
            depth -= 1
            if depth < 0 or before in "(=#/\\-":
                return False
        elif token.isdigit():
            if before in "()":
                return False
            rings[token] += 1
        elif token in "=#/\\-" and before in "=#/\\-":
            return False
        before = token
    closed = all(n % 2 == 0 for n in rings.values())
    return bool(string) and depth == 0 and closed and before not in "(=#/\\-"


def is_molecule(string):
    if Chem is None:
        return is_balanced(string)
    return bool(string) and Chem.MolFromSmiles(string) is not None


# %%
# Strings come from three places: from test molecules, through PCA and through the
# autoencoder; from the neighbourhood of the codes of test molecules, a fifth and a half
# of the spread of each component away; and from ``sample``, which draws codes like
# those of the training. "new" is the share of the molecules among them that are not in
# the training part.

rng = np.random.default_rng(0)
skae, codes = models["skae"], codes_test["skae"]
step = rng.normal(size=codes.shape) * codes_train["skae"].std(axis=0)
made = {
    "test molecules": unseen,
    "through PCA": to_strings(rebuilt["PCA"]),
    "through skae": to_strings(rebuilt["skae"]),
    "0.2 away": to_strings(skae.inverse_transform(codes + 0.2 * step)),
    "0.5 away": to_strings(skae.inverse_transform(codes + 0.5 * step)),
    "sample": to_strings(skae.sample(1000, random_state=0)),
}


def quality(strings):
    found = [string for string in strings if is_molecule(string)]
    return {
        "strings": len(strings),
        "balanced": np.mean([is_balanced(string) for string in strings]),
        "molecules": np.mean([is_molecule(string) for string in strings]),
        "unique": len(set(strings)) / len(strings),
        "new": np.mean([f not in known for f in found]) if found else np.nan,
    }


qualities = pd.DataFrame({name: quality(each) for name, each in made.items()}).T
print("Strings: shares that are")
formats = {"strings": "{:.0f}".format}
print(qualities.to_string(float_format="{:.3f}".format, formatters=formats, na_rep="-"))
print("sampled, for example:", *made["sample"][:3], sep="\n  ")

# %%
# The autoencoder keeps to the syntax more often than PCA, but not reliably. A bracket
# that is opened must be closed many places later, each place is decided for itself, and
# one wrong token is enough. Away from the codes of real molecules there is nothing to
# hold on to: ``sample`` draws from a mixture of normal distributions that knows nothing
# of brackets, and of a thousand strings hardly any is a molecule. That is not a matter
# of a better fit only: a character model that was trained on fifty times as many
# molecules has the same weakness (Jin, Barzilay & Jaakkola 2018, table 1). Their
# decoder puts graphs together from valid pieces instead.
#
# Nearly all strings are unique and new, and that is no merit: errors are new as well.
#
# Neighbours
# ----------
#
# For a code to be of use in a search, neighbours should be molecules that are alike.
# The measure of chemists is the Tanimoto similarity of Morgan fingerprints: the share
# of the groups of atoms in either molecule that are in both. Here is its mean over the
# test molecules and their five neighbours in the training part. "by fingerprint" are
# those that are most alike, "random" are any.

from sklearn.neighbors import NearestNeighbors

neighbours = {
    "the rows": NearestNeighbors(n_neighbors=5).fit(X_train).kneighbors(X_test)
}
for name in models:
    search = NearestNeighbors(n_neighbors=5).fit(codes_train[name])
    neighbours[name] = search.kneighbors(codes_test[name])
neighbours = {name: index for name, (_, index) in neighbours.items()}

if Chem is not None:
    from rdkit.Chem import rdFingerprintGenerator

    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    has_group = np.array(
        [morgan.GetFingerprintAsNumPy(Chem.MolFromSmiles(s)) for s in smiles],
        dtype=np.float32,
    )
    both = has_group[n_train:] @ has_group[:n_train].T
    n_groups = has_group.sum(axis=1)
    similarity = both / (n_groups[n_train:, None] + n_groups[:n_train] - both)
    neighbours["by fingerprint"] = np.argsort(-similarity, axis=1)[:, :5]
    neighbours["random"] = rng.integers(n_train, size=(len(X_test), 5))
    print("Tanimoto similarity to five neighbours")
    for name, index in neighbours.items():
        mean = np.take_along_axis(similarity, index, axis=1).mean()
        print(f"{name:>15} {mean:.3f}")

# %%
# Neighbours in the code are more alike than any two molecules, far less than those that
# are found by fingerprint, and no more than those in PCA's code or in the rows
# themselves: close rows have the same tokens in the same places. The same molecule may
# also be written from another atom, and is then far away.
#
# The first test molecule and its neighbours in both codes. With RDKit the numbers are
# their similarity to it.


def draw(ax, string):
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if Chem is None:
        text = "\n".join(re.findall(".{1,14}", string))
        ax.text(0.5, 0.5, text, ha="center", va="center", family="monospace")
    else:
        from rdkit.Chem import Draw

        ax.imshow(Draw.MolToImage(Chem.MolFromSmiles(string), size=(400, 320)))


# sphinx_gallery_thumbnail_number = 2
figure, grid = plt.subplots(2, 6, figsize=(11, 4), layout="constrained")
for name, axes in zip(models, grid, strict=True):
    draw(axes[0], unseen[0])
    axes[0].set_title("test molecule", color=RED)
    for k, ax in zip(neighbours[name][0], axes[1:], strict=True):
        draw(ax, known[k])
        if Chem is not None:
            ax.set_title(f"{similarity[0, k]:.2f}", color=GREY)
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center", color=INK)
