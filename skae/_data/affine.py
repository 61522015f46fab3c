"""The affine map: of the data to scaled data, of the code to coordinates."""

import torch
from torch import nn

__all__ = ["AffineMap", "DoubleConstants"]


class DoubleConstants(nn.Module):
    """Base of modules whose float64 tensors stay float64, and only change device.

    A centre of 1e12 or a scale of 1e40 must not be rounded when somebody calls
    ``module.float()``.
    """

    def _apply(self, fn, recurse=True):
        def move(tensor):
            if tensor.dtype != torch.float64:
                return fn(tensor)
            device = fn(tensor.new_empty(0, dtype=torch.float32)).device
            # Metal devices have no double precision.
            return (
                tensor.float().to(device) if device.type == "mps" else tensor.to(device)
            )

        return super()._apply(move, recurse)


class AffineMap(DoubleConstants):
    """An affine map of rows that can be inverted.

    Either ``(x - center)[:, order] / scale``, column by column, or
    ``(x - center) @ matrix``. The constants are buffers in double precision, whatever
    the precision of the module around them; they are cast to the dtype of the rows.

    Parameters
    ----------
    center : array-like of shape (n_inputs,)
    scale : array-like of shape (n_inputs,), default=None
        In the order of the outputs.
    order : array-like of int of shape (n_inputs,), default=None
        Which input each output comes from. None keeps the order.
    matrix, inverse : array-like of shape (n_inputs, n_inputs), default=None
        A matrix and its inverse, instead of ``scale`` and ``order``.
    limit : array-like of shape (n_inputs,), default=None
        Largest absolute value of each output, with ``scale``: what is beyond is cut,
        and then not inverted. None cuts nothing.
    """

    def __init__(
        self,
        center,
        scale=None,
        *,
        order=None,
        matrix=None,
        inverse=None,
        limit=None,
    ):
        super().__init__()
        constants = {
            "center": center,
            "scale": scale,
            "limit": limit,
            "matrix": matrix,
            "inverse_matrix": inverse,
        }
        for name, value in constants.items():
            if value is not None:
                value = torch.as_tensor(value, dtype=torch.float64).contiguous()
            self.register_buffer(name, value)
        if order is not None:
            order = torch.as_tensor(order)
        self.register_buffer("order", order)
        self.register_buffer("back", None if order is None else order.argsort())

    @classmethod
    def identity(cls, n_inputs):
        """Return the map that changes nothing."""
        return cls(torch.zeros(n_inputs), torch.ones(n_inputs))

    def __len__(self):
        """Return the number of columns."""
        return len(self.center)

    def forward(self, x):
        """Map rows, in their dtype and on their device."""
        x = x - self.center.to(x.dtype)
        if self.matrix is not None:
            return x @ self.matrix.to(x.dtype)
        if self.order is not None:
            x = x[:, self.order]
        x = x.div_(self.scale.to(x.dtype))
        if self.limit is None:
            return x
        limit = self.limit.to(x.dtype)
        return x.clamp_(-limit, limit)

    def standardized(self, mean, scale):
        """Return this map, followed by ``(y - mean) / scale``.

        Parameters
        ----------
        mean, scale : array-like of shape (n_inputs,)
        """
        mean, scale = (
            torch.as_tensor(value, dtype=torch.float64).to(self.center)
            for value in (mean, scale)
        )
        center = self.inverse(mean[None])[0]
        if self.matrix is None:
            return AffineMap(center, self.scale * scale, order=self.order)
        matrix, inverse = self.matrix / scale, self.inverse_matrix * scale[:, None]
        return AffineMap(center, matrix=matrix, inverse=inverse)

    def leading(self, k):
        """Return the map of the first ``k`` inputs to the first ``k`` outputs.

        Parameters
        ----------
        k : int
            These outputs must not depend on other inputs.
        """
        if self.matrix is None:
            return AffineMap(self.center[:k], self.scale[:k])
        matrix, inverse = (m[:k, :k] for m in (self.matrix, self.inverse_matrix))
        return AffineMap(self.center[:k], matrix=matrix, inverse=inverse)

    def inverse(self, y):
        """Map rows back."""
        if self.matrix is not None:
            y = y @ self.inverse_matrix.to(y.dtype)
        else:
            y = y * self.scale.to(y.dtype)
            if self.order is not None:
                y = y[:, self.back]
        return y.add_(self.center.to(y.dtype))
