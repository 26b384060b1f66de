"""Inputs of an evaluation: benchmarks, and folders of real micrographs."""
