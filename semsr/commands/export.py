"""`semsr export`: a checkpoint to a bundle, each graph proven against the reference."""

import argparse
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from semsr.commands.options import Commands, UsageError, pair, print_rows


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser("export", help="turn a checkpoint into a bundle")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--name", help="model name (default: the folder's)")
    parser.add_argument("--tile", default="240,240", help="LR tile H,W (default 240,240)")
    parser.add_argument("--max-batch-size", type=int, default=4)
    parser.add_argument("--window", help="default grey range LO,HI of 16-bit input")
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["fp32"],
        choices=["fp32", "fp16", "bf16", "int8"],
        help="what the bundle can be run in (default: fp32, which is always there)",
    )
    parser.add_argument(
        "--calibration", type=Path, help="folder of training LR tiles that set INT8's ranges"
    )
    parser.add_argument(
        "--benchmark",
        type=Path,
        help="benchmark with the split thousand_defect (semsr simulate): BF16 and INT8 must find "
        "as many defects there",
    )
    parser.add_argument(
        "--domain",
        type=Path,
        help="folder of training LR tiles without known defects: what the flags residual and "
        "domain-distance are measured by (default: --calibration; without either there are none)",
    )
    parser.add_argument(
        "--clean",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders of further LR tiles without known defects, on which the residual must not "
        "alarm, one a kind",
    )
    parser.add_argument(
        "--tensorrt",
        action="store_true",
        help="also build TensorRT plans of FP32 and FP16 into SEMSR_PLAN_CACHE",
    )
    parser.add_argument(
        "--compute-capability", metavar="X.Y", help="of the plans' GPU (default: this machine's)"
    )
    parser.add_argument("--json", action="store_true", help="print the parity rows as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # The exporter of torch warns about packages that this project does not use.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    from export.exporter import export_bundle
    from export.parity import format_rows
    from service.engines.cpu import available_cpus

    calibration, recall_judge = [], None
    if options.calibration is not None:
        from semsr.export_gates import load_calibration

        calibration = load_calibration(options.calibration)
    if options.benchmark is not None:
        from semsr.export_gates import RecallJudge

        recall_judge = RecallJudge(options.benchmark)
    domain = options.domain or options.calibration
    if options.clean and domain is None:
        raise UsageError("--clean needs the training's own tiles too: --domain FOLDER")
    trust_tiles = None
    if domain is not None:
        from semsr.export_gates import load_trust_tiles

        trust_tiles = load_trust_tiles(domain, options.clean)
    result = export_bundle(
        options.checkpoint,
        options.out,
        precisions=options.precision,
        calibration=calibration,
        recall_judge=recall_judge,
        trust_tiles=trust_tiles,
        name=options.name,
        tile=pair(options.tile, "--tile"),
        max_batch_size=options.max_batch_size,
        window=None if options.window is None else pair(options.window, "--window"),
        threads=available_cpus(),
    )
    print_rows(
        [asdict(row) for row in result.parity], format_rows(result.parity), as_json=options.json
    )
    sys.stderr.write(f"bundle: {options.out} ({result.bundle.version})\n")
    if options.tensorrt:
        from semsr.commands.bundle import build_all_plans

        build_all_plans(result.bundle, capability=options.compute_capability)
    return 0
