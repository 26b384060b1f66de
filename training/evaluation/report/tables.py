"""Tables of the terminal and the HTML: their columns and number formats, and writers of text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TextIO

from training.evaluation.compared.methods import BICUBIC
from training.evaluation.figures import BY_KEY
from training.evaluation.judging.comparison import Comparison
from training.evaluation.judging.summary import MethodSummary
from training.evaluation.judging.targets import Target
from training.evaluation.measures.outline_counts import OutlineCounts
from training.evaluation.sets.near_tiles import NearReport
from training.evaluation.sets.own_tiles import LIMIT, OwnReport
from training.evaluation.sets.real_tiles import RealReport

MAX_NAMED = 20
Columns = Sequence[tuple[str, str, int]]

OWN_COLUMNS = (
    ("tiles", "tiles", 0),
    ("consistency", "consistency", 3),
    ("consistency_worst", "worst", 3),
    ("residual_share", "residual > 1", 2),
    ("domain_share", "domain > 1", 2),
    ("domain_median", "domain, median", 2),
    ("spectrum_db", "spectrum / dB", 2),
    ("border_spectrum_db", "border / dB", 2),
    ("noise_ratio", "noise ratio", 3),
    ("grey_distance", "grey W1", 2),
    ("edge_grain", "grain at edges", 2),
    ("flat_grain_db", "grain of flats / dB", 2),
    ("outlines_lost", "outlines lost", 0),
    ("outlines_lost_px", "… px", 0),
    ("outlines_invented", "invented", 0),
    ("detections_per_tile", "detections a tile", 2),
    ("kernel_distance", "kernel distance", 4),
    ("border_kernel_distance", "border kernel", 4),
)
"""Figures of own tiles: key, title, digits."""

OWN_PAIR_COLUMNS = (
    ("pairs", "pairs", 0),
    ("psnr_db", "PSNR / dB", 2),
    ("ssim", "SSIM", 3),
    ("correlation", "local correlation", 3),
    ("correlation_worst", "… worst 1 %", 3),
    ("reference_lost", "HR outlines lost", 0),
    ("found_share", "HR's detections found", 3),
    ("extra_per_tile", "others a pair", 2),
)
"""Figures of own pairs."""
REAL_STRUCTURE_COLUMNS = (
    ("images", "images", 0),
    ("psnr_db", "PSNR / dB", 2),
    ("psnr_gaussian_db", "PSNR, best Gaussian / dB", 2),
    ("ssim", "SSIM", 3),
    ("correlation", "local correlation", 3),
    ("correlation_worst", "… worst 1 %", 3),
    ("lr_consistency", "LR consistency", 3),
)
REAL_BACKGROUND_COLUMNS = (
    ("images", "images", 0),
    ("spectrum_db", "spectrum / dB", 2),
    ("border_spectrum_db", "… outer 16 px / dB", 2),
    ("noise_ratio", "noise ratio", 3),
    ("edge_grain", "grain at edges", 2),
    ("flat_grain_db", "grain of flats / dB", 2),
    ("grey_distance", "grey W1", 2),
    ("lone_consistency", "LR consistency, no reference", 3),
)
OUTLINE_COLUMNS = (
    ("images", "images", 0),
    ("shown_px", "shown by LR / px", 0),
    ("lost", "lost", 0),
    ("lost_px", "… px", 0),
    ("lost_detectability", "… largest d'", 1),
    ("invented", "invented", 0),
    ("invented_px", "… px", 0),
    ("reference_shown_px", "shown by HR / px", 0),
    ("reference_lost", "lost", 0),
    ("reference_lost_px", "… px", 0),
)
"""Columns of the tables of real tiles: key, title, digits."""

NEAR_COLUMNS = (
    ("tiles", "tiles", 0),
    ("psnr_db", "PSNR / dB", 2),
    ("psnr_fitted_db", "… after gain and offset", 2),
    ("ssim", "SSIM", 3),
    ("ssim_fitted", "… after gain and offset", 3),
    ("gmsd", "GMSD", 3),
    ("spectrum_db", "spectrum / dB", 2),
    ("noise_ratio", "noise ratio", 3),
    ("gradient_q50", "gradient, median", 4),
    ("gradient_q95", "… 95 %", 4),
    ("gradient_q99", "… 99 %", 4),
    ("gradient_distance", "… W1 to HR", 4),
    ("thinness", "ridge thinness", 3),
    ("flat_ratio", "flat areas", 3),
    ("tone_grey", "tone, W1 / grey", 2),
    ("inverted", "inverted", 0),
    ("other_tone", "other tone", 0),
    ("flipped_share", "style flips, share", 3),
)
"""Columns of the tables of near sets."""


def write_targets(targets: Sequence[Target], *, file: TextIO) -> None:
    """Write one line of text for each target."""
    for target in targets:
        file.write(
            f"{target.status:<14}  {target.subject}: {target.name}"
            + (f": {target.measured} (required: {target.required})" if target.required else "")
            + "\n"
        )


def write_own(own: OwnReport, *, file: TextIO) -> None:
    """Write tables of the figures of own tiles and pairs, and the answers beyond a limit."""
    _write_table(own.figures, ("method",), OWN_COLUMNS, file=file)
    if own.pairs:
        _write_table(own.pairs, ("method",), OWN_PAIR_COLUMNS, file=file)
    suspicious = plain(standing_out(own))
    if suspicious:
        file.write(f"answers beyond a limit of their bundle: {len(suspicious)}\n")
        for tile in suspicious[:MAX_NAMED]:
            file.write(
                f"  {tile['method']}: {tile['name']}: residual {shown(tile['residual'], 2)}, "
                f"domain distance {shown(tile['domain_distance'], 2)}\n"
            )
        if len(suspicious) > MAX_NAMED:
            file.write(f"  and {len(suspicious) - MAX_NAMED} more, see report.json\n")


def standing_out(own: OwnReport) -> list[dict[str, Any]]:
    """Return the answers whose residual or domain distance exceeds its limit, worst first."""
    found = [
        (max(tile.residual or 0.0, tile.domain_distance or 0.0), asdict(tile)) for tile in own.tiles
    ]
    beyond = [item for item in found if item[0] > LIMIT]
    return [tile for _, tile in sorted(beyond, key=lambda item: -item[0])]


def write_real(real: RealReport, *, file: TextIO) -> None:
    """Write the tables of real tiles, and the places of lost and invented outlines."""
    for rows, columns in (
        (real.structure, REAL_STRUCTURE_COLUMNS),
        (real.background, REAL_BACKGROUND_COLUMNS),
        (real.outlines, OUTLINE_COLUMNS),
    ):
        if rows:
            _write_table(rows, ("set", "method"), columns, file=file)
    for key, value in real.floors.items():
        file.write(f"HR itself: {key}: {shown(plain(value), 2)}\n")
    _write_places(real.outlines, "lost", file=file)
    _write_places(real.outlines, "invented", file=file)


def write_near(near: NearReport, *, file: TextIO) -> None:
    """Write the table of near sets, and the pictures of another style than HR."""
    _write_table(near.figures, ("set", "method"), NEAR_COLUMNS, file=file)
    for flip in near.flips[:MAX_NAMED]:
        file.write(
            f"  {flip.method}: {flip.set}/{flip.tile} ({flip.scene}): another style than HR, "
            f"correlation {shown(flip.correlation, 2)}, tone {shown(flip.tone_grey, 1)} grey away\n"
        )
    if len(near.flips) > MAX_NAMED:
        file.write(f"  and {len(near.flips) - MAX_NAMED} more style flips, see report.json\n")


def _write_places(outlines: Sequence[OutlineCounts], what: str, *, file: TextIO) -> None:
    places = [
        (row, place)
        for row in outlines
        if not row.method.startswith(BICUBIC)
        for place in (row.places if what == "lost" else row.invented_places)
    ]
    places.sort(key=lambda item: -item[1].detectability)
    for row, place in places[:MAX_NAMED]:
        file.write(
            f"  {row.method}: {row.set}/{place.image}: outline {what} at x {place.x_px}, "
            f"y {place.y_px} (LR px): {place.length_px:.0f} px, d' {place.detectability:.1f}, "
            f"{place.kept_share:.0%} of it in the other picture\n"
        )
    if len(places) > MAX_NAMED:
        file.write(f"  and {len(places) - MAX_NAMED} more {what}, see report.json\n")


def write_comparisons(comparisons: Sequence[Comparison], *, file: TextIO) -> None:
    """Write the differences of methods from the first candidate, one line for each figure."""
    for item in comparisons:
        low, high = item.difference.low, item.difference.high
        interval = f" [{low:+.3f}, {high:+.3f}]" if math.isfinite(low) else ""
        file.write(
            f"{item.method} less {item.first}: {BY_KEY[item.key].label}: "
            f"{item.difference.value:+.3f}{interval} (value {item.value:.3f})\n"
        )


def write_kinds(summaries: Mapping[str, MethodSummary], *, file: TextIO) -> None:
    """Write each method's recall by kind of defect, with the number of defects."""
    found = {name: row.recall_by_kind for name, row in summaries.items() if row.recall_by_kind}
    kinds = next(iter(found.values()), {})
    if not kinds:
        return
    rows = [["recall by kind", *(f"{kind} ({count})" for kind, (_, count) in kinds.items())]]
    for name, row in found.items():
        rows.append([plain(name), *(shown(recall, 2) for recall, _ in row.values())])
    _write_rows(rows, file=file)


def _write_table(
    items: Sequence[Any], names: Sequence[str], columns: Columns, *, file: TextIO
) -> None:
    """Write one row an item: its names, then its figures; columns as wide as they need."""
    rows = [[*names, *(title for _, title, _ in columns)]]
    for item in items:
        cells = [shown(plain(getattr(item, key)), digits) for key, _, digits in columns]
        rows.append([*(plain(getattr(item, name)) for name in names), *cells])
    _write_rows(rows, file=file)


def _write_rows(rows: Sequence[Sequence[str]], *, file: TextIO) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        file.write("  ".join(cells).rstrip() + "\n")


def shown(value: float | None, digits: int = 3) -> str:
    """Write a figure for people; a dash for one that is not there."""
    return "–" if value is None else f"{value:.{digits}f}"


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    r"""Make JSON of values: NaN and infinity become null, bytes of odd file names read `\xff`."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
