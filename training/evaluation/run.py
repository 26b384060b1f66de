"""Entry point of an evaluation: measures all methods, judges targets, and builds the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.evaluation.compared.methods import (
    TRUE_HR,
    Method,
    benchmark_table,
    builtin_methods,
    check_names,
    matching_table,
)
from training.evaluation.folders.benchmark import SPLITS, load_benchmark
from training.evaluation.folders.real_folders import SCALE, RealSets, load_real_sets
from training.evaluation.judging.bootstrap import draw_tiles
from training.evaluation.judging.comparison import compare_methods
from training.evaluation.judging.real_targets import judge_real
from training.evaluation.judging.seeds import seed_spreads
from training.evaluation.judging.summary import EvaluationSet, MethodSummary, summarise
from training.evaluation.judging.targets import MAX_GMAC, judge_targets
from training.evaluation.measures.detection import DetectorLike
from training.evaluation.measures.kernel_distance import FeatureNetwork
from training.evaluation.report.contact_sheets import draw_own_sheets, draw_real_sheets
from training.evaluation.report.illustrations import illustrate, illustrate_own, illustrate_real
from training.evaluation.report.notes import (
    NO_DETECTOR,
    NO_FEATURES,
    NO_FLAGS,
    NO_HR,
    describe,
    notes,
)
from training.evaluation.report.report import PictureEntry, Report
from training.evaluation.sets.measurement import CleanTile, DefectTile, Judge
from training.evaluation.sets.measuring import MeasurementCache, measure_split
from training.evaluation.sets.own_tiles import OwnReport, OwnTiles, measure_own
from training.evaluation.sets.real_tiles import RealReport, measure_real
from training.evaluation.sets.reference import Reference, measure_reference
from training.ground.progress import progress


class EvaluationError(ValueError):
    """An evaluation cannot run with the given options."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Inputs and options of an evaluation.

    Attributes:
        out: Folder of the report.
        benchmark: Benchmark folder; None for real tiles alone.
        real: Name and folder of real tiles, see `real_folders`; the name may be empty.
        own: Pictures of the fab's own tool; None for none.
        sheets: Folder of full-size contact sheets of real and own tiles; None for none.
        max_gmac: Multiply-adds a tile that the first candidate may cost, 1e9.
        split: Key of `benchmark.SPLITS`.
        limit: Greatest number of tiles of each split, for a quick look.
        jobs: Processes that judge pictures.
        cache: Folder for measurements; None for no cache.
        draws: Bootstrap samples.
        seed: Seed of the bootstrap.
    """

    out: Path
    benchmark: Path | None = None
    real: Sequence[tuple[str, Path]] = ()
    own: OwnTiles | None = None
    sheets: Path | None = None
    max_gmac: float = MAX_GMAC
    split: str = "test"
    limit: int | None = None
    jobs: int = 1
    cache: Path | None = None
    draws: int = 1000
    seed: int = 0


def evaluate(
    methods: Sequence[Method],
    options: Options,
    *,
    judge: Judge | None,
    judge_version: str = "",
    detector_description: dict[str, Any] | None = None,
    features: FeatureNetwork | None = None,
    own_detector: DetectorLike | None = None,
) -> Report:
    """Measure the methods, the built-in baselines and the true HR, and draw the pictures.

    Args:
        methods: Candidates, the first of which the targets judge, and named baselines.
        options: Options, see there.
        judge: Detector and feature network for the benchmark; real tiles need none.
        judge_version: Digest of their weights, for the cache.
        detector_description: Facts of the detector, for the report.
        features: Feature network for own tiles; the benchmark takes the judge's.
        own_detector: The fab's own detector for own tiles; None for none.

    Returns:
        What `report.write_report` writes; the pictures are already below `options.out`.

    Raises:
        EvaluationError: There is nothing to evaluate on, no such split, or no judge.
        BenchmarkError: The benchmark cannot be read.
        MethodError: Two methods have one name, or one answers wrongly.
    """
    if options.split not in SPLITS:
        raise EvaluationError(f"no split {options.split!r}; there are {', '.join(SPLITS)}")
    if options.benchmark is None and not options.real and options.own is None:
        raise EvaluationError("nothing to evaluate on: neither a benchmark nor real tiles")
    if options.benchmark is not None and judge is None:
        raise EvaluationError("a benchmark needs a detector to judge its pictures")
    own, own_pictures, own_notes = _own(methods, options, features, own_detector)
    real, real_pictures = _real(methods, options)
    if options.benchmark is None or judge is None:
        return Report(
            benchmark=None,
            detector=None,
            methods=_own_rows(methods, options.own),
            summaries={},
            targets=judge_real(_own_rows(methods, options.own), real),
            own=own,
            real=real,
            pictures=[*own_pictures, *real_pictures],
            notes=[NO_DETECTOR, *own_notes],
        )
    benchmark = load_benchmark(options.benchmark)
    splits = SPLITS[options.split]
    defect, clean = (benchmark.tiles(split)[: options.limit] for split in splits)
    ordered = ordered_methods(
        methods,
        builtin_methods(
            scale=benchmark.scale,
            table=lambda: benchmark_table(benchmark, splits),
            table_version=f"{benchmark.fingerprint}/{options.split}",
        ),
    )
    reference = measure_reference(benchmark.hr_tiles("reference_hr"), judge.features)
    cache = None
    if options.cache is not None:
        cache = MeasurementCache(options.cache, judge_version=judge_version)
    measured = [
        measure_split(tiles, ordered, judge, jobs=options.jobs, cache=cache)
        for tiles in (defect, clean)
    ]
    side_px = benchmark.scale * benchmark.tile_px
    tiles = EvaluationSet(
        defect=defect,
        clean=clean,
        draws=draw_tiles(
            defect=len(defect), clean=len(clean), draws=options.draws, seed=options.seed
        ),
        shape=(side_px, side_px),
        threshold=judge.detector.threshold,
    )
    with progress("summing up"):
        summaries = _summaries(ordered, tiles, measured[0], measured[1], reference)
    with progress("drawing pictures"):
        pictures = illustrate(ordered, tiles, summaries, reference, measured[0], out=options.out)
    return Report(
        benchmark=describe(
            benchmark,
            defect,
            clean,
            split=options.split,
            limit=options.limit,
            draws=options.draws,
        ),
        detector={"threshold": judge.detector.threshold, **(detector_description or {})},
        methods=ordered,
        summaries=summaries,
        floors=reference.floors,
        targets=[
            *judge_targets(ordered, summaries, max_gmac=options.max_gmac),
            *judge_real(ordered, real),
        ],
        comparisons=compare_methods(ordered, summaries),
        seeds=seed_spreads(ordered, summaries),
        own=own,
        real=real,
        pictures=[*pictures, *own_pictures, *real_pictures],
        notes=[
            *notes(
                limit=options.limit,
                has_features=judge.features is not None,
                has_real=bool(options.real),
            ),
            *own_notes,
        ],
    )


def _summaries(
    methods: Sequence[Method],
    tiles: EvaluationSet,
    defect: dict[str, list[Any]],
    clean: dict[str, list[Any]],
    reference: Reference,
) -> dict[str, MethodSummary]:
    def only(items: list[Any], kind: type[Any]) -> list[Any]:
        wrong = [item for item in items if not isinstance(item, kind)]
        if wrong:
            raise EvaluationError(
                f"expected every tile to be a {kind.__name__}: a split mixes tiles with and "
                "without defects"
            )
        return items

    return {
        method.name: summarise(
            tiles,
            only(defect[method.name], DefectTile),
            only(clean[method.name], CleanTile),
            truth=only(clean[TRUE_HR], CleanTile),
            reference=reference,
        )
        for method in methods
    }


def _own(
    methods: Sequence[Method],
    options: Options,
    features: FeatureNetwork | None,
    detector: DetectorLike | None,
) -> tuple[OwnReport | None, list[PictureEntry], list[str]]:
    own = options.own
    if own is None:
        return None, [], []
    usable = [method for method in _own_rows(methods, own) if method.upscale is not None]
    report = measure_own(own, usable, features=features, detector=detector)
    left_out = [] if own.hr else [NO_HR]
    if own.hr and features is None:
        left_out.append(NO_FEATURES)
    if all(row.residual is None for row in report.tiles):
        left_out.append(NO_FLAGS)
    with progress("drawing pictures of own tiles"):
        pictures = illustrate_own(own, usable, out=options.out, scale=_scale(methods))
    if options.sheets is not None:
        draw_own_sheets(own, usable, folder=options.sheets)
    return report, pictures, left_out


def _own_rows(methods: Sequence[Method], own: OwnTiles | None) -> list[Method]:
    """Order the rows of a report without a benchmark."""
    scale, table = _scale(methods), None
    if own is not None and own.hr:
        lr, hr = list(own.lr.values()), own.hr
        table = lambda: matching_table(lr, hr, scale=scale)  # noqa: E731 - absent without HR
    return ordered_methods(methods, builtin_methods(scale=scale, table=table, with_truth=False))


def _scale(methods: Sequence[Method]) -> int:
    """Return the one scale of all methods; that of the project's models where none is known."""
    scales = {method.scale for method in methods if method.scale is not None}
    if len(scales) > 1:
        raise EvaluationError(f"methods of one scale are compared, got {sorted(scales)}")
    return scales.pop() if scales else SCALE


