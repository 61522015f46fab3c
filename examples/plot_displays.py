"""
Six pictures of a fitted model
==============================

Learn how to see what comes back of a row, how the code looks, how training went, which
code size is enough, where the threshold of a detector lies and why it raised an alarm.
:mod:`skae.displays` draws each in one call, for PCA and IsolationForest as well where
that makes sense, and on axes of your own if you pass them.
"""

# %%
# What comes back
# ---------------
#
# The digits of scikit-learn through eight numbers. Nothing here was trained on: the
# last third of the rows is kept aside. With ``image_shape`` rows are drawn as images,
# with their mean squared error below. On two axes PCA and the autoencoder stand above
# each other: most digits come back with less error from the autoencoder, not all.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.displays import (
    AnomalyScoreDisplay,
    CodeSizeDisplay,
    ExplanationDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_test = X[:1200], X[1200:], y[1200:]
pca = PCA(8, random_state=0).fit(X_train)
autoencoder = AutoencoderTransformer(8, random_state=0).fit(X_train)

figure, axes = plt.subplots(2, 1, figsize=(8, 5), layout="constrained")
for ax, model in zip(axes, (pca, autoencoder), strict=True):
    ReconstructionDisplay.from_estimator(
        model, X_test, image_shape=(8, 8), im_kw={"cmap": "gray_r"}, ax=ax
    )
    ax.set_title(type(model).__name__)

# %%
# Rows that are not images become curves over the columns. They share their axes, so
# columns should have comparable units. Here a
# :class:`~sklearn.preprocessing.StandardScaler` sees to it.

from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

wine = load_wine(as_frame=True)
wine_train, wine_test, _, cultivar = train_test_split(
    wine.data, wine.target, test_size=0.4, random_state=0
)
scaler = StandardScaler().set_output(transform="pandas").fit(wine_train)
wine_model = AutoencoderTransformer(4, random_state=0).fit(scaler.transform(wine_train))
ReconstructionDisplay.from_estimator(
    wine_model, scaler.transform(wine_test), n_samples=4
)
plt.show()

# %%
# How the code looks
# ------------------
#
# Two components of the code, coloured by a label that the model has not seen. Labels
# get a legend, numbers a colour bar. The labels of the axes say what each component
# adds to the explained variance. For an autoencoder these shares need not fall.

# sphinx_gallery_thumbnail_number = 2
figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for ax, model in zip(axes, (pca, autoencoder), strict=True):
    display = LatentSpaceDisplay.from_estimator(model, X_test, y_test, ax=ax)
    ax.set_title(type(model).__name__)
    if ax is axes[0]:
        display.legend_.remove()

# %%
# How training went
# -----------------
#
# By default the model is PCA before the first step: the dashed line is what the rows
# that are held out say of that. It leaves PCA only for a gain that these rows show. On
# the left they do. On the right there were too few rows to hold any out, so that no
# step was taken and the model is PCA.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, model, name in zip(
    axes, (autoencoder, wine_model), ("digits", "wine"), strict=True
):
    LossCurveDisplay.from_estimator(model, ax=ax)
    ax.set_title(name)

# %%
# Which code size is enough
# -------------------------
#
# Clones of the model and PCA are fitted to folds with several code sizes. Bands are
# one standard error of the mean. Both curves rise to one: look for the bend, or for the
# size that is enough for what the code is for.

from sklearn.model_selection import KFold

sizes = CodeSizeDisplay.from_estimator(
    # Without normalisation the 15 fits take a third of the time.
    AutoencoderTransformer(architecture=MLP(norm=None), random_state=0),
    X,
    n_components=[2, 4, 8, 16, 32],
    cv=KFold(3, shuffle=True, random_state=0),
)
print("Digits, mean R2 of three held-out folds")
print(f"{'components':>22}" + "".join(f"{size:>7}" for size in sizes.n_components))
for name, scores in (("PCA", sizes.pca_scores), (sizes.name, sizes.scores)):
    print(f"{name:>22}" + "".join(f"{mean:7.3f}" for mean in scores.mean(axis=1)))

# %%
# The autoencoder keeps more than PCA at each of these sizes. The gain is large for
# small codes, and small for large ones, which leave little to gain.
#
# Where the threshold lies
# ------------------------
#
# Detectors are trained on 60 % of the benign cases of the breast cancer data, and judge
# the others and all malignant ones. The histogram shows shares of the rows of a kind,
# and the legend says how many of them are beyond the threshold. Scores that span
# decades get a logarithmic axis.

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest

from skae.metrics import make_outlier_scorer

cells, is_benign = load_breast_cancer(return_X_y=True, as_frame=True)
cells_train, cells_test = train_test_split(
    cells[is_benign == 1], test_size=0.4, random_state=0
)
judged = np.r_[cells_test.index, cells.index[is_benign == 0]]
judged, is_malignant = cells.loc[judged], is_benign.loc[judged] == 0

detectors = [
    IsolationForest(contamination=0.01, random_state=0),
    AutoencoderOutlierDetector(random_state=0),
]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
auroc = make_outlier_scorer()
print("Breast cancer, rows that were not trained on")
print(f"{'':>26}{'AUROC':>8}{'benign flagged':>17}{'malignant flagged':>19}")
for ax, detector in zip(axes, detectors, strict=True):
    detector.fit(cells_train)
    display = AnomalyScoreDisplay.from_estimator(detector, judged, is_malignant, ax=ax)
    name = type(detector).__name__
    ax.set_title(name)
    flagged = display.abnormality > display.threshold
    rates = [flagged[display.is_outlier == kind].mean() for kind in (False, True)]
    area = auroc(detector, judged, is_malignant)
    print(f"{name:>26}{area:8.3f}{rates[0]:17.1%}{rates[1]:19.1%}")

# %%
# The forest ranks these rows slightly better over all thresholds. Both thresholds are
# meant for one false alarm in a hundred: that of the forest is the most abnormal
# hundredth of the rows that it was trained on, that of the autoencoder is set on rows
# that it was not trained on. :meth:`~skae.AutoencoderOutlierDetector.calibrate` moves
# it.
#
# Why there was an alarm
# ----------------------
#
# The malignant case with the median score, and the columns that its score is made of,
# with the value of the row and the one that the model expected. What lies in the code
# belongs to no single column.

malignant = judged[is_malignant]
order = np.argsort(detectors[1].score_samples(malignant))
ExplanationDisplay.from_estimator(
    detectors[1], malignant, row=int(order[len(order) // 2]), top_k=8
)
plt.show()
