"""Defects on demand, with their truth: each kind edits a scene where its layout allows it.

`plant` draws a place and a size, and returns the new scene and the pixels that differ in height.
Pattern defects join to the layer or cut it (maximum and minimum of signed distances, rounded as an
etch or resist rounds corners); particles lie on top as bodies.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from training.simulator.layout import SIDEWALL_NM, Body, Canvas, Floats, Scene, Site
from training.simulator.roughness import rough_edge

BRIDGE_CORNER_NM = 6.0
BREAK_CORNER_NM = 18.0
"""Rounding where a bridge meets its lines, and of a broken line's ends."""

CLEARANCE_NM = 90.0
"""Least distance between the centres of two defects in one tile."""

BORDER = 0.12
"""Share of the tile's side that stays free of defect centres, on each side."""

HEIGHT_CHANGE_NM = 5.0
"""From this change of height on, a pixel belongs to the defect's truth."""


class NoSiteError(ValueError):
    """The scene has no free place for a defect of this kind."""


@dataclass(frozen=True)
class PlantedDefect:
    """Truth about one defect.

    Attributes:
        kind: Key in `DEFECTS`.
        x_nm: Centre, from the tile's left edge.
        y_nm: Centre, from the tile's top edge.
        mask: bool on the tile's fine pixels, without the margin; where the height changed.
    """

    kind: str
    x_nm: float
    y_nm: float
    mask: NDArray[np.bool_]


def plant(
    scene: Scene, kind: str, rng: np.random.Generator, *, taken: Iterable[PlantedDefect] = ()
) -> tuple[Scene, PlantedDefect]:
    """Plant one defect of `kind`, clear of those in `taken`.

    Raises:
        KeyError: `kind` is not in `DEFECTS`.
        NoSiteError: The scene's layout has no free place for it.
    """
    spec = DEFECTS[kind]
    sites = _free_sites(scene, spec.site, tuple(taken), rng)
    if not sites:
        message = f"a {scene.kind!r} scene has no free place for a defect of kind {kind!r}"
        raise NoSiteError(message)
    site = sites[int(rng.integers(len(sites)))]
    changed = spec.edit(scene, site, rng)
    difference = changed.surface().height_nm - scene.surface().height_nm
    inner = scene.canvas.inner
    mask = np.abs(difference[inner, inner]) > HEIGHT_CHANGE_NM
    return changed, PlantedDefect(kind, site.x_nm, site.y_nm, mask)


def _free_sites(
    scene: Scene, site_kind: str, taken: Sequence[PlantedDefect], rng: np.random.Generator
) -> list[Site]:
    side_nm = scene.canvas.tile_nm
    low, high = BORDER * side_nm, (1 - BORDER) * side_nm
    if site_kind == "anywhere":
        offered: Iterable[Site] = [
            Site(x_nm=x, y_nm=y, angle_rad=0.0, size_nm=0.0)
            for x, y in rng.uniform(low, high, (32, 2)).tolist()
        ]
    else:
        offered = scene.sites.get(site_kind, ())
    return [
        site
        for site in offered
        if low <= site.x_nm <= high
        and low <= site.y_nm <= high
        and all(
            math.hypot(site.x_nm - other.x_nm, site.y_nm - other.y_nm) >= CLEARANCE_NM
            for other in taken
        )
    ]


def _bridge(scene: Scene, site: Site, rng: np.random.Generator) -> Scene:
    """Join two neighbouring lines by a neck of 14 to 32 nm that widens towards them."""
    neck_nm = rng.uniform(14, 32)
    across, along = _local_axes(scene.canvas, site)
    reach_nm = site.size_nm / 2 + 8
    width_nm = neck_nm * (1 + 0.35 * np.minimum((across / (site.size_nm / 2)) ** 2, 1.5))
    neck = np.minimum(reach_nm - np.abs(across), width_nm / 2 - np.abs(along))
    return replace(scene, layer_nm=_join(scene.layer_nm, neck, BRIDGE_CORNER_NM))


