"""`semsr internal-sr`: pictures by a network that learns from each tile itself, for comparison."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from semsr.commands.checks import (
    at_least,
    existing_benchmark,
    folder_of_images,
    need_development,
    one_of,
    wrong_use,
)
from semsr.commands.options import Commands, UsageError, add_command, grey_window
from semsr.commands.picture_folders import (
    REPEATED,
    add_output,
    check_output,
    load_torch,
    open_folder,
    report,
)

if TYPE_CHECKING:
    from training.internal_learning.options import Options
    from training.internal_learning.pictures import Tiles

SPLITS = ("test", "thousand", "unknown")
SCALES = ("2", "4", "2,4")
"""Copied from the evaluation and from `training.internal_learning`, whose import takes longer than
`--help` may; a test compares them."""


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "internal-sr",
        help="enlarge tiles by ZSSR, which learns from each tile: a comparison, offline only",
        description="Enlarge tiles by ZSSR (Shocher et al. 2018): a small network learns from each "
        f"tile itself, which takes minutes a tile. {REPEATED}",
        examples=[
            "semsr internal-sr --data out/benchmark --split test --out out/zssr --limit 8",
            "semsr internal-sr --data out/benchmark --out out/zssr_short --short",
            "semsr internal-sr --lr out/benchmark/train_pairs/lr --out out/pairs --device cuda",
        ],
    )
    tiles = parser.add_argument_group("tiles, one of")
    tiles.add_argument(
        "--data", type=Path, help="benchmark, for OUT/SPLIT/NUMBER.png (default: none)"
    )
    tiles.add_argument(
        "--lr",
        type=Path,
        metavar="FOLDER",
        help="images, for pictures of the same names in OUT (default: none)",
    )
    add_output(parser, layout="OUT/test_clean/0000.png … or the tiles' own names")
    parser.add_argument("--split", help="tiles of the benchmark, as in evaluate (default: test)")
    parser.add_argument(
        "--window",
        metavar="LO,HI",
        help="greys of 16-bit files of --lr that become black and white (default: 0,65535)",
    )
    parser.add_argument("--limit", type=int, help="tiles of each split or folder (default: all)")
    parser.add_argument(
        "--tiles-together",
        type=int,
        metavar="T",
        help="number of tiles that learn at once, to keep a GPU busy (default: 1, on cuda 32)",
    )
    method = parser.add_argument_group("method")
    method.add_argument(
        "--configuration",
        choices=("measured", "ideal"),
        default="measured",
        help="measured: for noisy tiles, shrunk copies get back the noise that shrinking removed; "
        "ideal: as in the paper, without noise, with back-projection",
    )
    method.add_argument(
        "--scales", default="4", help="enlargement, or several in turn: 2, 4 or 2,4"
    )
    method.add_argument(
        "--short",
        action="store_true",
        help="600 steps of 64 px and one view, for processors; reports mark the pictures as short",
    )
    method.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="greatest number of steps (default: 3000, with --short 600)",
    )
    method.add_argument(
        "--crop-px", type=int, metavar="PX", help="crop of a step (default: 128, with --short 64)"
    )
    method.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of the convolutions; bf16 halves the time where the processor or GPU computes in it",
    )
    method.add_argument(
        "--layers", type=int, default=8, help="convolutions: 8, or 10 for 8 hidden ones"
    )
    method.add_argument(
        "--draw",
        choices=("size", "scale"),
        default="size",
        help="choice of the picture to learn from, with --scales 2,4: by its area, or by a scale "
        "that is drawn evenly",
    )
    method.add_argument(
        "--stop",
        type=float,
        metavar="RATE",
        help="learning rate below which a tile is finished; the thesis has 1e-6 (default: 9e-6)",
    )
    method.add_argument("--seed", type=int, default=0, help="same seed and tile, same picture")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("internal-sr")
    settings = _check(options)
    made_with = {"made_by": "semsr internal-sr", **settings.model_dump(), "device": options.device}
    folder = open_folder(options, made_with)
    tiles = _tiles(options, scale=settings.scale)
    load_torch(options.device)
    from semsr.progress import progress
    from training.ground.progress import shown_by
    from training.internal_learning.pictures import make_pictures

    together = options.tiles_together or (32 if options.device == "cuda" else 1)
    with shown_by(progress):
        made = make_pictures(tiles, folder, settings, device=options.device, together=together)
    if settings.is_short:
        sys.stderr.write(f"{settings.summary}\n")
    report(options.out, made=made, total=len(tiles))
    return 0


def _check(options: argparse.Namespace) -> "Options":
    """Check every argument before torch is loaded."""
    from training.evaluation.folders.benchmark import SPLITS as SPLITS_OF_EVALUATION
    from training.internal_learning.options import SCALES as SCALES_OF_METHOD
    from training.internal_learning.options import OptionsError, make_options

    if (options.data is None) == (options.lr is None):
        raise UsageError("give the tiles, either --data BENCHMARK or --lr FOLDER")
    if options.lr is not None and options.split is not None:
        raise UsageError("--split names tiles of a benchmark: it needs --data")
    if options.window is not None:
        if options.lr is None:
            raise UsageError("--window is for the files of a folder: it needs --lr")
        grey_window(options.window, "--window")
    one_of(options.scales, SCALES, "--scales")
    at_least(options.limit, 1, "--limit")
    at_least(options.tiles_together, 1, "--tiles-together")
    with wrong_use(OptionsError):
        settings = make_options(
            options.configuration,
            is_short=options.short,
            scales=SCALES_OF_METHOD[options.scales],
            steps=options.steps,
            crop_px=options.crop_px,
            layers=options.layers,
            draw=options.draw,
            precision=options.precision,
            stop=options.stop,
            seed=options.seed,
        )
    check_output(options.out, source=options.lr)
    if options.lr is not None:
        folder_of_images(options.lr, "--lr")
    else:
        split = one_of(options.split or "test", SPLITS, "--split")
        existing_benchmark(options.data, SPLITS_OF_EVALUATION[split], "--data")
    return settings


def _tiles(options: argparse.Namespace, *, scale: int) -> "Tiles":
    """List the tiles by the names of their pictures."""
    from training.data.picture_folder import PicturesError
    from training.evaluation.folders.benchmark import SPLITS as SPLITS_OF_EVALUATION
    from training.evaluation.folders.benchmark import load_benchmark
    from training.internal_learning.pictures import folder_tiles

    if options.lr is not None:
        window = {}
        if options.window is not None:
            window["window"] = grey_window(options.window, "--window")
        with wrong_use(PicturesError):
            found = folder_tiles(options.lr, **window)
        return dict(list(found.items())[: options.limit])
    benchmark = load_benchmark(options.data)
    if benchmark.scale != scale:
        raise UsageError(
            f"--scales is {options.scales!r}, but {options.data} has scale {benchmark.scale}"
        )
    return {
        f"{tile.key}.png": tile.lr
        for split in SPLITS_OF_EVALUATION[options.split or "test"]
        for tile in benchmark.tiles(split)[: options.limit]
    }
