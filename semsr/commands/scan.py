"""`semsr scan`: super-resolve whole lots of tiles, resumable and without a server."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsr.commands.options import (
    ENGINES,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Commands,
    UsageError,
    add_command,
    print_rows,
)

if TYPE_CHECKING:
    from semsr.scan_report import ScanReport
    from service.scans.options import ScanRequest
    from service.settings import Settings


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "scan",
        help="super-resolve a whole lot: folder, archive or stack; resumable",
        examples=[
            "semsr scan /data/lot7 /data/lot7-sr",
            "semsr scan lot7.h5::scan/tiles lot7-sr.zarr --window 0,4095",
            "semsr scan s3://fab/lot7 s3://fab/lot7-sr --dry-run",
            "semsr scan /data/lot7/lot7.klarf /data/lot7-sr",
        ],
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder, .tar, .npy, .tif, .h5 or .zarr (::NAME within), or a KLARF file (.klarf, "
        ".001) for the images that its defects name; a path or s3://…",
    )
    parser.add_argument(
        "sink", metavar="SINK", help="folder, or one stack: .zarr, .h5 or .tif; a path or s3://…"
    )
    parser.add_argument("--bundle", type=Path, help="bundle (default: SEMSR_BUNDLE)")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help="engine to run it with (default: SEMSR_ENGINE, or the engine of the resumed scan)",
    )
    parser.add_argument(
        "--precision",
        choices=["fp32", "fp16", "bf16", "int8"],
        help="precision to compute in (default: SEMSR_PRECISION, or the bundle's)",
    )
    parser.add_argument(
        "--format",
        choices=["png", "tiff", "npy", "jxl"],
        help="format of output files (default: as read)",
    )
    parser.add_argument(
        "--window",
        metavar="LO,HI",
        help="grey range of 16-bit tiles, such as 0,4095 (default: the bundle's)",
    )
    parser.add_argument(
        "--answer-dtype",
        choices=["uint8", "uint16"],
        default="uint8",
        help="data type of the outputs; uint16: the 8-bit answer over the window again",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=[8, 16],
        default=8,
        help="bits of the answers; 16: uint16 in the greys of the tiles, by onnx in FP32",
    )
    parser.add_argument(
        "--pixel-size-nm",
        metavar="X[,Y]",
        help="pixel size of the tiles, nanometres (default: the source's own)",
    )
    parser.add_argument(
        "--name-pattern",
        metavar="PATTERN",
        help="lot, wafer, die and tool in the names of tiles, such as '{lot}/W{wafer}/{die}_*'; "
        "fields {lot}, {wafer}, {die} (or {die_x} and {die_y}), {tool}; * is any text (default: "
        "names are not read)",
    )
    parser.add_argument(
        "--manifest",
        choices=["parquet", "csv"],
        help="form of the manifest (default: parquet where pyarrow is installed, else csv)",
    )
    parser.add_argument(
        "--work", type=Path, help="folder of the journal (default: SINK.scan next to a local sink)"
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="compute on a Ray cluster (extra ray): ray://HOST:10001; HOST:6379 or auto on one of "
        "its machines; local: a cluster started here (default: this machine without Ray)",
    )
    parser.add_argument(
        "--worker-cpus",
        type=int,
        metavar="N",
        help="CPUs of each worker of the cluster (default: SEMSR_THREADS, or a machine's)",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="continue where an earlier run stopped (default), or forget it",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a stack (.zarr, .h5, .tif) that exists and that this scan has not written",
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare the hash of every output of earlier runs"
    )
    parser.add_argument(
        "--patience-s",
        type=float,
        default=60.0,
        help="time limit of retries to an object store that does not answer, seconds",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="list and count tiles, and lot, wafer, die and tool that a pattern or a KLARF file "
        "gives; write nothing",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from semsr.interrupts import sigterm_interrupts

    # The time includes imports, listing and loading the engine.
    with sigterm_interrupts():
        return _run_interruptible(options)


def _run_interruptible(options: argparse.Namespace) -> int:
    from semsr.scan_dry_run import dry_run, dry_run_text
    from service.ground.logs import configure_logs
    from service.ground.memory import keep_freed_memory
    from service.scans.work_folder import default_work_folder
    from service.settings import Settings

    # Before the first thread: every tile allocates its answer.
    keep_freed_memory()
    changes: dict[str, Any] = {
        name: value
        for name in ("bundle", "engine", "precision")
        if (value := getattr(options, name)) is not None
    }
    # In either case: SEMSR_ANSWER_BITS is the service's.
    changes["answer_bits"] = options.bits
    if options.bits == 16:
        changes = _for_16_bits(changes)
    settings = Settings(**changes)
    configure_logs(settings.log_level, settings.log_format)
    request = _request(options)
    work = options.work or default_work_folder(request.sink)
    if options.dry_run:
        row = dry_run(request, settings=settings, work=work)
        print_rows([row], dry_run_text(row), as_json=options.json)
        return 0 if row["damage"] is None else EXIT_FAILED
    report = _scan(options, request, settings, work)
    if options.manifest is None and request.manifest == "csv":
        sys.stderr.write("the manifest is CSV; Parquet needs pyarrow (the extra scan)\n")
    print_rows([report.row()], report.text(), as_json=options.json)
    sys.stdout.flush()
    if report.was_stopped:
        return EXIT_INTERRUPTED
    return 0 if report.is_complete else EXIT_FAILED


def _scan(
    options: argparse.Namespace, request: "ScanRequest", settings: "Settings", work: Path
) -> "ScanReport":
    if options.worker_cpus is not None and options.worker_cpus < 1:
        raise UsageError(f"--worker-cpus is {options.worker_cpus}; expected at least 1")
    if options.cluster is None:
        if options.worker_cpus is not None:
            raise UsageError("--worker-cpus needs --cluster; without one, set SEMSR_THREADS")
        from semsr.scan import run_scan

        return run_scan(
            request,
            settings=settings,
            work=work,
            resume=options.resume,
            overwrite=options.overwrite,
            verify=options.verify,
        )
    from semsr.cluster.scan import run_cluster_scan

    return run_cluster_scan(
        request,
        settings=settings,
        work=work,
        cluster=options.cluster,
        worker_cpus=options.worker_cpus,
        resume=options.resume,
        overwrite=options.overwrite,
        verify=options.verify,
    )


def _for_16_bits(changes: dict[str, Any]) -> dict[str, Any]:
    """Add the settings of 16-bit answers, so that report and journal name what computes them."""
    needed = {"engine": "onnx", "precision": "fp32"}
    for name, value in needed.items():
        if changes.get(name, value) not in (value, "auto"):
            raise UsageError(
                f"--{name} is {changes[name]} with --bits 16, which runs by onnx in fp32"
            )
    return {**changes, **needed}


def _name_pattern(pattern: str | None) -> str | None:
    """Return a pattern unchanged, checked before anything is opened."""
    if pattern is None:
        return None
    from service.scans.name_pattern import NamePattern

    return NamePattern(pattern).pattern


def _request(options: argparse.Namespace) -> "ScanRequest":
    from service.ground.errors import BadRequest
    from service.images.metadata import parse_pixel_size
    from service.images.window import parse_window
    from service.scans.options import ScanRequest, default_form
    from service.scans.sinks import FORMATS

    try:
        size = options.pixel_size_nm
        return ScanRequest(
            source=options.source,
            sink=options.sink,
            window=None if options.window is None else parse_window(options.window),
            answer_dtype="uint16" if options.bits == 16 else options.answer_dtype,
            answer_bits=options.bits,
            answer_type=None if options.format is None else FORMATS[options.format],
            pixel_size=None if size is None else parse_pixel_size(size),
            manifest=options.manifest or default_form(),
            patience_s=options.patience_s,
            name_pattern=_name_pattern(options.name_pattern),
        )
    except BadRequest as error:
        raise UsageError(str(error)) from error
