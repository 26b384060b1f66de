"""What a process and the children that it forks see of one client; run by `tests.test_client_fork`.

    python -m tests.client_forks SINGLE_URL MANY_URL ENDLESS_URL

A process of its own, because of pytest's threads none would be there after a fork. Prints one JSON
object with what each scenario has seen.
"""

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np

from semsr_client import AsyncClient, Client


def flat(grey: int) -> np.ndarray:
    """Make a tile."""
    return np.full((8, 8), grey, np.uint8)


def in_child(work: Callable[[], object], *, leaves: Callable[[], object] | None = None) -> Any:  # noqa: ANN401
    """Run work in a forked child; return its result, or the text of its error.

    Args:
        work: Work of the child.
        leaves: Its way out, by which whatever the child inherited is cleaned up; None leaves at
            once.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = work()
        except Exception as error:
            traceback.print_exc()
            result = f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps(result).encode())
        if leaves is None:
            os._exit(0)
        leaves()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        result = json.loads(pipe.read())
    assert os.waitpid(pid, 0)[1] == 0
    return result


def grey_of(client: Client, grey: int) -> int:
    """Send a tile; return the grey of its answer."""
    return int(client.superresolve(flat(grey), request_id=f"blocking-{grey}").pixels[0, 0])


def single(url: str) -> Any:  # noqa: ANN401
    """Two children, a grandchild, and the parent before and after."""
    client = Client(url)
    return {
        "parent": grey_of(client, 1),
        "child": in_child(lambda: [grey_of(client, 2), grey_of(client, 3)]),
        "grandchild": in_child(lambda: [grey_of(client, 4), in_child(lambda: grey_of(client, 5))]),
        # As a child does that leaves a `with` block.
        "closes": in_child(client.close),
        "after": grey_of(client, 6),
    }


def asyncio_too(url: str) -> Any:  # noqa: ANN401
    """An asyncio client in two loops of the parent and one of a child."""
    client = AsyncClient(url)

    async def grey(value: int) -> int:
        answer = await client.superresolve(flat(value), request_id=f"asyncio-{value}")
        return int(answer.pixels[0, 0])

    async def two(first: int) -> list[int]:
        return [await grey(first), await grey(first + 1)]

    async def last() -> list[int]:
        try:
            return await two(5)
        finally:
            await client.close()

    return {
        "parent": asyncio.run(two(1)),
        "child": in_child(lambda: asyncio.run(two(3))),
        "after": asyncio.run(last()),
    }


def given_transport(url: str) -> Any:  # noqa: ANN401
    """A transport of the caller's cannot be made a second time."""
    client = Client(url, transport=httpx2.HTTPTransport())
    return {"parent": grey_of(client, 7), "child": in_child(lambda: grey_of(client, 8))}


def numbers() -> Iterator[np.ndarray]:
    """More tiles than are under way at once."""
    return (flat(number) for number in range(100))


def many(url: str) -> Any:  # noqa: ANN401
    """A loop over many tiles that is under way when the process forks."""
    client = Client(url)
    results = client.superresolve_many(numbers())
    first = next(results)

    def greys(outcomes: Any) -> list[int]:  # noqa: ANN401
        return [int(sr.pixels[0, 0]) for sr in outcomes]

    return {
        "inherited": in_child(lambda: greys(results)),
        "closed": in_child(results.close),  # type: ignore[attr-defined]
        "left": in_child(lambda: None, leaves=lambda: sys.exit(0)),
        "own": in_child(lambda: greys(client.superresolve_many(numbers()))),
        "parent": greys([first, *results]),
    }


# Still referenced when the interpreter ends.
unfinished: list[Any] = []


def leaves(url: str) -> Any:  # noqa: ANN401
    """A loop that is under way when the interpreter ends."""
    unfinished.append(Client(url).superresolve_many(numbers()))
    return int(next(unfinished[0]).pixels[0, 0])


if __name__ == "__main__":
    single_url, many_url, endless_url = sys.argv[1:]
    seen = {
        "single": single(single_url),
        "asyncio": asyncio_too(single_url),
        "given_transport": given_transport(single_url),
        "many": many(many_url),
        "leaves": leaves(endless_url),
    }
    sys.stdout.write(json.dumps(seen))
