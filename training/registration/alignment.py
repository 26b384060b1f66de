"""Aligned pairs in a folder: cropped pictures and `alignment.json`, whole or not at all.

The folder holds `lr/NAME.png`, `hr/NAME.png` and `alignment.json`. HR is cropped by the whole part
of the shift, never interpolated, since interpolation would blur its grain; the fraction is in the
file as `dy` and `dx`, and the loss moves SR by it.
"""

import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.images import SourceImage
from training.ground.progress import progress
from training.registration.matching import Match, pair_name
from training.registration.pair import Registration, RegistrationError, register
from training.registration.target import HEADER, AlignmentError, check_target

FORMAT_VERSION = 1
KIND = "semsr-alignment"


@dataclass(frozen=True)
class Refused:
    """Files that are not a pair.

    Attributes:
        lr_file: Name of the LR file; None if an HR file has no partner.
        hr_file: Name of the HR file; None if an LR file has no partner.
        reason: Sentence for people.
    """

    lr_file: str | None
    hr_file: str | None
    reason: str


@dataclass(frozen=True)
class AlignedPair:
    """A pair and its registration.

    Attributes:
        name: Stem of its files.
        lr: LR picture as given.
        hr: HR picture as given.
        registration: Position of HR against LR.
    """

    name: str
    lr: SourceImage
    hr: SourceImage
    registration: Registration

    @property
    def parts(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Rows and columns of LR and of HR that are written."""
        return self.registration.fields.crops(self.registration.whole_shift)

    def entry(self) -> dict[str, Any]:
        """Return the pair's entry in `alignment.json`."""
        found = self.registration
        lr_part, hr_part = self.parts
        return {
            "name": self.name,
            "lr_file": f"lr/{self.name}.png",
            "hr_file": f"hr/{self.name}.png",
            "dy": round(found.fraction[0], 4),
            "dx": round(found.fraction[1], 4),
            "residual_px": round(found.residual_px, 3),
            "correlation": round(found.correlation, 3),
            "unknown_axis": found.unknown_axis,
            "raw_correlation": round(found.raw_correlation, 3),
            "shift_y_px": round(found.shift[0], 4),
            "shift_x_px": round(found.shift[1], 4),
            # JSON has no infinity: null along an unknown axis.
            "standard_error_px": [
                round(error, 4) if np.isfinite(error) else None for error in found.standard_error_px
            ],
            "scale_error": [round(error, 6) for error in found.scale_error],
            "rotation_deg": round(found.rotation_deg, 4),
            "lr_source": self.lr.name,
            "hr_source": self.hr.name,
            "lr_box_px": _box(lr_part),
            "hr_box_px": _box(hr_part),
        }


@dataclass(frozen=True)
class Alignment:
    """Outcome for two folders: every file is in a pair or refused.

    Attributes:
        scale: HR px per LR px.
        pairs: Pairs, in the order of their LR files.
        refused: Others, with their reasons.
    """

    scale: int
    pairs: tuple[AlignedPair, ...]
    refused: tuple[Refused, ...]

    def document(self) -> dict[str, Any]:
        """Return the content of `alignment.json`."""
        return {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "scale": self.scale,
            "pairs": [pair.entry() for pair in self.pairs],
            "refused": [
                {"lr_file": item.lr_file, "hr_file": item.hr_file, "reason": item.reason}
                for item in self.refused
            ],
        }


def align(
    matches: Sequence[Match], *, scale: int, max_shift_px: int, accept_inverted: bool = False
) -> Alignment:
    """Register every match; arguments as `pair.register`."""
    pairs: list[AlignedPair] = []
    refused: list[Refused] = []
    with progress("registering pairs", len(matches), unit="pair") as steps:
        for match in matches:
            lr, hr = match.lr, match.hr
            names = (lr.name if lr else None, hr.name if hr else None)
            steps.say(" ".join(filter(None, names)))
            if lr is None or hr is None:
                refused.append(Refused(*names, match.problem or "no partner"))
                steps.update()
                continue
            problems = [match.problem] if match.problem else []
            try:
                found = register(
                    lr.pixels,
                    hr.pixels,
                    scale=scale,
                    max_shift_px=max_shift_px,
                    accept_inverted=accept_inverted,
                )
                if not problems:
                    pairs.append(AlignedPair(pair_name(lr), lr, hr, found))
            except RegistrationError as error:
                # First, as it explains the other: unrelated pictures match all files alike.
                problems.insert(0, str(error))
            if problems:
                refused.append(Refused(*names, "; ".join(problems)))
            steps.update()
    return Alignment(scale, tuple(pairs), tuple(refused))


def write_alignment(alignment: Alignment, out: Path, *, overwrite: bool = False) -> Path:
    """Write pairs and `alignment.json`; an error leaves the folder as it was.

    Args:
        alignment: Pairs, at least one.
        out: Folder, new or empty.
        overwrite: Whether an alignment in the folder may be replaced.

    Returns:
        Path of `alignment.json`.

    Raises:
        AlignmentError: See `check_target`; or there is no pair.
    """
    if not alignment.pairs:
        raise AlignmentError(f"no pair is left: {len(alignment.refused)} refused, expected a pair")
    check_target(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.parent / f".{secrets.token_hex(8)}.part"
    try:
        for side in ("lr", "hr"):
            (part / side).mkdir(parents=True)
        for pair in alignment.pairs:
            lr_part, hr_part = pair.parts
            _write_png(part / "lr" / f"{pair.name}.png", pair.lr.pixels[lr_part])
            _write_png(part / "hr" / f"{pair.name}.png", pair.hr.pixels[hr_part])
        text = json.dumps(alignment.document(), indent=1)
        (part / HEADER).write_text(f"{text}\n", encoding="utf-8")
        _replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out / HEADER


def _replace(part: Path, out: Path) -> None:
    """Move a finished folder to its place; the old one is removed afterwards."""
    if not out.exists():
        part.rename(out)
        return
    old = out.parent / f".{secrets.token_hex(8)}.part"
    out.rename(old)
    try:
        part.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")


def _box(part: tuple[slice, slice]) -> list[int]:
    """Return left, top, right, bottom; the last two are outside."""
    rows, columns = part
    return [columns.start, rows.start, columns.stop, rows.stop]
