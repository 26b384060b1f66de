"""Plants defects and says what they changed: place, size and strength drawn within stated limits.

A defect is edited into a window of the scene at full strength; what counts is the difference of the
surface with and without it, which is scaled to the strength that gives a drawn contrast: a bridge
of a third of the lines' height, a hole that is opened halfway, a thinner stain. The truth is taken
from the picture that review would make of the window without noise, with and without the defect, so
that it holds for changes of the material as well as of the height.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.simulator.capture import REVIEW
from training.simulator.defects.registry import DEFECTS, DefectSpec, Group
from training.simulator.defects.sites import free_sites, freely_placed_sites
from training.simulator.emission import secondary_electrons
from training.simulator.layout import Floats, Patch, Scene, Site, Surface

MIN_CNR = 2.5
MAX_CNR = 12.0
"""Contrast-to-noise ratio in a review picture: mean |change of grey| over the mask in units of the
noise at the brighter of the greys with and without the defect."""

MIN_SIDE_NM = 6
MAX_SIDE_NM = 60
"""Sides of a defect's bounding box."""

BORDER_BOX_NM = 12
"""Least distance of a box from the tile's border, but for the few that lie near it."""

NEAR_BORDER_SHARE = 0.1
"""Share of defects whose centre lies near the border, where models behave differently."""

MASK_NOISE_SHARE = 0.5
MASK_PEAK_SHARE = 0.25
"""A pixel belongs to the mask from this change on: half the noise's sigma, and a quarter of the
defect's own strongest change."""

TOUCHED_SHARE = 0.05
RIM_PX = 4
"""And it lies where the surface changed by this share of the largest change, or this near to it:
shadows further out are not part of the defect."""

CRUMB_SHARE = 0.03
"""Parts of the mask that are smaller than this share of the largest are left out."""

WINDOW_PX = 192
"""Fine pixels of the window that a defect is worked out in: its size and the nearer shadows."""

MAX_TRIES = 24


class NoSiteError(ValueError):
    """The scene has no free place for a defect of this kind."""


@dataclass(frozen=True)
class PlantedDefect:
    """Truth about one defect.

    Attributes:
        kind: Key in `DEFECTS`.
        group: "planted", "unseen" or "unknown", see `defects`.
        number: Position in the tile's list, from 1; its value in the tile's labels.
        x_nm: Centre of the place, from the tile's left edge.
        y_nm: Centre of the place, from the tile's top edge.
        contrast_to_noise: Mean |change of grey| over the mask in a review picture, over its noise.
        mask: bool on the tile's fine pixels, without the margin; where the review picture changed.
    """

    kind: str
    group: Group
    number: int
    x_nm: float
    y_nm: float
    contrast_to_noise: float
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _View:
    """A window of the scene and what review sees of it without noise."""

    row: int
    column: int
    scene: Scene
    surface: Surface
    grey: Floats


def plant(
    scene: Scene,
    kind: str,
    rng: np.random.Generator,
    *,
    taken: Iterable[PlantedDefect] = (),
    is_limited: bool = True,
) -> tuple[Scene, PlantedDefect]:
    """Plant one defect of `kind`, clear of those in `taken`.

    Args:
        scene: Scene that gets the defect.
        kind: Key in `DEFECTS`.
        rng: Source of place, size and strength.
        taken: Defects that are there already.
        is_limited: Whether size, contrast and distance from the border keep to this module's
            constants, drawing again where they are not; else take the first draw, at full strength.

    Returns:
        The scene with the defect, and its truth.

    Raises:
        KeyError: `kind` is not in `DEFECTS`.
        NoSiteError: The scene's layout has no free place for it within the limits.
    """
    spec = DEFECTS[kind]
    others = tuple(taken)
    taken_nm = [(other.x_nm, other.y_nm) for other in others]
    for _ in range(MAX_TRIES if is_limited else 1):
        is_near_border = is_limited and rng.uniform() < NEAR_BORDER_SHARE
        if is_limited:
            sites = free_sites(scene, spec.site, taken_nm, rng, is_near_border=is_near_border)
        else:
            sites = freely_placed_sites(scene, spec.site, taken_nm, rng)
        if not sites:
            continue
        site = sites[int(rng.integers(len(sites)))]
        made = _make(scene, spec, site, rng, is_limited=is_limited)
        if made is None:
            continue
        patch, mask, contrast = made
        if is_limited and not _is_of_size(mask, is_near_border=is_near_border):
            continue
        defect = PlantedDefect(
            kind=kind,
            group=spec.group,
            number=len(others) + 1,
            x_nm=site.x_nm,
            y_nm=site.y_nm,
            contrast_to_noise=contrast,
            mask=mask,
        )
        return replace(scene, patches=(*scene.patches, patch)), defect
    raise NoSiteError(f"a {scene.kind!r} scene has no free place for a defect of kind {kind!r}")


