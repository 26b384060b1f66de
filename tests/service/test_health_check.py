"""The container's health check against a real service, with and without a certificate."""

import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from semsr.server_process import running_server
from service.health_check import is_alive

# In a row, before a container counts as unhealthy: one check has two seconds.
RETRIES = 3
ROOT = Path(__file__).resolve().parents[2]
TLS = ROOT / "tests" / "data" / "tls"
SETTINGS = {
    "SEMSR_BUNDLE": str(ROOT / "tests" / "data" / "tiny_bundle"),
    "SEMSR_ENGINE": "identity",
}
CERTIFICATE = {"SEMSR_TLS_CERT": str(TLS / "cert.pem"), "SEMSR_TLS_KEY": str(TLS / "key.pem")}


def check(settings: Mapping[str, str]) -> int:
    """Run the health check as a container does, until it is good; return its exit code."""
    command = [sys.executable, "-m", "service.health_check"]
    code = 1
    for _ in range(RETRIES):
        code = subprocess.run(
            command, env={**os.environ, **settings}, cwd=ROOT, check=False
        ).returncode
        if code == 0:
            break
    return code


class Alive(http.server.BaseHTTPRequestHandler):
    """Says 200 to /livez."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200 if self.path == "/livez" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        """Be quiet."""


class IPv6Server(http.server.HTTPServer):
    """Listens on an address of IPv6."""

    address_family = socket.AF_INET6


@pytest.mark.parametrize(
    ("bound", "host"),
    [
        ("0.0.0.0", "0.0.0.0"),
        ("127.0.0.1", None),
        ("127.0.0.1", ""),
        ("127.0.0.2", "127.0.0.2"),
        ("127.0.0.1", "localhost"),
        ("::", "::"),
        ("::1", "::1"),
        ("::1", "[::1]"),
        ("::", "[::]"),
    ],
)
def test_it_asks_where_the_service_listens(
    bound: str, host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any SEMSR_HOST; 127.0.0.1 is one address of many."""
    with (IPv6Server if ":" in bound else http.server.HTTPServer)((bound, 0), Alive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("semsr_port", str(server.server_address[1]))
        if host is not None:
            monkeypatch.setenv("SEMSR_HOST", host)
        alive = is_alive()
        server.shutdown()

    assert True is alive


def test_a_service_on_an_ipv6_address_in_brackets_is_alive() -> None:
    """Brackets are how URLs write it, and people copy them."""
    host = {"SEMSR_HOST": "[::1]"}
    with running_server({**SETTINGS, **host}) as server:
        code = check({**host, "SEMSR_PORT": str(urlsplit(server.url).port)})
        assert server.url.startswith("http://[::1]:")

    assert 0 == code


@pytest.mark.parametrize("certificate", [{}, CERTIFICATE], ids=["http", "https"])
def test_a_running_service_is_alive_and_a_stopped_one_is_not(certificate: dict[str, str]) -> None:
    """0 while it serves, 1 when nothing listens there any more."""
    verify = ssl.create_default_context(cafile=TLS / "cert.pem") if certificate else None
    with running_server({**SETTINGS, **certificate}, verify=verify) as server:
        port = {"SEMSR_PORT": str(urlsplit(server.url).port)}
        while_up = check({**certificate, **port})

    assert 0 == while_up
    assert 1 == check({**certificate, **port})
