"""Real servers under the load tests: scenarios, bad clients, locust's users."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from loadtests import images
from loadtests.__main__ import main
from loadtests.hostile import ACTS, Act, HostileError, perform
from loadtests.target import MODES, Target, running_service

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A service without a model; every test must leave it ready."""
    yield from still_ready({})


@pytest.fixture(scope="module")
def hasty() -> Iterator[Target]:
    """One that waits for no slow client, however slow the machine is."""
    yield from still_ready({"SEMSR_BODY_TIMEOUT_S": "1", "SEMSR_HEAD_TIMEOUT_S": "1"})


def still_ready(settings: dict[str, str]) -> Iterator[Target]:
    """Run a service, which must be ready in the end."""
    with running_service(TINY_BUNDLE, {"SEMSR_ENGINE": "identity", **settings}) as running:
        yield running
        ready = httpx2.get(f"{running.url}/readyz", trust_env=False, timeout=60)
        assert ready.status_code == 200


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_bad_clients_get_what_is_documented(act: Act, request: pytest.FixtureRequest) -> None:
    """A 4xx that says what was wrong, or the end of a broken connection; in time, never a 500."""
    target = request.getfixturevalue("hasty" if act.name.startswith("slow ") else "target")
    said = perform(act, target.address, longest_s=60.0)
    if act.leaves:
        assert said == "left"
    elif not act.may_close:
        assert int(said) in act.statuses


@pytest.mark.parametrize(
    ("statuses", "words"),
    [(frozenset({404}), "answered 400, expected 404"), (frozenset({400}), None)],
)
def test_wrong_reaction_is_found(
    statuses: frozenset[int], words: str | None, target: Target
) -> None:
    """An act that expects something else fails with what came instead."""
    act = Act("garbage", ACTS[0].pieces, statuses)
    if words is None:
        assert perform(act, target.address, longest_s=60.0) == "400"
    else:
        with pytest.raises(HostileError, match=words):
            perform(act, target.address, longest_s=60.0)


def test_pictures_of_every_kind_are_read_by_the_service(target: Target) -> None:
    """What the users send is what the service takes."""
    deep = images.wafer(1, 24, 24).astype(np.uint16) * 200
    requests = [
        images.raw(images.wafer(1, 24, 24)),
        images.raw(deep),
        images.npy(images.wafer(1, 24, 24)),
        images.file(deep, "tiff"),
        *(images.file(images.wafer(1, 24, 24), kind) for kind in ("png", "tiff", "jpeg", "bmp")),
    ]
    for body, headers in requests:
        answer = httpx2.post(
            f"{target.url}/superresolve", content=body, headers=headers, trust_env=False, timeout=60
        )
        assert answer.status_code == 200, (headers, answer.text)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """Run a scenario on the tiny bundle; returns its rows."""
    assert main([*arguments, "--bundle", str(TINY_BUNDLE), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["rows"]


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model on one thread of ONNX Runtime."""
    monkeypatch.setenv("SEMSR_ENGINE", "onnx")
    monkeypatch.setenv("SEMSR_THREADS", "1")


def test_metrics_cost_takes_turns(capsys: pytest.CaptureFixture[str]) -> None:
    """Three comparisons, and the calls of a request counted and timed."""
    arguments = ["metrics-cost", "--rounds", "2", "--connections", "2", "--seconds"]
    try:
        recording, scrapes, audit, timed = run(capsys, *arguments, "0.3")
    except ZeroDivisionError:  # the machine stood still in that moment
        recording, scrapes, audit, timed = run(capsys, *arguments, "10")
    for row in (recording, scrapes, audit):
        assert row["with"] > 0
        assert row["without"] > 0
        assert row["low_percent"] <= row["cost_percent"] <= row["high_percent"]
        assert row["errors"] == 0
    assert timed["calls"] > 10
    assert 0 < timed["cost_percent"] < 100


def test_recording_can_be_turned_off_from_outside() -> None:
    """The yardstick serves tiles and counts none."""
    command = ("-m", "loadtests.recording", "off")
    with running_service(TINY_BUNDLE, {"SEMSR_ENGINE": "identity"}, command=command) as running:
        # Longer where the machine stood still in that moment.
        assert any(
            running.closed_loop(connections=1, seconds=seconds).requests for seconds in (0.2, 2, 20)
        )
        metrics = httpx2.get(f"{running.url}/metrics", trust_env=False, timeout=60).text
    counts = [line for line in metrics.splitlines() if line.startswith("semsr_requests_total")]
    assert {line.split()[-1] for line in counts} <= {"0.0"}


@pytest.mark.usefixtures("one_thread")
def test_low_load_compares_service_and_engine(capsys: pytest.CaptureFixture[str]) -> None:
    """A row of every mode for the model, and one without."""
    rows = run(capsys, "low-load", "--turns", "2")
    assert [row["engine"] for row in rows] == ["onnx", "identity"] * len(MODES)
    assert rows[0]["count"] == 10
    assert all(row["service_ms"] > row["engine_ms"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_overload_refuses_and_judges_what_was_promised(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More comes than is served, nothing else goes wrong, memory is read."""
    monkeypatch.setenv("SEMSR_ONLINE_BUDGET_MS", "20")
    for row in run(capsys, "overload", "--seconds", "6"):
        assert int(str(row["refused"])) > 0
        assert row["other_errors"] == "none"
        assert row["count"] == row["refused"]
        assert row["memory_mib"] is not None


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_online_beside_nightly_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both cases are measured, and every nightly tile is served."""
    monkeypatch.setenv("SEMSR_ONLINE_BUDGET_MS", "1000")
    rows = run(capsys, "online", "--seconds", "2", "--rounds", "1", "--load", "0.2")
    for row in rows:
        assert row["nightly_lost"] == 0
        assert float(str(row["nightly_per_s"])) > 0
        assert row["p99_ratio"] is not None
        assert row["other_errors"] == "none"


@pytest.mark.requires_program("nginx")
def test_ceiling_of_the_generator_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """A rate that is easy is reached."""
    [row] = run(capsys, "ceiling", "--rate", "20", "--seconds", "1")
    assert str(row["answers"]).startswith("200: ")
    assert "," not in str(row["answers"])


def test_locust_users_find_nothing_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    """Pipeline, nightly, mixed and hostile users for a few seconds; locust ends with 0."""
    # Not imported here: locust patches the interpreter that imports it.
    if importlib.util.find_spec("locust") is None:
        pytest.skip("locust is not installed (extra loadtest)")
    arguments = ["locust", "--bundle", str(TINY_BUNDLE), "--seconds", "10", "--users", "11"]
    code = main(arguments)
    said = capfd.readouterr()
    words = said.out + said.err
    assert code == 0, words
    for name in ("pipeline: raw", "nightly: raw", "mixed: ", "hostile: "):
        assert name in words
