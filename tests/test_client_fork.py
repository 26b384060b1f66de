"""One client in several processes, threads and event loops: each has connections of its own."""

import asyncio
import contextlib
import copy
import json
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import numpy as np
import pytest

from semsr_client import AsyncClient, Client, ServiceError, SrTile
from tests.client_fakes import TILE, Script, answer
from tests.client_servers import Answer, echo, scripted_servers


class Peer(ThreadingHTTPServer):
    """A service of single tiles; remembers by which connection each request came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections: dict[str, int] = {}
        self.wrong_ids: set[str] = set()

    @property
    def url(self) -> str:
        """Address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Peer  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer as the engine `identity` does."""
        body = self.rfile.read(int(self.headers["content-length"]))
        request = httpx2.Request("POST", "http://x", headers=dict(self.headers), content=body)
        self.server.connections[self.headers["x-request-id"]] = self.client_address[1]
        response = answer(request)
        self.send_response(200)
        if self.headers["x-request-id"] in self.server.wrong_ids:
            response.headers["x-request-id"] = "another"
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's)
        """Say nothing."""


@contextlib.contextmanager
def running_peer() -> Iterator[Peer]:
    """Run a service of single tiles."""
    with Peer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A running service of single tiles."""
    with running_peer() as server:
        yield server


@dataclass(frozen=True)
class Seen:
    """What the processes of `tests.client_forks` have seen, and by which connections they came."""

    results: dict[str, Any]
    connections: dict[str, int]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """Run them once; the first process must end well, and in time."""

    def endless(peer: Answer) -> None:
        peer.begin()
        while True:
            peer.entry(peer.tile())

    with running_peer() as single, scripted_servers() as start:
        urls = [single.url, start(echo, connections=2).url, start(endless).url]
        done = subprocess.run(
            [sys.executable, "-m", "tests.client_forks", *urls],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        yield Seen(json.loads(done.stdout), single.connections)


def test_a_child_opens_connections_of_its_own(seen: Seen) -> None:
    """No process writes to a connection of its parent, and the parent keeps its own."""
    assert {
        "parent": 1,
        "child": [2, 3],
        "grandchild": [4, 5],
        "closes": None,
        "after": 6,
    } == seen.results["single"]

    ports = [seen.connections[f"blocking-{grey}"] for grey in range(1, 7)]
    parent, child, child_again, second_child, grandchild, parent_again = ports
    assert (parent, child) == (parent_again, child_again)
    assert 4 == len({parent, child, second_child, grandchild})


def test_so_does_the_asyncio_client_for_each_event_loop(seen: Seen) -> None:
    """A loop that has ended takes its connections with it."""
    assert {"parent": [1, 2], "child": [3, 4], "after": [5, 6]} == seen.results["asyncio"]

    ports = [seen.connections[f"asyncio-{grey}"] for grey in range(1, 7)]
    assert ports[::2] == ports[1::2]
    assert 3 == len(set(ports))


def test_a_transport_of_the_caller_s_is_not_shared(seen: Seen) -> None:
    """A child is refused with the reason."""
    result = seen.results["given_transport"]

    assert 7 == result["parent"]
    assert "RuntimeError: this client has a transport of its caller's" in result["child"]


def test_a_loop_under_way_belongs_to_its_process(seen: Seen) -> None:
    """A child gets an error and no hang, may begin its own loop, and costs the parent nothing."""
    result = seen.results["many"]

    assert (
        "RuntimeError: superresolve_many was begun before this process was forked"
        in (result["inherited"])
    )
    assert (None, None) == (result["closed"], result["left"])
    assert list(range(100)) == result["own"] == result["parent"]


def test_an_interpreter_ends_although_a_loop_is_under_way(seen: Seen) -> None:
    """The thread of its stream has ended by then, and is not waited for."""
    assert 0 == seen.results["leaves"]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_can_be_pickled_and_copied(kind: type[Client | AsyncClient]) -> None:
    """As multiprocessing does it: the copy has the same arguments and its own connections."""
    client = kind(
        "http://semsr:8000/pre",
        timeout_s=3.0,
        priority="nightly",
        window=(1, 2),
        answer_dtype="uint16",
        model="m",
        connections=2,
        api_key="key",
        headers={"X-Lot": "7"},
    )

    for twin in (pickle.loads(pickle.dumps(client)), copy.deepcopy(client)):  # noqa: S301 - made in this line
        assert kind is type(twin)
        assert vars(client)["_options"] == vars(twin)["_options"]
        assert vars(client)["_http"] is not vars(twin)["_http"]


def test_a_closed_client_says_so() -> None:
    """To single tiles and to many, before anything is sent."""
    script = Script(answer)
    client = Client("http://semsr", transport=script.transport)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.superresolve(TILE)
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.superresolve_many([TILE])

    async def run_closed() -> None:
        async with AsyncClient("http://semsr", transport=script.transport) as other:
            pass
        with pytest.raises(RuntimeError, match="the client is closed"):
            await other.superresolve(TILE)
        with pytest.raises(RuntimeError, match="the client is closed"):
            other.superresolve_many([TILE])

    asyncio.run(run_closed())
    assert [] == script.requests


def test_a_connection_that_brought_another_id_is_closed(peer: Peer) -> None:
    """If its answers are out of step with its requests, the next one would be wrong as well."""
    peer.wrong_ids = {"second"}
    with Client(peer.url) as client:
        client.superresolve(TILE, request_id="first")
        with pytest.raises(ServiceError, match="another request's"):
            client.superresolve(TILE, request_id="second")
        client.superresolve(TILE, request_id="third")

    ports = peer.connections
    assert ports["first"] == ports["second"] != ports["third"]


def test_threads_get_their_own_answers(peer: Peer) -> None:
    """More of them than there are connections, one client."""
    with Client(peer.url, connections=3) as client, ThreadPoolExecutor(8) as pool:

        def call(grey: int) -> SrTile:
            return client.superresolve(np.full((8, 8), grey, np.uint8))

        answers = list(pool.map(call, range(40)))

    assert list(range(40)) == [int(sr.pixels[0, 0]) for sr in answers]
    assert 3 >= len(set(peer.connections.values()))


def test_a_loop_over_many_that_never_begins_leaves_nothing(peer: Peer) -> None:
    """No thread, no connection, and no warning."""
    before = set(threading.enumerate())
    with warnings.catch_warnings(), Client(peer.url) as client:
        warnings.simplefilter("error")
        client.superresolve_many([TILE], progress=True)
    assert set(threading.enumerate()) <= before
