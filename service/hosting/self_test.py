"""Runs the golden tile at intervals, on the engine that serves, in the nightly class.

An engine is proven when it is loaded. Memory, cards and drivers may fail later, and then every
answer still looks like a picture. A failed test is repeated at once; the engine is wrong only if
every attempt fails.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import structlog

from bundle_format.bundle import Precision
from engines.golden import golden_problem
from engines.sixteen_bit import SixteenBitEngine, golden_problem_16_bit
from service.batching.batcher import Batcher
from service.ground.errors import EngineFailed, ServiceError
from service.ground.metrics import Metrics
from service.ground.priority import Priority
from service.hosting.loading import LoadedModel

log = structlog.get_logger()

_ATTEMPTS = 3
# Interval after a failure, to notice soon that the engine has recovered.
_SOON_S = 60.0


class SelfTest:
    """Tests one engine at intervals while it serves."""

    def __init__(
        self,
        model: LoadedModel,
        batcher: Batcher,
        *,
        name: str,
        metrics: Metrics,
        period_s: float,
        on_result: Callable[[str | None], None],
    ) -> None:
        """Read the golden tile before its file can be replaced; `run` tests.

        Args:
            model: Model to test.
            batcher: Batcher of its engine.
            name: Model name in metrics.
            metrics: Metrics that tests are counted in.
            period_s: Interval in seconds.
            on_result: Callback with the problem after each test; None for a passed test.

        Raises:
            bundle_format.bundle.BundleError: The golden tile cannot be read any more.
        """
        self._golden = model.bundle.golden()
        is_fine = isinstance(model.engine, SixteenBitEngine)
        self._fine = model.bundle.golden_16_bit() if is_fine else None
        self._precision: Precision = model.engine.precision
        self._batcher = batcher
        self._name = name
        # All from the start: a counter that begins with its first failure shows no increase.
        self._counts = {
            outcome: metrics.self_tests.labels(name, outcome)
            for outcome in ("passed", "failed", "not_run")
        }
        self._period_s = period_s
        self._on_result = on_result

    async def run(self) -> None:
        """Test until the task is cancelled."""
        pause_s = self._period_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                problem = await self.test()
            except (ServiceError, TimeoutError) as error:
                self._count("not_run")
                log.warning("self_test_not_run", model=self._name, error=repr(error))
                continue
            self._on_result(problem)
            pause_s = self._period_s if problem is None else min(self._period_s, _SOON_S)

    async def test(self) -> str | None:
        """Run the golden tile until it passes, at most three times.

        Returns:
            Problem of the last attempt, or None if one passed.

        Raises:
            ServiceError: The engine takes no tiles: the service is ending.
            TimeoutError: The tile was not run within one interval.
        """
        problem: str | None = None
        for _ in range(_ATTEMPTS):
            problem = await self._try()
            self._count("passed" if problem is None else "failed")
            if problem is None:
                return None
            log.error("self_test_failed", model=self._name, problem=problem)
        return problem

    async def _try(self) -> str | None:
        """Run the golden tile once in each depth, among the other tiles."""
        problem = await self._try_depth(8)
        return problem if problem or self._fine is None else await self._try_depth(16)

    async def _try_depth(self, bits: int) -> str | None:
        futures = self._batcher.submit(
            [tile[0] for tile in self._golden.lr],
            priority=Priority.NIGHTLY,
            bits=bits,
            is_admitted=True,
        )
        try:
            async with asyncio.timeout(self._period_s):
                results = [await future for future in futures]
        except EngineFailed as error:
            return f"{error.detail}: {error.__cause__!r}"
        finally:
            for future in futures:
                future.cancel()
        sr: Any = np.stack([result.sr for result in results])[:, None]
        if bits == 16 and self._fine is not None:
            return golden_problem_16_bit(sr, self._golden, self._fine)
        return golden_problem(sr, self._golden, precision=self._precision)

    def _count(self, outcome: str) -> None:
        self._counts[outcome].inc()


def start_self_test(
    model: LoadedModel,
    batcher: Batcher,
    *,
    name: str,
    metrics: Metrics,
    minutes: float,
    on_result: Callable[[str | None], None],
) -> asyncio.Task[None] | None:
    """Begin to test an engine; see `SelfTest`.

    Returns:
        The task, to be cancelled; None without an interval, or for the engine `identity`, which
        runs no model.
    """
    if not minutes or model.engine.name == "identity":
        return None
    test = SelfTest(
        model, batcher, name=name, metrics=metrics, period_s=60 * minutes, on_result=on_result
    )
    return asyncio.get_running_loop().create_task(test.run())
