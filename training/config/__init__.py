"""Recipes: their sections, defaults, and the problems of one in words; no torch."""
