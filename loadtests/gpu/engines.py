"""Engines on a GPU, against its floor: `python -m loadtests.gpu.engines`.

It measures the rates of the card, then each bundle, engine, precision, batch size and number of
callers through `Engine.run`, and the network alone without transfers. Each engine must reproduce
the bundle's golden tile, which was computed on a CPU. The most important rows come first; at the
time limit, the remaining ones are left out.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bundle_format.bundle import PRECISIONS, Precision, load_bundle
from engines.registry import ENGINES, device_kind, installed_module
from loadtests.alone.engine import EngineProcessError, EngineTurns
from loadtests.gpu.bundles import with_larger_batches
from loadtests.gpu.calls import Call
from loadtests.gpu.floor import Rates, TileCost, limits
from loadtests.gpu.installation import require
from loadtests.gpu.report import Report, add_options
from loadtests.gpu.rows import measure_network, measure_rates
from loadtests.gpu.table import by_batch
from loadtests.gpu.ways import PAPER, NetworkJob, Way
from loadtests.results import Row

_NEEDED = ("torch", "safetensors", "pydantic_settings", "structlog")
_CANDIDATES = ("torch", "onnx", "tensorrt", "openvino")
# Longest wait for an engine that loads: torch tries the algorithms of each layer and batch size.
_LOAD_S = 90.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code: 1 if nothing could be measured."""
    options = _parser().parse_args(arguments)
    require(_NEEDED)
    options.engine = options.engine or [
        name
        for name in _CANDIDATES
        if installed_module(ENGINES[name])
        and device_kind(options.device) in ENGINES[name].precisions
    ]
    settings = {
        "device": options.device,
        "batches": " ".join(map(str, options.batch)),
        "seconds": options.seconds,
        "minutes": options.minutes,
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # The engines' processes read it, as the service does.
    os.environ["SEMSR_DEVICE"] = options.device
    report = Report("gpu-engines", [], options, settings=settings, shape=by_batch)
    report.notes.append(
        "Registered: tiles and answers in memory that the engine has page-locked, as in the "
        "service. Callers: threads that each start the next call at once. The limit is the "
        "smallest of operations and transfers at the rates of this run, and of an estimate of the "
        "activations' traffic (each convolution reads and writes its activations once)."
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        bundles = [
            with_larger_batches(path, max(options.batch), Path(folder)) for path in options.bundle
        ]
        try:
            _Bench(options, report, bundles, stack).measure()
        except KeyboardInterrupt:
            report.notes.append("The run was interrupted.")
    return report.finish()


class _Bench:
    """All measurements of a run."""

    def __init__(
        self,
        options: argparse.Namespace,
        report: Report,
        bundles: Sequence[Path],
        stack: contextlib.ExitStack,
    ) -> None:
        self._options = options
        self._report = report
        self._bundles = bundles
        # Loaded engines sleep between their turns; None after a failure.
        self._engines: dict[tuple[Path, str, Precision], EngineTurns | None] = {}
        self._stack = stack
        self._rates = Rates()
        self._values: dict[str, int] = {}

    def measure(self) -> None:
        """Take all measurements, the most important first."""
        options = self._options
        measure_rates(
            self._report,
            self._rates,
            device=options.device,
            seconds=min(options.seconds, 0.5),
            precisions=options.precision,
        )
        first, *others = options.precision
        names = [str(path) for path in self._bundles]
        for name in names:
            self._measure_network(name, first, [Way(graph=self._has_graphs)])
        self._measure_engines(first, ["slots"])
        self._measure_engines(first, ["slots + 1", "1", "plain"])
        self._close_engines()
        if options.paper:
            self._measure_network(PAPER, first, [Way(graph=self._has_graphs)])
        for precision in others:
            self._measure_engines(precision, ["slots"])
            self._close_engines()
        for name in names:
            self._measure_network(name, first, self._other_ways())

    @property
    def _has_graphs(self) -> bool:
        return self._options.device == "cuda"

    def _other_ways(self) -> list[Way]:
        graph = self._has_graphs
        ways = [Way(autocast=True, graph=graph), Way(channels_last=False, graph=graph)]
        if graph:
            ways.append(Way(graph=False))
        if self._options.compile:
            ways.append(Way(graph=graph, compiled=True))
        return ways

    def _measure_network(self, name: str, precision: Precision, ways: Sequence[Way]) -> None:
        if precision == "int8":
            return  # not with torch
        if precision == "fp32":
            ways = [way for way in ways if not way.autocast]
        options = self._options
        smallest, largest = min(options.batch), max(options.batch)
        chosen = sorted({smallest, options.batch[0], largest})
        if name == PAPER:
            chosen = [smallest]
        if len(ways) > 1:
            chosen = [options.batch[0]]
        job = NetworkJob(name, options.device, precision, chosen, ways, options.seconds)
        measure_network(self._report, self._rates, job, shown=Path(name).name, values=self._values)

    def _measure_engines(self, precision: Precision, kinds: Sequence[str]) -> None:
        for path in self._bundles:
            for name in self._options.engine:
                for kind in kinds:
                    self._measure_engine(path, name, precision, kind)

    def _close_engines(self) -> None:
        """End the engines that no later measurement needs, for their memory on the card."""
        self._stack.close()
        self._engines.clear()

    def _measure_engine(self, path: Path, name: str, precision: Precision, kind: str) -> None:
        """Measure one engine at every batch size, in one of the ways to call it.

        Args:
            path: Bundle.
            name: Engine name.
            precision: Execution precision; without effect if the engine or the bundle lacks it.
            kind: `slots`, `slots + 1` or `1` callers with registered memory, or `plain` memory.
        """
        manifest = load_bundle(path).manifest
        runs = ENGINES[name].precisions.get(device_kind(self._options.device), ())
        if precision not in runs or precision not in manifest.graphs:
            return
        about: Row = {"bundle": path.name, "what": name, "precision": precision}
        alone = self._opened(path, name, precision, about)
        if alone is None:
            return
        slots = alone.facts.slots
        if kind == "1" and slots == 1:
            return  # the same as with `slots`
        lr_bytes = manifest.tile[0] * manifest.tile[1]
        cost = TileCost(
            manifest.gmac,
            lr_bytes,
            manifest.scale**2 * lr_bytes,
            self._values.get(path.name, 0),
        )
        call = Call(
            callers={"1": 1, "slots + 1": slots + 1}.get(kind, slots),
            is_registered=kind != "plain",
            seconds=self._options.seconds,
            found=limits(
                cost, self._rates, precision, memory="pageable" if kind == "plain" else "pinned"
            ),
        )
        about |= {
            "callers": call.callers,
            "memory": "registered" if call.is_registered else "plain",
            "golden_levels": alone.facts.golden_levels,
        }
        for batch in self._options.batch:
            row = {**about, "batch": batch}
            if not self._report.measure(row, 2 * call.seconds, call.on(alone, batch)):
                self._engines[path, name, precision] = None
                break

    def _opened(
        self, path: Path, name: str, precision: Precision, about: Row
    ) -> EngineTurns | None:
        """Load an engine once; a failure is one row."""
        key = (path, name, precision)
        if key in self._engines:
            return self._engines[key]
        self._engines[key] = None

        def load() -> Sequence[Row]:
            limit_s = min(_LOAD_S, self._report.left_s)
            alone = EngineTurns(path, name, precision=precision, time_limit_s=limit_s)
            self._stack.enter_context(alone)
            if alone.facts.golden_problem:
                raise EngineProcessError(f"golden tile: {alone.facts.golden_problem}")
            self._engines[key] = alone
            return []

        self._report.measure(about, 2 * self._options.seconds, load)
        return self._engines[key]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu.engines", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_options(parser)
    parser.add_argument(
        "--bundle",
        type=Path,
        nargs="+",
        default=[Path("bundles/default"), Path("bundles/fast")],
        help="bundles (default: both shipped ones)",
    )
    parser.add_argument(
        "--engine",
        nargs="+",
        choices=_CANDIDATES,
        default=None,
        help="engines (default: all whose runtime can be imported)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=["fp16", "bf16", "fp32"],
        help="precisions, the most important first (default: fp16 bf16 fp32)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
        default=[16, 8, 32, 64, 4, 1, 2],
        metavar="N",
        help="tiles in a call, the most important first (default: 16 8 32 64 4 1 2)",
    )
    parser.add_argument(
        "--seconds", type=float, default=0.6, help="time for each row (default: 0.6)"
    )
    parser.add_argument("--no-paper", dest="paper", action="store_false", help="leave out ResNet-9")
    parser.add_argument(
        "--compile", action="store_true", help="also try torch.compile, which takes a minute"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
