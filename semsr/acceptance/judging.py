"""Stage `evaluate`: figures and pictures of the new model, on tiles that no training saw.

Next to the new model stand bicubic and the baseline, which is the shipped model unless another one
is named. LR tiles are held out. Their look is compared with all HR images; structure is compared
with HR on pairs: those given by the fab, and pairs made of held-out HR images by the estimated
degradation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle_format.bundle import load_bundle
from semsr.acceptance.checking import scale_of
from semsr.acceptance.duplicates import pixel_digest
from semsr.acceptance.estimating import images_of, read_ranges
from semsr.acceptance.layout import Layout, Settings, write_json
from semsr.acceptance.pairs import make_pairs, read_pairs
from semsr.acceptance.pictures import draw_pictures
from semsr.acceptance.spread import hr_spread
from semsr.acceptance.timing import MAX_HR, MAX_MADE_PAIRS, MAX_TILES
from semsr.evaluate import bundle_method, load_features, load_own_detector
from semsr.evaluate_arguments import NamedBundle
from training.evaluation.compared.methods import BICUBIC, Method, Role, builtin_methods
from training.evaluation.folders.benchmark import Picture
from training.evaluation.measures.background import LOWEST_FREQUENCY, radial_spectrum_db
from training.evaluation.report.tables import plain
from training.evaluation.sets.own_pairs import measure_own_pairs
from training.evaluation.sets.own_tiles import OwnTiles, measure_own
from training.ground.progress import progress, tracked

NEW = "new model"
ENGINE = "onnx"


def judge(settings: Settings, layout: Layout) -> list[Path]:
    """Measure the new model, the baseline and bicubic; write `figures.json` and `pictures/`.

    Returns:
        The written files.

    Raises:
        BundleError: A bundle is damaged.
        ImageFileError: Pairs cannot be read.
        ValueError: Pairs do not fit together.
    """
    scale = scale_of(settings)
    with progress("loading the models"):
        methods = _methods(settings, layout, scale=scale)
        features = load_features(settings.vgg16)
        detector = load_own_detector(settings.detector, settings.threshold)
    lr = spread(images_of(layout, "held_out", "lr"), MAX_TILES)
    held_out = images_of(layout, "held_out", "hr")
    hr = spread({**images_of(layout, "training", "hr"), **held_out}, MAX_HR)
    given = []
    if settings.pairs is not None:
        given = read_pairs(settings.pairs, scale=scale, window=settings.window)[:MAX_TILES]
    made = make_pairs(
        spread(held_out, MAX_MADE_PAIRS), read_ranges(layout), scale=scale, seed=settings.seed
    )
    own = measure_own(
        OwnTiles(lr=lr, hr=list(hr.values()), pairs=given),
        methods,
        features=features,
        detector=detector,
    )
    of_made = measure_own_pairs(made, methods, detector=detector)
    pictures = draw_pictures(
        layout.pictures, own=own, lr=lr, hr=hr, given=given, made=made, methods=methods, new=NEW
    )
    figures = {
        "tiles": sorted(lr),
        "hr": sorted(hr),
        "figures": [asdict(row) for row in own.figures],
        "each_tile": [asdict(row) for row in own.tiles],
        "floors": own.floors,
        "spread": hr_spread(list(hr.values()), count=len(lr), seed=settings.seed),
        "made_pairs": [asdict(row) for row in of_made],
        "pairs": [asdict(row) for row in own.pairs],
        "spectra": _spectra(lr, hr, methods),
        "pictures": pictures,
        "methods": [{"name": m.name, "role": m.role, "gmac": m.gmac} for m in methods],
    }
    write_json(layout.figures, "figures", plain(figures))
    files = [layout.root / item["file"] for row in pictures for item in row["pictures"]]
    return [layout.figures, *files]


def spread(images: Mapping[str, Picture], most: int) -> dict[str, Picture]:
    """Return evenly spaced images, at most `most`."""
    every = -(-len(images) // most) or 1
    return dict(list(images.items())[::every])


def _methods(settings: Settings, layout: Layout, *, scale: int) -> list[Method]:
    wanted: list[tuple[str, Path, Role]] = []
    baseline = load_bundle(settings.baseline).manifest
    if baseline.scale == scale:
        wanted.append((f"{baseline.name} (baseline)", settings.baseline, "baseline"))
    wanted.append((NEW, layout.bundle, "candidate"))
    bicubic = [m for m in builtin_methods(scale=scale, with_truth=False) if m.name == BICUBIC]
    loaded = [
        bundle_method(NamedBundle(name=name, path=path), role=role, engine=ENGINE, is_timed=False)
        for name, path, role in wanted
    ]
    return [_remembering(method) for method in [*bicubic, *loaded]]


def _remembering(method: Method) -> Method:
    """Let a method keep its answers: several figures and the pictures need each of them."""
    known: dict[str, tuple[Picture, Mapping[str, float]]] = {}

    def answer(lr: Picture) -> tuple[Picture, Mapping[str, float]]:
        key = pixel_digest(lr)
        if key not in known:
            known[key] = method.answer(lr)
        return known[key]

    return replace(method, flagged=answer, upscale=lambda lr: answer(lr)[0])


def _spectra(
    lr: Mapping[str, Picture], hr: Mapping[str, Picture], methods: Sequence[Method]
) -> dict[str, Any]:
    """Return the mean spectra of all methods and of HR in dB, with their frequencies."""
    rows = {
        method.name: np.mean(
            [radial_spectrum_db(method.answer(tile)[0]) for tile in lr.values()], 0
        )
        for method in tracked(methods, "measuring spectra", unit="method")
    }
    rows["HR"] = np.mean([radial_spectrum_db(picture) for picture in hr.values()], axis=0)
    bins = rows["HR"].size
    frequency = LOWEST_FREQUENCY + (np.arange(bins) + 0.5) * (1 - LOWEST_FREQUENCY) / bins
    return {
        "frequency": [round(float(value), 4) for value in frequency],
        "db": {name: [round(float(value), 3) for value in row] for name, row in rows.items()},
    }
