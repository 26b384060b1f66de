"""Measures of pictures: against the truth, against the LR tile, or without a reference."""