def _real(
    methods: Sequence[Method], options: Options
) -> tuple[RealReport | None, list[PictureEntry]]:
    if not options.real:
        return None, []
    folders = [load_real_sets(folder, name=name) for name, folder in options.real]
    ordered = ordered_methods(
        methods,
        builtin_methods(scale=SCALE, table=_real_table(folders), with_truth=False),
    )
    usable = [method for method in ordered if method.upscale is not None]
    report = measure_real(folders, usable)
    with progress("drawing pictures of real tiles"):
        entries = illustrate_real(folders, usable, out=options.out)
    if options.sheets is not None:
        draw_real_sheets(folders, usable, report, folder=options.sheets)
    return report, entries


def _real_table(folders: Sequence[RealSets]) -> Callable[[], Any] | None:
    lr = [picture for sets in folders for picture in sets.background_lr.values()]
    hr = [picture for sets in folders for picture in sets.background_hr]
    return (lambda: matching_table(lr, hr, scale=SCALE)) if lr and hr else None


def ordered_methods(methods: Sequence[Method], builtin: Sequence[Method]) -> list[Method]:
    """Order the rows: built-in methods, named baselines, candidates, the true HR last."""
    floor = [method for method in builtin if method.role == "built-in"]
    truth = [method for method in builtin if method.role == "truth"]
    named = [method for method in methods if method.role == "baseline"]
    others = [method for method in methods if method.role != "baseline"]
    ordered = [*floor, *named, *others, *truth]
    check_names(ordered)
    return ordered
