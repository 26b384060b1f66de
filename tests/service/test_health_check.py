"""The container's health check against a real service, with and without a certificate."""

import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from semsr.server_process import running_server

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


@pytest.mark.parametrize("certificate", [{}, CERTIFICATE], ids=["http", "https"])
def test_a_running_service_is_alive_and_a_stopped_one_is_not(certificate: dict[str, str]) -> None:
    """0 while it serves, 1 when nothing listens there any more."""
    verify = ssl.create_default_context(cafile=TLS / "cert.pem") if certificate else None
    with running_server({**SETTINGS, **certificate}, verify=verify) as server:
        port = {"SEMSR_PORT": str(urlsplit(server.url).port)}
        while_up = check({**certificate, **port})

    assert 0 == while_up
    assert 1 == check({**certificate, **port})
