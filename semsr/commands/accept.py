"""`semsr accept`: two own folders to an accepted bundle, with one report."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from semsr.commands.checks import need_development, wrong_use
from semsr.commands.options import Commands, add_command, add_vgg16, print_rows

if TYPE_CHECKING:
    from semsr.acceptance.layout import Layout

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
        "file is its own source, but for images that share pixels)",
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
    add_vgg16(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="forget an acceptance that is in the folder"
    )
    parser.add_argument("--json", action="store_true", help="print one row a criterion as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("accept")
    from semsr.progress import progress

    with progress("checking the arguments"):
        from semsr.acceptance.arguments import check_arguments

        settings = check_arguments(options)
        from semsr.acceptance.findings import ImagesRefusedError
        from semsr.acceptance.layout import Layout
        from semsr.acceptance.record import RecordError
        from semsr.acceptance.splitting import SourcesError
        from semsr.acceptance.stages import Acceptance, FolderError, only_here, prepare_folder
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
