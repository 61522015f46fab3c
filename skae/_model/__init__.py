"""The model: one module from rows to rows, complete without a trainer."""
