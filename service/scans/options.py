"""The request, the model and the options of a scan."""

import math
from dataclasses import dataclass, field
from typing import Literal

from bundle_format.bundle import Bundle
from service.ground.priority import Priority
from service.images.metadata import PixelSize
from service.images.window import Window
from service.scans.extras import is_installed
from service.scans.name_pattern import NamePattern

STACK_SUFFIXES = (".zarr", ".h5", ".hdf5", ".tif", ".tiff")


def default_form() -> Literal["parquet", "csv"]:
    """Return the default form of the manifest: Parquet, or CSV without pyarrow."""
    return "parquet" if is_installed("pyarrow") else "csv"


@dataclass(frozen=True)
class ModelLabel:
    """The model of a scan, in this process or elsewhere.

    Attributes:
        name: Model name, for the manifest.
        bundle: The verified bundle.
        engine: Name of the engine that computes.
        precision: Execution precision.
        max_batch_size: Largest batch.
    """

    name: str
    bundle: Bundle
    engine: str
    precision: str
    max_batch_size: int


@dataclass(frozen=True)
class ScanRequest:
    """The request of a scan.

    Attributes:
        source: Path or URL, see `opening.open_source`.
        sink: Path or URL of a folder, or of a stack (`STACK_SUFFIXES`).
        window: Grey range of 16-bit input, or None for the bundle's.
        answer_dtype: Data type of the answers, uint8 or uint16.
        answer_bits: Bits of the answers, 8 or 16; 16 needs uint16.
        answer_type: Media type of output files, or None for each tile's own.
        pixel_size: Pixel size of inputs that do not state one, or None.
        manifest: `parquet` or `csv`; by default Parquet where pyarrow is installed.
        patience_s: Seconds for which failing requests to an object store are retried.
        name_pattern: Pattern of names with lot, wafer, die or tool (`NamePattern`), or None.
    """

    source: str
    sink: str
    window: Window | None = None
    answer_dtype: str = "uint8"
    answer_bits: int = 8
    answer_type: str | None = None
    pixel_size: PixelSize | None = None
    manifest: str = field(default_factory=default_form)
    patience_s: float = 60.0
    name_pattern: str | None = None

    @property
    def is_stack(self) -> bool:
        """Whether the tiles go into one stack."""
        return self.sink.rstrip("/").lower().endswith(STACK_SUFFIXES)


@dataclass(frozen=True)
class ScanOptions:
    """How tiles are read and written.

    Attributes:
        scale: Upscaling factor of the model.
        tile_bytes: Bytes of a tile of the model's own size: one place.
        look_ahead: Total number of places.
        cores: Number of tiles that are decoded or encoded at once.
        priority: Class of the tiles.
        window: Grey range of 16-bit input, or None for the bundle's.
        answer_dtype: Data type of the answers, uint8 or uint16.
        answer_bits: Bits of the answers, 8 or 16.
        pixel_size: Pixel size of inputs that do not state one, or None.
        names: Pattern of names with facts, or None.
    """

    scale: int
    tile_bytes: int
    look_ahead: int
    cores: int
    priority: Priority = Priority.ONLINE
    window: Window | None = None
    answer_dtype: str = "uint8"
    answer_bits: int = 8
    pixel_size: PixelSize | None = None
    names: NamePattern | None = None

    @classmethod
    def of(
        cls,
        request: ScanRequest,
        model: ModelLabel,
        *,
        engine_slots: int,
        cores: int,
        io_at_once: int,
        priority: Priority = Priority.ONLINE,
        max_places: float = math.inf,
    ) -> "ScanOptions":
        """Choose the options of a scan.

        Args:
            request: Source, sink and how tiles are read and written.
            model: The model that runs.
            engine_slots: Batches that its engines compute at once.
            cores: Cores for decoding and encoding.
            io_at_once: Parallel transfers of the source or the sink, whichever has more.
            priority: Class of the tiles; by default the one that may use every slot.
            max_places: Maximum look-ahead.
        """
        height, width = model.bundle.manifest.tile
        # Every tile in a transfer, and twice as many as engine and codecs work on.
        look_ahead = 2 * (model.max_batch_size * engine_slots + cores) + 2 * io_at_once
        return cls(
            scale=model.bundle.manifest.scale,
            tile_bytes=height * width,
            look_ahead=int(min(max_places, look_ahead)),
            cores=cores,
            priority=priority,
            window=request.window,
            answer_dtype=request.answer_dtype,
            answer_bits=request.answer_bits,
            pixel_size=request.pixel_size,
            names=None if request.name_pattern is None else NamePattern(request.name_pattern),
        )
