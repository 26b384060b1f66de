"""`semsr bench engine`: every combination is measured, compared and, if it cannot run, named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bundle_format.bundle import Precision, load_bundle
from loadtests.alone import engines, untrained
from loadtests.alone.engine import EngineProcessError, EngineTurn, EngineTurns, engine_alone
from loadtests.alone.engines import bench_engines, format_engines
from loadtests.alone.untrained import write_peak_bundle
from semsr.cli import main

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"


def test_rows_hold_medians_shares_and_speed_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rounds each; the yardstick is ONNX Runtime in FP32 at its best batch."""
    speeds = {
        ("tiny_bundle", "onnx", "fp32"): iter([[10.0, 20.0], [30.0, 40.0], [20.0, 30.0]]),
        ("tiny_bundle", "openvino", "fp32"): iter([[60.0, 60.0]] * 3),
        ("peak", "onnx", "fp32"): iter([[1.0, 2.0]] * 3),
        ("peak", "openvino", "fp32"): iter([[4.0, 4.0]] * 3),
    }
    asked: list[float] = []

    def measured(bundle: Path, engine: str, seconds: float, **options: Any) -> list[EngineTurn]:
        assert options["batches"] == ((1, 4) if bundle.name == "peak" else (1, 2))
        asked.append(seconds)
        values = next(speeds[bundle.name, engine, options["precision"]])
        return [
            EngineTurn(batch, [1e3 * batch / value] * 3, core_ms=1e3 / value, peak_mib=value)
            for batch, value in zip(options["batches"], values, strict=True)
        ]

    monkeypatch.setattr(engines, "engine_alone", measured)
    rows = bench_engines([TINY_BUNDLE], engines=["onnx", "openvino"], batches=(1, 2), seconds=6.0)

    assert asked == [2.0] * 12
    gmac = load_bundle(TINY_BUNDLE).manifest.gmac
    assert [(row["engine"], row["batch"], row["tiles_per_s"]) for row in rows] == [
        ("onnx", 1, 20.0),
        ("onnx", 2, 30.0),
        ("openvino", 1, 60.0),
        ("openvino", 2, 60.0),
    ]
    assert [row["speed_up"] for row in rows] == pytest.approx([2 / 3, 1.0, 2.0, 2.0])
    assert rows[0]["peak_mib"] == 30.0
    assert rows[2]["gmac_per_s"] == pytest.approx(60 * gmac)
    # The peak is the heavy network's best batch, by the same engine.
    ratio = rows[1]["peak_share"] / rows[2]["peak_share"]
    assert ratio == pytest.approx((30 / 2) / (60 / 4))


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", (1, 2, 4, 8)), ("cuda", (1, 2, 4, 8, 12))]
)
def test_batches_reach_the_bundles_largest_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, expected: tuple[int, ...]
) -> None:
    """There, a full batch is what the service runs under load; the engines are the device's."""
    bundle = tmp_path / "bundle"
    shutil.copytree(TINY_BUNDLE, bundle)
    manifest = bundle / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"max_batch_size": 4', '"max_batch_size": 12'))
    asked: dict[str, tuple[int, ...]] = {}

    def measured(bundle: Path, engine: str, seconds: float, **options: Any) -> list[EngineTurn]:
        asked[engine] = options["batches"]
        return [EngineTurn(size, [1e3], core_ms=1.0) for size in options["batches"]]

    monkeypatch.setenv("SEMSR_DEVICE", device)
    monkeypatch.setattr(engines, "engine_alone", measured)
    bench_engines([bundle], seconds=1.0, with_peak=False)

    assert {expected} == set(asked.values())
    assert ("torch" in asked) == (device == "cuda")


