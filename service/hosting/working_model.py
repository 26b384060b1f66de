"""A loaded model at work: the batcher that feeds its engine, and the self-test that checks it."""

from collections.abc import Callable

from service.batching.batch_reporter import BatchReporter
from service.batching.batcher import Batcher
from service.batching.costs import BatchCosts
from service.ground.metrics import Metrics
from service.hosting.loading import LoadedModel
from service.hosting.self_test import start_self_test
from service.settings import Settings

# From one batch to the next through threads, event loop and interpreter lock. With the engine
# `identity`, 16 connections and two cores, batches of one tile, planned without this overhead, lost
# a fifth of the throughput; half or a quarter of this value lost less, this value nothing.
_BATCH_OVERHEAD_S = 2e-3


class WorkingModel:
    """An engine with its batcher; create and use it on one event loop.

    Attributes:
        loaded: The bundle and its engine.
        batcher: Batcher that runs tiles on the engine.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        settings: Settings,
        metrics: Metrics,
        *,
        name: str,
        on_failure: Callable[[], None] = lambda: None,
        on_batch: Callable[[bool], None] = lambda _: None,
        on_self_test: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        """Start the engine's threads and its self-test.

        Args:
            loaded: The bundle and its warm engine.
            settings: Limits of the queue, and the interval of the self-test.
            metrics: Metrics that batches and self-tests are counted in.
            name: Model name in metrics.
            on_failure: Callback for the end of the engine loop; the batcher rejects tiles then.
            on_batch: Callback after each batch, with whether the engine failed on it.
            on_self_test: Callback with the problem that a self-test has found, or None.

        Raises:
            bundle_format.bundle.BundleError: The golden tile cannot be read any more.
        """
        self.loaded = loaded
        self.batcher = Batcher(
            loaded.engine,
            costs=BatchCosts(loaded.batch_s, overhead_s=_BATCH_OVERHEAD_S),
            max_queue=settings.max_queue,
            answer_bytes=loaded.bundle.manifest.sr_bytes,
            online_budget_s=settings.online_budget_ms / 1e3,
            observer=BatchReporter(
                metrics,
                model=name,
                version=loaded.bundle.version,
                precision=loaded.engine.precision,
                on_loop_failure=lambda _: on_failure(),
                on_batch=on_batch,
            ),
        )
        self._self_test = start_self_test(
            loaded,
            self.batcher,
            name=name,
            metrics=metrics,
            minutes=settings.self_test_minutes,
            on_result=on_self_test,
        )
        self.batcher.start()

    async def drain(self, timeout_s: float) -> bool:
        """End the self-test and finish every submitted tile; returns whether the time sufficed."""
        self._end_self_test()
        return await self.batcher.drain(timeout_s)

    async def close(self, timeout_s: float) -> bool:
        """Fail the tiles that still wait and close the engine.

        Args:
            timeout_s: Time limit for the batches in progress.

        Returns:
            Whether they ended in time; otherwise the engine stays open, as a call still uses it.
        """
        self._end_self_test()
        self.batcher.close()
        ended = await self.batcher.join(timeout_s)
        if ended:
            self.loaded.engine.close()
        return ended

    def _end_self_test(self) -> None:
        if self._self_test is not None:
            self._self_test.cancel()
