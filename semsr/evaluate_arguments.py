"""Arguments of `semsr evaluate`, checked before torch is loaded."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semsr.commands.checks import (
    existing_benchmark,
    existing_bundle,
    existing_folder,
    writable_folder,
    wrong_use,
)
from semsr.commands.judging import check_judging, check_own_folders, check_own_tiles
from semsr.commands.options import UsageError


@dataclass(frozen=True, kw_only=True)
class NamedBundle:
    """A bundle and the name of its row in the report; seeds of one method share a group."""

    name: str
    path: Path
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """Checked arguments.

    Attributes:
        candidates: Bundles and checkpoints to judge.
        baselines: Bundles that the first one must beat.
        pictures: Name and folder of finished pictures.
        benchmark: Benchmark folder whose defects are judged; None for none.
        near: Benchmark folder whose near sets are judged, in place of all else; None for none.
        real: Name in the report and folder of real tiles; the only folder may have no name.
        own_detector: Fab's own detector, an ONNX file; None for none.
        window: 16-bit values of own pictures that become 0 and 255; None for the first bundle's.
        vgg16: Weights of the feature network; None for none.
    """

    candidates: list[NamedBundle]
    baselines: list[NamedBundle]
    pictures: list[tuple[str, Path]]
    benchmark: Path | None
    near: Path | None
    real: list[tuple[str, Path]]
    own_detector: Path | None
    window: tuple[int, int] | None
    vgg16: Path | None


def parse_bundles(texts: Sequence[str]) -> list[NamedBundle]:
    """Read `DIR`, `NAME=DIR` or, for seeds of one method, `NAME=DIR,DIR,…`.

    Raises:
        ValueError: A name or a folder is empty.
    """
    bundles = []
    for text in texts:
        name, given, folders = text.rpartition("=")
        paths = [Path(part) for part in folders.split(",") if part]
        if not paths or (given and not name):
            raise ValueError(f"{text!r} names no bundle; expected DIR, NAME=DIR or NAME=DIR,DIR,…")
        name = name or _name_of(paths[0])
        if len(paths) == 1:
            bundles.append(NamedBundle(name=name, path=paths[0]))
        else:
            bundles += [
                NamedBundle(name=f"{name} #{number}", path=path, group=name)
                for number, path in enumerate(paths, start=1)
            ]
    return bundles


def parse_seeds(folders: Sequence[Path]) -> list[NamedBundle]:
    """Group bundles as seeds of one method, named by the first folder.

    Raises:
        ValueError: There are fewer than two.
    """
    if len(folders) < 2:
        raise ValueError(f"--seeds needs at least two bundles, got {len(folders)}")
    group = _name_of(folders[0])
    return [
        NamedBundle(name=f"{_name_of(folder)} #{number}", path=folder, group=group)
        for number, folder in enumerate(folders, start=1)
    ]


def parse_pictures(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """Read `NAME=FOLDER` of finished pictures.

    Raises:
        ValueError: No name, or no such folder.
    """
    named = []
    for text in texts:
        name, given, folder = text.partition("=")
        if not (name and given and folder):
            raise ValueError(f"{text!r} names no pictures; expected NAME=FOLDER")
        if not Path(folder).is_dir():
            raise ValueError(f"{name}: the folder {folder} of finished pictures does not exist")
        named.append((name, Path(folder)))
    return named


def check_arguments(options: argparse.Namespace) -> EvaluateArguments:
    """Check every argument.

    Raises:
        UsageError: An argument is wrong; the message has its name, value and the expectation.
    """
    from bundle_format.shipped import default_bundle
    from training.evaluation.folders.benchmark import SPLITS

    vgg16 = check_judging(options)
    window, own_detector = check_own_tiles(options)
    if not options.max_gmac > 0:
        raise UsageError(f"--max-gmac is {options.max_gmac}, expected more than 0")
    writable_folder(options.report, "--report")
    if options.pictures is not None:
        writable_folder(options.pictures, "--pictures")
    near = _near(options)
    benchmark, real = _data(options) if near is None else (None, [])
    if benchmark is not None:
        existing_benchmark(benchmark, SPLITS[options.split], "--data")
    with wrong_use(ValueError):
        candidates = parse_bundles(options.bundle)
        if options.seeds:
            candidates += parse_seeds(options.seeds)
        pictures = parse_pictures(options.images)
        if not candidates and not pictures:
            candidates = parse_bundles([os.environ.get("SEMSR_BUNDLE") or str(default_bundle())])
        baselines = parse_bundles(options.baseline)
    for item in (*candidates, *baselines):
        if not item.path.is_file():  # else a checkpoint
            existing_bundle(item.path, "--baseline" if item in baselines else "--bundle")
    return EvaluateArguments(
        candidates=candidates,
        baselines=baselines,
        pictures=pictures,
        benchmark=benchmark,
        near=near,
        real=real,
        own_detector=own_detector,
        window=window,
        vgg16=vgg16,
    )


def _near(options: argparse.Namespace) -> Path | None:
    """Return the benchmark of a near split, which is judged alone; None for another split."""
    from training.evaluation.folders.benchmark import BenchmarkError, load_benchmark
    from training.evaluation.folders.near_sets import NEAR_SPLITS, near_sets

    if options.split not in NEAR_SPLITS:
        return None
    split = f"--split {options.split}"
    others = {
        "--lr": options.lr,
        "--real": options.real,
        "--detector": options.detector,
        "--pictures": options.pictures,
    }
    for name, value in others.items():
        if value:
            raise UsageError(f"{split} judges the benchmark's pairs alone; leave {name} out")
    if options.data is None:
        raise UsageError(f"{split} needs --data DIR, a benchmark of semsr simulate")
    with wrong_use(BenchmarkError):
        near_sets(
            load_benchmark(existing_folder(options.data, "--data")), NEAR_SPLITS[options.split]
        )
    return options.data


def _data(options: argparse.Namespace) -> tuple[Path | None, list[tuple[str, Path]]]:
    """Return the benchmark and the folders of real tiles; check the folders of own tiles."""
    from training.evaluation.folders.benchmark import is_benchmark
    from training.evaluation.folders.real_folders import find_real_folders

    _check_own(options)
    benchmark: Path | None = options.data
    given = parse_real(options.real)
    if benchmark is not None:
        existing_folder(benchmark, "--data")
        if not is_benchmark(benchmark):
            if given or not find_real_folders(benchmark):
                raise UsageError(
                    f"--data: {benchmark} is not a benchmark (semsr simulate writes one); for "
                    "your own tiles give --lr FOLDER, and --hr FOLDER if you have HR images"
                )
            benchmark, given = None, [("", benchmark)]
    real: list[tuple[str, Path]] = []
    for name, root in given:
        found = find_real_folders(existing_folder(root, "--real"))
        if not found:
            raise UsageError(
                f"--real: {root} holds no folder of real tiles (test_real_pairs, test_defect_hr "
                "or test_defect_lr_real_noref); your own tiles: --lr FOLDER"
            )
        real += [(name if name and len(found) == 1 else folder.name, folder) for folder in found]
    if not given and options.lr is None and os.environ.get("SEMSR_DATA"):
        root = Path(os.environ["SEMSR_DATA"])
        # A fab's own training data lie there too: without --real, only indexed folders are judged.
        found = find_real_folders(root, indexed=True) if root.is_dir() else []
        real = [(folder.name, folder) for folder in found]
    if len(real) == 1 and not (given and given[0][0]):
        real = [("", real[0][1])]
    names = [name for name, _ in real]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"--real: two folders are called {twice[0]!r}: name them, NAME=DIR")
    if benchmark is None and not real and options.lr is None:
        raise UsageError(
            "nothing to evaluate on: give --lr FOLDER (your own tiles) or --data DIR (a benchmark, "
            "which semsr simulate writes)"
        )
    return benchmark, real


def parse_real(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """Read `DIR` or `NAME=DIR` of real tiles; the name is empty where none is given."""
    named = []
    for text in texts:
        name, given, folder = text.rpartition("=")
        if not folder or (given and not name):
            raise UsageError(f"--real: {text!r} names no folder; expected DIR or NAME=DIR")
        named.append((name, Path(folder)))
    return named


def _check_own(options: argparse.Namespace) -> None:
    if options.lr is None:
        for folder, name in ((options.hr, "--hr"), (options.pairs, "--pairs")):
            if folder is not None:
                raise UsageError(f"{name} needs --lr: give --lr FOLDER too")
    else:
        check_own_folders(options, options.lr, "--lr")


def _name_of(path: Path) -> str:
    """Name a bundle by its folder, and `runs/x/checkpoint.safetensors` by its run's folder."""
    path = path.resolve()
    return path.parent.name if path.is_file() else path.name
