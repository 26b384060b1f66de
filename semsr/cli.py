"""The command `semsr`: one subcommand per job, each importing its folder only when it runs.

Tables and results go to stdout (`--json` for machines: a list of rows with plain keys), progress
and logs to stderr. Exit codes: 0 done, 1 the job failed, 2 wrong arguments or settings,
130 stopped.
"""

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[argparse.ArgumentParser]


class UsageError(Exception):
    """Something that the user gave is missing or wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UsageError as error:
        sys.stderr.write(f"semsr: {error}\n")
        return EXIT_USAGE
    except ImportError as error:
        sys.stderr.write(
            f"semsr {options.command}: {error}; this subcommand needs an extra, "
            "see the table of commands in README.md\n"
        )
        return EXIT_USAGE
    except Exception as error:
        if os.environ.get("SEMSR_TRACEBACK"):
            raise
        sys.stderr.write(f"semsr {options.command}: {type(error).__name__}: {error}\n")
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="semsr",
        description="Super-resolution of SEM tiles: train, export, serve.",
    )
    version = importlib.metadata.version("semsr")
    parser.add_argument("--version", action="version", version=f"semsr {version}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_serve,
        _add_demo,
        _add_upscale,
        _add_bundle,
        _add_bench,
        _add_train,
        _add_evaluate,
        _add_export,
        _add_simulate,
    ):
        add(commands)
    return parser


# --- serving: works with the base dependencies ---


def _add_serve(commands: "Commands") -> None:
    parser = commands.add_parser("serve", help="serve a bundle over HTTP until stopped")
    parser.add_argument("--bundle", help="bundle to serve (SEMSR_BUNDLE)")
    parser.add_argument("--host", help="address to listen on (SEMSR_HOST)")
    parser.add_argument("--port", help="TCP port, 0 for a free one (SEMSR_PORT)")
    parser.add_argument("--engine", help="auto, onnx, openvino or identity (SEMSR_ENGINE)")
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    from service.__main__ import main as serve

    for name in ("bundle", "host", "port", "engine"):
        value = getattr(options, name)
        if value is not None:
            os.environ[f"SEMSR_{name.upper()}"] = value
    return serve()


def _add_demo(commands: "Commands") -> None:
    parser = commands.add_parser(
        "demo", help="serve, send tiles over HTTP, write LR | bicubic | SR pictures, stop"
    )
    parser.add_argument("--tiles", type=Path, default=Path("samples"), help="folder of images")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")
    parser.add_argument("--bundle", type=Path, help="bundle to serve (default: SEMSR_BUNDLE)")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from semsr.demo import format_rows, run_demo

    rows = run_demo(options.tiles, options.out, bundle=options.bundle)
    _print([asdict(row) for row in rows], format_rows(rows), as_json=options.json)
    refused = [row.name for row in rows if row.status != 200]
    sys.stderr.write(f"pictures: {options.out}/NAME_compare.png (LR | bicubic | SR)\n")
    if refused:
        sys.stderr.write(f"semsr demo: {len(refused)} of {len(rows)} refused: {refused[0]}…\n")
        return EXIT_FAILED
    return 0


def _add_upscale(commands: "Commands") -> None:
    parser = commands.add_parser("upscale", help="super-resolve image files without a server")
    parser.add_argument("images", type=Path, nargs="+", help="image files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--bundle", type=Path, help="bundle (default: SEMSR_BUNDLE)")
    parser.add_argument("--engine", help="onnx, openvino, identity or auto (SEMSR_ENGINE)")
    parser.set_defaults(run=_upscale)


def _upscale(options: argparse.Namespace) -> int:
    from semsr.upscale import upscale_files

    failures = upscale_files(
        options.images, options.out, bundle=options.bundle, engine=options.engine
    )
    for path, reason in failures:
        sys.stderr.write(f"{path}: {reason}\n")
    return EXIT_FAILED if failures else 0


def _add_bundle(commands: "Commands") -> None:
    parser = commands.add_parser("bundle", help="verify a bundle and show what it holds")
    parser.add_argument("path", type=Path)
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")
    parser.set_defaults(run=_bundle)


def _bundle(options: argparse.Namespace) -> int:
    from export.bundle import load_bundle

    bundle = load_bundle(options.path)
    manifest = bundle.manifest
    rows = [{"version": bundle.version, **manifest.model_dump(mode="json")}]
    height, width = manifest.tile
    text = "\n".join(
        [
            f"{manifest.name} {bundle.version}: every file matches its sha256",
            f"  generator  {manifest.generator.name} {manifest.generator.hyper_parameters}",
            f"  tile       {height}x{width}, scale {manifest.scale}, halo {manifest.halo_px} px",
            f"  precision  {manifest.precision} (graphs: {', '.join(manifest.graphs)})",
            f"  batch      up to {manifest.max_batch_size}",
            *(
                f"  parity     {name}: max {figures.max_error:.0f}, mean "
                f"{figures.mean_error:.6f} grey levels"
                for name, figures in manifest.parity.items()
            ),
        ]
    )
    _print(rows, text, as_json=options.json)
    return 0


def _add_bench(commands: "Commands") -> None:
    parser = commands.add_parser(
        "bench",
        help="measure the service beside its engine alone and beside nginx, or engines alone",
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=["service", "engine"],
        default="service",
        help="service: through HTTP (default); engine: bundle x precision x engine x batch",
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
    engine.add_argument("--plot", type=Path, help="draw tiles/s over the batch size, a PNG")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    if options.what == "engine":
        return _bench_engines(options)
    from semsr.bench.report import format_rows
    from semsr.bench.runs import run_bench

    if len(options.bundle) > 1:
        raise UsageError(f"the service is measured with one bundle, got {len(options.bundle)}")
    rows = run_bench(
        bundle=options.bundle[0] if options.bundle else None,
        seconds=options.seconds,
        connections=options.connections,
    )
    _print(rows, format_rows(rows), as_json=options.json)
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
    )
    if options.plot is not None:
        draw_engines(rows, options.plot)
    _print(rows, format_engines(rows), as_json=options.json)
    return 0


# --- offline work: needs the extras train and export ---


def _add_train(commands: "Commands") -> None:
    parser = commands.add_parser("train", help="train a generator from a recipe")
    parser.add_argument("recipe", help="TOML file, or the name of a shipped recipe")
    parser.add_argument("--data", type=Path, help="data folder (default: SEMSR_DATA)")
    parser.add_argument("--run", type=Path, dest="run_dir", help="run folder (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe entry"
    )
    _add_vgg16(parser)
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from training.config import find_recipe
    from training.trainer import train

    recipe = find_recipe(options.recipe)
    checkpoint = train(
        recipe,
        data_root=_data_root(options.data),
        run_dir=options.run_dir or Path("runs") / recipe.stem,
        overrides=options.set,
        resume=options.resume,
        vgg16=_vgg16(options.vgg16),
    )
    sys.stdout.write(f"{checkpoint}\n")
    return 0


def _add_vgg16(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vgg16", type=Path, help="weights of the feature network (default: SEMSR_VGG16)"
    )


def _vgg16(given: Path | None) -> Path | None:
    named = os.environ.get("SEMSR_VGG16")
    return given or (Path(named) if named else None)


def _data_root(given: Path | None) -> Path:
    root = given or (Path(os.environ["SEMSR_DATA"]) if os.environ.get("SEMSR_DATA") else None)
    if root is None:
        raise UsageError("no data folder: give --data DIR or set SEMSR_DATA")
    if not root.is_dir():
        raise UsageError(f"the data folder {root} does not exist")
    return root


def _add_export(commands: "Commands") -> None:
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
    parser.add_argument("--json", action="store_true", help="print the parity rows as JSON")
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    import logging

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
    result = export_bundle(
        options.checkpoint,
        options.out,
        precisions=options.precision,
        calibration=calibration,
        recall_judge=recall_judge,
        name=options.name,
        tile=_pair(options.tile, "--tile"),
        max_batch_size=options.max_batch_size,
        window=None if options.window is None else _pair(options.window, "--window"),
        threads=available_cpus(),
    )
    _print([asdict(row) for row in result.parity], format_rows(result.parity), as_json=options.json)
    sys.stderr.write(f"bundle: {options.out} ({result.bundle.version})\n")
    return 0


def _add_evaluate(commands: "Commands") -> None:
    parser = commands.add_parser(
        "evaluate",
        help="judge bundles by defect recall, false alarms, backgrounds and edges; write a report",
    )
    parser.add_argument(
        "--bundle",
        action="append",
        default=[],
        metavar="[NAME=]DIR[,DIR…]",
        help="bundle to judge, several times for several; DIR,DIR… are seeds of one method "
        "(default: SEMSR_BUNDLE)",
    )
    parser.add_argument(
        "--seeds", type=Path, nargs="+", default=[], metavar="DIR", help="seeds of one method"
    )
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="bundle that the first one must beat",
    )
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="finished pictures of another tool, FOLDER/test_clean/0000.png …",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="benchmark folder (semsr simulate), or one above the real tiles in sem/",
    )
    parser.add_argument(
        "--real", type=Path, help="folder above the real tiles in sem/ (default: SEMSR_DATA)"
    )
    parser.add_argument(
        "--report", type=Path, default=Path("out/report"), help="folder of the report"
    )
    parser.add_argument("--split", default="test", help="test (default) or thousand")
    parser.add_argument("--limit", type=int, help="only so many tiles of each split")
    parser.add_argument("--engine", default="onnx", help="engine that runs bundles (default onnx)")
    parser.add_argument("--detector", type=Path, help="weights of the detector (default: shipped)")
    parser.add_argument("--jobs", type=int, help="processes that judge (default: usable CPUs)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("out/evaluation-cache"),
        help="folder that keeps measurements (default out/evaluation-cache)",
    )
    _add_vgg16(parser)
    parser.add_argument("--json", action="store_true", help="print one row a method as JSON")
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from semsr.evaluate import (
        bundle_method,
        make_judge,
        parse_bundles,
        parse_seeds,
        pictures_methods,
    )
    from service.engines.cpu import available_cpus
    from service.settings import DEFAULT_BUNDLE
    from training.evaluation.benchmark import is_benchmark
    from training.evaluation.real_tiles import has_real_tiles
    from training.evaluation.report import rows, write_report, write_targets
    from training.evaluation.run import Options, evaluate
    from training.evaluation.targets import missed

    benchmark = options.data if options.data is not None and is_benchmark(options.data) else None
    real = options.real or (None if benchmark == options.data else options.data)
    if real is None and os.environ.get("SEMSR_DATA"):
        real = Path(os.environ["SEMSR_DATA"])
    if real is not None and not has_real_tiles(real):
        raise UsageError(f"{real} is no benchmark and holds no real tiles (sem/starter_x4)")
    if benchmark is None and real is None:
        raise UsageError("nothing to evaluate on: give --data DIR (semsr simulate writes one)")
    named = parse_bundles(options.bundle)
    if options.seeds:
        named += parse_seeds(options.seeds)
    finished = pictures_methods(options.images)
    if not named and not finished:
        named = parse_bundles([os.environ.get("SEMSR_BUNDLE", str(DEFAULT_BUNDLE))])
    methods = [bundle_method(item, role="candidate", engine=options.engine) for item in named]
    methods += finished
    methods += [
        bundle_method(item, role="baseline", engine=options.engine)
        for item in parse_bundles(options.baseline)
    ]
    judge, judge_version, description = None, "", {}
    if benchmark is not None:
        judge, judge_version, description = make_judge(
            detector=options.detector, vgg16=_vgg16(options.vgg16)
        )
    report = evaluate(
        methods,
        Options(
            out=options.report,
            benchmark=benchmark,
            data_root=real,
            split=options.split,
            limit=options.limit,
            jobs=options.jobs or available_cpus(),
            cache=options.cache,
        ),
        judge=judge,
        judge_version=judge_version,
        detector_description=description,
    )
    page = write_report(report, options.report)
    if options.json:
        _print(rows(report), "", as_json=True)
    else:
        write_targets(report.targets, file=sys.stdout)
    sys.stderr.write(f"report: {page}\n")
    return EXIT_FAILED if missed(report.targets) else 0


def _add_simulate(commands: "Commands") -> None:
    parser = commands.add_parser(
        "simulate", help="write the simulated benchmark, or single tiles, with known truth"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the benchmark or tiles")
    parser.add_argument("--seed", type=int, required=True, help="same seed, same pictures")
    parser.add_argument(
        "--splits", metavar="A,B,…", help="splits of the benchmark (default: train and test)"
    )
    parser.add_argument("--jobs", type=int, help="processes (default: one per usable CPU)")
    loose = parser.add_argument_group("single tiles instead of the benchmark")
    loose.add_argument("--tiles", type=int, metavar="COUNT", help="number of tiles")
    loose.add_argument("--tile", type=int, default=240, help="side of an LR tile in pixels")
    loose.add_argument("--scale", type=int, default=4, help="HR pixels per LR pixel")
    loose.add_argument("--truth", action="store_true", help="also write HR pictures and masks")
    loose.add_argument("--clean", action="store_true", help="plant no defects")
    loose.add_argument("--tiff", type=int, default=0, help="also write the first N as 16-bit TIFF")
    parser.set_defaults(run=_simulate)


def _simulate(options: argparse.Namespace) -> int:
    from training.simulator import simulate_tiles, write_benchmark
    from training.simulator.splits import DEFAULT_SPLITS, SPLITS

    if options.tiles is None:
        given = [name for name in ("truth", "clean", "tiff") if getattr(options, name)]
        if given or (options.tile, options.scale) != (240, 4):
            raise UsageError("--tile, --scale, --truth, --clean and --tiff need --tiles COUNT")
        splits = DEFAULT_SPLITS if options.splits is None else options.splits.split(",")
        if unknown := [name for name in splits if name not in SPLITS]:
            raise UsageError(f"unknown split {unknown[0]!r}; expected some of {', '.join(SPLITS)}")
        header = write_benchmark(options.out, seed=options.seed, splits=splits, jobs=options.jobs)
        sys.stdout.write(f"{header}\n")
        return 0
    if options.splits is not None or options.jobs is not None:
        raise UsageError("--splits and --jobs are the benchmark's: give them without --tiles")
    index = simulate_tiles(
        options.out,
        seed=options.seed,
        count=options.tiles,
        tile_px=options.tile,
        scale=options.scale,
        with_truth=options.truth,
        with_defects=not options.clean,
        num_tiff=options.tiff,
    )
    sys.stdout.write(f"{index}\n")
    return 0


def _pair(text: str, name: str) -> tuple[int, int]:
    try:
        first, second = (int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}; expected two integers such as 240,240") from error
    return first, second


def _print(rows: list[dict[str, Any]], text: str, *, as_json: bool) -> None:
    sys.stdout.write((json.dumps(rows, indent=2, default=str) if as_json else text) + "\n")


if __name__ == "__main__":
    sys.exit(main())
