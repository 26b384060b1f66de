"""Measurement of `reference_hr`, the reference of backgrounds, and its split-half floors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.folders.benchmark import HrTile, read_png
from training.evaluation.measures.background import (
    border_spectrum_db,
    mean_by_scene,
    radial_spectrum_db,
    split_half_floor,
)
from training.evaluation.measures.flat_grain import flat_power
from training.evaluation.measures.kernel_distance import (
    MAX_PICTURES,
    FeatureNetwork,
    kernel_floor,
    picture_features,
)
from training.ground.progress import tracked
from training.ground.quality import noise_sigma

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Background statistics of `reference_hr`.

    Attributes:
        spectra: Scene kind to mean spectrum in dB.
        border: The same along the border.
        noise_sigma: Scene kind to mean noise in grey levels.
        grey_counts: Scene kind to (256,) counts.
        flat_power: Scene kind to the sum of its `flat_grain.flat_power`.
        centre_features: (N, C), None without a feature network.
        border_features: The same of the outer 16 px.
        floors: Key of a figure to what halves of the reference score.
    """

    spectra: dict[str, Floats]
    border: dict[str, Floats]
    noise_sigma: dict[str, float]
    grey_counts: dict[str, Floats]
    flat_power: dict[str, Floats]
    centre_features: Floats | None
    border_features: Floats | None
    floors: dict[str, float]


def measure_reference(tiles: Sequence[HrTile], features: FeatureNetwork | None) -> Reference:
    """Measure the pictures of `reference_hr`."""
    scenes = [tile.scene for tile in tiles]
    spectra, borders, noises, greys, flats, centre, edge = [], [], [], [], [], [], []
    for number, tile in enumerate(tracked(tiles, "measuring reference_hr")):
        picture = read_png(tile.path)
        spectra.append(radial_spectrum_db(picture))
        borders.append(border_spectrum_db(picture))
        noises.append(noise_sigma(picture))
        greys.append(np.bincount(picture.ravel(), minlength=256))
        flats.append(flat_power(picture))
        if features is not None and number < MAX_PICTURES:
            found = picture_features(picture, features, number=number)
            centre.append(found.centre)
            edge.append(found.border)
    floors = {
        "spectrum_db": split_half_floor(np.array(spectra), scenes),
        "border_spectrum_db": split_half_floor(np.array(borders), scenes),
    }
    if features is not None:
        floors["kernel_distance"] = kernel_floor(np.array(centre))
        floors["border_kernel_distance"] = kernel_floor(np.array(edge))
    members = {scene: [other == scene for other in scenes] for scene in sorted(set(scenes))}
    return Reference(
        spectra=mean_by_scene(np.array(spectra), scenes),
        border=mean_by_scene(np.array(borders), scenes),
        noise_sigma={
            scene: float(np.mean(np.array(noises)[member])) for scene, member in members.items()
        },
        grey_counts={
            scene: np.array(greys)[member].sum(axis=0).astype(np.float64)
            for scene, member in members.items()
        },
        flat_power={
            scene: np.array(flats)[member].sum(axis=0) for scene, member in members.items()
        },
        centre_features=np.array(centre) if centre else None,
        border_features=np.array(edge) if edge else None,
        floors=floors,
    )
