"""Composition of `semsr compare-models`: two models, the tiles, and everything that is compared.

The code is here because `training` must not import bundles, engines or the service.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bundle_format.bundle import load_bundle
from engines.cpu import available_cpus
from semsr.evaluate import bundle_method, evaluate_methods, load_features
from semsr.evaluate_arguments import NamedBundle
from semsr.own_detector import OnnxDetector
from service.shadow.figures import compare
from training.comparison.two_models.pictures import draw_difference, picture_file
from training.comparison.two_models.report import (
    DifferentTile,
    ModelComparison,
    ModelFacts,
)
from training.comparison.two_models.rows import compare_summaries
from training.comparison.two_models.speed import Speed, measure_speed
from training.comparison.two_models.tiles import (
    TileDifference,
    compare_own,
    difference_of,
    flag_rows,
)
from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import SPLITS, Picture, load_benchmark
from training.evaluation.report.report import write_report
from training.evaluation.run import Options
from training.evaluation.sets.own_tiles import OwnTiles
from training.ground.progress import progress, tracked


class ModelsError(ValueError):
    """Two models cannot be compared."""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How the models are judged.

    Attributes:
        out: Folder of the report.
        show: Number of tiles to show.
        limit_grey: Difference in grey levels above which a pixel counts.
        limit: Tiles of each split of a benchmark; None for all.
        jobs: Processes that judge a benchmark; None for the usable CPUs.
        cache: Folder that keeps measurements.
        vgg16: Weights of the feature network; None for none.
        detector: Weights of the detector of a benchmark; None for the shipped one.
        own_detector: The fab's own detector; None for none.
    """

    out: Path
    show: int
    limit_grey: int
    limit: int | None
    jobs: int | None
    cache: Path
    vgg16: Path | None
    detector: Path | None
    own_detector: OnnxDetector | None


def load_models(named: Sequence[NamedBundle], *, engine: str) -> list[Method]:
    """Load both models.

    Raises:
        ModelsError: They enlarge by different factors.
        BundleError: A folder is not a bundle.
        CheckpointError: A file is not a checkpoint.
    """
    methods = [bundle_method(item, role="candidate", engine=engine) for item in named]
    first, second = methods
    if first.scale != second.scale:
        raise ModelsError(
            f"{second.name} enlarges x{second.scale}, expected x{first.scale} as {first.name}"
        )
    return methods


def compare_on_own(
    methods: Sequence[Method],
    named: Sequence[NamedBundle],
    own: OwnTiles,
    judging: Judging,
    *,
    folder: Path,
) -> ModelComparison:
    """Compare both models on a fab's own tiles."""
    first, second = methods
    compare_pictures = _Compare(first.scale or 1, judging.limit_grey)
    found = compare_own(own, first, second, compare=compare_pictures, detector=judging.own_detector)
    tiles = list(own.lr.items())
    notes = []
    if not own.hr:
        notes.append("No HR images of other places were given: the background is not judged.")
    if not own.pairs:
        notes.append("No pairs were given: the structure is judged against the LR tile alone.")
    if judging.own_detector is None:
        notes.append("No detector was given: nothing here shows whether defects are found.")
    if not found.flags:
        notes.append("A model has no trust flags: their rates are not compared.")
    return ModelComparison(
        models=_facts(named, methods),
        data={"kind": "own tiles", "folder": str(folder), "tiles": len(tiles)},
        rows=found.rows,
        flags=found.flags,
        speed=_speed(methods, tiles[0][1]),
        tiles=found.tiles,
        most_different=_show(found.tiles, dict(tiles), methods, judging),
        notes=notes,
    )


def compare_on_benchmark(
    methods: Sequence[Method],
    named: Sequence[NamedBundle],
    judging: Judging,
    *,
    folder: Path,
    split: str,
) -> ModelComparison:
    """Compare both models on a benchmark of `semsr simulate`."""
    first, second = methods
    report = evaluate_methods(
        methods,
        Options(
            out=judging.out / "evaluation",
            benchmark=folder,
            split=split,
            limit=judging.limit,
            jobs=judging.jobs or available_cpus(),
            cache=judging.cache,
        ),
        vgg16=judging.vgg16,
        features=load_features(judging.vgg16),
        detector=judging.detector,
        own_detector=judging.own_detector,
    )
    # The evaluation's own page has the truth, curves and close-ups.
    write_report(report, judging.out / "evaluation")
    benchmark = load_benchmark(folder)
    scenes = {
        tile.key: tile for part in SPLITS[split] for tile in benchmark.tiles(part)[: judging.limit]
    }
    compare_pictures = _Compare(benchmark.scale, judging.limit_grey)
    tiles = [
        difference_of(key, tile.lr(), first, second, compare_pictures)[0]
        for key, tile in tracked(scenes.items(), "comparing tiles", total=len(scenes))
    ]
    names = [method.name for method in methods]
    ranked = {item.name: scenes[item.name].lr() for item in _most_different(tiles, judging.show)}
    return ModelComparison(
        models=_facts(named, methods),
        data={"kind": "benchmark", "folder": str(folder), "tiles": len(tiles), "split": split},
        rows=compare_summaries(names, report.summaries, tiles=len(tiles)),
        flags=flag_rows(tiles),
        speed=_speed(methods, next(iter(scenes.values())).lr()),
        tiles=tiles,
        most_different=_show(tiles, ranked, methods, judging),
        notes=report.notes,
    )


class _Compare:
    """Differences of two answers, as the shadow of the service reports them."""

    def __init__(self, scale: int, limit_grey: int) -> None:
        self._scale = scale
        self._limit_grey = limit_grey

    def __call__(self, first: Picture, second: Picture) -> dict[str, float]:
        return asdict(compare(first, second, scale=self._scale, limit_grey=self._limit_grey))


def _most_different(tiles: Sequence[TileDifference], count: int) -> list[TileDifference]:
    return sorted(tiles, key=lambda tile: tile.differences["edges"], reverse=True)[:count]


def _show(
    tiles: Sequence[TileDifference],
    lr: dict[str, Picture],
    methods: Sequence[Method],
    judging: Judging,
) -> list[DifferentTile]:
    """Draw the tiles that differ most."""
    shown = []
    with progress("drawing pictures"):
        for number, tile in enumerate(_most_different(tiles, judging.show), start=1):
            answers = [method.answer(lr[tile.name])[0] for method in methods]
            file = picture_file(number)
            names = [method.name for method in methods]
            draw_difference(judging.out / file, lr[tile.name], answers, names)
            shown.append(DifferentTile(tile=tile, picture=file))
    return shown


def _speed(methods: Sequence[Method], lr: Picture) -> Speed:
    first, second = methods
    with progress("timing both models"):
        return measure_speed(first, second, np.ascontiguousarray(lr))


def _facts(named: Sequence[NamedBundle], methods: Sequence[Method]) -> list[ModelFacts]:
    facts = []
    for item, method in zip(named, methods, strict=True):
        if item.path.is_file():
            digest = hashlib.sha256(item.path.read_bytes()).hexdigest()
            size, engine = item.path.stat().st_size, "torch"
        else:
            digest = load_bundle(item.path).digest
            size = sum(file.stat().st_size for file in item.path.rglob("*") if file.is_file())
            engine = (method.version or "").partition("/")[2]
        facts.append(
            ModelFacts(
                name=item.name,
                path=str(item.path),
                sha256=digest,
                size_bytes=size,
                gmac=method.gmac,
                engine=engine,
            )
        )
    return facts
