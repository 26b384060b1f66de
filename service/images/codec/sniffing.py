"""First bytes of well-known files, so that a message can say what a body really is."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG"),
    (b"\xff\xd8\xff", "a JPEG"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"II+\0", "a BigTIFF"),
    (b"MM\0+", "a BigTIFF"),
    (b"\x93NUMPY", "an npy array"),
    (b"BM", "a BMP"),
    (b"GIF8", "a GIF"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"PK\x03\x04", "a zip archive (npz files are zip archives)"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"%PDF", "a PDF"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"data:", "a data: URL (send the bytes themselves, not base64)"),
    (b"iVBORw0K", "a PNG in base64 (send the bytes themselves)"),
    (b"/9j/", "a JPEG in base64 (send the bytes themselves)"),
    (b"--", "multipart form data"),
    (b"<", "HTML or XML"),
    (b"{", "JSON"),
)


def sniff(body: memoryview) -> str | None:
    """Return what the body begins like, as a noun with its article, or None."""
    head = bytes(body[:16])
    if head[:4] == b"RIFF" and bytes(body[8:12]) == b"WEBP":
        return "a WebP image"
    for signature, noun in _SIGNATURES:
        if head.startswith(signature):
            return noun
    return None


# Of the files above that this service reads, the type to send them as.
_MEDIA_TYPES = {
    "a PNG": "image/png",
    "a JPEG": "image/jpeg",
    "a TIFF": "image/tiff",
    "a BigTIFF": "image/tiff",
    "an npy array": "application/x-npy",
    "a BMP": "image/bmp",
}


def sniff_type(body: memoryview) -> str | None:
    """Return the media type of the readable image that the body begins like, or None."""
    return _MEDIA_TYPES.get(sniff(body) or "")


def describe_start(body: memoryview) -> str:
    """Return a phrase for messages: what the body begins like, or its first bytes."""
    noun = sniff(body)
    if noun is not None:
        return f"begins like {noun}"
    return f"begins with the bytes {bytes(body[:8]).hex(' ')}"
