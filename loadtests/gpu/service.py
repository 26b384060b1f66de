"""The service on a GPU, against its engine alone: `python -m loadtests.gpu.service`.

The engine alone is measured first. Then services start one after the other: the pool with its own
choice of front ends, other numbers of front ends, a single process, and the engine `identity`,
which shows the cost of the service itself. Each is loaded by several connections at once (closed
loop), raw and PNG, and the first also at 80 % of its best rate (open loop). The most important rows
come first; at the time limit, the remaining ones are left out.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bundle_format.bundle import PRECISIONS, load_bundle
from loadtests.alone.codec import png_tile
from loadtests.alone.engine import EngineTurns
from loadtests.gpu.bundles import with_larger_batches
from loadtests.gpu.floor import Rates, TileCost, limits, share_of_floor
from loadtests.gpu.installation import installed, require
from loadtests.gpu.report import Report, add_options
from loadtests.gpu.rows import measure_rates
from loadtests.gpu.service_loads import Alone, Layout, Service
from loadtests.results import Column, Row
from loadtests.target import running_service
from loadtests.tile_request import png_request, raw_request

_COLUMNS = [
    Column("mode", "Mode"),
    Column("front_ends", "Front ends"),
    Column("engine", "Engine"),
    Column("body", "Tiles"),
    Column("load", "Load"),
    Column("client", "Client"),
    Column("tiles_per_s", "tiles/s", 0),
    Column("percent_of_engine", "% of engine alone"),
    Column("p50_ms", "p50, ms"),
    Column("p99_ms", "p99, ms"),
    Column("p99_batches", "p99, full batches", 2),
    Column("is_within", "p99 at most 2 full batches"),
    Column("mean_batch", "Batch, tiles"),
    Column("batch_ms", "Batch, ms"),
    Column("busy_percent", "GPU busy, %", 0),
    Column("card_gib", "GPU memory, GiB"),
    Column("limit_per_s", "Limit, tiles/s", 0),
    Column("limited_by", "Limited by"),
    Column("percent_of_limit", "% of limit"),
    Column("client_cores", "Cores of the clients"),
    Column("golden_levels", "Golden tile, grey levels"),
    Column("late_p99_ms", "Left late, p99 ms"),
    Column("errors", "Errors"),
]
_NEEDED = ("pydantic_settings", "fastapi", "uvicorn", "httptools", "httpx2", "structlog",
           "imagecodecs", "simplejpeg", "isal", "orjson", "prometheus_client")  # fmt: skip
_LOAD_S = 90.0
# Time that a service takes to start at least; without it, a start is not tried.
_START_S = 5.0
_RATE_S = 0.3
_OPEN_SHARE = 0.8


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code: 1 if nothing could be measured."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    require(_NEEDED)
    # The engine's process reads them, as the service does.
    os.environ["SEMSR_DEVICE"] = options.device
    settings = {
        "bundle": options.bundle.name,
        "device": options.device,
        "precision": options.precision,
        "largest batch": options.largest_batch,
        "seconds": options.seconds,
        "minutes": options.minutes,
        "clients": options.clients,
    }
    report = Report("gpu-service", _COLUMNS, options, settings=settings)
    report.notes.append(
        "Engine alone: every slot in use, tiles and answers in registered memory, in the same run. "
        "Full batch: the largest batch of the engine alone. Clients run on the same cores as the "
        "service. The limit is the smaller of operations and transfers at the rates of this run. "
        "GPU busy: median of the samples of nvidia-smi during the load."
    )
    with installed(), tempfile.TemporaryDirectory() as folder:
        bundle = with_larger_batches(options.bundle, options.largest_batch, Path(folder))
        try:
            _Bench(options, report, bundle).measure()
        except KeyboardInterrupt:
            report.notes.append("The run was interrupted.")
    return report.finish()


class _Bench:
    """All measurements of a run."""

    def __init__(self, options: argparse.Namespace, report: Report, bundle: Path) -> None:
        self._options = options
        self._report = report
        self._path = bundle
        self._bundle = load_bundle(bundle)
        self._alone = Alone()
        self._rates = Rates()

    def measure(self) -> None:
        """Take all measurements, the most important first."""
        options = self._options
        measure_rates(
            self._report,
            self._rates,
            device=options.device,
            seconds=_RATE_S,
            precisions=[options.precision],
        )
        manifest = self._bundle.manifest
        lr_bytes = manifest.tile[0] * manifest.tile[1]
        cost = TileCost(manifest.gmac, lr_bytes, manifest.scale**2 * lr_bytes)
        self._alone.limits = limits(cost, self._rates, options.precision)
        self._measure_engine()
        # 128 connections first: enough for full batches, and few enough for a bounded latency.
        first, *more = options.connections
        self._measure_layout(
            Layout("pool", options.engine), raw=[first, *more], png=[first], is_open=True
        )
        for front_ends in options.front_ends:
            layout = Layout("pool", options.engine, front_ends)
            self._measure_layout(layout, raw=[first], png=[first])
        self._measure_layout(Layout("single", options.engine), raw=[first, *more[:1]], png=[first])
        self._measure_layout(Layout("pool", "identity"), raw=[first, *more], png=[first])
        self._measure_layout(Layout("single", "identity"), raw=[first], png=[])

    def _measure_engine(self) -> None:
        options, report = self._options, self._report
        about: Row = {"mode": "engine alone", "engine": options.engine}

        def turns() -> Sequence[Row]:
            with EngineTurns(
                self._path,
                options.engine,
                precision=options.precision,
                time_limit_s=min(_LOAD_S, report.left_s),
            ) as alone:
                facts = alone.facts
                largest = options.largest_batch
                for batch in sorted({max(1, largest // 4), max(1, largest // 2), largest}):
                    self._alone.turns[batch] = alone.run(
                        2, seconds=1.0, batch=batch, callers=facts.slots, registered=True
                    )
            return [
                {
                    "load": f"callers {facts.slots}, batch {batch}",
                    "tiles_per_s": turn.tiles_per_s,
                    "p50_ms": turn.ms,
                    "golden_levels": facts.golden_levels,
                    **share_of_floor(turn.tiles_per_s, self._alone.limits),
                }
                for batch, turn in self._alone.turns.items()
            ]

        report.measure(about, _START_S, turns)

    def _measure_layout(
        self, layout: Layout, *, raw: Sequence[int], png: Sequence[int], is_open: bool = False
    ) -> None:
        """Start a service and load it with each number of connections."""
        report = self._report

        def loads() -> Sequence[Row]:
            limit_s = min(_LOAD_S, report.left_s)
            with running_service(
                self._path, layout.settings(self._options), timeout_s=limit_s
            ) as target:
                service = Service(self._options, report, layout, target, self._alone)
                tile = raw_request(self._bundle)
                golden = service.golden(tile, self._bundle.golden().sr)
                rates = [service.closed(tile, "raw", count, golden) for count in raw]
                if is_open and any(rates):
                    service.open(_OPEN_SHARE * max(rates))
                if png:
                    as_png = png_request(png_tile(self._bundle), target.url)
                    for count in png:
                        service.closed(as_png, "PNG", count, {})
            return []

        report.measure(layout.about(), _START_S + self._options.seconds, loads)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu.service", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_options(parser)
    parser.add_argument(
        "--bundle",
        type=Path,
        default=Path("bundles/default"),
        help="bundle (default: bundles/default)",
    )
    parser.add_argument("--engine", default="torch", help="engine (default: torch)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp16", help="precision (default: fp16)"
    )
    parser.add_argument(
        "--largest-batch",
        type=int,
        default=32,
        metavar="N",
        help="tiles in the largest batch, in a copy of the bundle if it allows fewer (default: 32)",
    )
    parser.add_argument(
        "--connections",
        type=int,
        nargs="+",
        default=[128, 64, 256, 16],
        metavar="N",
        help="requests in flight, the most important first (default: 128 64 256 16)",
    )
    parser.add_argument(
        "--front-ends",
        type=int,
        nargs="*",
        default=[8, 12],
        metavar="N",
        help="numbers of front ends in addition to the pool's own choice (default: 8 12)",
    )
    parser.add_argument(
        "--clients", type=int, default=4, help="processes or threads of the client (default: 4)"
    )
    parser.add_argument(
        "--client",
        choices=["best", "own", "wrk"],
        default="best",
        help="wrk, our own, or wrk where it is installed (default: best)",
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="length of each load in seconds (default: 3)"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
