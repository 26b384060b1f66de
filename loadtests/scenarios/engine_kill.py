"""The engine process of the mode `pool` is killed under load, repeatedly.

Every request must get an answer, and the service must serve again soon.
"""

import argparse
import contextlib
import os
import signal
import time
from typing import Any

import httpx2

from bundle_format.bundle import load_bundle
from loadtests.machine import describe_machine
from loadtests.open_loop import OpenLoop
from loadtests.outcomes import Outcome, errors
from loadtests.processes import ENGINE_MODULE, engine_pids
from loadtests.results import Column, Result
from loadtests.target import MODES, Target, running_service
from service.hosting.loading import batch_limit
from service.settings import Settings

# Share of its capacity, so that the kills are the only disturbance, not saturation.
_LOAD_SHARE = 0.5
_POLL_S = 0.02
_LONGEST_RESTART_S = 30.0
_COLUMNS = [
    Column("name", "Kill"),
    Column("ready_s", "new engine and /readyz 200 after, s", 2),
    Column("served_s", "next good answer after, s", 2),
    Column("sent", "Requests"),
    Column("good", "answered with the picture"),
    Column("refused", "503"),
    Column("other", "other answers"),
    Column("unanswered", "without an answer"),
]


class NoEngineProcessError(RuntimeError):
    """The engine process cannot be found."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--kills", type=int, default=10, help="number of kills")
    parser.add_argument(
        "--period",
        type=float,
        default=6.0,
        help="seconds from one kill to the next, longer where the service is not ready again",
    )


def run(options: argparse.Namespace) -> Result:
    """Kill the engine process and wait until the service is ready again, several times.

    Raises:
        NoEngineProcessError: There is nothing to kill.
    """
    bundle, kills, period_s = options.bundle, options.kills, options.period
    machine = describe_machine()
    size = batch_limit(load_bundle(bundle), Settings())
    with running_service(bundle, MODES["pool"]) as target:
        engine = target.engine().name
        capacity = target.closed_loop(connections=2 * size, seconds=5.0).per_second
        stream = target.stream("online", rate_per_s=_LOAD_SHARE * capacity, seed=1)
        # The load outlives the last restart, so that its first answer is seen.
        seconds = (kills + 1) * period_s + _LONGEST_RESTART_S
        with OpenLoop(target.address, [stream], seconds=seconds) as load:
            restarts = _kill_again_and_again(target, load, kills, period_s)
            outcomes = load.report().outcomes
    rows: list[dict[str, Any]] = [
        {
            "name": f"{number}",
            "ready_s": ready_s,
            "served_s": _served_after(outcomes, killed_s),
        }
        for number, (killed_s, ready_s) in enumerate(restarts, start=1)
    ]
    rows.append({"name": "all", **_worst(rows), **_count(outcomes)})
    settings = {"bundle": bundle.name, "engine": engine, "kills": kills, "period_s": period_s}
    notes = [f"{len(restarts)} of {kills} kills: each waits until the service is ready again."]
    return Result("engine-kill", machine, settings, _COLUMNS, rows, notes)


def _kill_again_and_again(
    target: Target, load: OpenLoop, kills: int, period_s: float
) -> list[tuple[float, float]]:
    """Return the time of each kill, and the seconds until the service was ready again."""
    restarts: list[tuple[float, float]] = []
    for number in range(1, kills + 1):
        time.sleep(max(0.0, load.start_s + number * period_s - time.monotonic()))
        if time.monotonic() > load.start_s + load.seconds - _LONGEST_RESTART_S:
            break  # restarts took so long that no load is left for more
        pids = engine_pids(target.pid)
        if not pids:
            raise NoEngineProcessError(f"no process under {target.pid} runs {ENGINE_MODULE}")
        killed_s = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        restarts.append((killed_s, _wait_ready(target, pids, killed_s)))
    return restarts


def _wait_ready(target: Target, old: set[int], killed_s: float) -> float:
    """Return the seconds until the engine processes are new and the service is ready, or inf."""
    with httpx2.Client(trust_env=False, timeout=5.0) as client:
        while time.monotonic() - killed_s < _LONGEST_RESTART_S:
            with contextlib.suppress(httpx2.TransportError):
                is_new = len(engine_pids(target.pid) - old) >= len(old)
                if is_new and client.get(f"{target.url}/readyz").status_code == 200:
                    return time.monotonic() - killed_s
            time.sleep(_POLL_S)
    return float("inf")


def _served_after(outcomes: list[Outcome], killed_s: float) -> float:
    """Seconds until a request that left after the kill had its picture; infinite if none had."""
    done_s = [o.done_s for o in outcomes if o.is_good and o.sent_s > killed_s]
    return min(done_s, default=float("inf")) - killed_s


def _worst(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {key: max(row[key] for row in rows) for key in ("ready_s", "served_s")}


def _count(outcomes: list[Outcome]) -> dict[str, Any]:
    without = [o for o in outcomes if not o.status]
    other = {label: n for label, n in errors(outcomes).items() if label.isdecimal()}
    return {
        "sent": len(outcomes),
        "good": sum(o.is_good for o in outcomes),
        "refused": sum(o.is_refused for o in outcomes),
        "other": ", ".join(f"{label}: {n}" for label, n in other.items()) or "none",
        "unanswered": len(without),
    }
