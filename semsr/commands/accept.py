"""`semsr accept`: two own folders to an accepted bundle, with one report."""

import argparse
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from semsr.commands.checks import (
    at_least,
    existing_bundle,
    existing_file,
    existing_folder,
    folder_of_images,
    need_development,
    writable_folder,
    wrong_use,
)
from semsr.commands.options import (
    Commands,
    UsageError,
    add_command,
    add_vgg16,
    grey_window,
    pair,
    print_rows,
    vgg16_path,
)

if TYPE_CHECKING:
    from semsr.acceptance.layout import Layout, Settings

EXIT_NOT_ACCEPTED = 3


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "accept",
        help="train, export and judge a model of your own two folders; write an acceptance report",
        description="Train, export and judge a model of your own two folders, and write an "
        "acceptance report. An interrupted command goes on when it is repeated. Exit code: 0 "
        "accepted, 3 not accepted, 1 failed, 2 wrong arguments or images.",
        examples=[
            "semsr accept DATA/train_lr DATA/train_hr --out out/accept",
            "semsr accept FAST SLOW --out out/accept --pairs PAIRS --detector our.onnx",
            "semsr accept FAST SLOW --out out/accept --window 0,4095 --minutes 45",
        ],
    )
    parser.add_argument("lr", type=Path, metavar="LR", help="folder of LR images (fast scan)")
    parser.add_argument("hr", type=Path, metavar="HR", help="folder of HR images (slow scan)")
    parser.add_argument("--out", type=Path, required=True, help="folder of bundle and report")
    images = parser.add_argument_group("images")
    images.add_argument(
        "--pairs",
        metavar="DIR[,DIR]",
        help="aligned pairs, to judge structure: a folder with lr/ and hr/ (semsr align writes "
        "one) or with NAME_lr and NAME_hr files, or two folders (default: none)",
    )
    images.add_argument(
        "--window",
        metavar="LO,HI",
        help="grey range of 16-bit images that becomes black to white (default: 0,65535)",
    )
    images.add_argument(
        "--max-rows",
        type=int,
        metavar="N",
        help="rows used of LR images, from the top: a data bar below is left out; of HR the scale "
        "times as many (default: all)",
    )
    images.add_argument(
        "--sources",
        type=Path,
        metavar="CSV",
        help="columns file and src: images of one source are held out together (default: each "
        "file is its own source, but for those that share pixels)",
    )
    images.add_argument(
        "--held-out", type=float, default=0.2, metavar="SHARE", help="share of images to hold out"
    )
    images.add_argument(
        "--limit", type=int, help="files of each folder, for a quick look (default: all)"
    )
    images.add_argument(
        "--not-swapped", action="store_true", help="accept folders that look swapped"
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--minutes", type=float, default=110.0, metavar="M", help="time budget of the whole command"
    )
    training.add_argument(
        "--steps", type=int, metavar="N", help="training steps (default: as many as fit --minutes)"
    )
    training.add_argument(
        "--recipe", default="own_tiles", help="TOML file, or the name of a shipped recipe"
    )
    training.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a recipe entry (default: the recipe as it is)",
    )
    training.add_argument(
        "--from",
        dest="start",
        default="auto",
        metavar="START",
        help="start weights: shipped, fresh, or a checkpoint; auto takes the shipped ones where "
        "they enlarge your images better than bicubic (default: auto)",
    )
    training.add_argument("--seed", type=int, default=0, help="seed of split and training")
    training.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    add_vgg16(training)
    bundle = parser.add_argument_group("bundle and judgement")
    bundle.add_argument("--name", help="model name (default: that of the folder --out)")
    bundle.add_argument("--tile", default="240,240", help="LR tile H,W of the bundle")
    bundle.add_argument(
        "--precision",
        nargs="+",
        default=["fp32", "fp16"],
        choices=["fp32", "fp16"],
        help="precisions of the bundle; fp32 is always included",
    )
    bundle.add_argument(
        "--baseline",
        type=Path,
        metavar="DIR",
        help="bundle to start from and to compare with (default: the shipped one)",
    )
    bundle.add_argument(
        "--detector", type=Path, metavar="ONNX", help="your own defect detector (default: none)"
    )
    bundle.add_argument(
        "--detector-threshold",
        type=float,
        default=0.5,
        metavar="SCORE",
        help="least score of a detection, 0 to 1",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="forget an acceptance that is in the folder"
    )
    parser.add_argument("--json", action="store_true", help="print one row a criterion as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("accept")
    settings = _check(options)
    from semsr.acceptance.findings import ImagesRefusedError
    from semsr.acceptance.layout import Layout
    from semsr.acceptance.record import RecordError
    from semsr.acceptance.splitting import SourcesError
    from semsr.acceptance.stages import Acceptance, FolderError, only_here, prepare_folder
    from semsr.progress import progress
    from training.ground.progress import shown_by

    layout = Layout(options.out)
    refusals = (ImagesRefusedError, RecordError, SourcesError, FolderError)
    with wrong_use(*refusals), only_here(layout):
        prepare_folder(layout, overwrite=options.overwrite)
        acceptance = Acceptance(settings, layout)
        acceptance.look()
        for finding in acceptance.findings:
            sys.stderr.write(f"{finding.line()}\n")
        with progress("loading PyTorch"):
            from semsr.acceptance.planning import PlanError
        with wrong_use(PlanError), shown_by(progress):
            is_accepted = acceptance.work()
    return _say(options, layout, is_accepted=is_accepted)


def _say(options: argparse.Namespace, layout: "Layout", *, is_accepted: bool) -> int:
    from semsr.acceptance.reporting import read_verdict

    criteria = read_verdict(layout)["criteria"]
    lines = [
        f"{row['status']:<10}  {row['group']}: {row['name']}: {row['measured']} "
        f"(required: {row['required']})"
        for row in criteria
    ]
    verdict = "accepted" if is_accepted else "not accepted"
    print_rows(criteria, "\n".join([*lines, verdict]), as_json=options.json)
    sys.stderr.write(f"report: {layout.report}\nbundle: {layout.bundle}\n")
    return 0 if is_accepted else EXIT_NOT_ACCEPTED


def _check(options: argparse.Namespace) -> "Settings":
    """Check every argument before torch is loaded."""
    from semsr.acceptance.layout import Settings
    from service.settings import DEFAULT_BUNDLE
    from training.config.recipe import ConfigError, find_recipe, load_recipe

    for folder, name in ((options.lr, "LR"), (options.hr, "HR")):
        folder_of_images(folder, name)
    if options.lr.resolve() == options.hr.resolve():
        raise UsageError(f"LR and HR are one folder, {options.lr}; expected two")
    writable_folder(options.out, "--out")
    out = options.out.resolve()
    for folder in (options.lr.resolve(), options.hr.resolve()):
        if out == folder or folder in out.parents:
            raise UsageError(f"--out: {options.out} lies in the folder of images {folder}")
    for value, least, name in (
        (options.limit, 1, "--limit"),
        (options.max_rows, 1, "--max-rows"),
        (options.steps, 1, "--steps"),
        (options.threads, 1, "--threads"),
        (options.seed, 0, "--seed"),
    ):
        at_least(value, least, name)
    if not options.minutes > 0:
        raise UsageError(f"--minutes is {options.minutes:g}, expected more than 0")
    if not 0 < options.held_out < 0.9:
        raise UsageError(f"--held-out is {options.held_out:g}, expected a share of 0 to 0.9")
    if not 0 < options.detector_threshold < 1:
        raise UsageError(
            f"--detector-threshold is {options.detector_threshold:g}, expected a score between 0 "
            "and 1"
        )
    for path, name in ((options.sources, "--sources"), (options.vgg16, "--vgg16")):
        if path is not None:
            existing_file(path, name)
    baseline = existing_bundle(options.baseline or DEFAULT_BUNDLE, "--baseline")
    with wrong_use(ConfigError, FileNotFoundError):
        recipe = find_recipe(options.recipe)
        load_recipe(recipe, overrides=options.set)
    settings = Settings(
        lr=options.lr,
        hr=options.hr,
        pairs=_pairs(options.pairs),
        name=options.name or out.name,
        window=None if options.window is None else grey_window(options.window, "--window"),
        max_rows=options.max_rows,
        sources=options.sources,
        held_out=options.held_out,
        limit=options.limit,
        is_order_sure=options.not_swapped,
        minutes=options.minutes,
        steps=options.steps,
        recipe=recipe,
        overrides=tuple(options.set),
        start=_start(options.start),
        baseline=baseline,
        detector=_detector(options),
        threshold=options.detector_threshold,
        vgg16=vgg16_path(options.vgg16),
        seed=options.seed,
        threads=options.threads,
        tile=pair(options.tile, "--tile"),
        precisions=tuple(dict.fromkeys(["fp32", *options.precision])),
    )
    _check_recipe(settings)
    if min(settings.tile) < 1:
        raise UsageError(f"--tile is {options.tile}; expected two sides of at least 1 px")
    return settings


def _check_recipe(settings: "Settings") -> None:
    """Check that the recipe trains on two folders, and that the feature network is there."""
    from training.config.recipe import load_recipe

    recipe = load_recipe(settings.recipe, overrides=settings.overrides)
    data = recipe.data
    for value, what in (
        (recipe.tools, "[[tools]]"),
        (data.pairs or data.held_out_pairs, "data.pairs"),
        (data.index, "data.index"),
        (data.excluded_sources, "data.excluded_sources"),
        (data.max_rows_px, "data.max_rows_px"),
    ):
        if value:
            raise UsageError(
                f"--recipe: {settings.recipe.name} has {what}; expected one that trains on two "
                "folders, which semsr accept names itself"
            )
    if "pairs" in recipe.method.needs or recipe.method.name == "distillation":
        raise UsageError(
            f"--recipe: {settings.recipe.name} has the method {recipe.method.name}; expected one "
            "that trains on two unaligned folders"
        )
    if settings.vgg16 is not None:
        existing_file(settings.vgg16, "--vgg16 or SEMSR_VGG16")
    elif recipe.method.vgg16_taps and importlib.util.find_spec("torchvision") is None:
        raise UsageError(
            "the training needs the weights of the feature network: give them by --vgg16 FILE or "
            "SEMSR_VGG16 (VGG16's ImageNet convolutions, as torchvision has)"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", settings.name):
        raise UsageError(
            f"--name is {settings.name!r}; expected letters, digits, '.', '_' and '-', at most 64"
        )


def _pairs(text: str | None) -> tuple[Path, Path] | None:
    if text is None:
        return None
    parts = [Path(part) for part in text.split(",")]
    if len(parts) > 2 or not all(str(part) for part in parts):
        raise UsageError(f"--pairs is {text!r}; expected one folder, or two with a comma between")
    for part in parts:
        existing_folder(part, "--pairs")
    if len(parts) == 1:
        inner = (parts[0] / "lr", parts[0] / "hr")
        parts = list(inner) if all(folder.is_dir() for folder in inner) else parts * 2
    for part in parts:
        folder_of_images(part, "--pairs")
    return parts[0], parts[1]


def _start(text: str) -> str:
    if text not in ("auto", "shipped", "fresh"):
        existing_file(Path(text), "--from")
    return text


def _detector(options: argparse.Namespace) -> Path | None:
    if options.detector is None:
        return None
    from semsr.own_detector import OnnxDetector, OwnDetectorError

    existing_file(options.detector, "--detector")
    with wrong_use(OwnDetectorError):
        OnnxDetector(options.detector, threshold=options.detector_threshold).check()
    return options.detector
