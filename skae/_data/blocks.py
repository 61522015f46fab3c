"""Blocks of columns: the indicators of the categories of one feature."""

import numpy as np
import torch

__all__ = ["Blocks"]


class Blocks:
    """Which columns of encoded rows belong to which feature.

    A feature that is a number has one column. A feature that is a category has a block:
    a column for each category, 1 in the rows of this category and 0 in others.

    Parameters
    ----------
    n_categories : sequence of int of shape (n_features,)
        Number of categories of each feature, at least one; 0 for a number.

    Attributes
    ----------
    n_categories : ndarray of int of shape (n_features,)
    feature : ndarray of int of shape (n_columns,)
        The feature that each column belongs to.
    first : ndarray of int of shape (n_features,)
        The first column of each feature.
    is_indicator : ndarray of bool of shape (n_columns,)
    """

    def __init__(self, n_categories):
        self.n_categories = np.asarray(n_categories, dtype=np.int64)
        width = np.maximum(self.n_categories, 1)
        self.feature = np.repeat(np.arange(len(width)), width)
        self.first = np.cumsum(width) - width
        self.is_indicator = self.n_categories[self.feature] > 0

    @property
    def n_features(self):
        """Number of features."""
        return len(self.n_categories)

    def columns(self, feature):
        """Return the columns of a feature, a slice."""
        first = self.first[feature]
        return slice(first, first + max(self.n_categories[feature], 1))

    def metric(self, share, n_rows):
        r"""Return centre and scale of indicators, in the metric of the categories.

        A category that occurs in the share :math:`p` of the rows has the centre
        :math:`p` and the scale :math:`\sqrt{p (K - 1)}`. Up to the factor of the
        :math:`K` categories this is the metric of multiple correspondence analysis and
        of the factor analysis of mixed data [1]_; with it, a block has the total
        variance one, however many categories there are.

        Parameters
        ----------
        share : ndarray of shape (n_columns,)
            Means of the columns; those that are no indicators do not matter.
        n_rows : int
            Number of rows of the means. A category without any is taken as one in half
            a row.

        Returns
        -------
        center, scale : ndarray of shape (n_columns,)

        References
        ----------
        .. [1] Pagès, "Analyse factorielle de données mixtes", Revue de statistique
           appliquée 52, 2004.
        """
        p = np.clip(share, 0.5 / n_rows, 1.0)
        others = np.maximum(self.n_categories[self.feature] - 1, 1)
        return p, np.sqrt(p * others)

    def sums(self, values):
        """Return the sums over the columns of each feature.

        Parameters
        ----------
        values : Tensor or ndarray of shape (n_samples, n_columns)

        Returns
        -------
        Tensor or ndarray of shape (n_samples, n_features)
        """
        if isinstance(values, np.ndarray):
            return np.add.reduceat(values, self.first, axis=1)
        feature = torch.from_numpy(self.feature).to(values.device)
        total = values.new_zeros(len(values), self.n_features)
        return total.index_add_(1, feature, values)

    def unseen_as_missing(self, x, seen):
        """Return encoded rows with NaN for what fewer than two other rows have.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_columns)
        seen : Tensor of shape (n_others, n_columns)
        """
        unseen = torch.from_numpy(self.is_indicator) & ((seen == 1).sum(dim=0) < 2)
        gone = self.sums(((x == 1) & unseen).to(x.dtype)) > 0
        return x.masked_fill(self.repeated(gone), torch.nan)

    def repeated(self, values):
        """Return values of features, for each of their columns.

        Parameters
        ----------
        values : Tensor of shape (n_samples, n_features), or tuple of such

        Returns
        -------
        Tensor of shape (n_samples, n_columns), or tuple of such
        """
        if isinstance(values, tuple):
            return tuple(map(self.repeated, values))
        return values[:, torch.from_numpy(self.feature).to(values.device)]