def test_combination_that_cannot_run_is_a_row_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An engine that fails costs its own row, not the run."""

    def measured(bundle: Path, engine: str, seconds: float, **_: object) -> list[EngineTurn]:
        if engine == "openvino":
            raise EngineProcessError("EngineError: no such runtime")
        return [EngineTurn(1, [1e3], core_ms=1.0, peak_mib=1.0)]

    monkeypatch.setattr(engines, "engine_alone", measured)
    rows = bench_engines([TINY_BUNDLE], engines=["openvino", "onnx"], seconds=1.0, with_peak=False)

    assert rows[0]["problem"] == "EngineError: no such runtime"
    assert "tiles_per_s" not in rows[0]
    assert rows[1]["speed_up"] == 1.0
    assert "no such runtime" in format_engines(rows)


def test_the_papers_generator_is_the_other_yardstick(monkeypatch: pytest.MonkeyPatch) -> None:
    """At batch 1 through ONNX Runtime in FP32, in the same rounds."""

    def write_paper(path: Path) -> None:
        shutil.copytree(TINY_BUNDLE, path)
        manifest = path / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"name": "tiny"', '"name": "paper"'))

    speeds = {"tiny_bundle": 30.0, engines.PAPER: 0.5}
    asked: list[tuple[str, str, tuple[int, ...]]] = []

    def measured(bundle: Path, engine: str, seconds: float, **options: Any) -> list[EngineTurn]:
        asked.append((bundle.name, engine, options["batches"]))
        return [EngineTurn(1, [1e3 / speeds[bundle.name]], core_ms=1.0, peak_mib=1.0)]

    monkeypatch.setattr(engines, "engine_alone", measured)
    monkeypatch.setattr(untrained, "write_paper_bundle", write_paper)
    rows = bench_engines(
        [TINY_BUNDLE],
        engines=["openvino"],
        batches=(1,),
        seconds=1.0,
        with_peak=False,
        with_paper=True,
    )

    assert set(asked) == {("tiny_bundle", "openvino", (1,)), ("paper", "onnx", (1,))}
    assert [row["paper_speed_up"] for row in rows] == pytest.approx([60.0, 1.0])
    assert "60.0" in format_engines(rows).splitlines()[1]


def test_command_measures_a_real_engine_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of the tiny network through ONNX Runtime, as JSON and as a picture."""
    plot = tmp_path / "plots" / "engines.png"
    arguments = ["--bundle", str(TINY_BUNDLE), "--engine", "onnx", "--batch", "1", "2"]
    options = ["--seconds", "0.3", "--no-peak", "--plot", str(plot), "--json"]
    code = main(["bench", "engine", *arguments, *options])

    assert code == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["batch"] for row in rows] == [1, 2]
    assert all(row["tiles_per_s"] > 0 and row["peak_mib"] > 10 for row in rows)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": (16,)}, r"takes batches of 1 to 4, not \(16,\)"),
        ({"precisions": ["int8"]}, "has fp32, not int8"),
    ],
)
def test_nothing_to_measure_is_an_error(options: dict[str, Any], message: str) -> None:
    """Not an empty table."""
    with pytest.raises(ValueError, match=message):
        bench_engines([TINY_BUNDLE], seconds=1.0, with_peak=False, **options)


def test_engine_that_cannot_be_loaded_says_why() -> None:
    """The child's last words reach the caller."""
    with pytest.raises(EngineProcessError, match="no int8 graph"):
        engine_alone(TINY_BUNDLE, "onnx", 0.1, precision="int8")


def test_peak_bundle_is_heavy_and_runs(tmp_path: Path) -> None:
    """Over 20 GMAC a tile of 96 px, in FP32 and INT8, and through torch."""
    bundle = write_peak_bundle(tmp_path / "peak")

    assert bundle.manifest.gmac > 20
    assert set(bundle.manifest.graphs) == {"fp32", "bf16", "int8"}
    ways: list[tuple[str, Precision]] = [("onnx", "fp32"), ("onnx", "int8"), ("torch", "fp32")]
    for engine, precision in ways:
        [speed] = engine_alone(bundle.path, engine, 0.1, precision=precision, batches=(1,))
        assert speed.tiles_per_s > 0


def test_memory_is_that_of_the_measured_process() -> None:
    """A parent that holds 400 MB does not show in its child's peak."""
    ballast = bytearray(400 << 20)

    [speed] = engine_alone(TINY_BUNDLE, "identity", 0.05, batches=(1,))

    assert len(ballast) == 400 << 20
    assert 10 < speed.peak_mib < 350


def test_callers_of_an_engine_share_its_time() -> None:
    """Two callers make twice the calls; the rate counts both, from memory of either kind."""
    with EngineTurns(TINY_BUNDLE, "identity") as alone:
        plain = alone.run(3, batch=2, callers=2)
        registered = alone.run(3, batch=4, callers=2, registered=True)

    assert (plain.batch, plain.callers, len(plain.times_ms)) == (2, 2, 6)
    assert (registered.batch, registered.callers, len(registered.times_ms)) == (4, 2, 6)
    assert (plain + plain).callers == 2
    turn = EngineTurn(4, [10.0, 30.0], core_ms=1.0, callers=3)
    assert turn.tiles_per_s == pytest.approx(3 * 4 / 0.02)


def test_engine_is_compared_with_its_golden_tile() -> None:
    """The facts come before the first turn."""
    with EngineTurns(TINY_BUNDLE, "onnx", precision="fp32") as alone:
        facts = alone.facts

    assert (facts.engine, facts.precision, facts.slots) == ("onnx", "fp32", 1)
    assert facts.golden_levels is not None
    assert facts.golden_levels <= 1
    assert facts.golden_problem == ""


def test_engine_that_does_not_reply_is_an_error() -> None:
    """A hung runtime costs its own row, and its process is ended."""
    with pytest.raises(EngineProcessError, match=r"no reply of the engine.* within 0.01 s"):
        EngineTurns(TINY_BUNDLE, "onnx", time_limit_s=0.01)
