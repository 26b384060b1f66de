"""Summaries of measured tiles with intervals, comparisons of methods, and targets."""
