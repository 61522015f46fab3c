"""Explanations of anomaly scores, in the columns of the data."""

from ._explain import explain
from ._explanation import Explanation

__all__ = ["Explanation", "explain"]
