"""Small writes wait for what follows them; nothing is lost, doubled or out of order."""

import asyncio
from typing import cast

import pytest

from service.http.connection import JoinedWrites

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
PICTURE = bytes(100_000)


class FakeTransport:
    """Keeps what is sent, call by call."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        """Note a call."""
        assert not self.is_closed
        self.calls.append(bytes(data))

    def writelines(self, pieces: list[bytes]) -> None:
        """One call too."""
        self.write(b"".join(pieces))

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.is_closed

    def close(self) -> None:
        """Close it."""
        self.is_closed = True

    abort = close

    def get_extra_info(self, name: str) -> str:
        """Something of its own."""
        return f"the transport's {name}"


@pytest.fixture
def transport() -> FakeTransport:
    """Where everything goes."""
    return FakeTransport()


def join(transport: FakeTransport) -> JoinedWrites:
    """Wrap it on the running loop."""
    return JoinedWrites(cast("asyncio.Transport", transport), asyncio.get_running_loop())


async def next_turn() -> None:
    """Let the loop do what it was asked to do soon."""
    await asyncio.sleep(0)


def test_head_and_picture_leave_together(transport: FakeTransport) -> None:
    """One call, and the empty end of the answer costs none."""

    async def answer() -> None:
        joined = join(transport)
        joined.write(HEAD)
        joined.write(PICTURE)
        joined.write(b"")
        assert transport.calls == [HEAD + PICTURE]
        await next_turn()

    asyncio.run(answer())
    assert transport.calls == [HEAD + PICTURE]


def test_a_small_answer_leaves_in_the_loops_next_turn(transport: FakeTransport) -> None:
    """Whole, without waiting for more."""

    async def answer() -> None:
        joined = join(transport)
        joined.write(HEAD)
        joined.write(b"{}")
        assert transport.calls == []
        await next_turn()
        assert transport.calls == [HEAD + b"{}"]
        joined.write(b"again")
        await next_turn()

    asyncio.run(answer())
    assert transport.calls == [HEAD + b"{}", b"again"]


def test_many_small_pieces_are_not_held_for_ever(transport: FakeTransport) -> None:
    """What is held is bounded."""

    async def answer() -> None:
        joined = join(transport)
        for _ in range(100):
            joined.write(bytes(1000))
        await next_turn()

    asyncio.run(answer())
    assert sum(map(len, transport.calls)) == 100_000
    assert max(map(len, transport.calls)) <= 5000


def test_closing_sends_what_is_held(transport: FakeTransport) -> None:
    """An error's answer is written and the connection closed at once."""

    async def answer() -> None:
        joined = join(transport)
        joined.write(HEAD)
        joined.close()

    asyncio.run(answer())
    assert transport.calls == [HEAD]
    assert transport.is_closed


def test_nothing_is_written_to_a_connection_that_is_gone(transport: FakeTransport) -> None:
    """It was cut off between two turns of the loop."""

    async def answer() -> None:
        joined = join(transport)
        joined.write(HEAD)
        joined.abort()
        await next_turn()
        assert joined.get_extra_info("peername") == "the transport's peername"

    asyncio.run(answer())
    assert transport.calls == []
