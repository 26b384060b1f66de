"""Estimation of the degradation from unpaired LR and HR images; see `estimate`."""

from training.data.estimation.estimate import DegradationEstimate, estimate_degradation

__all__ = ["DegradationEstimate", "estimate_degradation"]
