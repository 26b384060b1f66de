"""The baseline of a measurement is the engine that the service chose, in the same precision."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundle_format.bundle import Precision
from loadtests import model_turns
from loadtests.alone.engine import EngineTurn
from loadtests.model_turns import compare_with_engine
from loadtests.scenarios import low_load, overload
from loadtests.target import EngineChoice, chosen_engine

BUNDLES = Path(__file__).parents[2] / "bundles"
CHOSEN = EngineChoice("openvino", "int8")


class StopError(Exception):
    """The baseline has been started: the test has seen what it wanted."""


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_choice_names_the_precision_of_the_service(precision: Precision) -> None:
    """A running service reports it, and not the bundle's own."""
    settings = {"SEMSR_ENGINE": "onnx", "SEMSR_PRECISION": precision, "SEMSR_MODE": "single"}

    assert ("onnx", precision) == chosen_engine(BUNDLES / "fast", settings)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Precision | None]]:
    """The engines and precisions of baselines; the first one ends the measurement."""
    asked: list[tuple[str, Precision | None]] = []

    @contextlib.contextmanager
    def running_service(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(engine=lambda: CHOSEN)

    def baseline(
        _bundle: Path, engine: str, *_: object, precision: Precision | None = None, **__: object
    ) -> list[EngineTurn]:
        asked.append((engine, precision))
        raise StopError

    for module, name in ((model_turns, "EngineTurns"), (low_load, "EngineTurns")):
        monkeypatch.setattr(module, "running_service", running_service)
        monkeypatch.setattr(module, name, baseline)
    monkeypatch.setattr(low_load, "_Client", lambda _: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(overload, "engine_alone", baseline)
    return asked


def test_semsr_bench_compares_in_that_precision(asked: list[Any]) -> None:
    """The engine alone would else compute in the bundle's own, at another speed."""
    load: Any = SimpleNamespace(bundle=SimpleNamespace(path=BUNDLES / "fast"))
    with pytest.raises(StopError):
        compare_with_engine(load, 2, lambda: None)

    assert [CHOSEN] == asked


def test_the_load_tests_compare_in_that_precision(asked: list[Any]) -> None:
    """The same in the scenarios that time the engine alone."""
    with pytest.raises(StopError):
        low_load._measure(BUNDLES / "fast", "single", {}, turns=1)
    with pytest.raises(StopError):
        overload._full_batch_ms(BUNDLES / "fast", CHOSEN)

    assert [CHOSEN, CHOSEN] == asked
