"""`POST /v2/models/{name}/infer`: the hot route of the Open Inference Protocol, plain ASGI.

NVIDIA's `tritonclient` talks to it unchanged; see `service.http.v2.protocol` for the bytes and
`service.http.v2.routes` for the rest of `/v2`.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from service.batching.collecting import TileAnswers
from service.ground.errors import BadRequest
from service.ground.stages import Stages
from service.hosting.lifecycle import Lifecycle
from service.http.audit import Audit, ImageLines, pixel_bytes
from service.http.body import CancelledOnDisconnect, ClientGone, read_body
from service.http.v2.protocol import InferRequest, make_answer, parse_infer
from service.images.media_types import check_encoding
from service.images.request import read_tool

INFER_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

_HEADER_LENGTH = b"inference-header-content-length"
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


class Inference:
    """The endpoint; one instance serves every request."""

    def __init__(self, lifecycle: Lifecycle, audit: Audit | None) -> None:
        self._lifecycle = lifecycle
        self._audit = audit
        duration = lifecycle.metrics.stage_duration
        self._observe = {stage: duration.labels(stage).observe for stage in ("recv", "decode")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors are raised to the middleware, which answers them."""
        found = INFER_PATH.fullmatch(scope["path"])
        if found is None:
            raise ValueError(f"{scope['path']} is not a path of this route")
        serving = self._lifecycle.find_model(*found.groups())
        upscaler = serving.upscaler
        header_length = _header_length(scope["headers"])
        tool = read_tool(scope["headers"])
        facts = scope["state"]["facts"]
        facts["model"], facts["model_version"] = serving.name, serving.bundle.version
        if tool is not None:
            facts["tool"] = tool
        scope["state"]["model_headers"] = serving.headers
        with upscaler.admit() as admission:
            started_s = time.perf_counter()
            try:
                body = await read_body(scope, receive, admission, self._lifecycle.settings)
                read_s = time.perf_counter()
                request = parse_infer(
                    body, header_length=header_length, manifest=serving.bundle.manifest
                )
                parsed_s = time.perf_counter()
                admission.become(request.priority)
                facts["priority"] = request.priority
                async with CancelledOnDisconnect(scope, receive):
                    answer = await upscaler.run_tiles(
                        request.tiles,
                        admission,
                        deadline_s=request.deadline_s,
                        priority=request.priority,
                        tool=tool,
                    )
                    await self._write_lines(scope["state"], request, answer)
            except ClientGone:
                return
            arrival_s = {"recv": read_s - started_s, "decode": parsed_s - read_s}
            for stage, seconds in arrival_s.items():
                self._observe[stage](seconds)
            scope["state"]["stages"] = Stages(
                started_s, {**arrival_s, **answer.stages_s}, answer.batches
            )
            facts["tiles"] = len(answer.sr)
            json_size, parts = make_answer(
                request,
                name=serving.name,
                version=serving.bundle.version,
                sr=answer.sr,
                flags=answer.flags,
            )
            kind = b"application/json" if json_size is None else b"application/octet-stream"
            answer_headers = [
                (b"content-type", kind),
                (b"content-length", str(sum(len(part) for part in parts)).encode()),
            ]
            if json_size is not None:
                answer_headers.append((_HEADER_LENGTH, str(json_size).encode()))
            await send({"type": "http.response.start", "status": 200, "headers": answer_headers})
            # As in `service.http.superresolve`: the places are held until the last part is taken.
            for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _write_lines(
        self, state: Mapping[str, Any], request: InferRequest, answer: TileAnswers
    ) -> None:
        """Write a log line for each tile, where the service audits: hashes of their pixels."""
        if self._audit is None:
            return
        lines = ImageLines(self._audit, state)
        pairs = zip(request.tiles, answer.sr, strict=True)
        await asyncio.gather(
            *(
                lines.write(index, image=pixel_bytes(lr), answer=pixel_bytes(sr))
                for index, (lr, sr) in enumerate(pairs)
            )
        )


def _header_length(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """Return the number of bytes of JSON that a request announces, or None.

    Raises:
        UnsupportedMediaType: The body is compressed as a whole.
        BadRequest: It is not a number, or two different ones.
    """
    check_encoding(
        value.decode("latin-1") for name, value in headers if name == b"content-encoding"
    )
    values = {value for name, value in headers if name == _HEADER_LENGTH}
    if not values:
        return None
    text = b", ".join(sorted(values)).decode("latin-1")
    if not _DIGITS.fullmatch(text):
        raise BadRequest(
            f"Inference-Header-Content-Length is {text[:60]!r}; expected one number of bytes"
        )
    return int(text)
