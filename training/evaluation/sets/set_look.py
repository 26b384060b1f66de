"""Statistics of a set of pictures (spectra, noise, greys, features), and distances between sets."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.folders.benchmark import Picture
from training.evaluation.measures import background
from training.evaluation.measures.flat_grain import flat_grain_db, flat_power
from training.evaluation.measures.kernel_distance import (
    FeatureNetwork,
    PictureFeatures,
    kernel_distance,
    kernel_floor,
    picture_features,
)
from training.ground.progress import tracked
from training.ground.quality import noise_sigma

Floats = NDArray[np.float64]


class SetLook:
    """Statistics of a set of pictures, added one by one; the pictures are not stored."""

    def __init__(self, features: FeatureNetwork | None) -> None:
        self._network = features
        self.spectra: list[Floats] = []
        self.borders: list[Floats] = []
        self.noises: list[float] = []
        self.greys = np.zeros(256)
        self.flats = np.zeros(())
        self.features: list[PictureFeatures] = []

    @classmethod
    def of(
        cls, what: str, pictures: Sequence[Picture], features: FeatureNetwork | None
    ) -> "SetLook":
        """Measure every picture of a set; `what` labels the progress line."""
        look = cls(features)
        for picture in tracked(pictures, what, unit="picture"):
            look.add(picture)
        return look

    def add(self, picture: Picture) -> None:
        """Add the statistics of one picture."""
        if self._network is not None:
            number = len(self.spectra)
            self.features.append(picture_features(picture, self._network, number=number))
        self.spectra.append(background.radial_spectrum_db(picture))
        self.borders.append(background.border_spectrum_db(picture))
        self.noises.append(noise_sigma(picture))
        self.greys += np.bincount(picture.ravel(), minlength=256)
        self.flats = self.flats + flat_power(picture)

    def floors(self) -> dict[str, float]:
        """Return the distances between random halves of the set; empty for fewer than two."""
        if len(self.spectra) < 2:
            return {}
        same = ["all"] * len(self.spectra)
        found = {
            "spectrum_db": background.split_half_floor(np.array(self.spectra), same),
            "border_spectrum_db": background.split_half_floor(np.array(self.borders), same),
        }
        if self.features:
            found["kernel_distance"] = kernel_floor(_rows(self, "centre"))
            found["border_kernel_distance"] = kernel_floor(_rows(self, "border"))
        return found


def set_distances(look: SetLook, reference: SetLook | None) -> dict[str, float | None]:
    """Return the distances of a set from the reference; None where they cannot be computed."""
    names = ("spectrum_db", "border_spectrum_db", "noise_ratio", "grey_distance", "flat_grain_db")
    found: dict[str, float | None] = dict.fromkeys(
        (*names, "kernel_distance", "border_kernel_distance")
    )
    if reference is None:
        return found
    for name, ours, theirs in (
        ("spectrum_db", look.spectra, reference.spectra),
        ("border_spectrum_db", look.borders, reference.borders),
    ):
        distance = background.log_spectral_distance(np.mean(ours, axis=0), np.mean(theirs, axis=0))
        found[name] = float(distance)
    # A picture without any noise at all is a drawing; a ratio to it says nothing.
    theirs_sigma = float(np.mean(reference.noises))
    found["noise_ratio"] = float(np.mean(look.noises)) / theirs_sigma if theirs_sigma else None
    found["flat_grain_db"] = float(flat_grain_db(look.flats, reference.flats))
    found["grey_distance"] = background.histogram_distance(look.greys, reference.greys)
    if min(len(look.features), len(reference.features)) >= 2:
        for name, part in (("kernel_distance", "centre"), ("border_kernel_distance", "border")):
            found[name] = kernel_distance(_rows(look, part), _rows(reference, part))
    return found


def _rows(look: SetLook, part: str) -> Floats:
    return np.array([getattr(item, part) for item in look.features])
