"""Steps of one image before and after the engine, in any thread.

    body ──decode──> grey image ──window──> uint8 ──split──> tiles
    SR image ──encode──> answer

The steps record no metrics, which belong to the event loop. A request takes these steps for one
image (`service.batching.upscaler`), a scan for several images in one thread
(`service.scans.group_work`).
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Manifest
from service.ground.errors import BadRequest
from service.ground.stages import BatchTime
from service.images import codec, tiling
from service.images.codec.sniffing import RAW
from service.images.metadata import ImageMetadata, PixelSize
from service.images.quality import Quality
from service.images.request import TileRequest
from service.images.window import FULL_RANGE, Window, to_uint8

# From the maximum number of pixels to the image.
Decode = Callable[[int], codec.DecodedImage]


# Tuples: a frozen dataclass takes three times as long to make, and each tile makes several.
class Prepared(NamedTuple):
    """One image that has been decoded and cut, and its request.

    Attributes:
        metadata: Metadata of the answer.
        plan: Plan by which the image was cut.
        tiles: Tiles of the image, uint8.
        request: Headers of the request.
        answer_type: Media type of the answer.
        stretch: Window of a 16-bit answer, or None for 8 bits.
        decode_s: Duration in seconds.
    """

    metadata: ImageMetadata
    plan: tiling.TilePlan
    tiles: list[npt.NDArray[np.uint8]]
    request: TileRequest
    answer_type: str
    stretch: Window | None
    decode_s: float

    @property
    def places(self) -> int:
        """Places that the answer takes."""
        return self.plan.count * (1 if self.stretch is None else 2)


class Seen(NamedTuple):
    """One image as the model would see it.

    Attributes:
        body: Encoded image of 8 bits.
        media_type: Media type of the body.
        shape: (H, W).
        pixel_size: Pixel size, or None if it is not known.
        page_count: Number of images in the file.
        stored_dtype: Data type of the file: uint8 or uint16.
        stored_range: Lowest and highest grey level of the file.
        window: Window that was applied; None where the file has 8 bits.
    """

    body: bytes | memoryview
    media_type: str
    shape: tuple[int, int]
    pixel_size: PixelSize | None
    page_count: int
    stored_dtype: str
    stored_range: tuple[int, int]
    window: Window | None


class Inferred(NamedTuple):
    """One image whose tiles were run and put together.

    Attributes:
        sr: (s*H, s*W) uint8 or uint16; may be a view of a whole batch's output.
        quality: Quality flags of the image.
        queue_s: Seconds that its tiles waited for the engine.
        infer_s: Seconds from then to the end.
        batches: Batches that ran them.
    """

    sr: codec.Pixels
    quality: Quality
    queue_s: float
    infer_s: float
    batches: list[BatchTime]


class Answer(NamedTuple):
    """One super-resolved image, ready to be sent.

    Attributes:
        body: Encoded image.
        media_type: Media type of the body.
        shape: (H, W) of the answer.
        dtype: uint8 or uint16.
        pixel_size: Pixel size of the answer, or None if it is not known.
        tiles: Number of tiles that the image was cut into.
        quality: Quality flags of the image.
        stages_s: Seconds by stage: decode, queue, infer, encode.
        batches: Batches that ran its tiles.
    """

    body: bytes | memoryview
    media_type: str
    shape: tuple[int, int]
    dtype: str
    pixel_size: PixelSize | None
    tiles: int
    quality: Quality
    stages_s: dict[str, float]
    batches: list[BatchTime]


class ImageSteps:
    """The steps of one model's images; safe for threads."""

    def __init__(self, manifest: Manifest, *, max_pixels: int, answer_bits: int = 8) -> None:
        """Prepare.

        Args:
            manifest: Manifest with scale, tile, halo and window.
            max_pixels: Maximum number of pixels of an LR image.
            answer_bits: Most bits that the engine gives, 8 or 16.
        """
        self._answer_bits = answer_bits
        self._manifest = manifest
        self._max_pixels = max_pixels

    def cut(
        self, decode: Decode, image_type: str, request: TileRequest, *, started_s: float
    ) -> Prepared:
        """Decode an image, bring it to 8 bits and cut it into tiles.

        Args:
            decode: Decoder of the image, see `decoder`.
            image_type: Media type of the image.
            request: Headers of the request.
            started_s: `time.perf_counter()` when this stage began.

        Raises:
            service.ground.errors.ServiceError: The image has a problem.
        """
        self.check_bits(request)
        answer_type = request.answer_type(image_type)
        image = self._checked(decode(self._max_pixels), image_type, request)
        window = self._window(request)
        lr = to_uint8(image.pixels, window, white_is_zero=image.white_is_zero)
        plan = tiling.plan(
            *lr.shape,
            tile=self._manifest.tile,
            halo_px=self._manifest.halo_px,
            grid_px=self._manifest.grid_px,
        )
        # 8-bit input has no window: its greys fill the whole 16-bit range.
        stretch = window if image.pixels.dtype == np.uint16 else FULL_RANGE
        return Prepared(
            metadata=image.metadata.scaled(self._manifest.scale),
            plan=plan,
            tiles=plan.split(lr),
            request=request,
            answer_type=answer_type,
            stretch=stretch if request.answer_dtype == "uint16" else None,
            decode_s=time.perf_counter() - started_s,
        )

    def check_bits(self, request: TileRequest) -> None:
        """Refuse an image whose answer needs more bits than the engine gives.

        Raises:
            service.ground.errors.BadRequest: It does.
        """
        if request.answer_bits > self._answer_bits:
            raise BadRequest(
                f"X-Answer-Bits is {request.answer_bits} and model {self._manifest.name} answers "
                f"in {self._answer_bits} bits; an operator sets SEMSR_ANSWER_BITS=16"
            )

    def see(
        self, body: bytes | memoryview, image_type: str, request: TileRequest, page: int
    ) -> Seen:
        """Decode an image, bring it to 8 bits as `cut` does, and encode it.

        Args:
            body: Whole file.
            image_type: Media type of the file.
            request: Headers of the request.
            page: Index of the image in the file.

        Raises:
            service.ground.errors.ServiceError: The image has a problem.
        """
        answer_type = request.answer_type(image_type)
        decoded, page_count = codec.decode_one(
            body,
            image_type,
            page=page,
            shape=request.shape,
            dtype=request.dtype,
            max_pixels=self._max_pixels,
        )
        image = self._checked(decoded, image_type, request)
        window = self._window(request)
        lr = to_uint8(image.pixels, window, white_is_zero=image.white_is_zero)
        return Seen(
            body=codec.encode(lr, answer_type, image.metadata),
            media_type=answer_type,
            shape=(lr.shape[0], lr.shape[1]),
            pixel_size=image.metadata.pixel_size,
            page_count=page_count,
            stored_dtype=image.pixels.dtype.name,
            stored_range=(int(image.pixels.min()), int(image.pixels.max())),
            window=window if image.pixels.dtype == np.uint16 else None,
        )

    def encode(self, prepared: Prepared, inferred: Inferred, *, started_s: float) -> Answer:
        """Encode the answer.

        Args:
            prepared: Image as it was cut.
            inferred: Same image, super-resolved.
            started_s: `time.perf_counter()` when this stage began.

        Raises:
            service.ground.errors.NotAcceptable: The requested type has no encoder.
        """
        sr = inferred.sr
        body = codec.encode(sr, prepared.answer_type, prepared.metadata)
        return Answer(
            body=body,
            media_type=prepared.answer_type,
            shape=(sr.shape[0], sr.shape[1]),
            # NumPy takes long to name a type: 4 % of a raw tile's time on the loop.
            dtype="uint8" if sr.dtype == np.uint8 else "uint16",
            pixel_size=prepared.metadata.pixel_size,
            tiles=prepared.plan.count,
            quality=inferred.quality,
            stages_s={
                "decode": prepared.decode_s,
                "queue": inferred.queue_s,
                "infer": inferred.infer_s,
                "encode": time.perf_counter() - started_s,
            },
            batches=inferred.batches,
        )

    def _checked(
        self, image: codec.DecodedImage, image_type: str, request: TileRequest
    ) -> codec.DecodedImage:
        """Return an image with the pixel size of its request; refuses headers that contradict."""
        if image_type != RAW:
            _check_stated(image, request)
        if request.pixel_size is None:
            return image
        return replace(image, metadata=image.metadata.with_pixel_size(request.pixel_size))

    def _window(self, request: TileRequest) -> Window:
        """The request's window, else the bundle's, else the whole range."""
        if request.window is not None:
            return request.window
        return FULL_RANGE if self._manifest.window is None else self._manifest.window


def _check_stated(image: codec.DecodedImage, request: TileRequest) -> None:
    """Refuse headers of a raw body that contradict the file which was sent.

    Raises:
        BadRequest: X-Tile-Shape or X-Tile-Dtype differs from the file.
    """
    height, width = image.pixels.shape
    if request.shape is not None and request.shape != (height, width):
        raise BadRequest(
            f"X-Tile-Shape says {request.shape[0]},{request.shape[1]} and the file has "
            f"{height},{width} (height, width); the header is for raw bodies, leave it out"
        )
    dtype = image.pixels.dtype.name
    if request.dtype is not None and request.dtype != dtype:
        raise BadRequest(
            f"X-Tile-Dtype says {request.dtype} and the file has {dtype}; the header is for raw "
            "bodies, leave it out"
        )


def decoder(body: bytes | memoryview, image_type: str, request: TileRequest) -> Decode:
    """Return the decoder of a whole body."""

    def decode(max_pixels: int) -> codec.DecodedImage:
        return codec.decode(
            body, image_type, shape=request.shape, dtype=request.dtype, max_pixels=max_pixels
        )

    return decode
