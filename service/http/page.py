"""The page at `/` for people who look at tiles: its files, from memory, with their headers.

The page uses the same routes as any other client; no route here sees a picture. The files hold
nothing secret and are served without an API key, so that the page can ask for one. They name no
other host: fabs are air-gapped.
"""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import HTTPException

FILES = Path(__file__).with_name("page_files")
_INDEX, _ICON = "index.html", "icon.svg"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
# Only the service's own files run or are loaded; pictures may also come from memory.
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class _File:
    """A file as it is sent.

    Attributes:
        content: Bytes of the file.
        headers: Headers of the answer.
        packed: The file compressed with gzip, or None where that saves nothing.
    """

    content: bytes
    headers: dict[str, str]
    packed: bytes | None


def make_router() -> APIRouter:
    """Make the routes of `/`, `/page/…` and `/favicon.ico`; the files are read once, here."""
    files = {
        path.relative_to(FILES).as_posix(): _read(path)
        for path in sorted(FILES.rglob("*"))
        if path.is_file()
    }
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return _answer(request, files[_INDEX])

    # Where browsers look for the icon of pages that name none, such as a picture or JSON.
    @router.api_route("/favicon.ico", methods=["GET", "HEAD"])
    async def icon(request: Request) -> Response:
        return _answer(request, files[_ICON])

    @router.api_route("/page/{name:path}", methods=["GET", "HEAD"])
    async def file(request: Request, name: str) -> Response:
        found = files.get(name)
        if found is None:
            raise HTTPException(404)
        return _answer(request, found)

    return router


def _read(path: Path) -> _File:
    content = path.read_bytes()
    # Once, here: fab networks are slow, and the scripts shrink to a third.
    packed = gzip.compress(content, mtime=0)
    return _File(
        content,
        {
            "content-type": _MEDIA_TYPES[path.suffix],
            "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
            # Cached by the browser, but revalidated: after an update all files are of one version.
            "cache-control": "no-cache",
            "content-security-policy": _POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "vary": "accept-encoding",
        },
        packed if len(packed) < 0.9 * len(content) else None,
    )


def _answer(request: Request, file: _File) -> Response:
    known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
    # Weakly compared (RFC 9110): a proxy that compresses marks the tag with W/.
    if file.headers["etag"] in {tag.removeprefix("W/") for tag in known}:
        return Response(status_code=304, headers=file.headers)
    codings = request.headers.get("accept-encoding", "").split(",")
    if file.packed is None or "gzip" not in {coding.strip().lower() for coding in codings}:
        return Response(file.content, headers=file.headers)
    # Weak, as both forms have one tag (RFC 9110, 8.8.1).
    headers = {**file.headers, "content-encoding": "gzip", "etag": f"W/{file.headers['etag']}"}
    return Response(file.packed, headers=headers)
