"""One training step: the gradient of the objective of a batch."""
