"""Answers as the service makes them, and the single-tile calls of both clients on top of them."""

import asyncio
from collections.abc import Callable

import httpx2
import numpy as np
import pytest

from semsr_client import AsyncClient, Client, SrTile

TILE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def answer(request: httpx2.Request) -> httpx2.Response:
    """What the service answers with the engine `identity`."""
    height, width = (int(side) for side in request.headers["x-tile-shape"].split(","))
    dtype = np.dtype(request.headers["x-tile-dtype"])
    lr = np.frombuffer(request.content, dtype).reshape(height, width)
    answered = request.headers["x-answer-dtype"]
    sr = lr.repeat(4, axis=0).repeat(4, axis=1).astype(answered)
    return httpx2.Response(
        200,
        content=sr.tobytes(),
        headers={
            "x-tile-shape": f"{4 * height},{4 * width}",
            "x-tile-dtype": answered,
            "content-type": "application/octet-stream",
            "x-quality": "non-finite=0.0000, saturated=0.0100, consistency=0.990, "
            "consistency-worst=0.900",
            "x-model": "default",
            "x-model-version": "0123456789ab",
            "x-engine": "onnx",
            "x-precision": "fp32",
            "x-request-id": request.headers["x-request-id"],
            "server-timing": "recv;dur=0.10, infer;dur=12.50, total;dur=13.00",
        },
    )


def problem(status: int, code: str, **fields: object) -> httpx2.Response:
    """A problem as the service makes it."""
    body = {"type": f"urn:semsr:problem:{code}", "detail": "as it is", **fields}
    return httpx2.Response(status, json=body, headers={"x-request-id": "r1"})


class Script:
    """Answers requests in turn; the last step is repeated."""

    def __init__(self, *steps: Callable[[httpx2.Request], httpx2.Response]) -> None:
        self.steps = list(steps)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Take the next step."""
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        return step(request)

    @property
    def transport(self) -> httpx2.MockTransport:
        """For either client."""
        return httpx2.MockTransport(self)


def broken(request: httpx2.Request) -> httpx2.Response:
    """A connection that breaks."""
    raise httpx2.ConnectError("refused", request=request)


def sync_call(script: Script, **options: object) -> SrTile:
    """One tile through the blocking client."""
    arguments = {"url": "http://semsr", "transport": script.transport, **options}
    with Client(**arguments) as client:
        return client.superresolve(TILE)


def async_call(script: Script, **options: object) -> SrTile:
    """One tile through the asyncio client."""

    async def call() -> SrTile:
        arguments = {"url": "http://semsr", "transport": script.transport, **options}
        async with AsyncClient(**arguments) as client:
            return await client.superresolve(TILE)

    return asyncio.run(call())


BOTH = pytest.mark.parametrize("call", [sync_call, async_call])
