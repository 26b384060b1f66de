"""A served model, and the resources that all models of one process share."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bundle_format.bundle import Bundle, Precision
from engines import sixteen_bit
from engines.cpu import available_cpus
from service.batching.admission import Places
from service.batching.tile_runner import TileRunner
from service.batching.upscaler import Upscaler
from service.ground.metrics import Metrics
from service.ground.tools import ToolLabels
from service.settings import Settings


@dataclass(frozen=True, eq=False)
class Serving:
    """One served model.

    Attributes:
        name: Name in answers, metrics and addresses.
        bundle: The verified bundle.
        engine: Name of the engine that runs it.
        precision: Its execution precision.
        runner: Runner of its tiles.
        upscaler: Steps from request bodies to answers.
        headers: Headers that name model, version, engine and precision in every answer.
    """

    name: str
    bundle: Bundle
    engine: str
    precision: Precision
    runner: TileRunner
    upscaler: Upscaler
    headers: list[tuple[bytes, bytes]]

    @property
    def headers_16_bit(self) -> list[tuple[bytes, bytes]]:
        """Headers of answers in 16 bits, which another runtime and precision may compute."""
        own = {
            b"x-engine": sixteen_bit.ENGINE.encode(),
            b"x-precision": sixteen_bit.PRECISION.encode(),
        }
        headers = [(name, own.get(name, value)) for name, value in self.headers]
        return [*headers, (b"x-answer-bits", b"16")]

    @property
    def info_labels(self) -> tuple[str, str, str, str, str]:
        """Labels of `semsr_model_info`."""
        bundle = self.bundle
        return self.name, bundle.version, self.engine, self.precision, bundle.digest

    @property
    def version_number(self) -> str:
        """The version as a decimal number, the only form that Triton's clients read."""
        return str(int(self.bundle.version, 16))

    def has_version(self, asked: str | None) -> bool:
        """Whether this version answers a request: it names the version in either form, or none."""
        return asked is None or asked in {self.bundle.version, self.version_number}


class ServingFactory:
    """Makes servings that share the process's places and codec threads."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._places = Places(settings.max_queue, metrics)
        self._tools = ToolLabels(settings.max_tools)
        self._codec_threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="codec")

    def make(
        self, name: str, bundle: Bundle, *, engine: str, precision: Precision, runner: TileRunner
    ) -> Serving:
        """Put a model's parts together; see `Serving`."""
        upscaler = Upscaler(
            runner,
            bundle.manifest,
            self._metrics,
            model=name,
            tools=self._tools,
            places=self._places,
            codec_threads=self._codec_threads,
            max_pixels=self._settings.max_pixels,
            answer_bits=self._settings.answer_bits,
        )
        headers = [
            (b"x-model", name.encode()),
            (b"x-model-version", bundle.version.encode()),
            (b"x-scale", str(bundle.manifest.scale).encode()),
            (b"x-engine", engine.encode()),
            (b"x-precision", precision.encode()),
        ]
        return Serving(name, bundle, engine, precision, runner, upscaler, headers)

    def close(self) -> None:
        """End the codec threads without waiting for them."""
        self._codec_threads.shutdown(wait=False, cancel_futures=True)
