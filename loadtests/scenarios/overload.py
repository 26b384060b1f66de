"""Three times the capacity of the service, for a minute, in an open loop.

Admitted requests must be served soon, the others must be rejected at once with a true retry time,
nothing else may go wrong, and memory must not grow.
"""

import argparse
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bundle_format.bundle import load_bundle
from loadtests.alone.engine import engine_alone
from loadtests.machine import describe_machine
from loadtests.open_loop import OpenLoop
from loadtests.outcomes import errors, percentile
from loadtests.processes import MemoryWatch, mean_mib
from loadtests.results import Column, Result
from loadtests.retry_promises import promises, summarize_promises
from loadtests.target import (
    BUDGET_VARIABLE,
    MODES,
    EngineChoice,
    Target,
    chosen_engine,
    online_budget_ms,
    running_service,
)
from service.hosting.loading import batch_limit
from service.settings import Settings

# In full batches; a request that would wait longer is refused. Its own tile comes on top.
_BUDGET_BATCHES = 2.0
_COLUMNS = [
    Column("mode", "Mode"),
    Column("engine", "Engine"),
    Column("capacity_per_s", "capacity, tiles/s"),
    Column("offered_per_s", "offered /s"),
    Column("admitted_per_s", "admitted /s"),
    Column("refused", "503"),
    Column("other_errors", "other errors"),
    Column("p50_ms", "p50, ms"),
    Column("p99_ms", "p99, ms"),
    Column("p99_batches", "p99, in full batches", 2),
    Column("ratio_p50", "named / true retry time, median", 2),
    Column("within_percent", "within a factor of 2, %"),
    Column("memory_mib", "memory, MiB", 0),
    Column("memory_growth_percent", "growth, %"),
]


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=float, default=60.0, help="length in seconds")
    parser.add_argument(
        "--times", type=float, default=3.0, help="load as a multiple of the capacity"
    )


def run(options: argparse.Namespace) -> Result:
    """Overload every mode."""
    bundle, seconds, times = options.bundle, options.seconds, options.times
    machine = describe_machine()
    rows: list[dict[str, Any]] = []
    budget_ms = 0.0
    for mode, settings in MODES.items():
        chosen = chosen_engine(bundle, settings)
        before_ms = _full_batch_ms(bundle, chosen)
        budget_ms = online_budget_ms(_BUDGET_BATCHES * before_ms)
        limited = {**settings, BUDGET_VARIABLE: f"{budget_ms:.3f}"}
        with running_service(bundle, limited) as target:
            row = _overload(target, bundle, seconds=seconds, times=times, batch_ms=before_ms)
        batch_ms = statistics.mean([before_ms, _full_batch_ms(bundle, chosen)])
        row = {"mode": mode, "engine": chosen.name, **row, "full_batch_ms": batch_ms}
        rows.append({**row, "p99_batches": row["p99_ms"] / batch_ms})
    return Result(
        "overload",
        machine,
        {
            "bundle": bundle.name,
            "seconds": seconds,
            "times": times,
            BUDGET_VARIABLE: round(budget_ms),
        },
        _COLUMNS,
        rows,
        [
            "Full batch: the largest of the bundle, by the engine alone, mean of before and after. "
            "Memory: mean of the last quarter of the overload, against that of the second quarter."
        ],
    )


def _full_batch_ms(bundle: Path, chosen: EngineChoice) -> float:
    size = batch_limit(load_bundle(bundle), Settings())
    name, precision = chosen
    [speed] = engine_alone(bundle, name, 5.0, precision=precision, batches=(size,))
    return speed.ms


def _overload(
    target: Target, bundle: Path, *, seconds: float, times: float, batch_ms: float
) -> dict[str, Any]:
    size = batch_limit(load_bundle(bundle), Settings())
    # Enough that a batch waits while one runs, and no more than the budget admits.
    warm = target.closed_loop(connections=2 * size, seconds=max(5.0, 8 * batch_ms / 1e3))
    capacity = warm.per_second
    stream = target.stream("overload", rate_per_s=times * capacity, seed=1)
    with MemoryWatch(target.pid) as memory:
        # As many connections as requests can be in flight, so that none waits for one here.
        report = OpenLoop(
            target.address, [stream], seconds=seconds, connections=1024, grace_s=60.0
        ).report()
    outcomes = report.outcomes
    good_ms = [1e3 * outcome.latency_s for outcome in outcomes if outcome.is_good]
    late_ms = [1e3 * (outcome.sent_s - outcome.due_s) for outcome in outcomes]
    start_s, end_s = report.start_s, report.start_s + seconds
    early = mean_mib(memory.samples, from_s=start_s + seconds / 4, to_s=start_s + seconds / 2)
    late = mean_mib(memory.samples, from_s=end_s - seconds / 4, to_s=end_s)
    other = errors(outcomes)
    promised = summarize_promises(promises(outcomes))
    return {
        "capacity_per_s": capacity,
        "offered_per_s": len(outcomes) / seconds,
        "admitted_per_s": len(good_ms) / seconds,
        "refused": sum(outcome.is_refused for outcome in outcomes),
        "other_errors": ", ".join(f"{label}: {n}" for label, n in other.items()) or "none",
        "p50_ms": percentile(good_ms, 0.5),
        "p99_ms": percentile(good_ms, 0.99),
        "late_p99_ms": percentile(late_ms, 0.99),
        **asdict(promised),
        "within_percent": 100 * promised.within_factor,
        "memory_mib": late,
        "memory_growth_percent": 100 * (late / early - 1),
    }
