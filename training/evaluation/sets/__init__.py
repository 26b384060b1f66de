"""Measurement of every method on sets of tiles: the benchmark, real tiles, a fab's own tiles."""
