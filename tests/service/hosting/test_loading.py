"""What must be true of an engine before it may serve."""

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bundle_format.bundle import Bundle, Precision, load_bundle
from engines.auto import Choice
from engines.protocol import Engine, EngineError, EngineOptions
from service.hosting.loading import batch_limit, load_model, resolve_engine
from service.settings import Settings
from tests.fakes import FakeEngine

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"


def settings(**changes: object) -> Settings:
    """Settings for the tiny bundle."""
    return Settings(bundle=TINY_BUNDLE, **{"engine": "onnx", **changes})


def test_engine_that_fails_its_golden_tile_is_not_served() -> None:
    """Nearest neighbour is not what the network gives: the difference is refused at load."""

    def wrong(_name: str, _bundle: Bundle, _options: EngineOptions) -> Engine:
        return FakeEngine()

    with pytest.raises(EngineError, match="differs from the golden tile"):
        load_model(TINY_BUNDLE, settings(), wrong)


def test_engine_is_warm_up_to_its_largest_batch() -> None:
    """The first requests pay for no first allocation, and a large limit for few batches."""
    engine = FakeEngine()
    engine.name = "identity"
    model = load_model(
        TINY_BUNDLE, settings(engine="identity", max_batch_size=6), lambda *_: engine
    )
    # Twice each: the second run is what a batch of that size costs.
    assert [size for size, *_ in engine.batches] == [1, 1, 2, 2, 4, 4, 6, 6]
    assert sorted(model.batch_s) == [1, 2, 4, 6]
    assert all(seconds > 0 for seconds in model.batch_s.values())
    assert model.max_batch_size == 6
    assert model.name == "identity"


def test_largest_batch_is_the_bundles_own_unless_asked() -> None:
    """What the bundle was checked with is the default."""
    engine = FakeEngine()
    engine.name = "identity"
    model = load_model(TINY_BUNDLE, settings(engine="identity"), lambda *_: engine)
    assert model.max_batch_size == load_bundle(TINY_BUNDLE).manifest.max_batch_size == 4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 4),
        ({"max_batch_size": 16}, 16),
        ({"device": "cuda"}, 32),
        ({"device": "cuda:1", "max_batch_size": 8}, 8),
    ],
)
def test_large_batches_are_formed_on_a_gpu(changes: dict[str, object], expected: int) -> None:
    """On a CPU they would take longer and compute no more tiles a second."""
    bundle = load_bundle(TINY_BUNDLE)
    manifest = bundle.manifest.model_copy(update={"max_batch_size": 32})

    assert expected == batch_limit(replace(bundle, manifest=manifest), settings(**changes))


def test_precision_and_threads_come_from_the_settings() -> None:
    """A precision that the bundle lacks is refused before any runtime is loaded."""
    bundle = load_bundle(TINY_BUNDLE)
    name, options, speeds = resolve_engine(bundle, settings(threads=3))
    assert (name, options.precision, options.threads, speeds) == ("onnx", "fp32", 3, {})
    assert resolve_engine(bundle, settings(), name="openvino")[0] == "openvino"
    with pytest.raises(EngineError, match="has no int8 graph; it has fp32"):
        resolve_engine(bundle, settings(precision="int8"))


@pytest.mark.parametrize(
    ("speeds", "expected"), [({}, {}), ({"onnx fp32": 9.5}, {"tiles_per_s": {"onnx fp32": 9.5}})]
)
def test_the_choice_of_an_engine_names_speeds_if_any_were_measured(
    speeds: dict[str, float], expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is measured where one engine is installed or the choice is remembered."""
    engine = FakeEngine()
    engine.name = "identity"
    choice = Choice("onnx", "fp32", speeds)
    monkeypatch.setattr("service.hosting.loading.choose_engine", lambda *_, **__: choice)
    with capture_logs() as events:
        load_model(TINY_BUNDLE, settings(engine="auto"), lambda *_: engine)
    [chosen] = [event for event in events if event["event"] == "engine_chosen"]
    named = {key: chosen[key] for key in chosen.keys() - {"event", "log_level"}}
    assert {"engine": "onnx", "precision": "fp32", **expected} == named


@pytest.mark.parametrize(
    ("changes", "offered", "chosen"),
    [
        ({"engine": "auto"}, ["fp32", "bf16"], "bf16"),
        ({"engine": "auto", "precision": "fp32"}, ["fp32"], "fp32"),
        ({"engine": "openvino"}, None, "fp32"),
    ],
)
def test_precision_is_chosen_with_the_engine_unless_either_is_named(
    changes: dict[str, object],
    offered: list[str] | None,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only what passed the export's gates may be chosen: INT8 has a graph here and no parity."""
    bundle = load_bundle(TINY_BUNDLE)
    graphs = dict.fromkeys(("fp32", "bf16", "int8"), "model.onnx")
    parity = dict.fromkeys(("fp32", "bf16"), bundle.manifest.parity["fp32"])
    manifest = bundle.manifest.model_copy(update={"graphs": graphs, "parity": parity})
    asked: list[list[Precision]] = []

    def choose(*_: object, precisions: list[Precision], **__: object) -> Choice:
        asked.append(precisions)
        return Choice("openvino", precisions[-1], {})

    monkeypatch.setattr("service.hosting.loading.choose_engine", choose)

    name, options, _ = resolve_engine(replace(bundle, manifest=manifest), settings(**changes))

    assert ("openvino", chosen) == (name, options.precision)
    assert ([] if offered is None else [offered]) == asked
