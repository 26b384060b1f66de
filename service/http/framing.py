"""Framing of HTTP: requests whose recipient or length is ambiguous, and answers without chunks."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.ground.errors import BadRequest, ServiceError, UnsupportedTransferCoding

_HOST = re.compile(rb"[^\x00-\x20/@?#,\\]*")


def framing_refusal(version: str, headers: list[tuple[bytes, bytes]]) -> ServiceError | None:
    """Return why a request is refused, if its recipient or length is ambiguous.

    Args:
        version: HTTP version of the request, such as `1.1`.
        headers: Names in lower case, and values.
    """
    hosts: list[bytes] = []
    codings: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
    if version not in {"1.0", "1.1"}:
        return BadRequest(f"HTTP/{version} is not supported; expected HTTP/1.1 or HTTP/1.0")
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        return BadRequest(f"the request has {len(hosts)} Host headers; expected one")
    if hosts and not _HOST.fullmatch(hosts[0].strip()):
        return BadRequest(
            f"Host is {hosts[0][:100].decode('latin-1')!r}; expected HOST or HOST:PORT"
        )
    if not codings:
        return None
    if version == "1.0":
        return BadRequest("HTTP/1.0 has no Transfer-Encoding; send Content-Length")
    asked = b", ".join(codings).strip()
    if asked.lower() != b"chunked":
        return UnsupportedTransferCoding(
            f"Transfer-Encoding is {asked[:100].decode('latin-1')!r}; expected chunked"
        )
    return None


def ended_by_closing(cycle: RequestResponseCycle) -> Callable[[Any], Awaitable[None]]:
    """Make a `send` for HTTP/1.0, which has no chunks: closing the connection ends the answer.

    Args:
        cycle: Request, whose own `send` would answer in chunks without a Content-Length.
    """
    send = cycle.send
    has_length = False

    async def send_plainly(message: Any) -> None:  # noqa: ANN401 (any of ASGI's)
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            if not has_length:
                cycle.chunked_encoding = False
        elif not has_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return send_plainly
