"""One layer from its images to the arguments of the new layer, in a thread of its own."""

from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_semsr.backends import Backend
from napari_semsr.layers import LayerError, Source, flag_warnings, result_arguments

Result = tuple[dict[str, Any], list[str]]
"""Arguments of `viewer.add_image`, and warnings about quality flags."""


class JobError(Exception):
    """The work failed with a RuntimeError, whose message this is.

    napari takes a RuntimeError of a worker for one of Qt, and reports neither it nor the end.
    """


def super_resolve(source: Source, backend: Backend) -> Generator[int, None, Result]:
    """Super-resolve all images of a source, see `_super_resolve`.

    Raises:
        JobError: In place of any RuntimeError.
    """
    try:
        return (yield from _super_resolve(source, backend))
    except RuntimeError as error:
        raise JobError(str(error)) from error


def _super_resolve(source: Source, backend: Backend) -> Generator[int, None, Result]:
    """Super-resolve all images of a source.

    Yields:
        Number of finished images, after each. Closing the generator stops the work.

    Returns:
        Arguments of `viewer.add_image`, and warnings about quality flags.

    Raises:
        BackendError: The backend cannot be used.
        LayerError: The images cannot be used, or their answers differ in shape.
        Exception: The backend rejects an image.
    """
    qualities: list[dict[str, float]] = []
    facts: dict[str, Any] = {}
    result: npt.NDArray[np.uint8] | None = None
    with backend(source.window) as many:
        for index, answer in enumerate(many(source)):
            if result is None:
                result = np.empty((len(source), *answer.pixels.shape), dtype=np.uint8)
                facts = _facts(answer)
            if result[index].shape != answer.pixels.shape:
                raise LayerError(
                    f"image {index} has the shape {answer.pixels.shape} after the model, the "
                    f"preceding ones {result.shape[1:]}"
                )
            result[index] = answer.pixels
            qualities.append(dict(answer.quality))
            yield index + 1
    if result is None:
        raise LayerError(f"layer '{source.name}' holds no image")
    metadata = {
        "source": source.name,
        "window": source.window,
        "float_limits": source.float_limits,
        **facts,
        "quality": qualities,
    }
    pixels = result.reshape(*source.leading, *result.shape[1:])
    return result_arguments(source, pixels, metadata), flag_warnings(qualities)


def _facts(answer: object) -> dict[str, str]:
    """Return model, version, engine and precision, which the service's answers carry."""
    names = ("model", "model_version", "engine", "precision")
    return {name: getattr(answer, name) for name in names if hasattr(answer, name)}
