"""Training: the plan of a fit, the epoch loop, and what came of it."""
