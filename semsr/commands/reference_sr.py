"""`semsr reference-sr`: pictures by a network that needs a reference, for `evaluate --images`."""

import argparse
from pathlib import Path

from semsr.commands.checks import (
    at_least,
    existing_benchmark,
    existing_file,
    need_development,
    wrong_use,
)
from semsr.commands.options import Commands, UsageError, add_command, print_rows
from semsr.commands.picture_folders import (
    REPEATED,
    add_output,
    check_output,
    load_torch,
    open_folder,
    report,
)

REFERENCES = ("own", "kind", "random", "fixed")
SPLITS = ("test", "thousand", "unknown")


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "reference-sr",
        help="super-resolve a benchmark's tiles with a network that needs a reference image",
        examples=[
            "semsr reference-sr --data out/benchmark --checkpoint runs/masa/checkpoint.safetensors "
            "--reference own --out out/masa-own",
            "semsr reference-sr --data out/benchmark --checkpoint runs/masa/checkpoint.safetensors "
            "--reference kind --seed 3 --limit 8 --out out/masa-kind",
        ],
        description="Super-resolve a benchmark's tiles with a network that needs a reference "
        f"image, such as masa's. {REPEATED}",
    )
    parser.add_argument("--data", type=Path, required=True, help="benchmark of semsr simulate")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="checkpoint of semsr train, such as masa's"
    )
    parser.add_argument(
        "--reference",
        required=True,
        choices=REFERENCES,
        help="reference of a tile: its own true HR image, an HR image of the same kind of scene or "
        "a random one (both of reference_hr), or one fixed image for all",
    )
    parser.add_argument(
        "--reference-image",
        type=Path,
        metavar="FILE",
        help="HR image for --reference fixed (default: none)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the draws of --reference kind and random"
    )
    parser.add_argument(
        "--split", default="test", choices=SPLITS, help="splits of the benchmark, as in evaluate"
    )
    add_output(parser, layout="OUT/test_clean/0000.png …")
    parser.add_argument(
        "--limit", type=int, help="tiles of each split, for a quick look (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print one row as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("reference-sr")
    from training.data.picture_folder import PicturesError
    from training.evaluation.folders.benchmark import SPLITS as SPLITS_OF
    from training.evaluation.folders.benchmark import BenchmarkError, load_benchmark
    from training.evaluation.folders.references import (
        ReferenceChoice,
        choose_references,
        options_of,
    )

    splits = SPLITS_OF[options.split]
    _check(options, splits)
    choice = ReferenceChoice(
        kind=options.reference, seed=options.seed, image=options.reference_image
    )
    with wrong_use(BenchmarkError, PicturesError):
        benchmark = load_benchmark(options.data)
        for split in splits:
            choose_references(benchmark, benchmark.tiles(split), choice)
    made_with = options_of(benchmark, options.checkpoint, choice, device=options.device)
    folder = open_folder(options, made_with)
    load_torch(options.device)
    from semsr.progress import progress
    from training.evaluation.compared.reference_pictures import write_pictures
    from training.ground.progress import shown_by

    with shown_by(progress):
        result = write_pictures(
            options.checkpoint,
            benchmark,
            folder,
            splits=splits,
            choice=choice,
            limit=options.limit,
            device=options.device,
        )
    if options.json:
        row = {
            "folder": str(options.out),
            "pictures": result.total,
            "made": result.made,
            "seconds_a_tile": result.seconds_a_tile,
        }
        print_rows([row], "", as_json=True)
    else:
        report(options.out, made=result.made, total=result.total)
    return 0


def _check(options: argparse.Namespace, splits: tuple[str, ...]) -> None:
    at_least(options.seed, 0, "--seed")
    at_least(options.limit, 1, "--limit")
    existing_benchmark(options.data, splits, "--data")
    existing_file(options.checkpoint, "--checkpoint")
    check_output(options.out, source=None)
    if (options.reference == "fixed") != (options.reference_image is not None):
        raise UsageError("--reference fixed and --reference-image FILE need each other: give both")
    if options.reference_image is not None:
        existing_file(options.reference_image, "--reference-image")
