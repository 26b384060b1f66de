"""`semsr bench engine`: bundle x precision x engine x batch, in one run on one machine.

Each round measures every combination once, in a process of its own, so that drift of the machine
affects all combinations alike. Speeds are the medians of the rounds, memory is the highest peak.
`peak_share` relates a network's arithmetic rate to that of an almost purely arithmetic network,
with the same engine and precision. On a CPU, the paper's generator runs through ONNX Runtime in
FP32. `untrained` makes both networks.
"""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle_format.bundle import Precision, load_bundle
from engines.protocol import batch_buckets
from engines.registry import installed_engines
from loadtests.alone.engine import BATCH_SIZES, EngineProcessError, EngineTurn, engine_alone
from loadtests.results import Column, Row, format_table, write_figure
from semsr.progress import progress
from service.settings import Settings

ROUNDS = 3
BASELINE: tuple[str, Precision] = ("onnx", "fp32")
PAPER = "paper"
PEAK_BATCHES = (1, 4)
_COLUMNS = [
    Column("bundle", "bundle"),
    Column("precision", "precision"),
    Column("engine", "engine"),
    Column("batch", "batch"),
    Column("tiles_per_s", "tiles/s"),
    Column("ms", "ms"),
    Column("peak_mib", "MiB", 0),
    Column("gmac_per_s", "GMAC/s", 0),
    Column("peak_share", "of peak", 2),
    Column("speed_up", "x onnx fp32", 2),
    Column("paper_speed_up", "x paper"),
    Column("problem", ""),
]


@dataclass(frozen=True)
class Combination:
    """Bundle, engine and precision that are measured together."""

    bundle: Path
    precision: Precision
    engine: str
    batches: tuple[int, ...]


def bench_engines(
    bundles: Sequence[Path],
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[Precision] = (),
    batches: tuple[int, ...] = (),
    seconds: float,
    with_peak: bool = True,
    with_paper: bool = False,
) -> list[Row]:
    """Measure every combination that can be run here.

    Args:
        bundles: Bundle folders.
        engines: Engine names; empty takes every installed one but `identity`.
        precisions: Precisions; empty takes every one that a bundle has.
        batches: Batch sizes; empty takes `BATCH_SIZES` on a CPU, and on a GPU every batch size that
            engines prepare for.
        seconds: Time for each combination, all rounds together.
        with_peak: Whether to also measure the machine's peak; needs torch and onnx.
        with_paper: Whether to also measure the paper's generator: on a CPU through ONNX
            Runtime in FP32, one tile at a time (it takes many seconds), on a GPU in the same ways
            as the other bundles; needs torch and onnx.

    Returns:
        A row for each combination and batch: `bundle`, `version`, `engine`, `precision`, `batch`,
        `tiles_per_s`, `ms`, `peak_mib`, `gmac`, `gmac_per_s`, with a peak `peak_share`, and
        `speed_up` over ONNX Runtime in FP32 at its best batch, of the same bundle, and with the
        paper's generator `paper_speed_up` over that at its best. A combination that cannot be run
        has a `problem` instead of figures.

    Raises:
        ValueError: None of the batches fits a bundle, or it has none of the precisions.
    """
    combinations = [
        item
        for path in bundles
        for item in _combinations(path, engines=engines, precisions=precisions, batches=batches)
    ]
    with tempfile.TemporaryDirectory() as folder:
        peaks: list[Combination] = []
        if with_peak:
            from loadtests.alone.untrained import write_peak_bundle

            peak = Path(folder) / "peak"
            available = write_peak_bundle(peak).manifest.graphs
            pairs = dict.fromkeys((item.precision, item.engine) for item in combinations)
            peaks = [
                Combination(peak, precision, engine, PEAK_BATCHES)
                for precision, engine in pairs
                if precision in available
            ]
        if with_paper:
            from loadtests.alone.untrained import write_paper_bundle

            paper = Path(folder) / PAPER
            write_paper_bundle(paper)
            combinations += _paper_combinations(paper, combinations)
        measured, problems = _measure([*combinations, *peaks], seconds=seconds)
        reached = {
            (item.engine, item.precision): _gmac(item) * max(s.tiles_per_s for s in measured[item])
            for item in peaks
            if item in measured
        }
        rows = _rows(combinations, measured, problems, reached)
    if with_paper:
        _compare_with_paper(rows)
    return rows


def _combinations(
    path: Path,
    *,
    engines: Sequence[str],
    precisions: Sequence[Precision],
    batches: tuple[int, ...],
) -> list[Combination]:
    """Combine a bundle's precisions with the named engines, or with all installed ones."""
    manifest = load_bundle(path).manifest
    device = Settings().device
    if not batches:
        batches = BATCH_SIZES if device == "cpu" else tuple(batch_buckets(manifest.max_batch_size))
    fitting = tuple(size for size in batches if 1 <= size <= manifest.max_batch_size)
    if not fitting:
        raise ValueError(f"{path} takes batches of 1 to {manifest.max_batch_size}, not {batches}")
    wanted: list[Precision] = list(manifest.graphs)
    if precisions:
        wanted = [precision for precision in precisions if precision in manifest.graphs]
    if not wanted:
        raise ValueError(f"{path} has {', '.join(manifest.graphs)}, not {', '.join(precisions)}")
    return [
        Combination(path, precision, engine, fitting)
        for precision in wanted
        for engine in engines or installed_engines(precision, device)
    ]


