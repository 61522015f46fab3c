"""
Detecting and locating defects in images
========================================

Learn how to inspect parts with pictures of good ones only, because defects are rare and
all different. A convolutional autoencoder is trained on good parts. It then gives an
anomaly score per part and an error map per pixel. PCA is used in the same way for
comparison, and IsolationForest for the score.
"""

# %%
# The data
# --------
#
# The parts are digits of scikit-learn, 8 x 8 pixels in [0, 1], written by hand, so that
# no two are equal. Two thirds of them are the good parts to train on. Another 240 form
# a sheet of 12 rows and 20 columns to inspect. **The defects are synthetic**: faint
# scratches across several digits, and small blots of ink. They are hard to detect where
# they could be a stroke of the pen.

import numpy as np
from sklearn.datasets import load_digits

SIDE, ROWS, COLUMNS = 8, 12, 20

digits = load_digits().data.astype(np.float32) / 16
train, others = digits[:1200], digits[1200 : 1200 + ROWS * COLUMNS]


def as_sheet(windows):
    grid = windows.reshape(ROWS, COLUMNS, SIDE, SIDE)
    return grid.swapaxes(1, 2).reshape(ROWS * SIDE, COLUMNS * SIDE)


def as_windows(sheet):
    grid = sheet.reshape(ROWS, SIDE, COLUMNS, SIDE)
    return grid.swapaxes(1, 2).reshape(-1, SIDE**2)


rng = np.random.default_rng(0)
y, x = np.mgrid[: ROWS * SIDE, : COLUMNS * SIDE]
ink = np.zeros(y.shape)
for _ in range(12):
    down, right = y - rng.uniform(5, 91), x - rng.uniform(10, 150)
    turn = rng.uniform(0, np.pi)
    along = right * np.cos(turn) + down * np.sin(turn)
    across = down * np.cos(turn) - right * np.sin(turn)
    scratch = 0.6 * np.exp(-(across**2)) * (np.abs(along) < 16)
    blot = np.exp(
        -((np.hypot(y - rng.uniform(4, 92), x - rng.uniform(4, 156)) / 2) ** 4)
    )
    ink = np.maximum.reduce([ink, scratch, blot])
clean = as_sheet(others)
sheet = np.maximum(clean, ink).astype(np.float32)

# %%
# A pixel is defective if it changed by more than a quarter of the range; a digit, if at
# least two of its pixels are. Digits with smaller changes are excluded from the
# comparison.

change = sheet - clean
is_defect = change > 0.25
test = as_windows(sheet)
n_defective = as_windows(is_defect).sum(axis=1)
is_clear = (n_defective > 1) | (as_windows(change).max(axis=1) < 0.05)
label = n_defective[is_clear] > 1

# %%
# The detectors
# -------------
#
# ``scaling="global"`` is used because all pixels have the same unit. The autoencoder
# and PCA have 12 components for the 64 pixels of a digit. The default score uses the
# code as well as the residual; :class:`~skae.anomaly_scores.Reconstruction` uses the
# residual alone, as the map below and PCA do.

import pandas as pd
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from skae import AutoencoderOutlierDetector
from skae.anomaly_scores import Reconstruction
from skae.architectures import Conv

N_COMPONENTS = 12


def detector(anomaly_score=None):
    return AutoencoderOutlierDetector(
        N_COMPONENTS,
        architecture=Conv((1, SIDE, SIDE), (16, 32)),
        anomaly_score=anomaly_score,
        scaling="global",
        max_epochs=40,
        early_stopping=False,
        random_state=0,
    ).fit(train)


by_default, by_error = detector(), detector(Reconstruction())
forest = IsolationForest(random_state=0).fit(train)
pca = PCA(N_COMPONENTS, random_state=0).fit(train)
pca_errors = np.square(test - pca.inverse_transform(pca.transform(test)))

abnormality = {
    "IsolationForest": -forest.score_samples(test),
    "PCA residual": pca_errors.mean(axis=1),
    "skae, error": -by_error.score_samples(test),
    "skae, default score": -by_default.score_samples(test),
}
table = pd.DataFrame(
    {
        name: {
            "AUROC": roc_auc_score(label, score[is_clear]),
            "average precision": average_precision_score(label, score[is_clear]),
        }
        for name, score in abnormality.items()
    }
).T
print(
    f"{len(train)} good digits; {label.sum()} of {len(label)} inspected ones defective"
)
print(table.to_string(float_format="{:.3f}".format))

# %%
# Error maps
# ----------
#
# ``reconstruction_error(per_feature=True)`` returns the squared error of each pixel of
# each digit. Together they form a map of the sheet. The AUROC measures how well it
# ranks single pixels.

maps = {
    "PCA": as_sheet(pca_errors),
    "skae": as_sheet(by_error.reconstruction_error(test, per_feature=True)),
}
print("\nAUROC of the map, pixel by pixel")
for name, errors in maps.items():
    print(f"{name:>6} {roc_auc_score(is_defect.ravel(), errors.ravel()):.3f}")

# %%
# The map of the autoencoder is darker in good regions, because good digits are
# reconstructed better, and so faint scratches stand out. For the same reason it ranks
# digits better than PCA. The default score, which measures the distance to the training
# digits, ranks them better still, but gives no map of pixels.
#
# At the threshold that 2 % of the good digits exceed, boxes are drawn around what each
# detector flags: red for defects, grey for false alarms. Defects that it misses have a
# dotted box.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
axes[0].imshow(np.sqrt(maps["skae"]), cmap="magma", vmin=0, vmax=0.8)
axes[0].set_title("reconstruction error of skae")
is_defective = n_defective > 1
for ax, name in zip(axes[1:], ("PCA residual", "skae, default score"), strict=True):
    score = abnormality[name]
    flagged = score > np.quantile(score[is_clear][~label], 0.98)
    ax.imshow(sheet, cmap="gray_r", vmin=0, vmax=1.6)
    for k in np.flatnonzero(is_clear & (flagged | is_defective)):
        corner = k % COLUMNS * SIDE - 0.5, k // COLUMNS * SIDE - 0.5
        colour = "#d1495b" if is_defective[k] else "0.5"
        line = {"lw": 1.6} if flagged[k] else {"lw": 1, "ls": ":"}
        ax.add_patch(plt.Rectangle(corner, SIDE, SIDE, fill=False, ec=colour, **line))
    found = (flagged & is_defective)[is_clear].sum()
    ax.set_title(f"{name}: {found} of {label.sum()} found")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()
