"""Rows of a table: checks, moments, scaling, principal axes, sources of rows."""
