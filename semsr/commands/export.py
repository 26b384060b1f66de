"""`semsr export`: export a checkpoint as a bundle, and compare each graph with the reference."""

import argparse
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path

from semsr.commands.checks import (
    at_least,
    existing_benchmark,
    existing_file,
    folder_of_images,
    need_development,
    writable_folder,
    wrong_use,
)
from semsr.commands.options import (
    Commands,
    UsageError,
    add_command,
    compute_capability,
    grey_window,
    pair,
    print_rows,
)


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "export",
        help="turn a checkpoint into a bundle, each graph compared with torch",
        examples=[
            "semsr export runs/mine/checkpoint.safetensors --out bundles/mine "
            "--domain DATA/train_lr",
            "semsr export runs/mine/checkpoint.safetensors --out bundles/mine --overwrite",
        ],
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint.safetensors of a run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    parser.add_argument("--name", help="model name (default: the folder's)")
    parser.add_argument("--tile", default="240,240", help="LR tile H,W (default 240,240)")
    parser.add_argument(
        "--max-batch-size",
        type=int,
        default=32,
        help="largest batch that the service may form (default 32; on a CPU it forms at most 4)",
    )
    parser.add_argument(
        "--window",
        metavar="LO,HI",
        help="grey range of 16-bit input where a request gives none, and of the tiles that are "
        "read here (default: data.window of the checkpoint's recipe)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["fp32"],
        choices=["fp32", "fp16", "bf16", "int8"],
        help="precisions of the bundle (default: fp32, which is always included)",
    )
    parser.add_argument(
        "--half-weights",
        action="store_true",
        help="weights rounded to FP16 before anything is measured, and stored so: half the "
        "bundle's size; FP32 is still computed in FP32",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        help="folder of training LR tiles that set INT8's ranges (default: none)",
    )
    parser.add_argument(
        "--int8-psnr",
        type=float,
        metavar="DB",
        help="least PSNR of INT8 against FP32 in dB, at least 45 (default: 45.5); where INT8 finds "
        "too few defects, a higher one keeps more convolutions in FP32",
    )
    parser.add_argument(
        "--benchmark",
        type=Path,
        help="benchmark with the split thousand_defect (semsr simulate): BF16 and INT8 must find "
        "as many defects there (default: none)",
    )
    parser.add_argument(
        "--domain",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="folders of training LR tiles without known defects, one a tool: limits of the flags "
        "residual and domain-distance (default: --calibration; without either there are none)",
    )
    parser.add_argument(
        "--clean",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders of further LR tiles without known defects, on which the residual must not "
        "alarm, one a kind (default: none)",
    )
    parser.add_argument(
        "--tensorrt",
        action="store_true",
        help="also build TensorRT plans of FP32 and FP16 into SEMSR_PLAN_CACHE",
    )
    parser.add_argument(
        "--compute-capability",
        metavar="X.Y",
        help="compute capability of the GPU of --tensorrt (default: this machine's)",
    )
    parser.add_argument("--json", action="store_true", help="print the parity rows as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("export")
    _check(options)
    from semsr.progress import progress
    from training.ground.progress import shown_by

    # The exporter of torch warns about packages that this project does not use.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with progress("loading PyTorch"):
        from engines.cpu import available_cpus
        from export.exporter import INT8_PSNR_DB, export_bundle
        from export.parity import format_rows
        from semsr.export_gates import RecallJudge, load_calibration, load_trust_tiles
        from semsr.image_reading import reading_of_checkpoint

    calibration, recall_judge, trust_tiles = [], None, None
    domains = options.domain or ([options.calibration] if options.calibration else [])
    reading = reading_of_checkpoint(options.checkpoint)
    if options.window is not None:
        reading = replace(reading, window=grey_window(options.window, "--window"))
    with progress("reading images"):
        if options.calibration is not None:
            calibration = load_calibration(options.calibration, reading)
        if options.benchmark is not None:
            recall_judge = RecallJudge(options.benchmark)
        if domains:
            trust_tiles = load_trust_tiles(domains, options.clean, reading)
    with shown_by(progress):
        result = export_bundle(
            options.checkpoint,
            options.out,
            precisions=options.precision,
            half_weights=options.half_weights,
            calibration=calibration,
            int8_psnr_db=INT8_PSNR_DB if options.int8_psnr is None else options.int8_psnr,
            recall_judge=recall_judge,
            trust_tiles=trust_tiles,
            name=options.name,
            tile=pair(options.tile, "--tile"),
            max_batch_size=options.max_batch_size,
            window=reading.window,
            threads=available_cpus(),
            overwrite=options.overwrite,
            stage=progress,
        )
    print_rows(
        [asdict(row) for row in result.parity], format_rows(result.parity), as_json=options.json
    )
    sys.stderr.write(f"bundle: {options.out} ({result.bundle.version})\n")
    if options.tensorrt:
        from semsr.commands.bundle import build_all_plans

        build_all_plans(result.bundle, capability=options.compute_capability)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Check every argument before torch is loaded."""
    from bundle_format.bundle import BundleError
    from bundle_format.bundle_writer import check_target
    from training.evaluation.folders.benchmark import SPLITS

    existing_file(options.checkpoint, "the checkpoint")
    writable_folder(options.out, "--out")
    with wrong_use(BundleError):
        check_target(options.out, overwrite=options.overwrite)
    if min(pair(options.tile, "--tile")) < 1:
        raise UsageError(f"--tile is {options.tile}; expected two sides of at least 1 px")
    if options.window is not None:
        grey_window(options.window, "--window")
    at_least(options.max_batch_size, 1, "--max-batch-size")
    named = [("--calibration", options.calibration)]
    named += [("--domain", folder) for folder in options.domain or ()]
    for option, folder in [*named, *(("--clean", folder) for folder in options.clean)]:
        if folder is not None:
            folder_of_images(folder, option)
    if options.clean and options.domain is None and options.calibration is None:
        raise UsageError("--clean also needs the training's own tiles: --domain FOLDER")
    if "int8" in options.precision and options.calibration is None:
        raise UsageError("--precision int8 needs training LR tiles: --calibration FOLDER")
    if options.int8_psnr is not None and options.int8_psnr < 45:
        raise UsageError(f"--int8-psnr is {options.int8_psnr:g} dB; expected at least 45")
    judged = [name for name in ("bf16", "int8") if name in options.precision]
    if judged and options.benchmark is None:
        raise UsageError(
            f"--precision {' '.join(judged)} must find as many defects as fp32: --benchmark DIR"
        )
    if options.benchmark is not None:
        existing_benchmark(options.benchmark, SPLITS["thousand"][:1], "--benchmark")
    if options.compute_capability is not None and not options.tensorrt:
        raise UsageError("--compute-capability needs --tensorrt: give both")
    if options.tensorrt:
        _check_plans(options)


def _check_plans(options: argparse.Namespace) -> None:
    """Check that TensorRT's plans can be built, before minutes of exporting."""
    from engines.installation import install_hint
    from engines.registry import ENGINES, installed_module
    from service.settings import Settings

    if installed_module(ENGINES["tensorrt"]) is None:
        raise UsageError(
            f"--tensorrt needs TensorRT: on RTX cards {install_hint('rtx')}; on others "
            f"{install_hint('gpu')}"
        )
    if Settings().plan_cache is None:
        raise UsageError("--tensorrt needs a folder for the plans: set SEMSR_PLAN_CACHE")
    compute_capability(options.compute_capability, "cuda")
