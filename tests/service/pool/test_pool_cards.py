"""A real pool on cards that are files (`cards/card_engine.py`): shares, faults, returns."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from semsr.server_process import ServerProcess, ServerStartError, running_server

FOLDER = Path(__file__).parent / "cards"
TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}
TILE = np.arange(24 * 24, dtype=np.uint32).astype(np.uint8).reshape(24, 24)
ANSWER = TILE.repeat(4, axis=0).repeat(4, axis=1).tobytes()


class Cards:
    """The cards of one pool."""

    def __init__(self, folder: Path, *seconds: float) -> None:
        """Make one card for each number of seconds a tile."""
        self.folder = folder
        for number, per_tile_s in enumerate(seconds):
            (folder / f"cuda:{number}").write_text(str(per_tile_s))

    def settings(self, **further: str) -> dict[str, str]:
        """Settings of a pool that computes on them."""
        path = [str(FOLDER), os.environ.get("PYTHONPATH", "")]
        return {
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "CARDS": str(self.folder),
            "SEMSR_MODE": "pool",
            "SEMSR_FRONT_ENDS": "1",
            "SEMSR_BUNDLE": str(TINY_BUNDLE),
            "SEMSR_ENGINE": "identity",
            "SEMSR_DEVICE": "cuda",
            **further,
        }

    def num_tiles(self, number: int) -> int:
        """Number of tiles that a card has done."""
        path = self.folder / f"cuda:{number}.tiles"
        return path.stat().st_size if path.exists() else 0

    def break_it(self, number: int, fault: str) -> None:
        """Give a card a fault: `raises` or `gone`."""
        (self.folder / f"cuda:{number}.{fault}").touch()

    def repair(self, number: int) -> None:
        """Remove a card's faults."""
        for fault in ("raises", "gone"):
            (self.folder / f"cuda:{number}.{fault}").unlink(missing_ok=True)


