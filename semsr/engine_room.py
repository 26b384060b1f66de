"""Runs a loaded model in the same way as the service, for a single scan."""

import asyncio
import math

from service.batching.admission import Places
from service.batching.upscaler import Upscaler
from service.ground.metrics import Metrics
from service.ground.tools import ToolLabels
from service.hosting.loading import LoadedModel
from service.hosting.working_model import WorkingModel
from service.images.image_steps import Inferred, Prepared
from service.scans.errors import ScanError
from service.scans.options import ModelLabel
from service.settings import Settings

# The scan's own look-ahead limits the tiles in flight; the batcher must not reject any.
_PLACES = 100_000
_WATCH_PERIOD_S = 1.0


def model_label(model: LoadedModel) -> ModelLabel:
    """Return the description of a loaded model that a scan records."""
    engine = model.engine
    return ModelLabel(model.name, model.bundle, engine.name, engine.precision, model.max_batch_size)


class EngineRoom:
    """Super-resolves images; create and use it on one event loop.

    Attributes:
        steps: Steps before and after the engine; usable in any thread.
    """

    def __init__(self, model: LoadedModel, settings: Settings) -> None:
        """Start the batcher.

        Args:
            model: Model to run.
            settings: Limits and timeouts, as for the service.
        """
        self._settings = settings
        metrics = Metrics()
        alone = {"max_queue": _PLACES, "online_budget_ms": math.inf, "self_test_minutes": 0.0}
        # If its loop fails, the batcher rejects tiles and the scan ends.
        self._batcher = WorkingModel(
            model, settings.model_copy(update=alone), metrics, name=model.name
        ).batcher
        self._upscaler = Upscaler(
            self._batcher,
            model.bundle.manifest,
            metrics,
            model=model.name,
            tools=ToolLabels(settings.max_tools),
            places=Places(_PLACES, metrics),
            max_pixels=settings.max_pixels,
            answer_bits=settings.answer_bits,
        )
        self.steps = self._upscaler.steps

    async def infer(self, prepared: Prepared) -> Inferred:
        """Run one image; raises the same errors as `Upscaler.infer`."""
        with self._upscaler.hold(prepared.request.priority) as admission:
            return await self._upscaler.infer(prepared, admission)

    def observe_encode(self, seconds: float) -> None:
        """See `service.scans.group_work.Upscaling`."""
        self._upscaler.observe_encode(seconds)

    async def watch(self) -> None:
        """Check the engine periodically; raise an error when it hangs.

        Raises:
            ScanError: The engine hangs.
        """
        timeout_s = self._settings.engine_timeout_s
        while True:
            await asyncio.sleep(_WATCH_PERIOD_S)
            if self._batcher.oldest_batch_s() > timeout_s:
                break
        raise ScanError(f"the engine has worked on one batch for {timeout_s:g} s")

    async def close(self) -> None:
        """Stop the batcher, and wait for the batches in flight within the settings' time limit."""
        self._batcher.close()
        await self._batcher.join(self._settings.shutdown_timeout_s)
