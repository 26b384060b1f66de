"""Criteria of acceptance: a limit each, and whether the new model keeps it.

The limits are those of the project's own targets on real tiles (`judging.real_targets`), relaxed
where as few of the own HR images as there are held-out tiles differ from the others by more
(`spread`). Shares over few tiles allow one tile.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from training.evaluation.judging.real_targets import (
    MAX_EDGE_GRAIN,
    MAX_FLAT_GRAIN_DB,
    MAX_LOST_OUTLINES,
    MAX_NOISE_RATIO,
    MAX_SPECTRUM_DB,
    MIN_NOISE_RATIO,
)
from training.evaluation.judging.targets import MAX_EXTRA_ALARMS
from training.evaluation.measures.outlines import MIN_DETECTABILITY

Status = Literal["passed", "missed", "not judged"]
Figures = Mapping[str, Any]

EDGE_GRAIN_MARGIN = 0.1
MAX_INVENTED_PER_TILE = 0.5
CORRELATION_MARGIN = 0.01
MAX_RESIDUAL_SHARE = 0.1
MAX_DOMAIN_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One criterion and its outcome.

    Attributes:
        group: Heading that it stands under.
        name: Requirement in a few words.
        why: Reason for it, for a reader who did not write it.
        measured: Figure with its unit; a dash where there is none.
        required: Limit with its unit.
        status: Outcome.
    """

    group: str
    name: str
    why: str
    measured: str
    required: str
    status: Status


def is_accepted(criteria: list[Criterion]) -> bool:
    """Whether no criterion is missed."""
    return all(item.status != "missed" for item in criteria)


def judge_criteria(
    figures: Mapping[str, Any], parity: Mapping[str, Any], *, new: str
) -> list[Criterion]:
    """Judge the new model.

    Args:
        figures: Document of `figures.json`.
        parity: Parity of the bundle's manifest, by precision.
        new: Name of the new model's rows.
    """
    roles = {item["role"]: item["name"] for item in figures["methods"]}
    rows = {
        key: {row["method"]: row for row in figures[key]}
        for key in ("figures", "made_pairs", "pairs")
    }
    own = rows["figures"][new]
    return [
        *_look(own, figures),
        *_structure(own),
        *_pairs(rows, new, roles),
        *_detections(rows, figures["floors"], new),
        *_trust(own),
        *_parity(parity),
    ]


def _look(own: Figures, figures: Figures) -> Iterator[Criterion]:
    group = "Look: held-out tiles against your HR images"
    spread, floors = figures["spread"], figures["floors"]
    few = f"{spread['count']:.0f} of your HR images" if spread else "your HR images"
    chance = f"{few} lie within the limit of the others in 95 of 100 draws"
    edges = max(MAX_EDGE_GRAIN, floors.get("edge_grain", 0.0) + EDGE_GRAIN_MARGIN)
    yield _bounded(
        group,
        "background spectrum",
        f"A detector that was set up on HR must find the background that it knows; {chance}.",
        own["spectrum_db"],
        high=max(MAX_SPECTRUM_DB, spread.get("spectrum_db", 0.0)),
        unit=" dB",
    )
    yield _bounded(
        group,
        "noise over that of HR",
        "Too smooth pictures hide what a detector was trained to ignore, too noisy ones alarm; "
        f"{chance}.",
        own["noise_ratio"],
        low=min(MIN_NOISE_RATIO, spread.get("noise_low", MIN_NOISE_RATIO)),
        high=max(MAX_NOISE_RATIO, spread.get("noise_high", MAX_NOISE_RATIO)),
    )
    yield _bounded(
        group,
        "grain of flat places",
        f"Difference of the grain at equal grey, apart from layout; {chance}.",
        own["flat_grain_db"],
        high=max(MAX_FLAT_GRAIN_DB, spread.get("flat_grain_db", 0.0)),
        unit=" dB",
    )
    yield _bounded(
        group,
        "grain at edges over that of flats",
        "Sandy edges raise alarms at every line.",
        own["edge_grain"],
        high=edges,
    )


def _structure(own: Figures) -> Iterator[Criterion]:
    group = "Structure: held-out tiles against their LR tiles"
    yield _bounded(
        group,
        f"outlines of d' ≥ {MIN_DETECTABILITY:g} lost",
        "What the fast scan shows clearly must not vanish.",
        float(own["outlines_lost"]),
        high=float(MAX_LOST_OUTLINES),
        digits=0,
    )
    yield _bounded(
        group,
        "outlines invented, a tile",
        "What the fast scan does not show must not appear.",
        own["outlines_invented"] / max(1, own["tiles"]),
        high=MAX_INVENTED_PER_TILE,
    )


