"""Synthetic tiles: seeded stripes and grain in every format that the service reads."""

import io
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

RAW = "application/octet-stream"
NPY = "application/x-npy"


def wafer(seed: int, height: int = 240, width: int = 240) -> npt.NDArray[np.uint8]:
    """Make (height, width) uint8: vertical lines under grain, the same for the same seed."""
    rng = np.random.default_rng(seed)
    pitch_px = int(rng.integers(8, 24))
    lines = np.arange(width) % pitch_px < pitch_px // 2
    clean = np.where(lines, 150.0, 90.0)[None, :]
    return (clean + rng.normal(0.0, 12.0, (height, width))).clip(0, 255).astype(np.uint8)


def raw(pixels: npt.NDArray[np.uint8 | np.uint16]) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a raw request."""
    height, width = pixels.shape
    headers = {
        "Content-Type": RAW,
        "X-Tile-Shape": f"{height},{width}",
        "X-Tile-Dtype": str(pixels.dtype),
    }
    return pixels.tobytes(), headers


def npy(pixels: npt.NDArray[np.uint8 | np.uint16]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an npy request."""
    body = io.BytesIO()
    np.save(body, pixels, allow_pickle=False)
    return body.getvalue(), {"Content-Type": NPY}


def file(pixels: npt.NDArray[np.uint8 | np.uint16], kind: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an image file: png, tiff, jpeg or bmp; 16 bit in png and tiff."""
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, kind.upper())
    return body.getvalue(), {"Content-Type": f"image/{kind}"}


def huge_png(edge_px: int) -> bytes:
    """A PNG of a few bytes whose head announces edge_px × edge_px pixels."""
    small = bytearray(file(wafer(0, 8, 8), "png")[0])
    small[16:24] = edge_px.to_bytes(4, "big") * 2
    # The checksum of the head must be right, or the file would be rejected for it.
    small[29:33] = zlib.crc32(bytes(small[12:29])).to_bytes(4, "big")
    return bytes(small)
