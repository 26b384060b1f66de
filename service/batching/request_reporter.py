"""Turns what requests measure into metrics: durations of stages, and the quality of answers."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from service.ground.errors import EngineFailed
from service.ground.metrics import Metrics
from service.ground.tools import ToolLabels
from service.images.quality import Quality, of_tiles


class RequestReporter:
    """Records what requests of one model measure; children of labels are bound once."""

    def __init__(self, metrics: Metrics, *, model: str, tools: ToolLabels) -> None:
        """Prepare.

        Args:
            metrics: Metrics of the service.
            model: Model name.
            tools: Labels of tools, shared by all models of the process.
        """
        self._model = model
        self._tools = tools
        # Exported from the start: an increase from nothing to 1 would not count as one.
        self._non_finite = metrics.non_finite.labels(model)
        self._observe = {
            stage: metrics.stage_duration.labels(stage).observe
            for stage in ("decode", "queue", "infer", "encode")
        }
        self._quality = (
            metrics.saturated,
            metrics.consistency,
            metrics.consistency_worst,
            metrics.residual,
            metrics.domain_distance,
        )
        self._observe_quality: dict[str, list[Callable[[float], None]]] = {}

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Record durations by stage: decode, queue, infer, encode."""
        for stage, duration_s in seconds.items():
            self._observe[stage](duration_s)

    def judge(self, flags: Sequence[npt.NDArray[np.float32]], *, tool: str | None) -> Quality:
        """Put the flags of an image's tiles together and record them.

        Args:
            flags: (K,) float32 of each tile.
            tool: Tool that made the image, or None.

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
        label = self._tools.label(self._model, tool)
        observe_all = self._observe_quality.get(label) or self._bind(label)
        for observe, value in zip(observe_all, quality[1:], strict=True):
            if value is not None:
                observe(value)
        return quality

    def _bind(self, label: str) -> list[Callable[[float], None]]:
        """Return the functions that record the flags after the first with this label of a tool."""
        bound = [histogram.labels(self._model, label).observe for histogram in self._quality]
        self._observe_quality[label] = bound
        return bound
