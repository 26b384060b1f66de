"""Several engine processes on a simulated clock: shares, faults, returns, and one shared card."""

import json
from collections import Counter
from typing import Any

import pytest

from loadtests.alone.card_simulation import simulate_cards
from loadtests.alone.cards import CardLoad, CardOutcome, Fault
from semsr.cli import main

# Batches gain a fifth from size 4 on.
COSTS = {1: 1e-3, 2: 1.8e-3, 4: 3.4e-3, 8: 6.7e-3}


def outcome(**load: Any) -> CardOutcome:
    """Result of a short load."""
    settings = {"speeds": [2.0, 1.0, 1.0], "share": 0.9, "seconds": 1.0, "budget_s": 0.1, **load}
    return simulate_cards(COSTS, CardLoad(**settings))


@pytest.mark.parametrize("speeds", [[2.0, 1.0, 1.0], [1.0, 1.0, 2.0], [4.0, 2.0, 2.0]])
@pytest.mark.parametrize(("share", "idle_share"), [(0.9, 0.05), (1.3, 0.005)])
def test_each_card_gets_tiles_by_its_speed(
    speeds: list[float], share: float, idle_share: float
) -> None:
    """In any order, and hardly ever has a card nothing to do while tiles wait for another."""
    result = outcome(speeds=speeds, share=share)
    for tiles, speed in zip(result.tiles, speeds, strict=True):
        assert tiles / sum(result.tiles) == pytest.approx(speed / sum(speeds), rel=0.12)
    assert result.idle_share < idle_share
    assert min(result.busy) > 0.95
    assert result.failed == 0


def test_a_single_tile_at_a_time_goes_to_the_fastest_card() -> None:
    """Although every card is idle."""
    result = outcome(speeds=[1.0, 1.0, 4.0], share=0.03)
    assert result.tiles[2] > 0.8 * sum(result.tiles)


@pytest.mark.parametrize("is_raising", [False, True])
def test_a_card_that_fails_loses_no_tile_and_returns(is_raising: bool) -> None:
    """Its tiles are done elsewhere, once, and it gets its share again at once."""
    fault = Fault(card=0, at_s=0.4, back_s=0.8, is_raising=is_raising)
    result = outcome(speeds=[1.0, 1.0, 1.0], share=0.5, seconds=1.2, fault=fault)
    assert (result.failed, result.refused) == (0, 0)
    assert result.retried > 0
    assert sum(result.tiles) == result.offered
    counts = [
        Counter("before" if s < 0.4 else "fault" if s < 0.8 else "after" for s in done_s)
        for done_s in result.done_s
    ]
    assert counts[0]["fault"] <= max(COSTS)  # of a batch in progress
    assert counts[0]["after"] > 0.7 * counts[1]["after"]
    # The first answer after the return comes within a few batches.
    assert min(s for s in result.done_s[0] if s >= 0.8) < 0.83


def test_a_raising_card_would_draw_all_tiles_if_its_process_did_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the limit of failed batches is for: each tile that a dead card takes is done twice."""
    fault = Fault(card=0, at_s=0.2, back_s=0.8, is_raising=True)
    load: dict[str, Any] = {"speeds": [1.0, 1.0], "share": 0.4, "fault": fault}
    bounded = outcome(**load)
    monkeypatch.setattr("loadtests.alone.card_simulation.MAX_FAILED_BATCHES", 10**9)
    unbounded = outcome(**load)
    assert unbounded.retried > 20 * bounded.retried


def test_the_last_card_to_fail_lets_tiles_wait_for_its_return() -> None:
    """As front ends do, for as long as their clients wait."""
    fault = Fault(card=0, at_s=0.5, back_s=0.6)
    result = outcome(speeds=[1.0], share=0.5, fault=fault)
    assert result.failed == 0
    assert result.refused > 0  # arrived while there was no engine
    assert sum(result.tiles) == result.offered - result.refused


@pytest.mark.parametrize(
    ("card_share", "share"),
    # Load above what the card can do: the host's part overlaps with another batch.
    [(0.5, 3.0), (0.7, 2.0), (1.0, 1.4)],
)
def test_two_processes_on_a_card_do_as_much_as_one_with_two_slots(
    card_share: float, share: float
) -> None:
    """And more than one with one slot, unless the card itself is the limit."""
    load: dict[str, Any] = {"speeds": [1.0], "card_share": card_share, "share": share}
    alone, slots, processes = (
        outcome(**load, per_card=per_card, slots=slots).tiles_per_s
        for per_card, slots in ((1, 1), (1, 2), (2, 1))
    )
    assert processes > 0.97 * slots
    if card_share < 1:
        assert processes > 1.2 * alone


def test_one_of_two_processes_on_a_card_may_end() -> None:
    """What is gained by two: the other one goes on. Here both end with their card."""
    fault = Fault(card=0, at_s=0.4, back_s=0.6)
    result = outcome(speeds=[1.0, 1.0], per_card=2, share=0.4, fault=fault)
    assert result.failed == 0
    assert sum(result.tiles) == result.offered


def test_command_prints_the_share_of_each_card(capsys: pytest.CaptureFixture[str]) -> None:
    """As a table, and as JSON with the counts."""
    command = ["bench", "schedule", "--cost-ms", "1=5", "--cards", "2", "1", "--load", "1.2"]
    command += ["--seconds", "1"]
    assert main(command) == 0
    assert "66% 34%" in capsys.readouterr().out.replace("67% 33%", "66% 34%")
    assert main([*command, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    fast, slow = row["tiles"]
    assert 1.8 < fast / slow < 2.2
