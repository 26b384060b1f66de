"""`semsr bench`: the service beside its limits, or the engines alone."""

import argparse
from pathlib import Path

from semsr.commands.options import Commands, UsageError, print_rows


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser(
        "bench",
        help="measure the service beside its engine alone and beside nginx, or engines alone",
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=["service", "engine", "schedule", "scan"],
        default="service",
        help="service: through HTTP (default); engine: bundle x precision x engine x batch; "
        "schedule: the scheduler in simulated time; scan: a scan beside its cores and its disk",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        action="append",
        default=[],
        help="bundle (default: SEMSR_BUNDLE); several times for several engines' bundles",
    )
    engine = parser.add_argument_group("of engines")
    engine.add_argument("--engine", nargs="+", default=[], help="default: every installed one")
    engine.add_argument(
        "--precision",
        nargs="+",
        default=[],
        choices=["fp32", "fp16", "bf16", "int8"],
        help="default: every one that the bundle has",
    )
    engine.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4, 8])
    engine.add_argument("--no-peak", action="store_true", help="leave the machine's peak out")
    engine.add_argument(
        "--beside-paper",
        action="store_true",
        help="measure the paper's generator too (685 GMAC, random weights, ONNX Runtime FP32)",
    )
    schedule = parser.add_argument_group("of the schedule")
    schedule.add_argument(
        "--cost-ms",
        nargs="+",
        default=[],
        metavar="N=MS",
        help="milliseconds of a batch of N tiles, 1=… among them (semsr bench engine measures it)",
    )
    schedule.add_argument("--load", type=float, nargs="+", default=[0.2, 0.5, 0.8, 0.95, 1.5, 3.0])
    schedule.add_argument("--slots", type=int, default=1, help="batches that run at once")
    schedule.add_argument("--budget-ms", type=float, help="default: three of the largest batches")
    scan = parser.add_argument_group("of a scan")
    scan.add_argument("--lot", type=Path, help="folder of tiles (default: npy tiles of noise)")
    scan.add_argument("--tiles", type=int, default=2000, help="how many of those")
    scan.add_argument("--scratch", type=Path, help="folder on the disk to be measured")
    parser.add_argument("--plot", type=Path, help="engine, schedule: draw it, a PNG")
    parser.add_argument(
        "--seconds",
        type=float,
        default=15.0,
        help="length of each measurement, all its turns together",
    )
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.what == "engine":
        return _bench_engines(options)
    if options.what == "schedule":
        return _bench_schedule(options)
    if options.what == "scan":
        return _bench_scan(options)
    from semsr.bench.report import format_rows
    from semsr.bench.runs import run_bench

    if len(options.bundle) > 1:
        raise UsageError(f"the service is measured with one bundle, got {len(options.bundle)}")
    rows = run_bench(
        bundle=options.bundle[0] if options.bundle else None,
        seconds=options.seconds,
        connections=options.connections,
    )
    print_rows(rows, format_rows(rows), as_json=options.json)
    return 0


def _bench_engines(options: argparse.Namespace) -> int:
    from semsr.bench.engines import bench_engines, draw_engines, format_engines
    from service.settings import Settings

    rows = bench_engines(
        options.bundle or [Settings().bundle],
        engines=options.engine,
        precisions=options.precision,
        batches=tuple(options.batch),
        seconds=options.seconds,
        with_peak=not options.no_peak,
        with_paper=options.beside_paper,
    )
    if options.plot is not None:
        draw_engines(rows, options.plot)
    print_rows(rows, format_engines(rows), as_json=options.json)
    return 0


def _bench_schedule(options: argparse.Namespace) -> int:
    from semsr.bench.schedule import bench_schedule, draw_outcomes, format_outcomes, rows

    costs = dict(_cost(text) for text in options.cost_ms)
    if 1 not in costs:
        raise UsageError("--cost-ms needs the cost of one tile at least, such as --cost-ms 1=180")
    budget_s = 3 * max(costs.values()) if options.budget_ms is None else options.budget_ms / 1e3
    outcomes = bench_schedule(
        costs,
        shares=options.load,
        # Enough tiles for a 99th percentile, whatever the engine.
        seconds=max(options.seconds, 2000 * costs[1]),
        slots=options.slots,
        budget_s=budget_s,
    )
    if options.plot is not None:
        draw_outcomes(outcomes, options.plot)
    print_rows(rows(outcomes), format_outcomes(outcomes), as_json=options.json)
    return 0


def _bench_scan(options: argparse.Namespace) -> int:
    from semsr.bench.report import format_rows
    from semsr.bench.scan import bench_scan
    from service.settings import Settings

    if len(options.engine) > 1 or len(options.bundle) > 1:
        raise UsageError("one scan is measured with one bundle and one engine")
    rows = bench_scan(
        options.bundle[0] if options.bundle else Settings().bundle,
        engine=options.engine[0] if options.engine else "identity",
        lot=options.lot,
        tiles=options.tiles,
        scratch=options.scratch,
    )
    print_rows(rows, format_rows(rows), as_json=options.json)
    return 0


def _cost(text: str) -> tuple[int, float]:
    try:
        size, ms = text.split("=")
        return int(size), float(ms) / 1e3
    except ValueError as error:
        raise UsageError(f"--cost-ms is {text!r}; expected one such as 4=720") from error
