"""`semsr translate`: a network of scale 1 on a tree of pictures that another method enlarged.

PyTorch is loaded only where the network runs, so that a command can refuse early.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.data.images import (
    FULL_WINDOW,
    IMAGE_SUFFIXES,
    MAX_NAMED_FILES,
    ImageFileError,
    read_grey,
)
from training.data.picture_folder import (
    PictureFacts,
    PictureFolder,
    PicturesError,
    file_digest,
    picture_names,
    source_digest,
)
from training.ground.progress import progress
from training.run.trained import facts_of_training

if TYPE_CHECKING:
    from models import CheckpointInfo
    from semsr.image_reading import ImageReading

OFFLINE = "translates pictures that another method made"


def options_of(checkpoint: Path, made_by: PictureFacts | None, *, device: str) -> dict[str, Any]:
    """Return all that a picture depends on in addition to its source, as JSON-compatible values.

    Args:
        checkpoint: File of a network of scale 1.
        made_by: Facts of the method that made the sources; None where unknown.
        device: Device that the network runs on, `cpu` or `cuda`.
    """
    return {
        "made_by": "semsr translate",
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": file_digest(checkpoint),
        # The pictures of a short run and of a whole one are never put together.
        "images": None if made_by is None else made_by.summary,
        "images_are_short": made_by is not None and made_by.is_short,
        # Sums are rounded in another order on a GPU.
        "device": device,
    }


def find_pictures(images: Path, out: Path) -> dict[str, Path]:
    """Find the image files of a folder and its subfolders; return each by its result's name.

    Args:
        images: Folder; hidden files and folders are left out.
        out: Folder of the results, which is left out where it lies in `images`.

    Returns:
        Files by the path of their results below `out`: the same, as PNG.

    Raises:
        PicturesError: The folder has no image file, or two files have the same result.
    """
    found = [
        path
        for path in sorted(images.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(images).parts)
        and not path.resolve().is_relative_to(out.resolve())
    ]
    if not found:
        raise PicturesError(
            f"{images} holds no image file ({', '.join(sorted(IMAGE_SUFFIXES))}), nor do its "
            "subfolders"
        )
    return picture_names(found, images)


def translate_pictures(
    checkpoint: Path,
    pictures: Mapping[str, Path],
    folder: PictureFolder,
    *,
    made_by: PictureFacts | None = None,
    device: str = "cpu",
) -> int:
    """Translate the pictures that are not made yet; return their number.

    All files are read before the first is translated, so that one error names all bad ones.

    Args:
        checkpoint: File of a network of scale 1.
        pictures: Files by the names of their results; see `find_pictures`.
        folder: An opened folder, with the options of `options_of`.
        made_by: Facts of the method that made the files; None where unknown.
        device: Device that the network runs on, `cpu` or `cuda`.

    Raises:
        CheckpointError: The file is not a semsr checkpoint.
        PicturesError: The network enlarges, files cannot be used, or a finished picture was made
            from another file.
    """
    from models import load_generator
    from semsr.image_reading import reading_of_training
    from training.methods.pictures import upscale

    generator, info = load_generator(checkpoint)
    if generator.scale != 1:
        raise PicturesError(
            f"{checkpoint} enlarges {generator.scale} times; expected a network of scale 1, "
            "which takes enlarged pictures: semsr evaluate --bundle takes this one as it is"
        )
    reading = reading_of_training(info.training)
    missing = folder.begin(_facts(info, made_by), _digests(pictures, reading))
    network = generator.to(device)
    done = len(pictures) - len(missing)
    with progress("translating", len(pictures), unit="image", done=done) as steps:
        for name in missing:
            steps.say(name)
            folder.save(name, upscale(network, _read(pictures[name], reading)))
            steps.update()
    return len(missing)


def _facts(info: "CheckpointInfo", made_by: PictureFacts | None) -> PictureFacts:
    """Return the facts of the network's training, with what they inherit from its input."""
    inherited = made_by or PictureFacts(summary="an unknown method", is_short=False)
    own = facts_of_training(
        info.training,
        summary=f"{info.generator} on pictures of {inherited.summary}",
        offline=": ".join(part for part in (OFFLINE, inherited.offline) if part),
    )
    return own.model_copy(update={"is_short": own.is_short or inherited.is_short})


def _digests(pictures: Mapping[str, Path], reading: "ImageReading") -> dict[str, str]:
    digests, problems = {}, []
    with progress("reading images", len(pictures), unit="image") as steps:
        for name, path in pictures.items():
            try:
                digests[name] = source_digest(_read(path, reading))
            except ImageFileError as error:
                problems.append(f"{path}: {error}")
            steps.update()
    if problems:
        more = len(problems) - MAX_NAMED_FILES
        lines = [*problems[:MAX_NAMED_FILES], *([f"and {more} more"] if more > 0 else [])]
        raise PicturesError("\n  ".join(["files that cannot be used:", *lines]))
    return digests


def _read(path: Path, reading: "ImageReading") -> NDArray[np.uint8]:
    return read_grey(path, window=reading.window or FULL_WINDOW, max_rows_px=reading.max_rows_px)
