"""`semsr demo`: serve the bundle, send tiles over HTTP, write pictures, print latencies, stop."""

import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from semsr.progress import progress
from semsr.server_process import ServerProcess, running_server
from semsr.whole_file import write_whole
from service.ground.errors import ServiceError
from service.images import codec
from service.images.media_types import TYPES_BY_SUFFIX
from service.images.window import FULL_RANGE, to_uint8

_MAX_PIXELS = 2048 * 2048
_CAPTION_PX = 28
MIN_CORRELATION = 0.1
"""Correlation of LR and the SR's area means below which a tile has no structure to match greys."""

STAGES = ("recv", "decode", "queue", "infer", "encode")


class DemoError(RuntimeError):
    """The demo failed; the message has the reason."""


@dataclass(frozen=True)
class DemoRow:
    """One image that was sent to the service, and its answer.

    Attributes:
        name: File name.
        shape: (H, W) of the image sent.
        status: HTTP status.
        detail: Error text of the service, if any.
        total_ms: Time from sending to the whole answer, seen by the client.
        stages: Server-Timing header of the answer.
    """

    name: str
    shape: tuple[int, int]
    status: int
    detail: str
    total_ms: float
    stages: dict[str, float]


def run_demo(tiles: Path, out: Path, *, bundle: Path | None) -> list[DemoRow]:
    """Start a service, send every image of a folder through it, and write pictures.

    Args:
        tiles: Folder of PNG, TIFF, JPEG, BMP or npy images; subfolders are not searched.
        out: Folder for `NAME_sr.png` (the answer) and `NAME_compare.png` (LR | bicubic | SR).
        bundle: Bundle to serve; None takes the setting's own.

    Returns:
        One row per image, in name order.

    Raises:
        DemoError: There are no images.
        semsr.server_process.ServerStartError: The service did not start.
    """
    files = find_tiles(tiles)
    out.mkdir(parents=True, exist_ok=True)
    settings = {} if bundle is None else {"SEMSR_BUNDLE": str(bundle)}
    rows: list[DemoRow] = []
    with progress("demo", len(files), unit="tile") as steps:
        steps.say("starting the service")
        with (
            running_server(settings) as server,
            httpx2.Client(timeout=120.0, trust_env=False) as client,
        ):
            for path in files:
                steps.say(path.name)
                rows.append(_send(client, server, path, out))
                steps.update()
    return rows


def find_tiles(folder: Path) -> list[Path]:
    """List the images of a folder by name.

    Raises:
        DemoError: No such folder, no image in it, or one that is not a regular file.
    """
    if not folder.is_dir():
        raise DemoError(f"{folder} is not a folder")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in TYPES_BY_SUFFIX)
    if not files:
        raise DemoError(f"{folder} holds no image; expected {', '.join(TYPES_BY_SUFFIX)}")
    for path in files:
        if not path.is_file():  # reading a FIFO waits until it is written to
            raise DemoError(f"{path} is not a regular file")
    return files


def format_rows(rows: Sequence[DemoRow]) -> str:
    """Write the rows as a table in milliseconds, with the median below."""
    width = max([len(row.name) for row in rows] + [len("median")])
    head = "".join(f"{stage:>9}" for stage in ("total", *STAGES))
    lines = [f"{'tile':<{width}} {'size':>9}{head}  (ms)"]
    for row in rows:
        size = f"{row.shape[0]}x{row.shape[1]}"
        if row.status == 200:
            figures = [row.total_ms, *(row.stages.get(stage, 0.0) for stage in STAGES)]
            text = "".join(f"{figure:>9.1f}" for figure in figures)
        else:
            text = f"  {row.status}: {row.detail}"
        lines.append(f"{row.name:<{width}} {size:>9}{text}")
    good = [row.total_ms for row in rows if row.status == 200]
    if good:
        lines.append(f"{'median':<{width}} {'':>9}{statistics.median(good):>9.1f}")
    return "\n".join(lines)


