"""Measured shortcuts: faster ways to compute what the formulas of the modules say."""
