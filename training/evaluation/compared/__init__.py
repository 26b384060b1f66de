"""Compared methods, such as checkpoints and baselines, and their cost per tile."""
