"""The speed of an engine: measured as the service runs it, on a CPU and on a GPU."""

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bundle_format.bundle import Bundle, load_bundle
from engines import measurement
from engines.batches import known_tiles
from engines.measurement import measure
from engines.protocol import EngineOptions, Tile
from tests.fakes import FakeEngine

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"


class PairEngine(FakeEngine):
    """An engine that goes on only when as many batches as it has slots are in flight."""

    def __init__(self, *, slots: int) -> None:
        super().__init__(slots=slots)
        self._together = threading.Barrier(slots)
        self._counts: dict[tuple[int, int], int] = {}
        self.is_registered: list[bool] = []

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Meet the other callers in the first two calls of each batch size."""
        key = (threading.get_ident(), len(lr))
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] <= 2:
            self._together.wait(30)
        self.is_registered.append(
            all(any(np.shares_memory(tile, m) for m in self.registered) for tile in (*lr, *sr))
        )
        return super().run(lr, sr)


@pytest.fixture
def bundle() -> Bundle:
    """A real bundle; its largest batch is 4."""
    return load_bundle(TINY_BUNDLE)


@pytest.mark.parametrize(
    ("device", "slots", "sizes", "pieces"),
    [("cpu", 1, {1}, 1), ("cuda", 1, {1, 2, 4}, 3), ("cuda:1", 2, {1, 2, 4}, 6)],
)
def test_an_engine_is_measured_as_the_service_runs_it(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    slots: int,
    sizes: set[int],
    pieces: int,
) -> None:
    """On a GPU in every batch size, with a batch in flight for each slot, in registered memory."""
    engine = PairEngine(slots=slots)
    monkeypatch.setattr(measurement, "load_engine", lambda *_: engine)
    monkeypatch.setattr(measurement, "verify_golden", lambda *_: 0)
    monkeypatch.setattr(measurement, "MEASURE_SECONDS", 0.0)

    assert measure("fake", bundle, EngineOptions("fp32", threads=1, device=device)) > 0
    assert sizes == {count for count, _, _ in engine.batches}
    assert all(engine.is_registered)
    assert len(engine.registered) == pieces


def test_registered_memory_is_whole_pages() -> None:
    """Tiles and answers lie in it one after the other, each contiguous."""
    engine = FakeEngine(scale=4)
    lr, sr = known_tiles(engine, 3, (24, 20))
    [memory] = engine.registered
    assert memory.nbytes % 4096 == 0
    assert [(24, 20)] * 3 == [tile.shape for tile in lr]
    assert [(96, 80)] * 3 == [tile.shape for tile in sr]
    addresses = [tile.ctypes.data for tile in (*lr, *sr)]
    sizes = [tile.nbytes for tile in (*lr, *sr)]
    assert [b - a for a, b in itertools.pairwise(addresses)] == sizes[:-1]
    assert memory.ctypes.data == addresses[0]
    assert addresses[-1] + sizes[-1] <= memory.ctypes.data + memory.nbytes