def _pairs(
    rows: Mapping[str, Mapping[str, Figures]], new: str, roles: Mapping[str, str]
) -> Iterator[Criterion]:
    for key, group in (
        ("pairs", "Structure: your pairs"),
        ("made_pairs", "Structure: pairs made of held-out HR images"),
    ):
        of = rows[key]
        if not of:
            continue
        yield _bounded(
            group,
            "local correlation with HR, above bicubic's",
            "The structure must be nearer to the slow scan than enlargement alone brings it.",
            of[new]["correlation"],
            low=of[roles["built-in"]]["correlation"],
        )
        if "baseline" in roles:
            yield _bounded(
                group,
                f"local correlation with HR, against {roles['baseline']}",
                "A model of your own images must not be worse on them than the one you have "
                f"already; {CORRELATION_MARGIN:g} is allowed.",
                of[new]["correlation"],
                low=of[roles["baseline"]]["correlation"] - CORRELATION_MARGIN,
            )


def _detections(
    rows: Mapping[str, Mapping[str, Figures]], floors: Figures, new: str
) -> Iterator[Criterion]:
    group = "Your detector"
    own, bicubic = rows["figures"][new], rows["figures"].get("bicubic", {})
    if own["detections_per_tile"] is None:
        return
    extra = max(MAX_EXTRA_ALARMS, 1 / max(1, own["tiles"]))
    of_hr = floors.get("detections_per_tile")
    yield _bounded(
        group,
        "detections a tile, on held-out tiles",
        "The images are without defects, so that detections beyond those on HR are false alarms "
        f"(HR {_shown(of_hr)}, bicubic {_shown(bicubic.get('detections_per_tile'))}).",
        own["detections_per_tile"] if of_hr is not None else None,
        high=(of_hr or 0.0) + extra,
    )
    for key, what in (("pairs", "your pairs"), ("made_pairs", "pairs made of held-out HR")):
        of = rows[key]
        if not of:
            continue
        yield _bounded(
            group,
            f"share of HR's detections found, {what}",
            "What the detector finds in the slow scan it must find in the picture too, at least as "
            "often as in bicubic.",
            of[new]["found_share"],
            low=of["bicubic"]["found_share"],
        )
        yield _bounded(
            group,
            f"further detections a pair, {what}",
            "Detections that HR of the same place does not have are false alarms.",
            of[new]["extra_per_tile"],
            high=max(MAX_EXTRA_ALARMS, 1 / max(1, of[new]["pairs"])),
        )


def _trust(own: Figures) -> Iterator[Criterion]:
    group = "Trust flags: held-out tiles"
    one = 1 / max(1, own["tiles"])
    for key, name, most, why in (
        (
            "residual_share",
            "share of tiles beyond the residual limit",
            MAX_RESIDUAL_SHARE,
            "The flag must stay silent on good tiles, or operators stop to look at it.",
        ),
        (
            "domain_share",
            "share of tiles beyond the domain limit",
            MAX_DOMAIN_SHARE,
            "Held-out tiles of the same kind must count as known; if they do not, the training "
            "folder lacks kinds of places that the tool will see.",
        ),
    ):
        yield _bounded(group, name, why, own[key], high=max(most, one))


def _parity(parity: Mapping[str, Any]) -> Iterator[Criterion]:
    for precision, figures in sorted(parity.items()):
        yield Criterion(
            group="Export",
            name=f"{precision} graph against torch",
            why="The served graph must compute what was trained; a bundle beyond the gate is not "
            "written.",
            measured=f"{figures['max_error']:g} grey levels at most, PSNR "
            f"{figures['psnr_db']:.1f} dB, {figures['tiles']} tiles",
            required="within the parity gate",
            status="passed",
        )


def _bounded(
    group: str,
    name: str,
    why: str,
    value: float | None,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    digits: int = 3,
) -> Criterion:
    limits = []
    if low is not None:
        limits.append(f"at least {low:.{digits}f}{unit}")
    if high is not None:
        limits.append(f"at most {high:.{digits}f}{unit}")
    status: Status = "not judged"
    if value is not None and math.isfinite(value) and limits:
        is_kept = (low is None or value >= low) and (high is None or value <= high)
        status = "passed" if is_kept else "missed"
    shown = "–" if value is None else f"{value:.{digits}f}{unit}"
    return Criterion(
        group=group,
        name=name,
        why=why,
        measured=shown,
        required=" and ".join(limits) or "–",
        status=status,
    )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
