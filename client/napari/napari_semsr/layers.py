"""napari's image layers to grey tiles, and super-resolved tiles to the arguments of a new layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Tile = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
GreyRange = Literal["model", "limits"]
"""Grey range that becomes black to white: the model's window, or the layer's contrast limits."""

_HIGHEST = 65_535


class LayerError(ValueError):
    """A layer cannot be super-resolved; the message names it and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images of a layer, and the placement of their results.

    Attributes:
        name: Name of the layer.
        data: (…, H, W) array, NumPy or lazy (dask, zarr); not changed.
        window: Grey range lo, hi of 16-bit images; None takes the model's.
        float_limits: Values of float images that become black and white, or None for integers.
        placement: Arguments of the layer that place it: scale, translate, rotate, …
    """

    name: str
    data: Any
    window: tuple[int, int] | None
    float_limits: tuple[float, float] | None
    placement: dict[str, Any]

    @property
    def leading(self) -> tuple[int, ...]:
        """Shape of the axes before the image's own two; () for one image."""
        return tuple(self.data.shape[:-2])

    def __len__(self) -> int:
        """Return the number of images."""
        return int(np.prod(self.leading, dtype=int))

    def __iter__(self) -> Iterator[Tile]:
        """Read one image after another: (H, W) uint8 or uint16."""
        for index in np.ndindex(self.leading):
            tile = np.asarray(self.data[index])
            yield tile if self.float_limits is None else _to_uint16(tile, self.float_limits)


def read_layer(layer: Any, grey_range: GreyRange) -> Source:  # noqa: ANN401 (napari is optional)
    """Check a layer and describe its images.

    Args:
        layer: `napari.layers.Image` of the data types uint8 and uint16; with the contrast limits
            as grey range also of floats. A multiscale layer gives its finest level.
        grey_range: Grey range that becomes black to white. 8-bit images are sent as they are.

    Raises:
        LayerError: The layer is missing, is not an image, is coloured, has no pixels, or has
            another data type.
    """
    if layer is None:
        raise LayerError("no image layer is selected; open an image first")
    if getattr(layer, "rgb", None) is None:
        kind = type(layer).__name__
        raise LayerError(f"layer '{layer.name}' is a {kind} layer; expected an image layer")
    if layer.rgb:
        raise LayerError(f"layer '{layer.name}' is coloured; expected grey levels")
    data = layer.data[0] if layer.multiscale else layer.data
    if data.ndim < 2 or 0 in data.shape:
        raise LayerError(f"layer '{layer.name}' has the shape {data.shape}; expected pixels")
    window: tuple[int, int] | None = None
    float_limits: tuple[float, float] | None = None
    low, high = (float(limit) for limit in layer.contrast_limits)
    dtype = np.dtype(data.dtype)
    if dtype.kind == "f" and grey_range == "limits":
        float_limits, window = (low, high), (0, _HIGHEST)
    elif dtype.kind != "u" or dtype.itemsize > 2:
        more = "; for floats, take the contrast limits as grey range" if dtype.kind == "f" else ""
        raise LayerError(f"layer '{layer.name}' is {dtype}; expected uint8 or uint16{more}")
    elif dtype.itemsize == 2 and grey_range == "limits":
        window = _window(low, high)
    return Source(
        name=layer.name,
        data=data,
        window=window,
        float_limits=float_limits,
        placement=_placement(layer),
    )


def result_arguments(
    source: Source, pixels: npt.NDArray[np.uint8], metadata: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of `viewer.add_image` for a result that overlays its source.

    napari puts the centre of the first pixel at `translate`, so the finer pixels start three
    eighths of a coarse pixel earlier (at a scale of 4), in the layer's own directions.

    Args:
        source: The source's images.
        pixels: (…, s*H, s*W) uint8.
        metadata: Metadata of the new layer, stored under `semsr`.
    """
    from napari.utils.transforms import Affine  # pyright: ignore[reportMissingImports]

    factor = pixels.shape[-1] // source.data.shape[-1]
    given = {name: source.placement[name] for name in ("scale", "rotate", "shear", "translate")}
    offset = np.zeros(pixels.ndim)
    offset[-2:] = 0.5 / factor - 0.5
    scale = np.array(source.placement["scale"], dtype=float)
    scale[-2:] /= factor
    return {
        **source.placement,
        "data": pixels,
        "name": f"{source.name} x{factor}",
        "scale": scale,
        "translate": np.asarray(Affine(**given)(offset)),
        "contrast_limits": (0, 255),
        "colormap": "gray",
        "metadata": {"semsr": metadata},
    }


def flag_warnings(qualities: Sequence[dict[str, float]]) -> list[str]:
    """Describe quality flags that exceed their limits, one line a flag.

    Args:
        qualities: Flags of each image, by the names of the service's `X-Quality`.
    """
    meanings = {
        "residual": "a structure of the image may be missing or changed in the result",
        "domain-distance": "the image is unlike those of the model's training",
    }
    lines: list[str] = []
    for name, meaning in meanings.items():
        values = [quality.get(name, 0.0) for quality in qualities]
        above = [value for value in values if value > 1]
        if above:
            which = f" in {len(above)} of {len(values)} images" if len(values) > 1 else ""
            lines.append(f"{name} is {max(above):.2f} of its limit{which}: {meaning}")
    return lines


def _placement(layer: Any) -> dict[str, Any]:  # noqa: ANN401 (as above)
    """Return the layer's transforms, copied: the user may move it while its images are computed."""
    placement: dict[str, Any] = {
        name: np.array(getattr(layer, name)) for name in ("scale", "translate", "rotate", "shear")
    }
    placement["affine"] = np.array(layer.affine.affine_matrix)
    for name in ("units", "axis_labels"):
        if getattr(layer, name, None) is not None:
            placement[name] = tuple(getattr(layer, name))
    return placement


def _window(low: float, high: float) -> tuple[int, int]:
    """Round contrast limits to a window lo < hi of 16-bit levels."""
    lowest = min(max(int(np.floor(low)), 0), _HIGHEST - 1)
    return lowest, min(max(int(np.ceil(high)), lowest + 1), _HIGHEST)


def _to_uint16(
    tile: npt.NDArray[np.floating[Any]], limits: tuple[float, float]
) -> npt.NDArray[np.uint16]:
    """Map values between the limits to 0..65535, clipped.

    Raises:
        LayerError: A value is NaN or infinite.
    """
    if not np.isfinite(tile).all():
        raise LayerError("the layer holds NaN or infinite values; expected finite grey levels")
    low, high = limits
    share = np.clip((tile.astype(np.float64) - low) / (high - low), 0.0, 1.0)
    return np.round(share * _HIGHEST).astype(np.uint16)
