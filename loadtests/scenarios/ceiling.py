"""The limit of the open-loop generator: nginx serves as many bytes, at rising rates.

A rate of the service near this limit describes the generator rather than the service.
"""

import argparse
from dataclasses import replace

from bundle_format.bundle import load_bundle
from loadtests.machine import describe_machine
from loadtests.nginx import ANSWER_PATH, running_nginx
from loadtests.open_loop import OpenLoop, Stream
from loadtests.outcomes import summarize
from loadtests.results import Column, Result
from loadtests.tile_request import raw_request

# As in the throughput bench: more of them only wait for one another at nginx's single worker.
_CONNECTIONS = 16
_COLUMNS = [
    Column("rate_per_s", "asked /s", 0),
    Column("good_per_s", "answered /s"),
    Column("p50_ms", "p50, ms", 2),
    Column("p99_ms", "p99, ms", 2),
    Column("late_p99_ms", "left late, p99 ms", 2),
    Column("cores", "cores used by the generator", 2),
    Column("answers", "answers"),
]


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--rate",
        type=float,
        nargs="+",
        default=[500, 1000, 2000, 3000, 4000],
        help="requests a second, Poisson arrivals",
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each in seconds")
    parser.add_argument("--workers", type=int, default=1, help="processes of the generator")


def run(options: argparse.Namespace) -> Result:
    """Load nginx at each rate, with requests and answers as long as the bundle's tile and picture.

    Raises:
        RuntimeError: nginx is not installed.
    """
    seconds, workers = options.seconds, options.workers
    machine = describe_machine()
    tile = replace(raw_request(load_bundle(options.bundle)), path=ANSWER_PATH)
    rows = []
    with running_nginx(b"\x80" * tile.answer_bytes) as address:
        for rate in options.rate:
            stream = Stream(
                name="nginx",
                request=tile.http(),
                expected_bytes=tile.answer_bytes,
                rate_per_s=rate,
                arrivals="poisson",
            )
            report = OpenLoop(
                address, [stream], seconds=seconds, connections=_CONNECTIONS, workers=workers
            ).report()
            [summary] = summarize(report.outcomes, seconds)
            last_s = max(outcome.done_s for outcome in report.outcomes)
            answers = ", ".join(f"{label}: {n}" for label, n in summary.answers.items())
            rows.append(
                {
                    **vars(summary),
                    "rate_per_s": rate,
                    # Until the last answer: a load that is too high ends late.
                    "good_per_s": summary.good_per_s * seconds / (last_s - report.start_s),
                    "cores": report.cpu_s / (last_s - report.start_s),
                    "answers": answers,
                }
            )
    settings = {"seconds": seconds, "workers": workers, "connections": _CONNECTIONS}
    return Result("ceiling", machine, settings, _COLUMNS, rows)
