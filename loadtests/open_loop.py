"""An open-loop HTTP load: requests are sent when they are due, regardless of earlier ones.

    python -m loadtests.open_loop http://127.0.0.1:8000 --rate 200 --seconds 30 --arrivals poisson

A closed loop sends its next request after the last answer, so a server that stalls gets fewer
requests and looks better than it is. In an open loop, the time when each request is due is fixed
beforehand, and its latency is measured from that time. `python -m loadtests ceiling` measures the
limit of the generator itself on a machine.
"""

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loadtests.exchange import Address, http_request
from loadtests.outcomes import Outcome, format_summaries, summarize
from loadtests.tile_request import PATH, RAW, address_of

# Time for each worker process to start and to plan.
_START_S = 0.5
_LONGEST_REPORT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Requests of one kind.

    Attributes:
        name: Name of its outcomes.
        request: Whole HTTP/1.1 request, head and body.
        expected_bytes: Body length of a good answer.
        rate_per_s: Requests per second, unless `concurrency` is given.
        arrivals: Even distances, or a Poisson process.
        seed: Seed of the Poisson process.
        concurrency: If not 0, the stream saturates instead: this number of requests is always in
            flight or waiting for a retry. A refused request is retried under its own number after
            the time that the refusal names, until it is served.
    """

    name: str
    request: bytes
    expected_bytes: int
    rate_per_s: float = 0.0
    arrivals: Literal["constant", "poisson"] = "constant"
    seed: int = 0
    concurrency: int = 0


@dataclass(frozen=True)
class LoadReport:
    """Result of a load.

    Attributes:
        outcomes: Outcome of every request, in the order of their ends.
        start_s: `time.monotonic()` of its start.
        seconds: Length of the load.
        cpu_s: Processor seconds that the generator used.
    """

    outcomes: list[Outcome]
    start_s: float
    seconds: float
    cpu_s: float


class OpenLoop:
    """A load in processes of its own, which run from its creation; `report` waits for their end."""

    def __init__(
        self,
        address: Address,
        streams: Sequence[Stream],
        *,
        seconds: float,
        connections: int = 256,
        timeout_s: float = 60.0,
        grace_s: float = 60.0,
        workers: int = 1,
    ) -> None:
        """Start the processes.

        Args:
            address: Host and port.
            streams: Streams of requests.
            seconds: Length; requests in flight at the end are still waited for.
            connections: Largest number of connections; they are opened as they are needed.
            timeout_s: Longest wait for one answer.
            grace_s: Longest wait after the end for all of them.
            workers: Processes that share the load.
        """
        self._names = [stream.name for stream in streams]
        self._longest_s = seconds + grace_s + _LONGEST_REPORT_S
        self.seconds = seconds
        self.start_s = time.monotonic() + _START_S * workers
        plan = {
            "address": address,
            "streams": [_as_json(stream) for stream in streams],
            "seconds": seconds,
            "connections": connections,
            "timeout_s": timeout_s,
            "grace_s": grace_s,
            "workers": workers,
            "start_s": self.start_s,
        }
        self._children = [_start_worker(plan, worker) for worker in range(workers)]

    def report(self) -> LoadReport:
        """Wait for the end.

        Raises:
            RuntimeError: A worker ended without its report.
        """
        outcomes: list[Outcome] = []
        cpu_s = 0.0
        with self:
            for child in self._children:
                stdout, stderr = child.communicate(timeout=self._longest_s)
                if child.returncode:
                    raise RuntimeError(f"the load's process failed:\n{stderr.decode()}")
                report = json.loads(stdout)
                cpu_s += report["cpu_s"]
                outcomes += [Outcome(self._names[row[0]], *row[1:]) for row in report["outcomes"]]
        outcomes.sort(key=lambda outcome: outcome.done_s)
        return LoadReport(outcomes, self.start_s, self.seconds, cpu_s)

    def __enter__(self) -> "OpenLoop":
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, if they have not ended by themselves."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
                child.communicate()


def _as_json(stream: Stream) -> dict[str, Any]:
    return {**vars(stream), "request": base64.b64encode(stream.request).decode()}


def _start_worker(plan: dict[str, Any], worker: int) -> subprocess.Popen[bytes]:
    with tempfile.TemporaryFile() as job:
        job.write(json.dumps({"plan": plan, "worker": worker}).encode())
        job.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", "loadtests.open_loop_worker"],
            cwd=Path(__file__).parents[1],
            stdin=job,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Load one address from the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.open_loop", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("url", help="URL of the service")
    parser.add_argument("--path", default=PATH)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--arrivals", choices=["constant", "poisson"], default="poisson")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--connections", type=int, default=256, help="largest number of connections"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that send")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tile", type=int, default=240, help="edge of the raw tile in pixels")
    parser.add_argument("--scale", type=int, default=4, help="scale of the served model")
    parser.add_argument("--priority", choices=["online", "nightly"], default="online")
    parser.add_argument("--timeout-ms", type=float, help="deadline that each request carries")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    headers = {
        "Content-Type": RAW,
        "X-Tile-Shape": f"{options.tile},{options.tile}",
        "X-Priority": options.priority,
    }
    if options.timeout_ms is not None:
        headers["X-Request-Timeout-Ms"] = f"{options.timeout_ms:g}"
    stream = Stream(
        name=options.priority,
        request=http_request(options.path, headers, b"\x80" * options.tile**2),
        expected_bytes=(options.scale * options.tile) ** 2,
        rate_per_s=options.rate,
        arrivals=options.arrivals,
        seed=options.seed,
    )
    report = OpenLoop(
        address_of(options.url),
        [stream],
        seconds=options.seconds,
        connections=options.connections,
        workers=options.workers,
    ).report()
    summaries = summarize(report.outcomes, report.seconds)
    if options.json:
        print(json.dumps([vars(summary) for summary in summaries], indent=2))
    else:
        print(format_summaries(summaries))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
