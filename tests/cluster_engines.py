"""Engines for the tests of scans over a cluster; its workers import them from here."""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Bundle
from engines.identity_engine import IdentityEngine
from engines.protocol import EngineError, EngineOptions, Tile
from service.scans.group_work import GroupWork, Loaded
from service.scans.rows import Outcome, PendingTile
from tests.scans import SCALE

# Where `NotingEngine` notes what it computes; read on the workers. `{host}` is the machine's name.
LOG = "CLUSTER_ENGINES_LOG"
POISON = 37


class NotingEngine(IdentityEngine):
    """The identity engine, slower, with a diary that all workers share."""

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Note the tiles, then enlarge them; warm-up batches are black."""
        numbers = [256 * int(tile[0, 0]) + int(tile[0, 1]) for tile in lr if tile.any()]
        path = os.environ[LOG].replace("{host}", socket.gethostname())
        with Path(path).open("a") as log:
            log.write("".join(f"{number}\n" for number in numbers))
        time.sleep(0.01 * len(numbers))
        return super().run(lr, sr)


class PoisonedEngine(IdentityEngine):
    """The identity engine; one tile ends its process."""

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Enlarge the tiles, or crash."""
        if any((tile[0, 0], tile[0, 1]) == (0, POISON) for tile in lr if tile.any()):
            os._exit(1)
        return super().run(lr, sr)


def load_noting(name: str, bundle: Bundle, options: EngineOptions) -> NotingEngine:
    """Load an engine, see `engines.registry.load_engine`."""
    del name, bundle, options
    return NotingEngine(scale=SCALE)


def load_poisoned(name: str, bundle: Bundle, options: EngineOptions) -> PoisonedEngine:
    """Load an engine, see `engines.registry.load_engine`."""
    del name, bundle, options
    return PoisonedEngine(scale=SCALE)


def load_faulty(name: str, bundle: Bundle, options: EngineOptions) -> IdentityEngine:
    """Load an engine into a worker whose code has a fault that one tile shows."""
    del name, bundle, options
    load = GroupWork.load

    def faulty(self: GroupWork, tiles: Sequence[PendingTile]) -> list[Loaded | Outcome]:
        if any(tile.position == POISON for tile in tiles):
            raise KeyError("a fault of the code")
        return load(self, tiles)

    GroupWork.load = faulty
    return IdentityEngine(scale=SCALE)


def load_once(name: str, bundle: Bundle, options: EngineOptions) -> IdentityEngine:
    """Load an engine for the first worker and for none after it."""
    del name, bundle, options
    log = Path(os.environ[LOG])
    if log.exists():
        raise EngineError("there is one licence")
    log.touch()
    return IdentityEngine(scale=SCALE)
