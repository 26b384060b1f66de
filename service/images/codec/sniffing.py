"""First bytes of files: media types of the readable ones, names of the others for messages."""

PNG, TIFF, JPEG, BMP = "image/png", "image/tiff", "image/jpeg", "image/bmp"
JXL, NPY, RAW, ZSTD = (
    "image/jxl",
    "application/x-npy",
    "application/octet-stream",
    "application/zstd",
)

# First bytes, a noun with its article, and the media type where this service reads such files.
_KNOWN: tuple[tuple[bytes, str, str | None], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG", PNG),
    (b"\xff\xd8\xff", "a JPEG", JPEG),
    (b"II*\0", "a TIFF", TIFF),
    (b"MM\0*", "a TIFF", TIFF),
    (b"II+\0", "a BigTIFF", TIFF),
    (b"MM\0+", "a BigTIFF", TIFF),
    (b"\x93NUMPY", "an npy array", NPY),
    (b"BM", "a BMP", BMP),
    (b"GIF8", "a GIF", None),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image", None),
    (b"\xff\x0a", "a JPEG XL image", None),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image", None),
    (b"PK\x03\x04", "a zip archive (npz files are zip archives)", None),
    (b"\x1f\x8b", "gzip data", None),
    (b"\x28\xb5\x2f\xfd", "zstd data", None),
    (b"%PDF", "a PDF", None),
    (b"\x89HDF", "an HDF5 file", None),
    (b"\x80\x02", "a Python pickle", None),
    (b"\x80\x03", "a Python pickle", None),
    (b"\x80\x04", "a Python pickle", None),
    (b"\x80\x05", "a Python pickle", None),
    (b"data:", "a data: URL (send the bytes themselves, not base64)", None),
    (b"iVBORw0K", "a PNG in base64 (send the bytes themselves)", None),
    (b"/9j/", "a JPEG in base64 (send the bytes themselves)", None),
    (b"--", "multipart form data", None),
    (b"<", "HTML or XML", None),
    (b"{", "JSON", None),
)

# Signatures by media type; a raw body may begin with any bytes and has none.
SIGNATURES: dict[str, tuple[bytes, ...]] = {
    media_type: tuple(start for start, _, kind in _KNOWN if kind == media_type)
    for media_type in (PNG, JPEG, TIFF, NPY, BMP)
}


def media_type_of(body: bytes | memoryview) -> str | None:
    """Return the media type of the readable image that a body begins like, or None."""
    head = bytes(body[:8])
    return next((kind for start, _, kind in _KNOWN if kind and head.startswith(start)), None)


def sniff(body: bytes | memoryview) -> str | None:
    """Return the format that a body begins like, as a noun with its article, or None."""
    head = bytes(body[:16])
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image"
    return next((noun for start, noun, _ in _KNOWN if head.startswith(start)), None)


def describe_start(body: bytes | memoryview) -> str:
    """Return a phrase for messages: what a body begins like, or its first bytes."""
    noun = sniff(body)
    if noun is not None:
        return f"begins like {noun}"
    return f"begins with the bytes {bytes(body[:8]).hex(' ')}"
