"""The model that a scan runs on: what it is pinned to, and the way of its tiles there."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from service.errors import NotReady, UnknownModel
from service.lifecycle import Lifecycle
from service.request import TileRequest
from service.scans.errors import ScanError
from service.scans.preparation import EngineLabel, LabelledModel
from service.scans.scan import Upscale
from service.serving import Serving
from service.settings import Settings
from service.upscaler import Answer

# An engine process that has died is there again after seconds.
ENGINE_AGAIN_S = 0.5


def served_model(serving: Serving, settings: Settings) -> LabelledModel:
    """Say what a model is as it is served now."""
    return LabelledModel(
        name=serving.name,
        bundle=serving.bundle,
        engine=EngineLabel(serving.engine, serving.precision),
        max_batch_size=settings.max_batch_size or serving.bundle.manifest.max_batch_size,
    )


def upscale_by(
    model: LabelledModel,
    lifecycle: Lifecycle,
    threads: Executor,
    *,
    is_stopped: Callable[[], bool],
) -> Upscale:
    """Return what super-resolves through what serves requests, whichever process that is by then.

    Args:
        model: What the scan is pinned to.
        lifecycle: Knows the models.
        threads: For the codecs of its images alone.
        is_stopped: Whether an engine that is not there is still to be waited for.
    """

    async def upscale(body: bytes, request: TileRequest) -> Answer:
        while True:
            try:
                serving = lifecycle.find_model(model.name)
                if serving.bundle.digest != model.bundle.digest:
                    raise ScanError(f"the model {model.name} was replaced by another one")
                upscaler = serving.upscaler.beside(threads)
                with upscaler.admit(priority=request.priority) as admission:
                    return await upscaler.upscale(body, request, admission)
            except UnknownModel as error:
                raise ScanError(f"the model {model.name} is served no longer") from error
            except NotReady:
                if lifecycle.has_failed or is_stopped():
                    raise
            await asyncio.sleep(ENGINE_AGAIN_S)

    return upscale
