"""Scans by the real server, in one process and in several: kills, drains, takeovers, replicas."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from semsr.server_process import ServerProcess, running_server
from service.scans.journal import Journal
from service.scans.rows import Counts
from tests.postgres import running_postgres
from tests.scan_api import Scans
from tests.scans import TINY_BUNDLE, enlarged, manifest, numbered_tile, outputs, write_lot

# So many that something is left to be stopped or killed after a heartbeat or two.
TILES = 4000
MODES = {
    "single": {"SEMSR_MODE": "single"},
    "pool": {"SEMSR_MODE": "pool", "SEMSR_FRONT_ENDS": "2"},
}
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The allowed folder, with a lot in it."""
    write_lot(tmp_path / "root" / "lot", TILES)
    return tmp_path / "root"


@contextlib.contextmanager
def serving(root: Path, mode: str = "single", **changes: str) -> Iterator[ServerProcess]:
    """Run a server that may scan below the root."""
    settings = {
        "SEMSR_BUNDLE": str(TINY_BUNDLE),
        "SEMSR_ENGINE": "identity",
        "SEMSR_SCAN_ROOTS": str(root),
        "SEMSR_SCAN_STATE": str(root.parent / "state"),
        **MODES[mode],
        **changes,
    }
    with running_server(settings) as server:
        yield server


@contextlib.contextmanager
def client(server: ServerProcess) -> Iterator[Scans]:
    """A client of a server's scans; in a pool each request may reach another front end."""
    with httpx2.Client(
        base_url=server.url,
        trust_env=False,
        timeout=60,
        headers={"connection": "close"},
        limits=httpx2.Limits(max_keepalive_connections=0),
    ) as http:
        yield Scans(http)