def _send(client: httpx2.Client, server: ServerProcess, path: Path, out: Path) -> DemoRow:
    body = path.read_bytes()
    media_type = TYPES_BY_SUFFIX[path.suffix.lower()]
    start_s = time.perf_counter()
    response = client.post(
        f"{server.url}/superresolve",
        content=body,
        headers={"Content-Type": media_type, "Accept": "image/png", "X-Request-ID": _id(path)},
    )
    total_ms = (time.perf_counter() - start_s) * 1e3
    stages = _parse_server_timing(response.headers.get("server-timing", ""))
    if response.status_code != 200:
        detail = response.json().get("detail", "")
        return DemoRow(path.name, (0, 0), response.status_code, detail, total_ms, stages)
    write_whole(out / f"{_stem(path)}_sr.png", response.content)
    lr = _read_lr(body, media_type)
    sr = codec.decode(
        response.content, "image/png", shape=None, dtype=None, max_pixels=64 * _MAX_PIXELS
    ).pixels
    picture = io.BytesIO()
    comparison(lr, sr.astype(np.uint8)).save(picture, "PNG")
    write_whole(out / f"{_stem(path)}_compare.png", picture.getbuffer())
    return DemoRow(path.name, (lr.shape[0], lr.shape[1]), 200, "", total_ms, stages)


def _stem(path: Path) -> str:
    """Return the name of the pictures; it includes suffixes other than png, to stay unique."""
    return path.stem if path.suffix.lower() == ".png" else path.name.replace(".", "_")


def comparison(lr: npt.NDArray[np.uint8], sr: npt.NDArray[np.uint8]) -> Image.Image:
    """Put LR (pixels repeated), bicubic and SR side by side, at the SR's size, with captions.

    LR and bicubic get the SR's greys: fast and slow scans differ in tone, and the pictures serve to
    compare structure.
    """
    height, width = sr.shape
    lr_image = Image.fromarray(match_greys(lr, sr))
    panels = [
        ("LR", lr_image.resize((width, height), Image.Resampling.NEAREST)),
        ("bicubic", lr_image.resize((width, height), Image.Resampling.BICUBIC)),
        ("SR", Image.fromarray(sr)),
    ]
    canvas = Image.new("L", (3 * width + 16, height + _CAPTION_PX), 255)
    draw = ImageDraw.Draw(canvas)
    for index, (caption, panel) in enumerate(panels):
        left = index * (width + 8)
        canvas.paste(panel, (left, _CAPTION_PX))
        draw.text((left + 6, 4), caption, fill=0, font_size=18)
    return canvas


def match_greys(lr: npt.NDArray[np.uint8], sr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Give an LR tile the greys of its SR, by gain and offset.

    The gain comes from a fit of the LR as a function of the SR's area means. The reverse fit would
    be flattened by noise in the LR. Without structure, only the means are matched.

    Args:
        lr: LR tile as sent, (H, W).
        sr: Answer to it, (s*H, s*W).

    Returns:
        (H, W) uint8.
    """
    height, width = lr.shape
    scale = sr.shape[0] // height
    fine = sr.reshape(height, scale, width, scale).mean(axis=(1, 3))
    spread = fine - fine.mean()
    common = float((spread * lr).sum())
    energy = float((spread**2).sum()) * float(((lr - lr.mean()) ** 2).sum())
    is_fitted = common > MIN_CORRELATION * energy**0.5
    gain = float((spread**2).sum()) / common if is_fitted else 1.0
    return np.clip(np.rint((lr - lr.mean()) * gain + fine.mean()), 0, 255).astype(np.uint8)


def _read_lr(body: bytes, media_type: str) -> npt.NDArray[np.uint8]:
    try:
        image = codec.decode(body, media_type, shape=None, dtype=None, max_pixels=_MAX_PIXELS)
    except ServiceError as error:
        raise DemoError(f"the service read an image that the demo cannot read: {error}") from error
    return to_uint8(image.pixels, FULL_RANGE, white_is_zero=image.white_is_zero)


def _parse_server_timing(header: str) -> dict[str, float]:
    stages = {}
    for entry in header.split(","):
        name, _, duration = entry.strip().partition(";dur=")
        if duration:
            stages[name] = float(duration)
    return stages


def _id(path: Path) -> str:
    return "demo-" + "".join(c if c.isalnum() or c in "-_." else "_" for c in path.name)[:100]
