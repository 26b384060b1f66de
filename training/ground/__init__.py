"""Shared foundations of training: progress, atomic files, image quality, baselines."""