def front_ends(server: ServerProcess) -> list[int]:
    """The processes of a pool that accept requests."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [int(pid) for pid in children if "service.front_end" in _command(int(pid))]


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def events(server: ServerProcess, name: str) -> list[dict[str, object]]:
    """Lines of its log."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line[:1] == "{"]
    return [line for line in lines if line["event"] == name]


def counts(root: Path, scan: str) -> Counts:
    """What the journal of a scan says, whose server is gone."""
    journal = Journal(root.parent / "state" / "scans" / scan / "journal.sqlite")
    try:
        return journal.counts()
    finally:
        journal.close()


def check_outputs(root: Path) -> None:
    """Every tile is there and right, and the manifest says so."""
    found = outputs(root / "out")
    assert TILES == len(found)
    for index in range(0, TILES, 97):
        tile = np.load(root / "out" / f"t{index:05d}_x4.npy")
        np.testing.assert_array_equal(enlarged(numbered_tile(index)), tile)
    assert {"done"} == {row["status"] for row in manifest(root / "out" / "manifest.csv")}


@pytest.mark.parametrize("mode", MODES)
def test_a_scan_survives_sigterm_and_sigkill(root, mode):
    """A stop finishes what is under way; after a kill only what is missing is computed."""
    with serving(root, mode) as server, client(server) as scans:
        scan = scans.start(root / "lot", root / "out")
        scans.wait_done(scan, 50)
        os.kill(server.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + 60
        while not events(server, "scan_left"):
            assert time.monotonic() < deadline_s, server.log.read_text()
            time.sleep(0.05)
        [left] = events(server, "scan_left")
        assert ("queued", True) == (left["state"], left["ours"])
        assert [] == events(server, "scan_dropped")
    stopped_at = counts(root, scan).done
    assert 50 <= stopped_at < TILES
    assert stopped_at == len(outputs(root / "out"))

    with serving(root, mode) as server, client(server) as scans:
        scans.wait_done(scan, stopped_at + 20)
        for pid in [server.pid, *front_ends(server)]:
            with contextlib.suppress(ProcessLookupError):  # they end with their supervisor
                os.kill(pid, signal.SIGKILL)
    killed_at = counts(root, scan).done
    assert stopped_at + 20 <= killed_at < TILES

    with serving(root, mode) as server, client(server) as scans:
        info = scans.wait(scan)
        assert ("done", TILES - killed_at) == (info["state"], info["result"]["computed"])
        check_outputs(root)


def test_another_front_end_takes_over_from_a_dead_one(root):
    """The scan is one front end's; when that is killed, one that lives goes on with it."""
    with serving(root, "pool") as server, client(server) as scans:
        scan = scans.start(root / "lot", root / "out")
        scans.wait_done(scan, 50)
        [started] = events(server, "scan_started")
        names = {pid: json.loads(_command(pid)[3])["name"] for pid in front_ends(server)}
        [owner] = [pid for pid, name in names.items() if name == started["process"]]
        os.kill(owner, signal.SIGKILL)
        info = scans.wait(scan)
        assert ("done", TILES) == (info["state"], info["tiles"]["done"])
        assert 2 <= len(events(server, "scan_started"))
        check_outputs(root)


@pytest.mark.parametrize("mode", MODES)
def test_a_scan_runs_beside_the_line_and_obeys_any_front_end(root, mode):
    """Online tiles are all answered meanwhile; pause, resume and delete reach whoever has it."""
    with serving(root, mode) as server, client(server) as scans:
        scan = scans.start(root / "lot", root / "out")
        scans.wait_done(scan, 20)
        with httpx2.Client(base_url=server.url, trust_env=False, timeout=60) as line:
            statuses = {
                line.post("/superresolve", content=bytes(576), headers=RAW).status_code
                for _ in range(30)
            }
        assert {200} == statuses
        scans.wait_done(scan, 50)
        scans.do(scan, "pause")
        info = scans.wait(scan, "paused")
        assert 50 <= info["tiles"]["done"] < TILES
        scans.do(scan, "resume")
        scans.wait(scan, "running")
        assert scans.delete(scan).status_code in {200, 202}
        info = scans.wait(scan, "cancelled")
        assert info["tiles"]["done"] == len(outputs(root / "out"))
        deadline_s = time.monotonic() + 60
        wanted = 'semsr_scans{state="cancelled"} 1.0'
        metrics = f"{server.url}/metrics"
        while wanted not in httpx2.get(metrics, trust_env=False, timeout=60).text:
            assert time.monotonic() < deadline_s
            time.sleep(0.2)


def test_replicas_with_postgresql_share_scans_and_take_over(root):
    """Two servers, one list: each scan is run by one of them; a killed one's goes to the other."""
    write_lot(root / "lot2", 200)
    with running_postgres() as database:
        url = {"SEMSR_SCAN_DATABASE": database.new_database()}
        with (
            serving(root, **url) as one,
            serving(root, **url) as two,
            client(one) as first,
            client(two) as second,
        ):
            scan = first.start(root / "lot", root / "out", key="same")
            again = second.post(root / "lot", root / "out", key="same")
            assert (200, scan) == (again.status_code, again.json()["id"])
            other = second.start(root / "lot2", root / "out2")
            second.wait(other, "done")
            second.wait_done(scan, 50)
            owner = one if any(e["scan"] == scan for e in events(one, "scan_started")) else two
            left, scans = (two, second) if owner is one else (one, first)
            assert not any(e["scan"] == scan for e in events(left, "scan_started"))
            os.kill(owner.pid, signal.SIGKILL)
            info = scans.wait(scan)
            assert ("done", TILES) == (info["state"], info["tiles"]["done"])
            check_outputs(root)


def test_a_wrong_setting_is_told_without_a_password():
    """The start ends with 2 and names the variable; what a URL holds is not printed."""
    environment = {
        **os.environ,
        "SEMSR_SCAN_DATABASE": "mysql://user:hunter2@host/db",
        "SEMSR_SCAN_ROOTS": "relative",
        "SEMSR_SCAN_PAUSE": "7 to 9",
    }
    result = subprocess.run(
        [sys.executable, "-m", "service"], env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert 2 == result.returncode
    for name in ("SEMSR_SCAN_DATABASE", "SEMSR_SCAN_ROOTS", "SEMSR_SCAN_PAUSE"):
        assert name in result.stderr
    assert "hunter2" not in result.stderr
