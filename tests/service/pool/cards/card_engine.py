"""Cards that are files: an engine that computes on one holds its lock for the card's time.

The folder in CARDS has one file for each card, `cuda:0`, `cuda:1`, and so on, with the seconds of a
tile. Files next to it change the card while processes use it: `cuda:0.raises` lets every call fail,
and `cuda:0.gone` lets no engine load. `cuda:0.tiles` counts tiles, one byte each.
"""

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Bundle
from engines.identity_engine import IdentityEngine
from engines.protocol import EngineError, EngineOptions, Tile

CARDS = Path(os.environ.get("CARDS", "."))


def card_name(device: str) -> str:
    """Name of a card, as `engines.cuda.gpu_name`; "" where none is."""
    return f"card {device}" if (CARDS / device).exists() else ""


class CardEngine(IdentityEngine):
    """Enlarges tiles; a batch needs the card alone for its time."""

    def __init__(self, device: str, *, scale: int) -> None:
        super().__init__(scale=scale)
        self.device = device
        # A file description of its own: locks of one process exclude those of another.
        self._lock = (CARDS / device).open("r")
        self._per_tile_s = float(self._lock.read())
        self._check("raises")

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Use the card."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._check("raises")
            time.sleep(len(lr) * self._per_tile_s)
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        flags = super().run(lr, sr)
        with (CARDS / f"{self.device}.tiles").open("ab") as tiles:
            tiles.write(bytes(len(lr)))
        return flags

    def _check(self, fault: str) -> None:
        if (CARDS / f"{self.device}.{fault}").exists():
            raise EngineError(f"the card {self.device} is at fault")


def load_card(bundle: Bundle, options: EngineOptions) -> CardEngine:
    """Make the engine of a card; see `engines.registry`."""
    if (CARDS / f"{options.device}.gone").exists() or not card_name(options.device):
        raise EngineError(f"the card {options.device} does not exist")
    return CardEngine(options.device, scale=bundle.manifest.scale)
