"""Listening sockets: one service on one address, and the URL that a browser is given."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.ground.listening import listen, url_of


@contextmanager
def listening(host: str, port: int, *, count: int) -> Iterator[list[socket.socket]]:
    """Listen until the block ends."""
    listeners = listen(host, port, count=count)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


@pytest.mark.parametrize("first", [1, 3])
@pytest.mark.parametrize("second", [1, 3])
def test_a_second_service_cannot_listen_at_the_same_address(first: int, second: int) -> None:
    """Not even as the same user, and whichever of them is a pool."""
    with listening("127.0.0.1", 0, count=first) as listeners:
        port = listeners[0].getsockname()[1]
        with pytest.raises(OSError, match="in use") as refusal:
            listen("127.0.0.1", port, count=second)
    assert errno.EADDRINUSE == refusal.value.errno
    with listening("127.0.0.1", port, count=second):
        pass  # what was refused before has left nothing behind


@pytest.mark.parametrize("count", [1, 3])
def test_who_binds_first_and_listens_last_is_refused(count: int) -> None:
    """Two that start at once may both have bound the address before one of them listens."""
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        slow.bind(("127.0.0.1", 0))
        with (
            listening("127.0.0.1", slow.getsockname()[1], count=count),
            pytest.raises(OSError, match="in use"),
        ):
            slow.listen()


def test_every_socket_of_a_pool_gets_connections() -> None:
    """The kernel deals them out, to the first socket as to the others."""
    with listening("127.0.0.1", 0, count=3) as listeners:
        address = listeners[0].getsockname()
        clients = [socket.create_connection(address, timeout=30) for _ in range(200)]
        taken = [0, 0, 0]
        for index, listener in enumerate(listeners):
            listener.setblocking(False)
            while True:
                try:
                    listener.accept()[0].close()
                except BlockingIOError:
                    break
                taken[index] += 1
        for client in clients:
            client.close()
    assert 200 == sum(taken)
    assert min(taken) > 20


@pytest.mark.parametrize(
    ("host", "is_tls", "expected"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:"),
        ("0.0.0.0", True, "https://127.0.0.1:"),
        ("::1", False, "http://[::1]:"),
        ("::", False, "http://[::1]:"),
    ],
)
def test_the_url_is_one_that_a_browser_can_open(host: str, is_tls: bool, expected: str) -> None:
    """0.0.0.0 is not an address that one can go to."""
    with listening(host, 0, count=1) as [listener]:
        url = url_of(listener, is_tls=is_tls)
        assert f"{expected}{listener.getsockname()[1]}/" == url
