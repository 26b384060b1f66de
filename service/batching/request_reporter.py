"""Turns what requests measure into metrics: durations of stages, and the quality of answers."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from service.ground.errors import EngineFailed
from service.ground.metrics import Metrics
from service.images.quality import Quality, of_tiles


class RequestReporter:
    """Records what requests measure; children of labels are bound once."""

    def __init__(self, metrics: Metrics) -> None:
        self._non_finite = metrics.non_finite
        self._observe = {
            stage: metrics.stage_duration.labels(stage).observe
            for stage in ("decode", "queue", "infer", "encode")
        }
        self._observe_quality = [
            histogram.labels().observe
            for histogram in (
                metrics.saturated,
                metrics.consistency,
                metrics.consistency_worst,
                metrics.residual,
                metrics.domain_distance,
            )
        ]

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Record durations by stage: decode, queue, infer, encode."""
        for stage, duration_s in seconds.items():
            self._observe[stage](duration_s)

    def judge(self, flags: Sequence[npt.NDArray[np.float32]]) -> Quality:
        """Put the flags of an image's tiles together and record them.

        Args:
            flags: (K,) float32 of each tile.

        Raises:
            EngineFailed: The answer holds non-finite values; it is counted.
        """
        quality = of_tiles(flags)
        try:
            quality.check()
        except EngineFailed:
            # Its other flags are non-finite too, and would spoil the histograms' sums for good.
            self._non_finite.inc()
            raise
        for observe, value in zip(self._observe_quality, quality[1:], strict=True):
            if value is not None:
                observe(value)
        return quality
