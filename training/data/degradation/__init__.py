"""Degradation of HR images to synthetic LR, noise estimation, and visibility in the fast scan."""
