"""What the open-loop generator itself carries here: nginx hands out as many bytes, at rising rates.

A figure of the service near these rates says more of the generator than of the service.
"""

from pathlib import Path

from bundle_format.bundle import load_bundle
from loadtests.machine import describe_machine
from loadtests.open_loop import Stream, http_request, run_open_loop
from loadtests.outcomes import summarize
from loadtests.results import Column, Result
from loadtests.target import golden_tile
from semsr.bench.nginx import running_nginx

# As the throughput bench has them: more only wait for one another at nginx's single worker.
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


def run(bundle: Path, *, rates: list[float], seconds: float, workers: int) -> Result:
    """Ask nginx at each rate.

    Args:
        bundle: Says how many bytes a tile and its picture have.
        rates: Requests a second, Poisson.
        seconds: Length of each.
        workers: Processes of the generator.

    Raises:
        RuntimeError: nginx is not installed.
    """
    machine = describe_machine()
    tile = golden_tile(load_bundle(bundle))
    rows = []
    with running_nginx(b"\x80" * tile.answer_bytes) as address:
        for rate in rates:
            stream = Stream(
                name="nginx",
                request=http_request("/answer", tile.headers, tile.body),
                expected_bytes=tile.answer_bytes,
                rate_per_s=rate,
                arrivals="poisson",
            )
            report = run_open_loop(
                address, [stream], seconds=seconds, connections=_CONNECTIONS, workers=workers
            )
            [summary] = summarize(report.outcomes, seconds)
            last_s = max(outcome.done_s for outcome in report.outcomes)
            answers = ", ".join(f"{label}: {n}" for label, n in summary.answers.items())
            rows.append(
                {
                    **vars(summary),
                    "rate_per_s": rate,
                    # Of the time until the last answer: a load that is too much ends late.
                    "good_per_s": summary.good_per_s * seconds / (last_s - report.start_s),
                    "cores": report.cpu_s / (last_s - report.start_s),
                    "answers": answers,
                }
            )
    settings = {"seconds": seconds, "workers": workers, "connections": _CONNECTIONS}
    return Result("ceiling", machine, settings, _COLUMNS, rows)
