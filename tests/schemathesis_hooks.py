"""What JSON Schema cannot say of a request, for `schemathesis run` (`schemathesis.toml`).

Schemathesis draws each header and each body by itself. Bodies that are files come from here; where
the service's rules join two parts of a request (a raw body has as many bytes as X-Tile-Shape says),
a request that is meant to be valid is completed, one that is meant to be wrong is sent as it was
drawn. Nothing is filtered out, and no check is relaxed.
"""

import io
import itertools
import os
import re
import tarfile
import time
import zipfile
from typing import Any

import httpx2
import numpy as np
import schemathesis
from hypothesis import strategies
from schemathesis import Case, HookContext

from service.images import codec
from service.images.codec.sniffing import BMP, JPEG, NPY, PNG, RAW, TIFF
from service.images.metadata import ImageMetadata
from service.scan_jobs.job import ACTIVE, State

TILE = np.random.default_rng(5).integers(0, 256, (24, 24), dtype=np.uint8)
# Far above what a tile takes: one that is too late is a 504, as it should be.
_PATIENT_MS, _PATIENT_US = 60_000, 60_000_000
_WINDOW = re.compile(r"([0-9]{1,5})\s*,\s*([0-9]{1,5})", re.ASCII)
_SIZE = re.compile(r"[0-9.eE+-]+(\s*,\s*[0-9.eE+-]+)?", re.ASCII)
_ID = re.compile(r"[0-9a-f]{16}")
_counter = itertools.count()


def environment(name: str) -> str | None:
    """Return what the run says of the service: a scan, its folders, the bundle to load."""
    return os.environ.get(f"SEMSR_SCHEMATHESIS_{name}")


def _encoded(media_type: str) -> bytes:
    return bytes(codec.encode(TILE, media_type, ImageMetadata()))


def _by_pillow(name: str) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(TILE).save(content, name)
    return content.getvalue()


def _npy_stack() -> bytes:
    content = io.BytesIO()
    np.save(content, TILE[None])
    return content.getvalue()


def _tar() -> bytes:
    content, png = io.BytesIO(), _encoded(PNG)
    with tarfile.open(fileobj=content, mode="w") as archive:
        entry = tarfile.TarInfo("a.png")
        entry.size = len(png)
        archive.addfile(entry, io.BytesIO(png))
    return content.getvalue()


def _zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.png", _encoded(PNG))
    return content.getvalue()


FILES: dict[str, bytes] = {
    PNG: _encoded(PNG),
    TIFF: _encoded(TIFF),
    JPEG: _by_pillow("JPEG"),
    BMP: _by_pillow("BMP"),
    NPY: _npy_stack(),  # (1, H, W): one image, and a stack of one
    RAW: TILE.tobytes(),
    "application/x-tar": _tar(),
    "application/zip": _zip(),
}


for _media_type, _content in FILES.items():
    schemathesis.openapi.media_type(_media_type, strategies.just(_content))


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Complete a request that is meant to be valid."""
    del context, kwargs
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    path = case.operation.path
    if path.startswith("/superresolve"):
        _complete_image(case)
    elif path.endswith("/infer"):
        _complete_tensor(case)
    elif case.operation.label == "POST /scans":
        _complete_scan(case)
    elif case.operation.label == "DELETE /scans/{scan}":
        _end_scan(str(case.path_parameters["scan"]))
    elif path.startswith("/scans/{scan}"):
        _name_scan(case)
    elif path.endswith(("/load", "/unload")):
        _complete_change(case)


def _complete_image(case: Case) -> None:
    """Headers that agree with the file and with each other."""
    headers = case.headers
    types = case.multipart_content_types or {}
    is_raw = RAW in {case.media_type, types.get("file")}
    _set_if(headers, "X-Tile-Shape", "24,24", is_needed=is_raw)
    _set_if(headers, "X-Tile-Dtype", "uint8")
    if headers.get("X-Answer-Bits") == "16":
        _set_if(headers, "X-Answer-Dtype", "uint16")
    _set_if(headers, "X-Request-Timeout-Ms", _PATIENT_MS)
    window = _WINDOW.fullmatch(headers.get("X-Window", ""))
    if window is not None:
        low, high = sorted(min(65_535, int(level)) for level in window.groups())
        headers["X-Window"] = f"{low - (low == 65_535)},{high + (low == high < 65_535)}"
    if _SIZE.fullmatch(headers.get("X-Pixel-Size-Nm", "")):
        sizes = [float(size) for size in headers["X-Pixel-Size-Nm"].split(",")]
        if not all(1e-3 <= size <= 1e9 for size in sizes):
            headers["X-Pixel-Size-Nm"] = "4"


def _set_if(headers: Any, name: str, value: object, *, is_needed: bool = False) -> None:  # noqa: ANN401
    if is_needed or name in headers:
        headers[name] = str(value)


def _complete_tensor(case: Case) -> None:
    """One tile of the model's size, as JSON, or as nothing but bytes."""
    if case.media_type != "application/json":
        case.headers["Inference-Header-Content-Length"] = "0"
        return
    case.headers.pop("Inference-Header-Content-Length", None)
    body: Any = case.body
    if not isinstance(body, dict):
        return
    entry = {"name": "lr", "datatype": "UINT8", "shape": [1, 1, *TILE.shape]}
    body["inputs"] = [{**entry, "data": TILE.reshape(-1).tolist()}]
    outputs = {output["name"]: output for output in body.get("outputs", [])}
    if outputs:
        body["outputs"] = list(outputs.values())
    parameters = body.get("parameters", {})
    if parameters.get("timeout"):
        parameters["timeout"] = _PATIENT_US


def _complete_scan(case: Case) -> None:
    """Every other scan is one that can run; a key that comes again would want the same body."""
    source, sinks = environment("SOURCE"), environment("SINKS")
    body: Any = case.body
    if source is None or sinks is None or not isinstance(body, dict) or next(_counter) % 2:
        return
    case.headers.pop("Idempotency-Key", None)
    options = body.get("options") or {}
    for name, value in (("window", "0,4095"), ("pixel_size_nm", "4")):
        if options.get(name) is not None:
            options[name] = value
    body |= {"source": source, "sink": f"{sinks}/{next(_counter)}"}


def _name_scan(case: Case) -> None:
    """A scan that is there, and has ended: a client that follows it sees its end."""
    scan = environment("SCAN")
    if scan is not None and not _ID.fullmatch(str(case.path_parameters["scan"])):
        case.path_parameters["scan"] = scan


def _end_scan(scan: str) -> None:
    """Let a scan end: DELETE stops one that has not ended, and removes one that has."""
    url, key = environment("URL"), environment("KEY")
    if url is None or not _ID.fullmatch(scan):
        return
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=url, trust_env=False, headers=headers) as client:
        deadline_s = time.monotonic() + 30
        while (state := client.get(f"/scans/{scan}").json().get("state")) in ACTIVE:
            if state == State.PAUSED:
                client.post(f"/scans/{scan}/resume")
            assert time.monotonic() < deadline_s, f"the scan {scan} does not end"
            time.sleep(0.05)


def _complete_change(case: Case) -> None:
    """A bundle that can be loaded; the model that other requests ask for is not taken away."""
    bundle = environment("BUNDLE")
    body: Any = case.body
    if bundle is not None and isinstance(body, dict) and body.get("bundle") is not None:
        body["bundle"] = bundle
    if case.operation.path.endswith("/unload"):
        case.path_parameters["name"] = "spare"
