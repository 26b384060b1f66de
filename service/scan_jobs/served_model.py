"""The served model that a scan runs on: its label, and the upscaler for its tiles."""

import asyncio
from collections.abc import Callable

from engines import sixteen_bit
from service.batching.upscaler import Upscaler
from service.ground.errors import NotReady, UnknownModel
from service.hosting.lifecycle import Lifecycle
from service.hosting.loading import batch_limit
from service.hosting.serving import Serving
from service.images.image_steps import ImageSteps, Inferred, Prepared
from service.scans.errors import ScanError
from service.scans.options import ModelLabel
from service.settings import Settings

# Interval of retries; an engine process that has died is restarted within seconds.
ENGINE_AGAIN_S = 0.5


def served_model(serving: Serving, settings: Settings, *, answer_bits: int) -> ModelLabel:
    """Return the label of a model as it is served now, with the engine of the scan's answers.

    Args:
        serving: The served model.
        settings: The service's settings.
        answer_bits: Bits of the scan's answers.

    Raises:
        ScanError: The service answers in 8 bits alone: it is another machine than the one that
            accepted the scan, or was started again with other settings.
    """
    if answer_bits > settings.answer_bits:
        raise ScanError(
            f"options.answer_bits is {answer_bits} and this machine answers in "
            f"{settings.answer_bits} bits; an operator sets SEMSR_ANSWER_BITS=16"
        )
    is_fine = answer_bits == 16
    return ModelLabel(
        name=serving.name,
        bundle=serving.bundle,
        engine=sixteen_bit.ENGINE if is_fine else serving.engine,
        precision=sixteen_bit.PRECISION if is_fine else serving.precision,
        max_batch_size=batch_limit(serving.bundle, settings),
    )


class ServedModel:
    """Super-resolves with the upscaler that serves requests; waits for a restarted engine.

    Attributes:
        steps: Steps before and after the engine.
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
            model: Model that the scan is pinned to.
            lifecycle: The service's models.
            settings: The service's settings.
            is_stopped: Function that returns whether to stop waiting for an engine.
        """
        self.steps = ImageSteps(
            model.bundle.manifest, max_pixels=settings.max_pixels, answer_bits=settings.answer_bits
        )
        self._model = model
        self._lifecycle = lifecycle
        self._is_stopped = is_stopped
        self._upscaler: Upscaler | None = None

    async def infer(self, prepared: Prepared) -> Inferred:
        """See `service.scans.group_work.Upscaling`.

        Raises:
            ScanError: The model is no longer served.
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
