"""Nearest-neighbour enlargement: the engine that measures the service itself."""

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import FLAGS, Bundle, Precision
from engines.protocol import EngineOptions, Tile

# Multiplying a byte by these repeats it in every byte of the wider word: one vectorised pass
# instead of a strided copy of single bytes (about ten times faster for a 240x240 tile).
_REPEAT_FACTORS: dict[int, tuple[type[np.unsignedinteger], int]] = {
    2: (np.uint16, 0x0101),
    4: (np.uint32, 0x01010101),
    8: (np.uint64, 0x0101010101010101),
}


_FLAWLESS = np.array([[float(name.startswith("consistency")) for name in FLAGS]], dtype=np.float32)


class IdentityEngine:
    """Repeats every pixel `scale` times along both axes."""

    name = "identity"
    slots = 1

    def __init__(self, *, scale: int, precision: Precision = "fp32") -> None:
        self.scale = scale
        self.precision: Precision = precision

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Enlarge the tiles; the flags report no problem."""
        scale = self.scale
        for tile, answer in zip(lr, sr, strict=True):
            height, width = tile.shape
            wide = _repeat_columns(tile, scale)
            answer.reshape(height, scale, scale * width)[...] = wide[:, None]
        return np.tile(_FLAWLESS, (len(lr), 1))

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Do nothing: the engine computes in the memory of the host."""

    def close(self) -> None:
        """Do nothing: the engine holds no resources."""


def load_identity(bundle: Bundle, options: EngineOptions) -> IdentityEngine:
    """Make the engine for a bundle, of which it uses only the scale."""
    return IdentityEngine(scale=bundle.manifest.scale, precision=options.precision)


def _repeat_columns(lr: Tile, scale: int) -> Tile:
    factor = _REPEAT_FACTORS.get(scale)
    if factor is None or sys.byteorder != "little":
        return np.repeat(lr, scale, axis=1)
    dtype, repeat = factor
    return np.multiply(lr, dtype(repeat), dtype=dtype).view(np.uint8)
