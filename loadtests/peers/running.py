"""Starts a peer, waits until it answers a tile correctly, and ends all its processes."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

from loadtests.peers.catalog import SERVERS, Peer, Place

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.25


class PeerError(RuntimeError):
    """A peer did not start, or its answer was wrong; the message has the reason."""


@contextlib.contextmanager
def running_peer(
    peer: Peer, environment: Path, *, tile: bytes, expected: bytes
) -> Iterator[tuple[tuple[str, int], int]]:
    """Run a peer until the block ends.

    Args:
        peer: Product to run.
        environment: Virtual environment of the product.
        tile: Raw tile.
        expected: End of a correct answer (a protocol may put a head before it).

    Yields:
        The address, and the length of a correct answer's body.

    Raises:
        PeerError: It ended, was not ready in time, or answered wrongly.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Place(environment, _free_port(), Path(name))
        log = Path(name) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                peer.command(place),
                cwd=name,
                env={**os.environ, "PYTHONPATH": str(SERVERS), **peer.variables(place)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            body_bytes = _wait_right(peer, place.port, process, log, tile, expected)
            yield ("127.0.0.1", place.port), body_bytes
        finally:
            _stop(process)


def _wait_right(
    peer: Peer,
    port: int,
    process: "subprocess.Popen[bytes]",
    log: Path,
    tile: bytes,
    expected: bytes,
) -> int:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    said = "nothing"
    headers, body = peer.request(tile)
    with httpx2.Client(trust_env=False, timeout=30.0) as client:
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                raise PeerError(f"ended with exit code {process.returncode}: {_last_line(log)}")
            with contextlib.suppress(httpx2.TransportError):
                url = f"http://127.0.0.1:{port}{peer.path}"
                answer = client.post(url, content=body, headers=headers)
                said = f"{answer.status_code} with {len(answer.content)} bytes"
                if answer.status_code == 200:
                    if not answer.content.endswith(expected):
                        raise PeerError(f"answered wrongly: {said}, not the enlarged tile")
                    return len(answer.content)
            time.sleep(_POLL_S)
    raise PeerError(f"was not ready within {_START_TIMEOUT_S:.0f} s; it said {said}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and every process that it started, gently first."""
    import psutil  # of the extra loadtest; the other scenarios run without

    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
        _, alive = psutil.wait_procs(started, timeout=2.0)
        for child in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(alive, timeout=5.0)
    if process.poll() is None:
        process.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