def _break(scene: Scene, site: Site, rng: np.random.Generator) -> Scene:
    """Cut a line through, leaving rounded ends 16 to 44 nm apart."""
    gap_nm = rng.uniform(16, 44)
    across, along = _local_axes(scene.canvas, site)
    width_nm = gap_nm * (1 + 0.8 * np.minimum((across / (site.size_nm / 2)) ** 2, 1.5))
    gap = np.minimum(site.size_nm / 2 + 8 - np.abs(across), width_nm / 2 - np.abs(along))
    return replace(scene, layer_nm=-_join(-scene.layer_nm, gap, BREAK_CORNER_NM))


def _missing_hole(scene: Scene, site: Site, rng: np.random.Generator) -> Scene:
    """Leave one contact hole unopened: the film stands where it should have been cut."""
    del rng  # nothing about it is random but the place
    x, y = _local_axes(scene.canvas, site)
    plug = site.size_nm / 2 + 10 - np.hypot(x, y)
    return replace(scene, layer_nm=np.maximum(scene.layer_nm, plug))


def _particle(scene: Scene, site: Site, rng: np.random.Generator) -> Scene:
    """Drop an irregular, rounded grain of 24 to 60 nm across; it rests on what stands below it."""
    radius_nm = rng.uniform(12, 30)
    flatness = rng.uniform(0.6, 1.0)
    yield_ = rng.uniform(1.5, 2.3)
    num_samples = 64
    outline = radius_nm + rough_edge(
        rng,
        length_px=num_samples,
        step_nm=2 * math.pi * radius_nm / num_samples,
        sigma_nm=0.12 * radius_nm,
        xi_nm=0.7 * radius_nm,
        hurst=0.9,
        is_closed=True,
    )
    x, y = _local_axes(scene.canvas, site)
    sample = (np.arctan2(y, x) / (2 * math.pi) % 1.0) * num_samples
    edge = np.interp(sample, np.arange(num_samples + 1), np.append(outline, outline[0]))
    distance = np.hypot(x, y)
    inside = distance < edge
    rest_nm = float(np.quantile(scene.surface().height_nm[inside], 0.9))
    dome = np.sqrt(np.maximum(1 - (distance / edge) ** 2, 0.0))
    body = Body(
        weight=1 / (1 + np.exp(np.minimum((distance - edge) / SIDEWALL_NM, 60.0))),
        top_nm=rest_nm + radius_nm * flatness * (0.4 + 0.8 * dome),
        yield_=yield_,
    )
    return replace(scene, bodies=(*scene.bodies, body))


def _local_axes(canvas: Canvas, site: Site) -> tuple[Floats, Floats]:
    """Return every pixel's place in the site's own axes, across and along, in nm."""
    x = (canvas.axis_nm - site.x_nm)[None, :]
    y = (canvas.axis_nm - site.y_nm)[:, None]
    cosine, sine = math.cos(site.angle_rad), math.sin(site.angle_rad)
    return x * cosine + y * sine, y * cosine - x * sine


def _join(a: Floats, b: Floats, corner_nm: float) -> Floats:
    """Return the union of two signed distances with its inner corners filled (a smooth maximum)."""
    nearness = np.maximum(corner_nm - np.abs(a - b), 0.0) / corner_nm
    # Far from both edges the blend would lift level ground; within reach of a corner it may act.
    near_edge = np.clip(2 - np.maximum(np.abs(a), np.abs(b)) / corner_nm, 0.0, 1.0)
    return np.maximum(a, b) + corner_nm / 4 * near_edge * nearness**2


@dataclass(frozen=True)
class DefectSpec:
    """Where a kind of defect may lie, and the edit that makes it."""

    site: str
    edit: Callable[[Scene, Site, np.random.Generator], Scene]


DEFECTS: Mapping[str, DefectSpec] = MappingProxyType(
    {
        "bridge": DefectSpec("space", _bridge),
        "break": DefectSpec("line", _break),
        "missing_hole": DefectSpec("hole", _missing_hole),
        "particle": DefectSpec("anywhere", _particle),
    }
)
