"""Answers land in the caller's own memory, and a single tile's answer is not held twice."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bundle_format.bundle import load_bundle
from engines.batches import run_batch
from engines.protocol import Engine, EngineOptions
from engines.registry import ENGINES, load_engine

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"
ON_CPU = [name for name, spec in ENGINES.items() if "cpu" in spec.precisions]
# torch computes into memory of its own, and its answers are copied once.
OUTPUTS_IN_PLACE = ["identity", "onnx", "openvino"]
GUARD_BYTES = 64
SIDE_PX = 120


@pytest.fixture(scope="module", params=ON_CPU)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine of the CPU whose runtime is installed."""
    for module in ENGINES[request.param].modules:
        pytest.importorskip(module)
    options = EngineOptions(precision="fp32", threads=1)
    return load_engine(request.param, load_bundle(TINY_BUNDLE), options)


def tiles(count: int) -> list[np.ndarray]:
    """Random tiles."""
    rng = np.random.default_rng(count)
    return list(rng.integers(0, 256, (count, SIDE_PX, SIDE_PX), dtype=np.uint8))


@pytest.mark.parametrize("count", [1, 3])
def test_answers_land_in_views_of_the_callers_buffer(engine: Engine, count: int) -> None:
    """In any order, with other data between, as slots of a pool have them."""
    lr, side = tiles(count), engine.scale * SIDE_PX
    expected = run_batch(engine, np.stack(lr)[:, None]).sr
    pitch = side * side + GUARD_BYTES
    buffer = np.full(count * pitch + GUARD_BYTES, 77, dtype=np.uint8)
    slots = [buffer[GUARD_BYTES + place * pitch :][: side * side] for place in range(count)]
    sr = [slot.reshape(side, side) for slot in reversed(slots)]

    engine.run(lr, sr)

    for answer, slot in zip(expected, reversed(slots), strict=True):
        np.testing.assert_array_equal(answer.ravel(), slot)
    for place in range(count + 1):
        assert (buffer[place * pitch :][:GUARD_BYTES] == 77).all()


@pytest.mark.parametrize("engine", OUTPUTS_IN_PLACE, indirect=True)
def test_a_single_answer_is_not_held_twice(engine: Engine) -> None:
    """The runtime fills the caller's memory: Python allocates less than one answer meanwhile."""
    lr, side = tiles(1), engine.scale * SIDE_PX
    sr = [np.empty((side, side), dtype=np.uint8)]
    engine.run(lr, sr)
    tracemalloc.start()
    try:
        engine.run(lr, sr)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < sr[0].nbytes


def test_a_second_array_would_be_noticed(engine: Engine) -> None:
    """The measure sees the memory of NumPy arrays: `run_batch` allocates the answer."""
    lr = np.stack(tiles(1))[:, None]
    tracemalloc.start()
    try:
        answers = run_batch(engine, lr).sr
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes >= answers.nbytes
