"""Online latency with and without a nightly class that saturates the engine.

Online tiles arrive as a Poisson process. The two cases take turns, with the same arrivals and in
either order, so that drift of the machine affects both. All rounds are evaluated together.
`loadtests.intervals` gives the confidence intervals of the ratios.
"""

import argparse
import math
from typing import Any

from bundle_format.bundle import load_bundle
from loadtests.alone.engine import engine_alone
from loadtests.intervals import CONFIDENCE, needed_for_both_ends, ratio_interval
from loadtests.machine import describe_machine
from loadtests.open_loop import OpenLoop
from loadtests.outcomes import Outcome, errors, percentile, unserved
from loadtests.results import Column, Result
from loadtests.target import (
    BUDGET_VARIABLE,
    MODES,
    Target,
    chosen_engine,
    online_budget_ms,
    running_service,
)
from service.hosting.loading import batch_limit
from service.settings import Settings

# In single tiles; a nightly batch may keep the engine busy for a quarter of it.
_BUDGET_TILES = 4.0
# Share of a round after which both classes have settled.
_SETTLED = 0.1
_INTERVAL = f"{100 * CONFIDENCE:.0f} % interval"
_COLUMNS = [
    Column("mode", "Mode"),
    Column("engine", "Engine"),
    Column("load_percent", "online load, % of capacity", 0),
    Column("online", "online answered"),
    Column("online_refused", "refused"),
    Column("alone_p50_ms", "alone p50, ms"),
    Column("alone_p99_ms", "alone p99, ms"),
    Column("with_p50_ms", "with nightly p50, ms"),
    Column("with_p99_ms", "with nightly p99, ms"),
    Column("p90_ratio", "p90, times", 2),
    Column("p90_interval", _INTERVAL),
    Column("p99_ratio", "p99, times", 2),
    Column("p99_interval", _INTERVAL),
    Column("nightly_per_s", "nightly tiles/s"),
    Column("nightly_refusals", "nightly 503, came again"),
    Column("nightly_lost", "nightly lost"),
    Column("other_errors", "other errors"),
]


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a round in seconds")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each case")
    parser.add_argument(
        "--load",
        type=float,
        nargs="+",
        default=[0.2, 0.5],
        help="online loads as shares of the capacity",
    )


def run(options: argparse.Namespace) -> Result:
    """Measure every mode at every load."""
    bundle, seconds, rounds = options.bundle, options.seconds, options.rounds
    machine = describe_machine()
    rows: list[dict[str, Any]] = []
    budget_ms = 0.0
    for mode, settings in MODES.items():
        engine, precision = chosen_engine(bundle, settings)
        [tile] = engine_alone(bundle, engine, 5.0, precision=precision, batches=(1,))
        budget_ms = online_budget_ms(_BUDGET_TILES * tile.ms)
        limited = {**settings, BUDGET_VARIABLE: f"{budget_ms:.3f}"}
        size = batch_limit(load_bundle(bundle), Settings())
        with running_service(bundle, limited) as target:
            capacity = target.closed_loop(
                connections=2 * size, seconds=max(5.0, 16 * size * tile.ms / 1e3)
            ).per_second
            for share in options.load:
                pair = _Pair(target, share * capacity, seconds, nightly=4 * size)
                for number in range(rounds):
                    pair.measure(number)
                about = {"mode": mode, "engine": engine, "load_percent": 100 * share}
                rows.append({**about, "capacity_per_s": capacity, **pair.row()})
    return Result(
        "online",
        machine,
        {
            "bundle": bundle.name,
            "seconds": seconds,
            "rounds": rounds,
            BUDGET_VARIABLE: round(budget_ms),
        },
        _COLUMNS,
        rows,
        [
            "Intervals of the ratios by order statistics (`loadtests/intervals.py`). They need "
            f"{needed_for_both_ends(0.9)} requests of each case for a 90th percentile and "
            f"{needed_for_both_ends(0.99)} for a 99th; of fewer, nothing bounds either percentile "
            "from above, so that the ratio may be anything from 0 to ∞."
        ],
    )


class _Pair:
    """Both cases at one load, round after round."""

    def __init__(self, target: Target, rate_per_s: float, seconds: float, *, nightly: int) -> None:
        self._target = target
        self._rate_per_s = rate_per_s
        self._seconds = seconds
        self._nightly = nightly
        self._online: dict[bool, list[Outcome]] = {False: [], True: []}
        self._nightly_outcomes: list[Outcome] = []
        self._lost = 0
        self._num_rounds = 0

    def measure(self, number: int) -> None:
        """Measure one round, without and with the nightly class; the order alternates."""
        self._num_rounds += 1
        for is_nightly in (True, False) if number % 2 else (False, True):
            streams = [self._target.stream("online", rate_per_s=self._rate_per_s, seed=number)]
            if is_nightly:
                headers = {"X-Priority": "nightly"}
                nightly = self._target.stream("nightly", concurrency=self._nightly, headers=headers)
                streams.append(nightly)
            report = OpenLoop(
                self._target.address, streams, seconds=self._seconds, connections=512
            ).report()
            settled_s = report.start_s + _SETTLED * self._seconds
            self._online[is_nightly] += [
                o for o in report.outcomes if o.stream == "online" and o.due_s >= settled_s
            ]
            nightly_outcomes = [o for o in report.outcomes if o.stream == "nightly"]
            self._nightly_outcomes += nightly_outcomes
            self._lost += len(unserved(nightly_outcomes))

    def row(self) -> dict[str, Any]:
        """Return the figures of all rounds."""
        alone, together = (
            [1e3 * o.latency_s for o in self._online[case] if o.is_good] for case in (False, True)
        )
        everything = [*self._online[False], *self._online[True], *self._nightly_outcomes]
        other = errors(everything)
        served = sum(o.is_good for o in self._nightly_outcomes)
        rounds_s = self._seconds * max(1, self._num_rounds)
        return {
            "online": f"{len(alone)} / {len(together)}",
            "online_refused": " / ".join(
                str(sum(o.is_refused for o in self._online[case])) for case in (False, True)
            ),
            "alone_p50_ms": percentile(alone, 0.5),
            "alone_p99_ms": percentile(alone, 0.99),
            "with_p50_ms": percentile(together, 0.5),
            "with_p99_ms": percentile(together, 0.99),
            **_ratio("p90", together, alone, 0.9),
            **_ratio("p99", together, alone, 0.99),
            "nightly_per_s": served / rounds_s,
            "nightly_refusals": sum(o.is_refused for o in self._nightly_outcomes),
            "nightly_lost": self._lost,
            "other_errors": ", ".join(f"{label}: {n}" for label, n in other.items()) or "none",
        }


def _ratio(name: str, together: list[float], alone: list[float], share: float) -> dict[str, Any]:
    ratio, low, high = ratio_interval(together, alone, share)
    return {
        f"{name}_ratio": ratio,
        f"{name}_ratio_low": low,
        f"{name}_ratio_high": high,
        f"{name}_interval": f"{low:.2f} to {'∞' if math.isinf(high) else f'{high:.2f}'}",
    }
