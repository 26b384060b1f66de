"""The OpenAPI description against the running service: schemathesis finds nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from semsr.server_process import ServerProcess, running_server
from service.http.access import hash_key
from tests.scan_api import Scans
from tests.scans import TINY_BUNDLE, write_lot

ROOT = Path(__file__).parent.parent
EXAMPLES = 60
ADMIN_KEY = "a-key-for-tests"


def schemathesis(server: ServerProcess, folder: Path, *options: str) -> str:
    """Run schemathesis over the whole description; returns what it prints."""
    scans = folder / "scans"
    with httpx2.Client(base_url=server.url, trust_env=False, headers=_headers(options)) as client:
        api = Scans(client)
        scan = api.start(scans / "lot", scans / "out")
        api.wait(scan, "done")
    known = {
        "SCAN": scan,
        "SOURCE": str(scans / "lot"),
        "SINKS": str(scans),
        "BUNDLE": str(TINY_BUNDLE),
        "URL": server.url,
        "KEY": ADMIN_KEY,
    }
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json",
        "--checks", "all", "--max-examples", str(EXAMPLES), "--no-color",
        "--generation-deterministic", *options,
    ]  # fmt: skip
    finished = subprocess.run(
        command,
        cwd=ROOT,
        env={
            **os.environ,
            **{f"SEMSR_SCHEMATHESIS_{name}": value for name, value in known.items()},
        },
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    return f"exit code {finished.returncode}\n{finished.stdout}{finished.stderr}"


def _headers(options: tuple[str, ...]) -> dict[str, str]:
    return dict(option.split(": ", 1) for option in options if ": " in option)


@pytest.mark.slow
@pytest.mark.parametrize("has_keys", [False, True], ids=["open", "keys"])
def test_schemathesis_finds_nothing(tmp_path: Path, has_keys: bool) -> None:
    """Status codes, content types, schemas, methods, refusals and access are as described."""
    write_lot(tmp_path / "scans" / "lot", 3)
    settings = {
        "SEMSR_BUNDLES": f"main={TINY_BUNDLE},spare={TINY_BUNDLE}",
        "SEMSR_ENGINE": "onnx",
        "SEMSR_THREADS": "1",
        "SEMSR_ANSWER_BITS": "16",
        "SEMSR_SCAN_ROOTS": str(tmp_path / "scans"),
        "SEMSR_SCAN_STATE": str(tmp_path / "state"),
        "SEMSR_LOAD_FROM": str(TINY_BUNDLE.parent),
    }
    options: tuple[str, ...] = ()
    if has_keys:
        (tmp_path / "keys").write_text(f"boss {hash_key(ADMIN_KEY)} admin\n", encoding="utf-8")
        settings["SEMSR_API_KEYS"] = str(tmp_path / "keys")
        options = ("--header", f"Authorization: Bearer {ADMIN_KEY}")
    with running_server(settings) as server:
        report = schemathesis(server, tmp_path, *options)
    assert "exit code 0" == report.splitlines()[0], report
    # That many at least, so that a run which asked nothing does not count.
    assert re.search(r"([0-9]{4,}) generated, \1 passed", report), report