def _make(
    scene: Scene, spec: DefectSpec, site: Site, rng: np.random.Generator, *, is_limited: bool
) -> tuple[Patch, NDArray[np.bool_], float] | None:
    """Return the change of the surface, the mask on the tile and the contrast, if within limits."""
    view = _view(scene, site)
    pixel_nm = scene.canvas.pixel_nm
    corner_nm = (
        view.column * pixel_nm - scene.canvas.margin_nm,
        view.row * pixel_nm - scene.canvas.margin_nm,
    )
    local = replace(site, x_nm=site.x_nm - corner_nm[0], y_nm=site.y_nm - corner_nm[1])
    sizes_nm = spec.size_nm if is_limited else (spec.free_size_nm or spec.size_nm)
    if sizes_nm[0] == sizes_nm[1]:
        size_nm = sizes_nm[0]
    elif is_limited:
        size_nm = _log_uniform(*sizes_nm, rng)  # small ones are as many as large ones
    else:
        size_nm = rng.uniform(*sizes_nm)
    edited = spec.edit(view.scene, local, size_nm, rng).surface()
    full = Patch(
        row=view.row,
        column=view.column,
        height_nm=edited.height_nm - view.surface.height_nm,
        material_yield=edited.material_yield - view.surface.material_yield,
    )
    patch = full
    mask, contrast = _measure(view, patch)
    if is_limited:
        if max(_sides(mask)) > MAX_SIDE_NM:
            return None
        wanted = _log_uniform(MIN_CNR, MAX_CNR, rng)
        if contrast > wanted:
            patch = _scaled(full, wanted / contrast)
            mask, contrast = _measure(view, patch)
        if not MIN_CNR <= contrast <= MAX_CNR:
            return None
    on_canvas = np.zeros(scene.canvas.shape, dtype=bool)
    on_canvas[view.row : view.row + mask.shape[0], view.column : view.column + mask.shape[1]] = mask
    inner = scene.canvas.inner
    on_tile = on_canvas[inner, inner]
    return (patch, on_tile, contrast) if on_tile.any() else None


def _view(scene: Scene, site: Site) -> _View:
    canvas = scene.canvas
    side_px = min(WINDOW_PX, canvas.shape[0])
    row, column = (
        min(
            max(round(place / canvas.pixel_nm) + canvas.margin_px - side_px // 2, 0),
            canvas.shape[0] - side_px,
        )
        for place in (site.y_nm, site.x_nm)
    )
    part = scene.crop(row, column, side_px)
    surface = part.surface()
    return _View(row, column, part, surface, _review_grey(surface, canvas.pixel_nm))


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _scaled(patch: Patch, strength: float) -> Patch:
    return replace(
        patch,
        height_nm=strength * patch.height_nm,
        material_yield=strength * patch.material_yield,
    )


def _measure(view: _View, patch: Patch) -> tuple[NDArray[np.bool_], float]:
    """Return a patch's mask on the window and its contrast-to-noise ratio."""
    changed = Surface(
        view.surface.height_nm + patch.height_nm,
        view.surface.material_yield + patch.material_yield,
    )
    pixel_nm = view.scene.canvas.pixel_nm
    grey = _review_grey(changed, pixel_nm)
    noise = np.sqrt(REVIEW.noise_variance(np.maximum(grey, view.grey)))
    change = np.abs(grey - view.grey) / noise
    strong = change > max(MASK_NOISE_SHARE, MASK_PEAK_SHARE * float(change.max()))
    mask = _without_crumbs(strong & _touched(patch))
    return mask, float(change[mask].mean()) if mask.any() else 0.0


def _touched(patch: Patch) -> NDArray[np.bool_]:
    """Return where the surface itself changed by a share of its largest change, and a rim."""
    touched = np.zeros(patch.height_nm.shape, dtype=bool)
    for change in (patch.height_nm, patch.material_yield):
        size = np.abs(change)
        largest = float(size.max())
        if largest > 0:
            touched |= size > TOUCHED_SHARE * largest
    return np.asarray(ndimage.binary_dilation(touched, iterations=RIM_PX), dtype=bool)


def _without_crumbs(strong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask whose holes are filled and whose smallest parts are left out."""
    # A defect's bright rim and dark inside touch at a change of sign, where the change is nil.
    closed = ndimage.binary_closing(strong, iterations=3)
    labels = np.zeros(closed.shape, dtype=np.intp)
    ndimage.label(closed, output=labels)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    parts = (areas >= CRUMB_SHARE * areas.max()) & (areas > 0)
    return np.asarray(ndimage.binary_fill_holes(parts[labels]), dtype=bool)


def _review_grey(surface: Surface, pixel_nm: float) -> Floats:
    signal = secondary_electrons(surface, pixel_nm)
    return REVIEW.tone(ndimage.gaussian_filter(signal, REVIEW.spot_sigma_nm / pixel_nm))


def _is_of_size(mask: NDArray[np.bool_], *, is_near_border: bool) -> bool:
    if min(_sides(mask)) < MIN_SIDE_NM or max(_sides(mask)) > MAX_SIDE_NM:
        return False
    if is_near_border:
        return True
    border = np.ones_like(mask)
    border[BORDER_BOX_NM:-BORDER_BOX_NM, BORDER_BOX_NM:-BORDER_BOX_NM] = False
    return not (mask & border).any()


def _sides(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the sides of a mask's bounding box, 0 where it is empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1) if rows.size else (0, 0)
