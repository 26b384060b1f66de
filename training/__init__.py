"""Training of the generators in `models`: recipes, data, the loop, evaluation."""
