"""`semsr bench`: the service, engines, the scheduler or a scan, each with its limits."""

import argparse
from pathlib import Path

from loadtests.command_options import add_json, add_plot, check_packages, check_positive
from loadtests.schedule_command import add_schedule
from semsr.commands.options import ENGINES, Commands, UsageError, add_command, group_of, print_rows

_SERVICE = "the service against its engine alone and against nginx"
_ENGINE = "bundle x precision x engine x batch, against the machine's own peak"
_SCAN = "a scan against the limits of its cores and its disk"


def add(commands: Commands) -> None:
    """Declare the subcommands."""
    what = group_of(
        commands,
        "bench",
        help="measure the service, engines, the scheduler or a scan",
        default_command="service",
        examples=["semsr bench --seconds 6", "semsr bench engine --no-peak"],
    )
    _add_service(what)
    _add_engine(what)
    add_schedule(what)
    _add_scan(what)


def _add_service(what: Commands) -> None:
    parser = add_command(
        what,
        "service",
        help=f"measure {_SERVICE} (what `semsr bench` alone does)",
        examples=["semsr bench --seconds 6 --connections 16", "semsr bench --json"],
    )
    parser.add_argument("--bundle", type=Path, help="bundle to serve (default: SEMSR_BUNDLE)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=15.0,
        metavar="S",
        help="length of each of the nine measurements in seconds, its six turns together; longer "
        "where a model gives few answers a second (6 s took 3 min 14 s in all, default model, two "
        "cores)",
    )
    parser.add_argument(
        "--connections", type=int, default=16, metavar="N", help="requests in flight"
    )
    add_json(parser)
    parser.set_defaults(run=_bench_service)


def _add_engine(what: Commands) -> None:
    parser = add_command(
        what,
        "engine",
        help=f"measure {_ENGINE}",
        examples=[
            "semsr bench engine --no-peak",
            "semsr bench engine --engine onnx --batch 1 4 --no-peak --plot out/speed.png",
        ],
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        action="append",
        default=[],
        help="bundle to run; may be repeated (default: SEMSR_BUNDLE)",
    )
    parser.add_argument(
        "--engine",
        nargs="+",
        default=[],
        choices=ENGINES[1:],
        help="engines to measure (default: all that are installed)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=[],
        choices=["fp32", "fp16", "bf16", "int8"],
        help="execution precisions (default: all that the bundle has)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="tiles in a call (default: 1 2 4 8, on a GPU the powers of two that the bundle takes)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=15.0,
        metavar="S",
        help="time for each combination in seconds, its three rounds together",
    )
    parser.add_argument(
        "--no-peak",
        action="store_true",
        help="leave out the machine's peak, whose measurement needs torch",
    )
    parser.add_argument(
        "--beside-paper",
        action="store_true",
        help="measure the paper's generator too (685 GMAC, random weights, ONNX Runtime FP32); "
        "needs torch",
    )
    add_plot(parser)
    add_json(parser)
    parser.set_defaults(run=_bench_engines)


def _add_scan(what: Commands) -> None:
    parser = add_command(
        what,
        "scan",
        help=f"measure {_SCAN}",
        examples=["semsr bench scan --tiles 2000", "semsr bench scan --lot samples --engine onnx"],
    )
    parser.add_argument("--bundle", type=Path, help="bundle to run (default: SEMSR_BUNDLE)")
    parser.add_argument("--engine", choices=ENGINES, default="identity", help="engine to run")
    parser.add_argument(
        "--lot", type=Path, help="folder of tiles (default: npy tiles of noise, see --tiles)"
    )
    parser.add_argument(
        "--tiles", type=int, default=2000, metavar="N", help="number of npy tiles of noise"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        help="folder on the disk to be measured (default: the system's temporary folder)",
    )
    add_json(parser)
    parser.set_defaults(run=_bench_scan)


def _bench_service(options: argparse.Namespace) -> int:
    check_positive(options, "seconds", "connections")
    from loadtests.rows import format_rows
    from loadtests.scenarios.throughput import measure
    from service.settings import Settings

    rows = measure(
        options.bundle or Settings().bundle,
        seconds=options.seconds,
        connections=options.connections,
    )
    print_rows(rows, format_rows(rows), as_json=options.json)
    return 0


def _bench_engines(options: argparse.Namespace) -> int:
    check_positive(options, "seconds")
    check_packages(options)
    from loadtests.alone.engines import bench_engines, draw_engines, format_engines
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


def _bench_scan(options: argparse.Namespace) -> int:
    check_positive(options, "tiles")
    if options.lot is not None and not options.lot.is_dir():
        raise UsageError(f"--lot is {options.lot}, which is not a folder")
    from loadtests.alone.scan import bench_scan
    from loadtests.rows import format_rows
    from service.settings import Settings

    rows = bench_scan(
        options.bundle or Settings().bundle,
        engine=options.engine,
        lot=options.lot,
        tiles=options.tiles,
        scratch=options.scratch,
    )
    print_rows(rows, format_rows(rows), as_json=options.json)
    return 0
