"""A training run: its folder, checks before the start, saved state, and checkpoint description."""