def _paper_combinations(paper: Path, others: Sequence[Combination]) -> list[Combination]:
    if Settings().device == "cpu":
        engine, precision = BASELINE
        return [Combination(paper, precision, engine, (1,))]
    manifest = load_bundle(paper).manifest
    return list(
        dict.fromkeys(
            Combination(paper, item.precision, item.engine, item.batches)
            for item in others
            if item.precision in manifest.graphs
        )
    )


def _compare_with_paper(rows: Sequence[Row]) -> None:
    speeds = [row["tiles_per_s"] for row in rows if row["bundle"] == PAPER and "problem" not in row]
    for row in rows:
        if speeds and "problem" not in row:
            row["paper_speed_up"] = row["tiles_per_s"] / max(speeds)


@dataclass(frozen=True)
class _Speed:
    """Medians of a combination's rounds at one batch size, and the highest peak of memory."""

    batch: int
    tiles_per_s: float
    ms: float
    peak_mib: float


def _measure(
    combinations: Sequence[Combination], *, seconds: float
) -> tuple[dict[Combination, list[_Speed]], dict[Combination, str]]:
    """Measure in rounds; returns the speeds of each combination by batch, or its problem."""
    rounds: dict[Combination, list[list[EngineTurn]]] = {item: [] for item in combinations}
    problems: dict[Combination, str] = {}
    turns = [item for _ in range(ROUNDS) for item in combinations]
    with progress("bench engine", len(turns), unit="turn") as steps:
        for item in turns:
            steps.say(f"{item.bundle.name} {item.precision} {item.engine}")
            if item not in problems:
                try:
                    rounds[item].append(
                        engine_alone(
                            item.bundle,
                            item.engine,
                            seconds / ROUNDS,
                            precision=item.precision,
                            batches=item.batches,
                        )
                    )
                except EngineProcessError as error:
                    problems[item] = str(error)
            steps.update()
    medians = {
        item: [_median(turns) for turns in zip(*found, strict=True)]
        for item, found in rounds.items()
        if item not in problems
    }
    return medians, problems


def _median(turns: Sequence[EngineTurn]) -> _Speed:
    return _Speed(
        batch=turns[0].batch,
        tiles_per_s=statistics.median(turn.tiles_per_s for turn in turns),
        ms=statistics.median(turn.ms for turn in turns),
        peak_mib=max(turn.peak_mib for turn in turns),
    )


def _gmac(item: Combination) -> float:
    return load_bundle(item.bundle).manifest.gmac


def _rows(
    combinations: Sequence[Combination],
    measured: dict[Combination, list[_Speed]],
    problems: dict[Combination, str],
    peaks: dict[tuple[str, str], float],
) -> list[Row]:
    baselines = {
        item.bundle: max(speed.tiles_per_s for speed in speeds)
        for item, speeds in measured.items()
        if (item.engine, item.precision) == BASELINE
    }
    rows: list[Row] = []
    for item in combinations:
        bundle = load_bundle(item.bundle)
        subject: Row = {
            "bundle": bundle.manifest.name,
            "version": bundle.version,
            "engine": item.engine,
            "precision": item.precision,
        }
        if item in problems:
            rows.append({**subject, "problem": problems[item]})
            continue
        for speed in measured[item]:
            gmac_per_s = bundle.manifest.gmac * speed.tiles_per_s
            row: Row = {
                **subject,
                "batch": speed.batch,
                "tiles_per_s": speed.tiles_per_s,
                "ms": speed.ms,
                "peak_mib": speed.peak_mib,
                "gmac": bundle.manifest.gmac,
                "gmac_per_s": gmac_per_s,
            }
            if (item.engine, item.precision) in peaks:
                row["peak_share"] = gmac_per_s / peaks[item.engine, item.precision]
            if item.bundle in baselines:
                row["speed_up"] = speed.tiles_per_s / baselines[item.bundle]
            rows.append(row)
    return rows


def format_engines(rows: Sequence[Row]) -> str:
    """Write the rows as a table for people."""
    return format_table(_COLUMNS, rows)


def draw_engines(rows: Sequence[Row], path: Path) -> None:
    """Draw tiles a second over the batch size, one line for each combination, as a picture."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if "problem" not in row:
            name = f"{row['bundle']} {row['precision']} {row['engine']}"
            lines.setdefault(name, []).append(row)
    for name, points in lines.items():
        axes.plot(
            [row["batch"] for row in points],
            [row["tiles_per_s"] for row in points],
            marker="o",
            label=name,
        )
    axes.set(xlabel="batch", ylabel="tiles/s", xscale="log", yscale="log")
    axes.set_xticks(sorted({row["batch"] for row in rows if "batch" in row}))
    axes.get_xaxis().set_major_formatter("{x:.0f}")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
    write_figure(figure, path)
    plt.close(figure)
