"""The service as a child process on a free port, for the demo, the bench and the tests."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02


class ServerStartError(RuntimeError):
    """The service did not become ready; the message holds the end of its log."""


@dataclass(frozen=True)
class ServerProcess:
    """A running service.

    Attributes:
        url: Base URL, without a trailing slash.
        pid: Process id.
        log: File that holds its log lines.
    """

    url: str
    pid: int
    log: Path


@contextlib.contextmanager
def running_server(
    settings: Mapping[str, str],
    *,
    python: str = sys.executable,
    command: Sequence[str] = ("-m", "service"),
    timeout_s: float = START_TIMEOUT_S,
    verify: ssl.SSLContext | None = None,
) -> Iterator[ServerProcess]:
    """Run the service on a free port until the block ends.

    Args:
        settings: `SEMSR_…` variables that override the environment's.
        python: Interpreter to run it with.
        command: Arguments of the interpreter.
        timeout_s: Longest wait for readiness.
        verify: TLS context that checks the service's certificate, if it has one.

    Raises:
        ServerStartError: The service ended or was not ready in time.
    """
    environment = {
        **os.environ,
        "SEMSR_HOST": "127.0.0.1",
        "SEMSR_PORT": "0",
        "SEMSR_DRAIN_S": "0",
        **settings,
        # The address is read from the log, so its level must include that line.
        "SEMSR_LOG_FORMAT": "json",
        "SEMSR_LOG_LEVEL": "info",
    }
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "service.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [python, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=stream,
            )
        try:
            url = _wait_ready(process, log, time.monotonic() + timeout_s, verify)
            yield ServerProcess(url=url, pid=process.pid, log=log)
        finally:
            _stop(process)


def _wait_ready(
    process: subprocess.Popen[bytes], log: Path, deadline_s: float, verify: ssl.SSLContext | None
) -> str:
    scheme = "http" if verify is None else "https"
    url = None
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise ServerStartError(
                f"the service ended with exit code {process.returncode}:\n{_tail(log)}"
            )
        url = url or _find_url(log, scheme)
        if url is not None and _is_ready(url, verify):
            return url
        time.sleep(_POLL_S)
    raise ServerStartError(f"the service was not ready in time:\n{_tail(log)}")


def _find_url(log: Path, scheme: str) -> str | None:
    for line in log.read_bytes().splitlines():
        if b'"listening"' in line:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                host = f"[{event['host']}]" if ":" in event["host"] else event["host"]
                return f"{scheme}://{host}:{event['port']}"
    return None


def _is_ready(url: str, verify: ssl.SSLContext | None) -> bool:
    try:
        with httpx2.Client(timeout=5.0, trust_env=False, verify=verify or True) as client:
            return client.get(f"{url}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
