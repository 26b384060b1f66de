"""Sets of tiles measured by every method: the benchmark, real tiles, own tiles."""
