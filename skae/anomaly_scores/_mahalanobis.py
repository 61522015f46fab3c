"""Mahalanobis distance of residual and latent code."""

import torch
from sklearn.covariance import ledoit_wolf_shrinkage

from ._base import AnomalyScore, Joint, Scorer

__all__ = ["Mahalanobis"]


class Mahalanobis(AnomalyScore):
    r"""Squared Mahalanobis distance of residual and latent code, taken together.

    The residual, divided by its spread over validation rows, and the code, divided by
    its spread over training rows, form one vector :math:`u` (a column that is constant
    in training has the largest spread of all residuals). The score is
    :math:`(u - \bar u)^\top \Sigma^{-1} (u - \bar u)`, divided by the length of
    :math:`u`. The covariance :math:`\Sigma` of the training rows is shrunk by the
    method of Ledoit & Wolf [1]_, so that it is invertible for any number of columns.

    A global score, suited to rows that form one cluster. The contributions that
    `explain` returns are :math:`(\Sigma^{-1/2} (u - \bar u))_j^2` with the symmetric
    root. They add up to the distance, and each is as close to its own column as such a
    decomposition can be [2]_.

    References
    ----------
    .. [1] Ledoit & Wolf, "A Well-Conditioned Estimator for Large-Dimensional Covariance
       Matrices", Journal of Multivariate Analysis 88, 2004.
    .. [2] Garthwaite & Koch, "Evaluating the Contributions of Individual Variables to a
       Quadratic Form", Australian & New Zealand Journal of Statistics 58, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.anomaly_scores import Mahalanobis
    >>> X = np.c_[np.arange(50.0), np.arange(50.0)]
    >>> detector = AutoencoderOutlierDetector(1, anomaly_score=Mahalanobis()).fit(X)
    >>> far_out, usual = detector.score_samples([[500.0, 500.0], [10.0, 10.0]])
    >>> bool(far_out < usual)  # far out on the line counts, too
    True
    """

    def build(self, loss):
        """Return a module that stores the covariance; see `AnomalyScore.build`."""
        return _Mahalanobis(loss.blocks)


class _Mahalanobis(Scorer):
    def __init__(self, blocks):
        super().__init__()
        self.joint = Joint(whitening=1.0, blocks=blocks)

    def start(self, rows, held_out):
        rounding = self.joint.start(rows, held_out)
        u = self.joint(rows)
        mean = u.mean(dim=0)
        u = u - mean
        shrinkage = 0.0
        if len(u) > 1:  # scikit-learn warns of a single row
            shrinkage = float(ledoit_wolf_shrinkage(u.numpy(), assume_centered=True))
        variances, axes = _principal(u, rounding)
        # Shrunk towards equal variances in all directions, also in those outside of the
        # span of the rows; the floor keeps these positive without any shrinkage.
        usual = float(u.square().mean()) or 1.0
        floor = max(shrinkage, max(u.shape) * torch.finfo(u.dtype).eps) * usual
        variances = (1 - shrinkage) * variances.clamp_min(0) + floor
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)
        self.register_buffer("stretch", variances.rsqrt() - floor**-0.5)
        self.register_buffer("elsewhere", u.new_tensor(floor**-0.5))

    def forward(self, view):
        return self._terms(view).sum(dim=1)

    def contributions(self, view):
        n_features = view.x.shape[1]
        terms = self._terms(view)
        return terms[:, :n_features], terms[:, n_features:].sum(dim=1)

    def _terms(self, view):
        u = self.joint(view) - self.mean
        # Times the symmetric root of the inverse covariance, without forming it.
        u = self.elsewhere * u + u @ self.axes * self.stretch @ self.axes.T
        return u.square() / u.shape[1]


def _principal(u, rounding):
    """Return variances and axes of centred rows, from the smaller Gram matrix.

    What may be rounding counts as independent noise: in columns that are reconstructed
    exactly there is nothing else, and it is larger in single precision. With fewer rows
    than columns shrinkage exceeds it.
    """
    n, width = u.shape
    if width <= n:
        return torch.linalg.eigh(u.T @ u / n + torch.diag(rounding.square()))
    variances, left = torch.linalg.eigh(u @ u.T / n)
    kept = variances > width * torch.finfo(u.dtype).eps * variances[-1]
    variances, left = variances[kept], left[:, kept]
    return variances, u.T @ left / (n * variances).sqrt()
