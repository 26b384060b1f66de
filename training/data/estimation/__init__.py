"""Blind estimation of what the fast scan does, from unpaired images; see `estimate`."""

from training.data.estimation.estimate import DegradationEstimate, estimate_degradation

__all__ = ["DegradationEstimate", "estimate_degradation"]
