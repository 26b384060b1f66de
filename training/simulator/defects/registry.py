"""Every kind of defect: where it may lie, how large it is, how it is made, and its group.

*Planted* kinds may be planted by any training into its own pictures; *unseen* ones are drawn
by no recipe of the benchmark's rows, pseudo-pair or augmentation, so that they measure what a model
does to a defect that it could not learn. A model that is shipped may have seen both; *unknown*
kinds are drawn by no training at all and lie in a split of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from training.simulator.defects.pattern import (
    bridge,
    broken_line,
    intrusion,
    missing_hole,
    protrusion,
    void,
)
from training.simulator.defects.surface import particle, scratch, stain
from training.simulator.defects.unknown import (
    drying_ring,
    merged_holes,
    micro_crack,
    pinched_line,
    residue_web,
)
from training.simulator.layout import Scene, Site

Group = Literal["planted", "unseen", "unknown"]
GROUPS: tuple[Group, ...] = ("planted", "unseen")
"""The groups of the benchmark's test splits, and the default."""

FLAT_SCENES = ("blank_film", "granular")
LINE_SCENES = ("dense_lines", "iso_lines", "sram")
HOLE_SCENES = ("dense_holes", "sparse_holes")
EVERY_SCENE = (*LINE_SCENES, *HOLE_SCENES, *FLAT_SCENES)


@dataclass(frozen=True)
class DefectSpec:
    """One kind of defect.

    Attributes:
        group: Group, which says what training may draw it.
        site: Place where it may lie: a key of `Scene.sites`, "anywhere", "top" (on the layer),
            "edge" or "web" (between two neighbouring holes).
        scenes: Scenes that have such places.
        size_nm: Range of the size that its edit takes: width of a neck or gap, reach of a bulge or
            bite, radius of a particle, stain or void, length of a scratch.
        edit: Function that returns the scene with the defect at full strength.
        free_size_nm: Range of the size where the limits of `planting` do not hold; None for the
            same.
    """

    group: Group
    site: str
    scenes: tuple[str, ...]
    size_nm: tuple[float, float]
    edit: Callable[[Scene, Site, float, np.random.Generator], Scene]
    free_size_nm: tuple[float, float] | None = None


DEFECTS: Mapping[str, DefectSpec] = MappingProxyType(
    {
        "bridge": DefectSpec(
            "planted", "space", ("dense_lines", "sram"), (8, 26), bridge, free_size_nm=(14, 32)
        ),
        "break": DefectSpec(
            "planted", "line", ("dense_lines", "sram"), (6, 20), broken_line, free_size_nm=(16, 44)
        ),
        "particle": DefectSpec(
            "planted", "anywhere", EVERY_SCENE, (2.5, 24), particle, free_size_nm=(12, 30)
        ),
        "stain": DefectSpec("planted", "anywhere", EVERY_SCENE, (4, 24), stain),
        "missing_hole": DefectSpec("unseen", "hole", ("dense_holes",), (0, 0), missing_hole),
        "scratch": DefectSpec(
            "unseen", "top", ("iso_lines", "sparse_holes", *FLAT_SCENES), (20, 52), scratch
        ),
        "protrusion": DefectSpec(
            "unseen", "edge", (*LINE_SCENES, *HOLE_SCENES), (5, 14), protrusion
        ),
        "intrusion": DefectSpec("unseen", "edge", (*LINE_SCENES, *HOLE_SCENES), (5, 14), intrusion),
        "void": DefectSpec(
            "unseen", "top", (*LINE_SCENES, "sparse_holes", *FLAT_SCENES), (3, 13), void
        ),
        "residue_web": DefectSpec(
            "unknown", "space", ("dense_lines", "sram"), (10, 32), residue_web
        ),
        "pinched_line": DefectSpec(
            "unknown", "line", ("dense_lines", "sram"), (3.5, 12), pinched_line
        ),
        "merged_holes": DefectSpec("unknown", "web", ("dense_holes",), (4, 16), merged_holes),
        "drying_ring": DefectSpec("unknown", "anywhere", EVERY_SCENE, (7, 24), drying_ring),
        "micro_crack": DefectSpec(
            "unknown", "top", ("iso_lines", "sparse_holes", *FLAT_SCENES), (20, 52), micro_crack
        ),
    }
)


def fitting_kinds(scene: str, group: Group | None = None) -> tuple[str, ...]:
    """Return the kinds that a kind of scene takes, of one group or of all in `GROUPS`."""
    return tuple(
        kind
        for kind, spec in DEFECTS.items()
        if scene in spec.scenes and spec.group in (GROUPS if group is None else (group,))
    )
