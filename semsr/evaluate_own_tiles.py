"""Reading of the folders of `semsr evaluate --lr`, `--hr` and `--pairs`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semsr.evaluate_arguments import NamedBundle

if TYPE_CHECKING:
    from training.evaluation.sets.own_tiles import OwnTiles


def own_tiles(
    options: argparse.Namespace,
    *,
    models: Sequence[NamedBundle],
    window: tuple[int, int] | None,
    scale: int,
) -> "OwnTiles | None":
    """Read the folders of a fab's own tiles; one error names every unusable file.

    Args:
        options: Folders `lr`, `hr` and `pairs`, `max_rows` and `limit`; None without `lr`.
        models: Models to judge, the first of which gives the window where none is given.
        window: 16-bit values that become 0 and 255, or None.
        scale: Upscaling factor.
    """
    if options.lr is None:
        return None
    from semsr.image_reading import FULL_WINDOW, window_of_model
    from training.data.images import SourceImage, load_images
    from training.evaluation.folders.real_folders import pairs_by_name
    from training.evaluation.sets.own_tiles import MIN_HR_SIDE_PX, MIN_LR_SIDE_PX, OwnTiles
    from training.ground.progress import progress

    rows = options.max_rows
    if window is None:
        window = window_of_model(models[0].path) if models else FULL_WINDOW

    def read(folder: Path, *, is_hr: bool, min_side_px: int) -> list[SourceImage]:
        return load_images(
            folder.resolve(),
            root=folder.resolve(),
            min_side_px=min_side_px,
            max_rows_px=scale * rows if is_hr and rows is not None else rows,
            window=window,
        )

    with progress("reading images"):
        lr = read(options.lr, is_hr=False, min_side_px=MIN_LR_SIDE_PX)
        hr = []
        if options.hr is not None:
            hr = read(options.hr, is_hr=True, min_side_px=MIN_HR_SIDE_PX)
        pairs = []
        if options.pairs is not None:
            # One folder may hold both sides, so that the smaller side's limit holds for all.
            coarse, fine = (
                read(folder, is_hr=is_hr, min_side_px=MIN_LR_SIDE_PX)
                for folder, is_hr in zip(options.pairs, (False, True), strict=True)
            )
            pairs = pairs_by_name(
                {image.name: image.pixels for image in coarse},
                {image.name: image.pixels for image in fine},
                scale=scale,
            )
    return OwnTiles(
        lr={image.name: image.pixels for image in lr[: options.limit]},
        hr=[image.pixels for image in hr],
        pairs=pairs[: options.limit],
    )
