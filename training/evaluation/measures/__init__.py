"""Measures of one picture: against the truth, against its LR tile, or on its own."""
