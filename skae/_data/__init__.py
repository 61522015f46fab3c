"""What is true of the rows: checks, moments, scaling, principal axes, sources."""
