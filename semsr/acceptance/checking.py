"""Stage `check`: the images of both folders, read and judged before anything is trained."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bundle_format.bundle import load_bundle
from semsr.acceptance.answers import Answering
from semsr.acceptance.duplicates import equal_images, images_of_one_capture, pixel_digest
from semsr.acceptance.findings import Finding, refuse
from semsr.acceptance.image_checks import (
    check_depth,
    check_greys,
    check_noise,
    check_number,
    check_order,
    check_sizes,
    min_side_of,
)
from semsr.acceptance.judge_checks import check_detector, check_pairs
from semsr.acceptance.layout import Layout, Settings, write_json
from semsr.acceptance.own_images import OwnImage, names, read_own
from semsr.progress import tracked

MAX_DOMAIN_TILES = 24
FAR_SHARE = 0.25
"""Share of LR images beyond the shipped model's domain that is reported as a warning."""


def scale_of(settings: Settings) -> int:
    """Return HR pixels per LR pixel: the recipe's."""
    from training.config.recipe import load_recipe

    return load_recipe(settings.recipe, overrides=settings.overrides).scale


def read_side(settings: Settings, side: str) -> tuple[list[OwnImage], dict[str, str]]:
    """Read a folder of an acceptance; `side` is `lr` or `hr`."""
    rows = settings.max_rows
    if side == "hr" and rows is not None:
        rows *= scale_of(settings)
    folder = settings.lr if side == "lr" else settings.hr
    return read_own(folder, side, window=settings.window, max_rows=rows, limit=settings.limit)


def check(settings: Settings, layout: Layout) -> list[Finding]:
    """Check the images of both folders, and write `check.json`.

    Returns:
        Warnings and notes.

    Raises:
        ImagesRefusedError: The images cannot be used; every finding is named.
    """
    scale = scale_of(settings)
    findings: list[Finding] = []
    sides: dict[str, list[OwnImage]] = {}
    left_out: dict[str, list[str]] = {}
    captures: dict[str, list[list[str]]] = {}
    for side in ("lr", "hr"):
        images, unusable = read_side(settings, side)
        sides[side] = images
        label = side.upper()
        if unusable:
            findings.append(
                Finding(
                    level="refused",
                    text=f"{label} has files that are not usable images",
                    files=tuple(f"{name} ({why})" for name, why in unusable.items()),
                )
            )
        findings += check_depth(images, side=label, has_window=settings.window is not None)
        findings += check_sizes(images, side=label, min_side_px=min_side_of(label, scale=scale))
        found, gone = check_greys(images, side=label)
        findings += found
        findings += check_noise([image for image in images if image not in gone], side=label)
        copies, of_copies = _copies(images, label)
        findings += of_copies
        left_out[side] = sorted({*names(gone), *copies})
        kept = [image for image in images if image.name not in left_out[side]]
        findings += check_number(kept, side=label)
        sides[side] = kept
    # First: it may be the cause of the others.
    order = check_order(sides["lr"], sides["hr"], scale=scale, is_sure=settings.is_order_sure)
    findings = [*order, *findings]
    findings += _in_both(sides["lr"], sides["hr"])
    findings += check_pairs(settings, scale=scale)
    findings += check_detector(settings, sides["hr"])
    refuse(findings)  # before the comparisons, which take longer
    for side, images in sides.items():
        pairs, is_whole = images_of_one_capture(images)
        captures[side] = [[first.name, second.name] for first, second in pairs]
        findings += _one_capture(captures[side], side.upper(), is_whole=is_whole)
    domain, far = _domain(settings, sides["lr"])
    findings += far
    write_json(
        layout.check,
        "check",
        {
            "findings": [
                {"level": f.level, "text": f.text, "files": list(f.files)} for f in findings
            ],
            "left_out": left_out,
            "one_capture": captures,
            "domain": domain,
            "images": {side: [image.facts() for image in of] for side, of in sides.items()},
        },
    )
    return findings


def _copies(images: Sequence[OwnImage], side: str) -> tuple[list[str], list[Finding]]:
    pairs = equal_images(images)
    if not pairs:
        return [], []
    return [copy.name for _, copy in pairs], [
        Finding(
            level="warning",
            text=f"{side} has images of equal pixels; the later ones are left out",
            files=tuple(f"{copy.name} (as {first.name})" for first, copy in pairs),
        )
    ]


def _in_both(lr: Sequence[OwnImage], hr: Sequence[OwnImage]) -> list[Finding]:
    fine = {pixel_digest(image.pixels): image.name for image in hr}
    both = [image.name for image in lr if pixel_digest(image.pixels) in fine]
    if not both:
        return []
    return [
        Finding(
            level="refused",
            text="the same images are in LR and in HR; expected a fast scan in one folder and a "
            "slow scan in the other",
            files=tuple(both),
        )
    ]


def _one_capture(pairs: Sequence[Sequence[str]], side: str, *, is_whole: bool) -> list[Finding]:
    found = []
    if pairs:
        found.append(
            Finding(
                level="warning",
                text=f"{side} has images that share pixels of one capture; they count as one "
                "source, so that none is held out while its twin is trained on",
                files=tuple(f"{first} and {second}" for first, second in pairs),
            )
        )
    if not is_whole:
        found.append(
            Finding(
                level="note",
                text=f"{side} has so many images that only neighbours by name were compared for "
                "shared pixels; name the sources by --sources",
            )
        )
    return found


def _domain(settings: Settings, lr: Sequence[OwnImage]) -> tuple[dict[str, Any], list[Finding]]:
    """Return the distances of LR images from the baseline's training, and a finding."""
    name = load_bundle(settings.baseline).manifest.name
    answering = Answering(settings.baseline, threads=settings.threads)
    every = -(-len(lr) // MAX_DOMAIN_TILES)
    judged = lr[::every]
    try:
        distances = {
            image.name: answering.domain_distance(image.pixels)
            for image in tracked(judged, f"judging LR by {name}", unit="image")
        }
    finally:
        answering.close()
    known = {image: value for image, value in distances.items() if value is not None}
    facts = {
        "model": name,
        "distances": {image: round(value, 3) for image, value in known.items()},
        "median": round(float(np.median(list(known.values()))), 3) if known else None,
    }
    far = {image: value for image, value in known.items() if value > 1}
    if not far:
        return facts, []
    return facts, [
        Finding(
            level="warning" if len(far) > FAR_SHARE * len(known) else "note",
            text=f"{len(far)} of {len(known)} judged LR images lie outside the domain of the "
            f"model {name} (distance over its limit); training on your own images is for them",
            files=tuple(f"{image} ({value:.2f})" for image, value in far.items()),
        )
    ]
