"""The outlier detector."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state

from .._base import BaseAutoencoder
from .._compat.sklearn import Interval, StrOptions
from .._data.arrays import check_namespace, like, on_host, sides
from .._data.source import Subset
from .._model.export import exported_score
from ..anomaly_scores import AnomalyScore, Combined
from . import _thresholds
from ._cross_fitting import N_PARTS, cross_fitted, few_rows
from ._ensemble import fit_ensemble
from ._explanation import Explanation

__all__ = ["AutoencoderOutlierDetector"]


class AutoencoderOutlierDetector(OutlierMixin, BaseAutoencoder):
    """Outlier detection with an autoencoder.

    The model is that of :class:`AutoencoderTransformer`, trained on rows that are
    normal or mostly so. A new row is abnormal if what the model makes of it, what is
    left over and where the code lies, is far from what it made of them; `explain` says
    which features that is due to. Conventions are those of
    :class:`~sklearn.ensemble.IsolationForest`: scores are higher for normal rows,
    `predict` gives +1 for them and -1 for outliers.

    Parameters
    ----------
    n_components : "auto", int or float, default="auto"
        Width of the code. A float in (0, 1) is the smallest width with which PCA
        explains more than that share of the variance of the scaled data. "auto" is
        0.9, but at most half of ``min(n_samples, n_features)`` and at least 1. More
        components than features are allowed.

    contamination : "auto" or float, default="auto"
        Where the threshold lies; the ranking of rows does not depend on it.

        - float in (0, 0.5]: the share of the training rows that `predict` calls
          outliers, as in IsolationForest. Right for training data that contain
          outliers of about that share, and for these data only: new rows are a little
          farther from training rows than these are from each other, and a larger
          share of them falls below such a threshold.
        - "auto": right for training data that are normal. About 1 % of new normal rows
          are called outliers, one in ``n + 1`` where fewer than 100 rows set the
          threshold. It comes from the scores of rows that no step of the training has
          used: those held back by ``calibration_fraction``, else those that judged
          the training. From 10 to 499 training rows, and up to 1,999 if there are
          less than 20 per component or 10 per column, are cut into five parts
          instead, each scored by a model of the others, with scaling and principal
          axes of its own; where training leaves its start, `fit` takes about six
          times as long for it. Fewer rows, and more with ``early_stopping=False``,
          are scored by the model that they trained. Beyond the most abnormal tenth of
          the scores an exponential tail is fitted, since the 1 % quantile of a few
          dozen rows says little; the most abnormal of these rows is always called an
          outlier. Of wider tables than that, with thousands of rows, more than 1 %
          may be: `calibrate`.

        `calibrate` sets another threshold without fitting again.

    anomaly_score : AnomalyScore, default=None
        How code and residual of a row become one number; see
        :mod:`skae.anomaly_scores`. None is :class:`~skae.anomaly_scores.Combined`: the
        distance to training rows that are remembered, in residual and code and in the
        data.

    n_estimators : int, default=1
        Number of autoencoders, each with random weights and an order of rows of its
        own. They share scaling, principal axes and held-out rows; a score is the mean
        of theirs, each in units of its spread over held-out rows. With
        ``n_components="auto"`` the further ones have fewer components, down to half as
        many. The code, reconstructions and fitted attributes are those of the first.

    calibration_fraction : float, default=0.0
        Share of the rows, in [0, 1), to hold back from `fit` altogether, for the
        threshold and for `p_values`. Not with weights that `warm_start` continues.

    architecture : Architecture, default=None
        The two networks. None is :class:`~skae.architectures.MLP` with its defaults.

    bottleneck : Bottleneck, default=None
        What stands between them. None is :class:`~skae.bottlenecks.Plain`.

    corruption : Corruption, default=None
        What is done to the input in training, for a denoising autoencoder; see
        :mod:`skae.corruptions`. None leaves it as it is.

    penalty : Penalty, default=None
        What shapes the code in training; see :mod:`skae.penalties`. Penalties add
        with ``+``.

    loss : Loss, default=None
        Distance between a row and its reconstruction, in scaled units, summed over
        the features. None is :class:`~skae.losses.SquaredError`.

    scaling : {"auto", "global", "standard", "minmax"} or None, default="auto"
        How the data are scaled inside the model, and back on the way out.

        - "global": each feature is centred, then all are divided by *one* number, the
          root of their mean variance. Errors stay those of the data, up to that one
          number, as they do for PCA.
        - "standard": each feature is centred and divided by its standard deviation.
        - "minmax": the range of each feature is mapped to [-1, 1].
        - None: the data are left as they are.
        - "auto": "standard"; None for a loss that is only defined on part of the real
          line, which takes no other.

        A feature that does not vary is centred, not divided.

    optimizer : {"adam", "adamw", "nadam", "radam", "sgd"} or class, default="adamw"
        How the weights are trained; a class is a subclass of
        :class:`torch.optim.Optimizer`.

    lr : float, default=5e-3
        Learning rate. It is constant: a running average of the weights is what is
        judged and kept, and is as quiet as the end of a falling rate would be.

    weight_decay : float, default=0.0
        Passed to the optimiser: decay of the weights towards zero, of a linear path
        that started at PCA towards that start.

    gradient_clip : float, default=None
        Largest norm of the gradient of all weights together. None for no bound.

    batch_size : "auto" or int, default="auto"
        Rows per step. "auto" is the power of two nearest to ``n_samples / 32``, at
        least 32 and at most 256. The rows of an epoch are dealt into batches of equal
        size, never more than this.

    max_epochs : int, default=300
        Most passes over the training rows.

    early_stopping : bool, default=True
        Whether to hold out rows, to stop when they no longer gain, and to keep the
        weights that were best for them, those before the first step included. If
        False, training goes on until the training objective no longer falls, and the
        last weights are kept.

    validation_fraction : float, default=0.1
        Share of the rows to hold out, or 50 rows where that is more of them and no
        more than a quarter. Fewer than 50 could not tell a gain from noise, and none
        are held out: with the default, for fewer than 200 rows. A model that starts
        as PCA, with no corruption or penalty, then stays PCA; others train on all
        rows until the training objective no longer falls. Give ``X_val`` to `fit`, a
        larger share or ``early_stopping=False`` to train all the same.

    n_iter_no_change : int, default=15
        Epochs without an improvement of more than ``tol`` before training stops.

    tol : float, default=1e-3
        Smallest improvement that counts, as a share of the objective.

    warm_start : bool, default=False
        Whether another `fit` continues from the fitted weights, with the scaling and
        the number of components of the first.

    random_state : int, RandomState instance or None, default=None
        Source of the held-out rows, the initial weights, the order of the rows and all
        noise. With an int, fits are equal bit by bit on one CPU, those of large
        networks with the same number of threads. No global generator is read or
        written.

    verbose : int, default=0
        0 is silent, 1 shows a progress bar with the losses.

    device : str or torch.device, default="cpu"
        Where to train and to compute: "cpu", "cuda", "cuda:1", "mps". "auto" is CUDA
        where it is available, else the CPU.

    precision : {"float32", "bf16"}, default="float32"
        Numbers that pass through the networks in training. With "bf16" products
        are taken with 8 significant bits instead of 24, by torch's autocast; weights,
        losses, held-out rows and inference stay in single precision. It is faster on
        GPUs that have units for it, where networks are wide, and slower on most CPUs.

    net_params : dict, default=None
        Further parameters of the skorch net that trains the model, such as
        ``callbacks`` or ``optimizer__betas``, and ``averaging``: the decay per step of
        the running average of the weights, 0.995 by default. Callbacks see
        "train_loss" and "valid_loss" of each epoch; skorch's ``EpochScoring``
        takes a function here, and others that gather outputs of batches are refused.

    Attributes
    ----------
    offset_ : float
        The threshold: ``decision_function(X) = score_samples(X) - offset_``.

    calibration_scores_ : ndarray of shape (n_calibration,)
        Scores of the calibration rows. Only there with ``calibration_fraction``, or
        after `calibrate` was given some.

    n_components_ : int
        Width of the code.

    mean_ : ndarray of shape (n_features_in_,)
        Weighted mean of the training rows.

    scale_ : ndarray of shape (n_features_in_,)
        What each feature is divided by inside the model.

    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Gain in R² on the training rows from decoding ``k + 1`` instead of ``k``
        components. For a linear network these are the numbers of PCA, for others they
        need not fall. Their sum is the R² of the model. Where that would
        take long, it is measured on evenly spaced rows only.

    components_ : ndarray of shape (n_components_, n_features_in_)
        How a row moves with each component, in the data's units. Only there if the
        decoder is linear: without hidden layers, or left at PCA.

    active_units_ : int
        Components whose posterior mean varies over the training rows by more than 0.01.
        Only there with :class:`~skae.bottlenecks.Variational`.

    dead_fraction_ : float
        Share of the components that no training row uses. Only there with
        :class:`~skae.bottlenecks.TopK` and :class:`~skae.bottlenecks.BatchTopK`.

    perplexity_ : float
        e to the entropy of the symbols of the training rows, the mean over groups or
        components: how many of them are in use, as if all that are were equally often.
        Only there with :class:`~skae.bottlenecks.VectorQuantized` and
        :class:`~skae.bottlenecks.FiniteScalar`.

    pca_reconstruction_error_ : float
        Mean squared residual on the training rows of PCA with as many components, of
        the rows as they are scaled, in squared units of the data; to be compared with
        the mean of `reconstruction_error`.

    history_ : dict of ndarray of shape (n_iter_,)
        "train_loss" and, where rows judge the training, "valid_loss": the objective
        per row and epoch; "seconds" per epoch.

    n_iter_ : int
        Epochs trained.

    best_epoch_ : int
        Epoch whose weights were kept, counted from 1; 0 is the start.

    diagnostics_ : dict
        "n_held_out": rows that judged the training. "initial_loss", "best_loss": their
        objective before the first step and with the weights that were kept; where
        there are none, infinite and the training objective. "diverged": whether the
        loss stopped being finite. "n_active_components": components that vary. "r2",
        "pca_r2": R² of model and PCA on the training rows. "step": how gradients
        were computed, "closed form" or "autograd" (any model), on a GPU maybe "in a
        CUDA graph"; None where no step was taken. "batch_size": rows per step, at most.

    device_ : str
        Where the network is.

    net_ : skorch.NeuralNet
        The trained net: ``net_.module_``, ``net_.history``. Its optimiser is there for
        callbacks during training only.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where ``X`` has string names for all of them.

    Raises
    ------
    ValueError, TypeError
        On `fit`, for a parameter that is not accepted; the message names it.

    Warns
    -----
    skae.exceptions.FitWarning
        On `fit`, if the loss stopped being finite, components are constant, the code is
        wider than the data with nothing to keep it from being a copy, or the model is
        worse than PCA or the mean; each has a class of its own there.
    sklearn.exceptions.ConvergenceWarning
        On `fit`, if ``max_epochs`` was reached before training stopped by itself, but
        not with ``early_stopping=False``, which asks for these epochs.

    See Also
    --------
    AutoencoderTransformer : The same model as a transformer.
    sklearn.ensemble.IsolationForest : Needs no scaling and no training; often as good.
    sklearn.neighbors.LocalOutlierFactor : No training, but keeps all rows.
    skae.metrics.make_outlier_scorer : For labels of any convention.

    References
    ----------
    .. [1] Hawkins, He, Williams & Baxter, "Outlier Detection Using Replicator Neural
       Networks", DaWaK 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderOutlierDetector
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(-3, 3, size=500)
    >>> X = np.c_[t, np.sin(t), np.cos(t)] + 0.05 * rng.normal(size=(500, 3))
    >>> detector = AutoencoderOutlierDetector(1, random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    array([ 1, -1])
    """

    _auto_scaling = "standard"
    _torch_parts = (*BaseAutoencoder._torch_parts, "score")

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "anomaly_score": [AnomalyScore, None],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "calibration_fraction": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        n_components="auto",
        *,
        contamination="auto",
        anomaly_score=None,
        n_estimators=1,
        calibration_fraction=0.0,
        architecture=None,
        bottleneck=None,
        corruption=None,
        penalty=None,
        loss=None,
        scaling="auto",
        optimizer="adamw",
        lr=5e-3,
        weight_decay=0.0,
        gradient_clip=None,
        batch_size="auto",
        max_epochs=300,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=15,
        tol=1e-3,
        warm_start=False,
        random_state=None,
        verbose=0,
        device="cpu",
        precision="float32",
        net_params=None,
    ):
        self.n_components = n_components
        self.contamination = contamination
        self.anomaly_score = anomaly_score
        self.n_estimators = n_estimators
        self.calibration_fraction = calibration_fraction
        self.architecture = architecture
        self.bottleneck = bottleneck
        self.corruption = corruption
        self.penalty = penalty
        self.loss = loss
        self.scaling = scaling
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.precision = precision
        self.net_params = net_params

    def score_samples(self, X):
        """Return how normal rows are: the lower, the more abnormal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples,)
            Minus the anomaly score, float64.

        Raises
        ------
        ValueError
            If rows lie outside the domain of the loss, where it means nothing.
        """
        X = self._check_rows(X, "score_samples")
        return -self._ensemble.score(X)

    def decision_function(self, X):
        """Return how far rows are on the normal side: negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        check_namespace(X, self, "decision_function")
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Return +1 for normal rows and -1 for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_namespace(X, self, "predict")
        return sides(self.decision_function(X))

    def calibrate(
        self,
        X_normal=None,
        *,
        quantile=None,
        false_positive_rate=None,
        n_alerts=None,
        rule=None,
    ):
        """Set the threshold anew; the model stays as it is.

        Parameters
        ----------
        X_normal : array-like of shape (n_samples, n_features), default=None
            Normal rows that `fit` has not seen, such as the last weeks of a stream.
            From then on they are what `p_values` compares with. None takes the rows of
            an earlier call, those that ``calibration_fraction`` held back, or else
            those that the threshold of `fit` came from.

        quantile : float, default=None
            The threshold is the score below which this share of the rows lies.

        false_positive_rate : float, default=None
            A new row like these is called an outlier with at most this probability,
            averaged over the draw of both (split conformal prediction [1]_); among
            ``n`` rows the threshold is the ``floor(false_positive_rate * (n + 1))``-th
            lowest score. Without ``X_normal`` there must be calibration rows, as for
            `p_values`; sample weights do not count.

        n_alerts : int, default=None
            So many of the rows are called outliers, fewer where scores are equal: for
            a batch of the size that is looked at together. These rows need not be
            normal, and `p_values` does not compare with them.

        rule : callable, default=None
            Takes the scores of the rows, as `score_samples` gives them, and returns the
            threshold.

            At most one of the four is given; with none, the threshold is that of
            ``contamination="auto"``.

        Returns
        -------
        self : object
            The detector, with a new ``offset_``.

        Raises
        ------
        ValueError
            If more than one of the four is given or one is not accepted, or a rate is
            smaller than so few rows can promise. The detector is then as before.

        References
        ----------
        .. [1] Laxhammar & Falkman, "Conformal Prediction for Distribution-Independent
           Anomaly Detection in Streaming Vessel Data", StreamKDD 2010.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.RandomState(0)
        >>> X, X_later = rng.normal(size=(500, 5)), rng.normal(size=(400, 5))
        >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
        >>> int(np.sum(detector.calibrate(X_later, n_alerts=4).predict(X_later) == -1))
        4
        """
        threshold = _thresholds.given(
            quantile=quantile,
            false_positive_rate=false_positive_rate,
            n_alerts=n_alerts,
            rule=rule,
        )
        if X_normal is None:
            self._fitted_model()
            if false_positive_rate is not None:
                self._check_calibrated("calibrate(false_positive_rate=...)")
            scores, weight = self._reference
        else:
            scores, weight = on_host(self.score_samples(X_normal)), None
        self.offset_ = threshold(scores, weight)
        if X_normal is not None and n_alerts is None:
            self._reference = scores, None
            self.calibration_scores_ = like(scores, X_normal)
        return self

    def p_values(self, X):
        """Return how often normal rows are at least as abnormal as these.

        Conformal p-values [1]_: for a row drawn as the calibration rows were, the
        chance of a p-value of at most ``p`` is at most ``p``, whatever the model.
        Calibration rows are those given to `calibrate`, or those that
        ``calibration_fraction`` held back in `fit`: nothing else has seen them. The
        smallest possible value is one over their number plus one.

        Of many rows, :func:`scipy.stats.false_discovery_control` tells which to call
        outliers such that only a given share of these calls is false; conformal
        p-values depend on each other in a way that it allows [1]_.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples,)
            In (0, 1].

        Raises
        ------
        ValueError
            If there are no calibration rows.

        References
        ----------
        .. [1] Bates, Candès, Lei, Romano & Sesia, "Testing for Outliers with Conformal
           p-values", Annals of Statistics 51, 2023.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.stats import false_discovery_control
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.RandomState(0)
        >>> detector = AutoencoderOutlierDetector(
        ...     calibration_fraction=0.4, random_state=0
        ... ).fit(rng.normal(size=(1000, 5)))
        >>> X = np.r_[rng.normal(size=(95, 5)), np.full((5, 5), 6.0)]
        >>> p = detector.p_values(X)
        >>> np.flatnonzero(false_discovery_control(p) < 0.1)
        array([95, 96, 97, 98, 99])
        """
        self._fitted_model()
        self._check_calibrated("p_values")
        scores, calibration = self.score_samples(X), self.calibration_scores_
        return like(_thresholds.p_values(*map(on_host, (scores, calibration))), X)

    def explain(self, X):
        """Return which features made rows abnormal, in the data's own units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        explanation : Explanation
            A :class:`~sklearn.utils.Bunch` with, for each row and feature, its
            ``value``, the value that the model ``expected``, their difference as
            ``residual`` in units of what is usual for the feature, and its ``share`` of
            the score. Arrays of shape (n_samples, n_features). ``code_share``, of
            shape (n_samples,), is the part of the score that lies in the code itself,
            in no single feature; all shares of a row add up to one.
            ``explanation.to_frame(top_k)`` is a data frame of the worst features of
            each row, by name.

        Notes
        -----
        A share is part of the score and says where the row differs from rows that are
        remembered. A wrong value also spoils the reconstruction of other columns that
        go with it, so that these have a part, if usually a smaller one.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.RandomState(0)
        >>> t = rng.normal(size=(500, 1))
        >>> X = t @ np.ones((1, 5)) + 0.1 * rng.normal(size=(500, 5))
        >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
        >>> fault = X[:1].copy()
        >>> fault[0, 3] += 2
        >>> explanation = detector.explain(fault)
        >>> int(explanation.share[0].argmax())
        3
        >>> round(float(explanation.share.sum() + explanation.code_share.sum()), 6)
        1.0
        """
        index = X.index if hasattr(X, "iloc") else None
        X = on_host(self._check_rows(X, "explain"))
        parts, expected = self._ensemble.explain(X)
        total = parts.sum(axis=1, keepdims=True)
        parts = np.divide(
            parts, total, out=np.full_like(parts, 1 / parts.shape[1]), where=total > 0
        )
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = np.array([f"x{j}" for j in range(X.shape[1])], dtype=object)
        return Explanation(
            value=X,
            expected=expected,
            residual=(X - expected) / self._ensemble.residual_spread,
            share=parts[:, :-1],
            code_share=parts[:, -1],
            feature_names=names,
            index=np.arange(len(X)) if index is None else index,
        )

    def _exported(self, model, part):
        if part == "score":
            return exported_score(self._ensemble.members)
        return super()._exported(model, part)

    def _check_calibrated(self, name):
        if not hasattr(self, "calibration_scores_"):
            raise ValueError(
                f"{name} compares with normal rows that fit has not seen, and there "
                "are none: call calibrate(X_normal) first, or fit with "
                f"calibration_fraction, say 0.2. Got {self.calibration_fraction!r}."
            )

    def _check_rows(self, X, method):
        model = self._fitted_model()
        X = self._check_X(X, method)
        model.loss.check_domain(X, "X")
        return X

    def _score(self):
        return Combined() if self.anomaly_score is None else self.anomaly_score

    def _withhold(self, X, sample_weight):
        """Take calibration rows out before anything is learnt."""
        self._score().validate()
        self._withheld = None
        if not self.calibration_fraction:
            return X, sample_weight
        if self.warm_start and hasattr(self, "_ensemble"):
            raise ValueError(
                "warm_start=True continues from weights that may have seen the rows "
                f"that calibration_fraction={self.calibration_fraction} holds back: "
                "pass calibration_fraction=0, and later ones to calibrate."
            )
        n_withheld = max(1, round(self.calibration_fraction * len(X)))
        if len(X) - n_withheld < 2:
            raise ValueError(
                f"calibration_fraction={self.calibration_fraction} leaves "
                f"{len(X) - n_withheld} of {len(X)} rows to train on: at least 2 are "
                "required."
            )
        order = check_random_state(self.random_state).permutation(len(X))
        out, kept = np.sort(order[:n_withheld]), np.sort(order[n_withheld:])
        if sample_weight is None:
            self._withheld = X[out], None
            return X[kept], None
        kept_weight = sample_weight[kept]
        # In the unit that the fit gives its weights.
        self._withheld = X[out], sample_weight[out] / kept_weight.mean()
        return X[kept], kept_weight

    def _n_networks(self, plan):
        return self.n_estimators * (1 + N_PARTS * self._cross_fits(plan))

    def _cross_fits(self, plan):
        """Return whether the threshold needs scores of cross-fitted models."""
        automatic = self.contamination == "auto" and self._withheld is None
        return automatic and few_rows(plan)

    def _finish(self, fit, progress):
        warm = self.warm_start and hasattr(self, "_ensemble")
        previous = self._ensemble.members if warm else ()
        how = {
            "score": self._score(),
            "n_estimators": 1 if progress is None else self.n_estimators,
            "sizes": "smaller" if self.n_components == "auto" else "same",
        }
        fitted = fit_ensemble(fit, **how, previous=previous, progress=progress)
        self._ensemble = fitted.ensemble
        withheld, self._withheld = self._withheld, None
        vars(self).pop("calibration_scores_", None)
        if withheld is not None:
            X, weight = withheld
            self.calibration_scores_ = -self._ensemble.score(X)
            self._reference = self.calibration_scores_, weight
        if self.contamination != "auto":
            scores, weight = self._row_scores(fit, fitted)
            if withheld is None:
                self._reference = scores, weight
            else:
                scores = np.append(scores, self.calibration_scores_)
                weight = None if weight is None else np.append(weight, withheld[1])
            share = self.contamination
            self.offset_ = _thresholds.at_quantile(scores, share, weight)
            return
        if withheld is None:
            self._reference = self._unseen_scores(fit, fitted, how, progress)
        self.offset_ = _thresholds.automatic(*self._reference)

    def _row_scores(self, fit, fitted):
        """Return scores of the training rows, and their weights."""
        scores = fitted.row_scores
        if scores is None:
            scores = fitted.ensemble.score(fit.plan.rows)
        return -scores, fit.plan.weight

    def _unseen_scores(self, fit, fitted, how, progress):
        """Return scores of rows that training has not seen, where there are any."""
        plan = fit.plan
        if progress is not None and few_rows(plan):
            return -cross_fitted(fit, fitted.unchanged, progress, **how), plan.weight
        if plan.n_validation == 0:
            return self._row_scores(fit, fitted)
        scores, weight, rows = fitted.validation_scores, None, plan.X_val
        if rows is None:
            rows = Subset(plan.rows, plan.validation)
            weight = None if plan.weight is None else plan.weight[plan.validation]
        return -(fitted.ensemble.score(rows) if scores is None else scores), weight
