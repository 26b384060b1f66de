"""The methods of training by name; the trainer builds the one that a recipe names."""

from training.methods.build import build_method

__all__ = ["build_method"]
