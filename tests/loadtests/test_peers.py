"""Other serving products: what is asked of them, and what becomes of those that do not work."""

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import psutil
import pytest

from loadtests.machine import describe_machine
from loadtests.peers import environments
from loadtests.peers.catalog import PEERS, SERVERS, Peer, Place
from loadtests.peers.environments import InstallError, ensure_environment
from loadtests.peers.running import PeerError, running_peer
from loadtests.results import Result
from loadtests.scenarios import peers as scenario

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"

SERVER = """
import http.server, subprocess, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        answer = b"head" + body * 2
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def fake_peer(code: str = SERVER) -> Peer:
    """A peer that runs a few lines of Python."""
    return Peer(
        name="mosec",
        title="fake",
        package="mosec",
        path="/x",
        command=lambda place: [sys.executable, "-c", code, str(place.port)],
    )


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked after does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_peer_is_used_once_it_answers_rightly_and_leaves_nothing(tmp_path: Path) -> None:
    """The answer may have a protocol's head; processes that it started end with it."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with running_peer(fake_peer(), tmp_path, tile=b"ab", expected=b"abab") as (address, length):
        assert length == len(b"headabab")
        assert address[0] == "127.0.0.1"
        started = {process.pid for process in psutil.Process().children(recursive=True)} - before
        assert len(started) == 2
    assert [pid for pid in started if runs(pid)] == []


def test_peer_that_answers_wrongly_is_not_measured(tmp_path: Path) -> None:
    """A fast wrong answer is no throughput."""
    with (
        pytest.raises(PeerError, match="answered wrongly: 200 with 8 bytes"),
        running_peer(fake_peer(), tmp_path, tile=b"ab", expected=b"cdcd"),
    ):
        pytest.fail("it must not be measured")


def test_peer_that_ends_says_why(tmp_path: Path) -> None:
    """The last line of its log is the reason in the table."""
    with (
        pytest.raises(PeerError, match=r"exit code 1: .*no such luck"),
        running_peer(
            fake_peer("raise SystemExit('no such luck')"), tmp_path, tile=b"", expected=b"x"
        ),
    ):
        pytest.fail("it must not be measured")


def test_environment_is_made_once_and_again_when_its_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed install leaves no stamp, so that the next run tries again."""
    ran: list[list[str]] = []

    def fake_run(command: list[str]) -> None:
        ran.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)

    monkeypatch.setattr(environments, "_run", fake_run)
    peer = PEERS[0]
    assert ensure_environment(peer, tmp_path) == tmp_path / peer.name
    assert len(ran) == 2
    ensure_environment(peer, tmp_path)
    assert len(ran) == 2
    (tmp_path / peer.name / ".ready").write_text("another")
    ensure_environment(peer, tmp_path)
    assert len(ran) == 4


def test_failed_install_gives_the_last_line_of_what_was_said() -> None:
    """The table then says why a peer is missing."""
    code = "import sys; sys.exit('first\\nNo matching distribution')"
    with pytest.raises(InstallError, match="No matching distribution"):
        environments._run([sys.executable, "-c", code])


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_is_pinned_and_has_its_server(peer: Peer, tmp_path: Path) -> None:
    """Versions are exact, and a request carries the tile."""
    lines = peer.requirements.read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if line.count("==") != 1] == []
    assert peer.version()
    headers, body = peer.request(b"TILE")
    assert b"TILE" in body
    assert "Content-Type" in headers
    if peer.name != "triton":  # its command copies out of its wheel
        command = peer.command(Place(tmp_path, 9, tmp_path))
        assert any("9" in word for word in command)
        files = [word for word in command if word.endswith(".py")]
        assert all(Path(file).is_file() for file in files)


def test_model_of_the_peers_is_nearest_neighbour() -> None:
    """The same as our engine `identity`."""
    spec = importlib.util.spec_from_file_location("identity_model", SERVERS / "identity_model.py")
    assert spec is not None
    assert spec.loader is not None
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    lr = np.random.default_rng(0).integers(0, 256, (3, 240, 240), dtype=np.uint8)
    assert np.array_equal(model.enlarge(lr), lr.repeat(4, axis=1).repeat(4, axis=2))
    assert np.array_equal(model.to_tile(lr[0].tobytes()), lr[0])


def test_ratios_are_of_the_mean_nginx_and_of_our_single_mode(tmp_path: Path) -> None:
    """The figures of wrk count where there are any; what was not measured has no ratio."""
    rows: list[dict[str, object]] = [
        {"name": "nginx, the same bytes from a file", "wrk_per_s": 900.0, "own_per_s": 1.0},
        {"name": "semsr, single", "wrk_per_s": 800.0},
        {"name": "semsr, pool", "wrk_per_s": 850.0},
        {"name": "Mosec", "wrk_per_s": 200.0},
        {"name": "Ray Serve", "problem": "not installed"},
        {"name": "nginx again", "wrk_per_s": 1100.0},
    ]
    scenario._add_ratios(rows)
    by_name = {row["name"]: row for row in rows}
    assert by_name["semsr, single"]["nginx_percent"] == 80.0
    assert by_name["Mosec"]["our_ratio"] == 4.0
    assert "our_ratio" not in by_name["semsr, pool"]
    assert "nginx_percent" not in by_name["Ray Serve"]
    picture = tmp_path / "images" / "peers.png"
    settings = {"connections": 16}
    scenario.draw(Result("peers", describe_machine(), settings, [], rows), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bundle_of_another_size_is_refused() -> None:
    """The peers have one size; comparing it with another would be unfair."""
    with pytest.raises(ValueError, match="the peers enlarge"):
        scenario.run(Namespace(bundle=TINY_BUNDLE, seconds=1.0, connections=1, peer=[]))
