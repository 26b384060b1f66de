"""How the tiles of a scan are read and written, and how many at once."""

from dataclasses import dataclass

from service.metadata import PixelSize
from service.scheduling.scheduler import Priority
from service.window import Window


@dataclass(frozen=True)
class ScanOptions:
    """How tiles are read and written.

    Attributes:
        scale: Upscaling factor of the model.
        tile_bytes: Bytes of a tile of the model's own size: one place.
        look_ahead: Places in all.
        cores: Tiles that are decoded or encoded at once.
        priority: Class of the tiles.
        window: Grey range of 16-bit input, or None for the bundle's.
        answer_dtype: uint8 or uint16.
        pixel_size: Of the input, where it does not say so itself, or None.
    """

    scale: int
    tile_bytes: int
    look_ahead: int
    cores: int
    priority: Priority = Priority.ONLINE
    window: Window | None = None
    answer_dtype: str = "uint8"
    pixel_size: PixelSize | None = None
