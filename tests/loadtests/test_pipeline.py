"""The model of the pipeline on a GPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.alone.pipeline import COLUMNS, PLACE, main, p99_in_batches, predict, rows
from loadtests.alone.pipeline_inputs import (
    BUSY_CARD,
    NETWORK_ALONE,
    ONE_CALL,
    TWO_CALLS,
    Inputs,
    without_copies,
)
from loadtests.results import markdown_table

PAGE = Path(__file__).parents[2] / "docs" / "measurements" / "gpu.md"
# A call of 10 tiles takes 4 ms: 2 ms on the card, 1 ms each for call and tiles.
SIMPLE = Inputs(
    card_s={10: 2e-3, 20: 4e-3},
    call_s=1e-3,
    copy_s=0.06e-3,
    transfer_s=0.04e-3,
    front_end_s=1e-3,
    engine_host_s=0.1e-3,
)


@pytest.mark.parametrize(
    ("calls", "front_ends", "cores", "engine", "http", "bound", "busy"),
    [
        (1, 8, 16, 2500, 2500, "engine", 0.5),
        (2, 8, 16, 5000, 5000, "engine", 1.0),
        # The card is the limit of any number of calls.
        (3, 8, 16, 5000, 5000, "engine", 1.0),
        (2, 4, 16, 5000, 4000, "front ends", 0.8),
        # Two cores are the engine process's.
        (2, 8, 5, 5000, 3000, "front ends", 0.6),
    ],
)
def test_the_smallest_limit_bounds_the_service(
    calls: int, front_ends: int, cores: int, engine: float, http: float, bound: str, busy: float
) -> None:
    """Card, calls, front ends, and cores."""
    prediction = predict(SIMPLE, batch=10, calls=calls, front_ends=front_ends, cores=cores)
    assert prediction.engine == pytest.approx(engine)
    assert (prediction.http, prediction.bound) == (pytest.approx(http), bound)
    assert prediction.busy == pytest.approx(busy)


def test_the_engine_process_s_own_work_is_a_limit() -> None:
    """Its event loop has one core."""
    inputs = replace(SIMPLE, engine_host_s=0.4e-3)
    prediction = predict(inputs, batch=10, calls=2, front_ends=8, cores=16)
    assert (prediction.http, prediction.bound) == (pytest.approx(2000), "engine process")
    shared = predict(inputs, batch=10, calls=1, processes=2, front_ends=8, cores=16)
    assert (shared.engine, shared.engine_process) == (pytest.approx(5000), pytest.approx(4000))


def test_times_are_linear_between_known_sizes_and_unknown_beyond() -> None:
    """Nothing is extrapolated."""
    assert SIMPLE.card_of(15) == pytest.approx(3e-3)
    with pytest.raises(ValueError, match="batch is 21 tiles; expected 10 to 20, as measured"):
        SIMPLE.card_of(21)


@pytest.mark.parametrize("inputs", [BUSY_CARD, NETWORK_ALONE])
def test_model_explains_the_calls_that_were_measured(inputs: Inputs) -> None:
    """Also at the sizes from which its parts were not taken."""
    for batch, measured in ONE_CALL.items():
        if batch >= min(inputs.card_s):
            assert batch / inputs.call_of(batch) == pytest.approx(measured, rel=0.02)


def test_two_calls_keep_the_card_busy_or_the_model_says_more() -> None:
    """The two readings of the measurements bracket it."""
    for batch, measured in TWO_CALLS.items():
        low, high = (
            predict(inputs, batch=batch, calls=2, front_ends=8, cores=16).engine
            for inputs in (BUSY_CARD, NETWORK_ALONE)
        )
        assert low == pytest.approx(measured)
        assert high > 1.2 * measured


def test_latency_at_a_load_is_in_full_batches() -> None:
    """A load of next to nothing has single tiles, and more load takes longer."""
    inputs = without_copies(NETWORK_ALONE)
    idle, loaded = (p99_in_batches(inputs, batch=8, calls=1, share=s) for s in (0.02, 0.9))
    assert inputs.call_of(1) / inputs.call_of(8) < idle < 1 < loaded


def test_page_has_the_table_that_the_model_computes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No figure of it is entered by hand; the command writes it."""
    text = PAGE.read_text(encoding="utf-8")
    assert markdown_table(COLUMNS, rows(front_ends=8, cores=16)) in text
    page = tmp_path / "page.md"
    page.write_text(f"<!-- begin: {PLACE} -->\n<!-- end: {PLACE} -->\n")
    assert main(["--page", str(page)]) == 0
    assert page.read_text().count("\n") == 18 + 4
    assert "busy card, no copies" in capsys.readouterr().out
