"""Measurement of methods on real micrographs, which have less ground truth than the simulator.

`real_folders` describes the sets of pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import Picture
from training.evaluation.folders.real_folders import RealPair, RealSets
from training.evaluation.measures.consistency import lr_consistency
from training.evaluation.measures.edge_grain import mean_edge_grain
from training.evaluation.measures.outline_counts import OutlineCounts, count_outlines
from training.evaluation.measures.pair_structure import PairStructure, pair_structure
from training.evaluation.sets.set_look import SetLook, set_distances
from training.ground.progress import tracked


@dataclass(frozen=True, kw_only=True)
class RealStructure(PairStructure):
    """Structure figures of one method on one set of pairs.

    Attributes:
        set: `real_pairs` or `real_defects`, after the folder's name where there are several.
        method: Name of the method.
        images: Number of pairs.
    """

    set: str
    method: str
    images: int


@dataclass(frozen=True, kw_only=True)
class RealBackground:
    """Background figures of one method: its pictures of one run's LR tiles against the other's HR.

    Attributes:
        set: `background`, after the folder's name where there are several.
        method: Name of the method.
        images: Number of LR tiles.
        spectrum_db: `background.log_spectral_distance` of the sets' mean spectra.
        border_spectrum_db: The same along the border.
        noise_ratio: Mean white-noise deviation over that of HR.
        grey_distance: W1 of grey histograms, in grey levels.
        edge_grain: Grain along edges over that of flats, see `edge_grain`; mean over the tiles
            that have both, NaN where none has.
        flat_grain_db: `flat_grain.flat_grain_db` of the sets.
        lone_consistency: LR consistency on real LR tiles with defects and without reference.
    """

    set: str
    method: str
    images: int
    spectrum_db: float
    border_spectrum_db: float
    noise_ratio: float
    grey_distance: float
    edge_grain: float
    flat_grain_db: float
    lone_consistency: float


@dataclass(frozen=True, kw_only=True)
class RealReport:
    """Everything measured on real tiles.

    Attributes:
        structure: Rows, one a set of pairs and method.
        background: Rows, one a folder with LR and HR, and method.
        outlines: Rows, one a set and method.
        floors: Figure of the background, after the folder's name where there are several, to what
            HR itself shows: random halves of it against each other, or its own edge grain.
    """

    structure: tuple[RealStructure, ...]
    background: tuple[RealBackground, ...]
    outlines: tuple[OutlineCounts, ...]
    floors: dict[str, float]


def measure_real(folders: Sequence[RealSets], methods: Sequence[Method]) -> RealReport:
    """Measure every method with `upscale` on the real tiles.

    Args:
        folders: Sets that `load_real_sets` read.
        methods: Methods to compare; those without `upscale` are left out.
    """
    structure: list[RealStructure] = []
    backgrounds: list[RealBackground] = []
    outlines: list[OutlineCounts] = []
    floors: dict[str, float] = {}
    usable = [method for method in methods if method.upscale is not None]
    for sets in folders:
        reference = None
        if sets.background_hr:
            reference = SetLook.of("looking at HR", sets.background_hr, None)
            found = {"edge_grain": mean_edge_grain(sets.background_hr), **reference.floors()}
            floors |= {_label(sets, key): value for key, value in found.items()}
        for method in tracked(usable, "judging real tiles", unit="method"):
            for name, pairs in (("real_pairs", sets.pairs), ("real_defects", sets.defects)):
                if pairs:
                    answers = {pair.name: _upscaled(method, pair.lr) for pair in pairs}
                    structure.append(_structure(_label(sets, name), method, pairs, answers))
                    outlines.append(
                        count_outlines(
                            _label(sets, name),
                            method.name,
                            {pair.name: pair.lr for pair in pairs},
                            answers,
                            references={pair.name: pair.hr for pair in pairs},
                        )
                    )
            lone = {name: _upscaled(method, lr) for name, lr in sets.lone_lr.items()}
            tiles = {name: _upscaled(method, lr) for name, lr in sets.background_lr.items()}
            for name, lr, answers in (
                ("without_reference", sets.lone_lr, lone),
                ("background", sets.background_lr, tiles),
            ):
                if lr:
                    outlines.append(count_outlines(_label(sets, name), method.name, lr, answers))
            if tiles and reference is not None:
                backgrounds.append(_background(method, sets, reference, tiles, lone))
    structure.sort(key=lambda row: row.set, reverse=True)
    outlines.sort(key=lambda row: row.set)
    return RealReport(
        structure=tuple(structure),
        background=tuple(backgrounds),
        outlines=tuple(outlines),
        floors=floors,
    )


def _label(sets: RealSets, name: str) -> str:
    return f"{sets.name}: {name}" if sets.name else name


def _structure(
    name: str, method: Method, pairs: Sequence[RealPair], answers: Mapping[str, Picture]
) -> RealStructure:
    return RealStructure(
        set=name,
        method=method.name,
        images=len(pairs),
        **pair_structure(pairs, answers),
    )


def _background(
    method: Method,
    sets: RealSets,
    reference: SetLook,
    answers: Mapping[str, Picture],
    lone: Mapping[str, Picture],
) -> RealBackground:
    pictures = list(answers.values())
    shown = [lr_consistency(sr, sets.lone_lr[name]).mean for name, sr in lone.items()]
    distances = set_distances(SetLook.of(f"looking at {method.name}", pictures, None), reference)
    return RealBackground(
        set=_label(sets, "background"),
        method=method.name,
        images=len(pictures),
        spectrum_db=_number(distances["spectrum_db"]),
        border_spectrum_db=_number(distances["border_spectrum_db"]),
        noise_ratio=_number(distances["noise_ratio"]),
        grey_distance=_number(distances["grey_distance"]),
        edge_grain=mean_edge_grain(pictures),
        flat_grain_db=_number(distances["flat_grain_db"]),
        lone_consistency=float(np.nanmean(shown)) if np.isfinite(shown).any() else float("nan"),
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _upscaled(method: Method, lr: Picture) -> Picture:
    if method.upscale is None:
        raise ValueError(f"{method.name} has finished pictures only and cannot enlarge others")
    return method.upscale(lr)
