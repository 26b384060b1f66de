"""The model that a scan runs on: what it is pinned to, and the way of its tiles there."""

import asyncio
from collections.abc import Callable

from service.batching.upscaler import Upscaler
from service.ground.errors import NotReady, UnknownModel
from service.hosting.lifecycle import Lifecycle
from service.hosting.serving import Serving
from service.images.image_steps import ImageSteps, Inferred, Prepared
from service.scans.errors import ScanError
from service.scans.options import ModelLabel
from service.settings import Settings

# An engine process that has died is there again after seconds.
ENGINE_AGAIN_S = 0.5


def served_model(serving: Serving, settings: Settings) -> ModelLabel:
    """Say what a model is as it is served now."""
    return ModelLabel(
        name=serving.name,
        bundle=serving.bundle,
        engine=serving.engine,
        precision=serving.precision,
        max_batch_size=settings.max_batch_size or serving.bundle.manifest.max_batch_size,
    )


class ServedModel:
    """Super-resolves through what serves requests, whichever process that is by then.

    Attributes:
        steps: Before and after the engine.
    """

    def __init__(
        self,
        model: ModelLabel,
        lifecycle: Lifecycle,
        settings: Settings,
        *,
        is_stopped: Callable[[], bool],
    ) -> None:
        """Prepare.

        Args:
            model: What the scan is pinned to.
            lifecycle: Knows the models.
            settings: The service's.
            is_stopped: Whether an engine that is not there is still to be waited for.
        """
        self.steps = ImageSteps(model.bundle.manifest, max_pixels=settings.max_pixels)
        self._model = model
        self._lifecycle = lifecycle
        self._is_stopped = is_stopped
        self._upscaler: Upscaler | None = None

    async def infer(self, prepared: Prepared) -> Inferred:
        """See `service.scans.group_work.Upscaling`.

        Raises:
            ScanError: The model is not served any more.
        """
        name = self._model.name
        while True:
            try:
                serving = self._lifecycle.find_model(name)
                if serving.bundle.digest != self._model.bundle.digest:
                    raise ScanError(f"the model {name} was replaced by another one")
                self._upscaler = serving.upscaler
                with self._upscaler.hold(prepared.request.priority) as admission:
                    return await self._upscaler.infer(prepared, admission)
            except UnknownModel as error:
                raise ScanError(f"the model {name} is served no longer") from error
            except NotReady:
                if self._lifecycle.has_failed or self._is_stopped():
                    raise
            await asyncio.sleep(ENGINE_AGAIN_S)

    def observe_encode(self, seconds: float) -> None:
        """See `service.scans.group_work.Upscaling`."""
        if self._upscaler is not None:
            self._upscaler.observe_encode(seconds)
