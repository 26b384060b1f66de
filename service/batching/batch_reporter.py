"""Reports of the batcher, and the service's metrics and log lines for them."""

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from service.ground.metrics import Metrics
from service.ground.priority import Priority

log = structlog.get_logger()


class BatchObserver(Protocol):
    """Observer of the batcher; called on the event loop."""

    def batch_finished(
        self, *, waits: Sequence[tuple[Priority, float]], infer_s: float, failed: bool
    ) -> None:
        """One batch left the engine; `waits` has the class and the seconds of each of its tiles."""
        ...

    def tiles_cancelled(self, count: int) -> None:
        """Abandoned tiles left the queue: no client waits for them."""
        ...

    def deadlines_missed(self, count: int) -> None:
        """Tiles left the queue because their deadline had passed."""
        ...

    def batch_error(self, error: Exception) -> None:
        """An engine call failed; the details are for the log."""
        ...

    def loop_failed(self, error: BaseException) -> None:
        """The loop itself has ended; every waiting tile has failed."""
        ...


class BatchReporter:
    """The batcher's observer in the service; children of labels are bound once."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        model: str,
        version: str,
        precision: str,
        on_loop_failure: Callable[[BaseException], None],
        on_batch: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Bind the labels.

        Args:
            metrics: Metrics of the service.
            model: Name of the model.
            version: Its version.
            precision: Execution precision.
            on_loop_failure: Callback for the end of the engine loop itself; called once.
            on_batch: Callback after each batch, with whether the engine failed on it.
        """
        self._metrics = metrics
        self._queue_duration = {p: metrics.queue_duration.labels(p, model) for p in Priority}
        self._tiles = {p: metrics.tiles.labels(p, model, version, precision) for p in Priority}
        self._batch_size = metrics.batch_size.labels(model)
        self._batch_duration = metrics.batch_duration.labels(model)
        self._on_loop_failure = on_loop_failure
        self._on_batch = on_batch

    def batch_finished(
        self, *, waits: Sequence[tuple[Priority, float]], infer_s: float, failed: bool
    ) -> None:
        """Count one batch."""
        size = len(waits)
        self._batch_size.observe(size)
        self._batch_duration.observe(infer_s)
        for priority, seconds in waits:
            self._queue_duration[priority].observe(seconds)
            if not failed:
                self._tiles[priority].inc()
        log.debug("batch_executed", size=size, infer_ms=round(infer_s * 1e3, 2), failed=failed)
        self._on_batch(failed)

    def tiles_cancelled(self, count: int) -> None:
        """Count abandoned tiles."""
        self._metrics.cancelled.inc(count)

    def deadlines_missed(self, count: int) -> None:
        """Count tiles whose deadline had passed."""
        self._metrics.deadline_missed.inc(count)

    def batch_error(self, error: Exception) -> None:
        """Count a failed batch and log the details, which clients do not get."""
        self._metrics.engine_failures.inc()
        log.error("engine_failed", kind=type(error).__name__, error=str(error), exc_info=error)

    def loop_failed(self, error: BaseException) -> None:
        """Report that no tile can be served any more."""
        self._metrics.engine_up.set(0)
        log.error("engine_loop_failed", kind=type(error).__name__, error=str(error))
        self._on_loop_failure(error)