class Load:
    """Clients that send tiles until the block ends."""

    def __init__(self, server: ServerProcess, *, clients: int = 12) -> None:
        self._url = f"{server.url}/superresolve"
        self._stop = threading.Event()
        self.statuses: list[int] = []
        self.num_wrong = 0
        self._threads = [threading.Thread(target=self._send) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        with httpx2.Client(trust_env=False, timeout=60, headers=RAW) as client:
            while not self._stop.is_set():
                answer = client.post(self._url, content=TILE.tobytes())
                self.statuses.append(answer.status_code)
                self.num_wrong += answer.content != ANSWER


def until(is_true: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Wait for something to become true."""
    deadline_s = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.02)


def processes_up(server: ServerProcess) -> dict[tuple[str, str], float]:
    """Value of the gauge of engine processes, by process and device."""
    text = httpx2.get(f"{server.url}/metrics", trust_env=False, timeout=60).text
    found = re.findall(
        r'^semsr_engine_process_up{device="(.+)",model=".+",process="(.+)"} (\S+)', text, re.M
    )
    return {(process, device): float(value) for device, process, value in found}


def engine_pids(server: ServerProcess, device: str) -> list[int]:
    """Processes of the pool that compute on a device."""
    pids: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == server.pid and f'"device":"{device}"'.encode() in command:
            pids.append(int(path.parent.name))
    return pids


@pytest.fixture(scope="module")
def two_cards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cards, ServerProcess]]:
    """A pool on two cards, of which the second is half as fast; every test leaves both serving."""
    cards = Cards(tmp_path_factory.mktemp("cards"), 0.01, 0.02)
    with running_server(cards.settings(SEMSR_ENGINE_PROCESSES="2")) as server:
        yield cards, server


def test_a_card_twice_as_fast_gets_twice_the_tiles(
    two_cards: tuple[Cards, ServerProcess],
) -> None:
    """And the slower one is not idle meanwhile."""
    cards, server = two_cards
    assert {("engine-0", "cuda:0"), ("engine-1", "cuda:1")} == set(processes_up(server))
    with Load(server) as load:
        until(lambda: len(load.statuses) > 30)
        before, began_s = [cards.num_tiles(number) for number in (0, 1)], time.monotonic()
        time.sleep(2)
        seconds = time.monotonic() - began_s
        fast, slow = (cards.num_tiles(number) - before[number] for number in (0, 1))
    assert set(load.statuses) == {200}
    assert 1.3 < fast / slow < 3, (fast, slow)
    # The card's time alone; what is missing is the time between two batches on a busy machine.
    assert slow * 0.02 > 0.4 * seconds, (slow, seconds)


@pytest.mark.parametrize("fault", ["raises", "dies"])
def test_a_card_that_fails_loses_no_request_and_gets_tiles_again_after_its_return(
    two_cards: tuple[Cards, ServerProcess], fault: str
) -> None:
    """Its tiles go to the other card, the pool stays ready, and a metric names the process."""
    cards, server = two_cards
    with Load(server) as load:
        until(lambda: len(load.statuses) > 30)
        if fault == "raises":
            cards.break_it(0, "raises")
        else:
            cards.break_it(0, "gone")
            [pid] = engine_pids(server, "cuda:0")
            os.kill(pid, signal.SIGKILL)
        up = {("engine-0", "cuda:0"): 0.0, ("engine-1", "cuda:1"): 1.0}
        until(lambda: processes_up(server) == up)
        num_tiles = cards.num_tiles(1)
        until(lambda: cards.num_tiles(1) > num_tiles + 20)
        ready = httpx2.get(f"{server.url}/readyz", trust_env=False, timeout=60)
        assert ready.status_code == 200, ready.text
        num_tiles = cards.num_tiles(0)
        cards.repair(0)
        # The pause before the next start has not grown to its maximum yet.
        until(lambda: cards.num_tiles(0) > num_tiles, within_s=20)
        until(lambda: min(processes_up(server).values()) == 1.0)
    assert set(load.statuses) == {200}
    assert load.num_wrong == 0


def test_more_processes_than_cards_share_them(tmp_path: Path) -> None:
    """Spread evenly, and a card does one batch after the other whichever process sends it."""
    cards = Cards(tmp_path, 0.01)
    with running_server(cards.settings(SEMSR_ENGINE_PROCESSES="2")) as server:
        up = {("engine-0", "cuda:0"): 1.0, ("engine-1", "cuda:0"): 1.0}
        until(lambda: processes_up(server) == up)
        with Load(server) as load:
            until(lambda: len(load.statuses) > 30)
            before, began_s = cards.num_tiles(0), time.monotonic()
            time.sleep(1)
            seconds = time.monotonic() - began_s
            num_tiles = cards.num_tiles(0) - before
    assert set(load.statuses) == {200}
    assert num_tiles * 0.01 <= seconds + 0.2  # a batch may have begun before


def test_a_named_card_that_is_missing_is_an_error_of_the_settings(tmp_path: Path) -> None:
    """With the cards that there are."""
    settings = Cards(tmp_path, 0.01, 0.01).settings(SEMSR_DEVICE="cuda:2")
    with (
        pytest.raises(ServerStartError, match=r"exit code 2") as refusal,
        running_server(settings),
    ):
        pass
    assert "SEMSR_DEVICE is cuda:2; expected cuda:0 to cuda:1" in str(refusal.value)


def test_a_card_that_is_broken_at_the_start_is_named(tmp_path: Path) -> None:
    """A pool starts with all its cards or not at all."""
    cards = Cards(tmp_path, 0.01, 0.01)
    cards.break_it(1, "gone")
    with (
        pytest.raises(ServerStartError, match="exit code 3") as refusal,
        running_server(cards.settings(SEMSR_ENGINE_PROCESSES="2")),
    ):
        pass
    assert "on cuda:1: the card cuda:1 does not exist" in str(refusal.value)
