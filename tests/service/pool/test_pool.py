"""A real pool: processes that are killed, drained, and given new models."""

import concurrent.futures
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from bundle_format.bundle import load_bundle
from semsr.server_process import ServerProcess, ServerStartError, running_server
from service.http.access import hash_key

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
POOL = {
    "SEMSR_MODE": "pool",
    "SEMSR_FRONT_ENDS": "2",
    "SEMSR_BUNDLE": str(TINY_BUNDLE),
    "SEMSR_ENGINE": "onnx",
    "SEMSR_THREADS": "1",
}
FRONT_END = "service.front_end"
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}


def children(pid: int) -> dict[int, str]:
    """Child processes and the modules that they run."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text()
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        state, parent = status.rpartition(")")[2].split()[:2]
        if int(parent) == pid and state != "Z" and len(command) > 2:
            found[int(entry.name)] = command[2].decode()
    return found


def engines(server: ServerProcess) -> list[int]:
    """Its engine processes."""
    return [pid for pid, module in children(server.pid).items() if module == "service.pool.engine"]


def until(is_true: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    deadline_s = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.02)


def post(server: ServerProcess, tile: np.ndarray, path: str = "/superresolve"):
    """Send one tile on a connection of its own."""
    return httpx2.post(
        f"{server.url}{path}", content=tile.tobytes(), headers=RAW, trust_env=False, timeout=60
    )


def is_ready(server: ServerProcess) -> bool:
    """Whether every front end that is asked is ready: the kernel deals connections out."""
    return all(
        httpx2.get(f"{server.url}/readyz", trust_env=False, timeout=60).status_code == 200
        for _ in range(6)
    )


def metric(server: ServerProcess, name: str) -> float:
    """Sum of a metric's samples."""
    text = httpx2.get(f"{server.url}/metrics", trust_env=False, timeout=60).text
    return sum(float(x) for x in re.findall(rf"^{name}(?:{{.*}})? (\S+)", text, re.MULTILINE))


def events(server: ServerProcess) -> list[dict[str, object]]:
    """Its log."""
    return [json.loads(line) for line in server.log.read_text().splitlines()]


class Load:
    """Clients that send until they are told to stop, and keep what they got."""

    def __init__(self, server: ServerProcess, *, count: int = 6) -> None:
        self.server = server
        self.statuses: Counter[int] = Counter()
        self.wrong = 0
        self.failures: list[Exception] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(count)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client waits for ever"

    def _send(self, number: int) -> None:
        tile = np.full((24, 24), 40 * number, dtype=np.uint8)
        expected: bytes | None = None
        with httpx2.Client(trust_env=False, timeout=60) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(
                        f"{self.server.url}/superresolve", content=tile.tobytes(), headers=RAW
                    )
                except Exception as error:
                    self.failures.append(error)
                    continue
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    expected = expected or answer.content
                    self.wrong += answer.content != expected
                else:
                    time.sleep(0.05)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A pool; every test must leave it serving."""
    with running_server(POOL) as process:
        until(lambda: is_ready(process))
        yield process


def test_ready_means_that_every_front_end_serves() -> None:
    """The kernel deals connections out, also to the front end that was started last."""
    with running_server({**POOL, "SEMSR_FRONT_ENDS": "4"}) as pool:
        for value in range(16):
            answer = post(pool, np.full((24, 24), value, np.uint8))
            assert answer.status_code == 200, answer.text


def test_golden_tile_through_a_pool_is_the_reference(server: ServerProcess) -> None:
    """What FP32 torch gave at export, through whichever front end."""
    golden = load_bundle(TINY_BUNDLE).golden()

    def answered() -> set[str]:
        lines = [event for event in events(server) if event["event"] == "request_finished"]
        return {str(event["process"]) for event in lines}

    def asked_all() -> bool:
        answer = post(server, golden.lr)
        assert answer.status_code == 200, answer.text
        sr = np.frombuffer(answer.content, np.uint8).reshape(golden.sr.shape)
        assert np.abs(sr.astype(int) - golden.sr).max() <= 1
        return answered() == {"front-0", "front-1"}

    # The kernel deals connections out as it likes.
    until(asked_all)


def test_many_clients_at_once_each_get_their_own_tile(server: ServerProcess) -> None:
    """Slots are never mixed up, and large images come back whole."""
    side = 72
    images = [
        np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8) for seed in range(8)
    ]

    def ask(client: httpx2.Client, image: np.ndarray) -> bytes:
        headers = {**RAW, "x-tile-shape": f"{side},{side}"}
        url = f"{server.url}/superresolve"
        # On a busy machine the queue may be predicted to last too long; then it says until when.
        while (answer := client.post(url, content=image.tobytes(), headers=headers)).is_error:
            assert 503 == answer.status_code, answer.text
            time.sleep(answer.json()["retry_after_ms"] / 1000)
        return answer.content

    def send(image: np.ndarray) -> list[bytes]:
        with httpx2.Client(trust_env=False, timeout=60) as client:
            return [ask(client, image) for _ in range(4)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(send, images))
    for answers in got:
        first = np.frombuffer(answers[0], np.uint8).astype(int)
        for other in answers:
            assert np.abs(np.frombuffer(other, np.uint8) - first).max() <= 1
    assert len({answers[0] for answers in got}) == len(images)


def test_a_batch_request_through_a_pool(server: ServerProcess) -> None:
    """More tiles than there are slots, in order, each as by itself."""
    tiles = np.random.default_rng(2).integers(0, 256, (300, 24, 24), dtype=np.uint8)
    answer = httpx2.post(
        f"{server.url}/superresolve/batch",
        content=tiles.tobytes(),
        headers=RAW,
        trust_env=False,
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        members = archive.getmembers()
        assert len(members) == len(tiles)
        for index in (0, 7, 299):
            file = archive.extractfile(members[index])
            assert file is not None
            got = np.frombuffer(file.read(), np.uint8).astype(int)
            alone = np.frombuffer(post(server, tiles[index]).content, np.uint8)
            assert np.abs(got - alone).max() <= 1


def test_an_engine_that_is_killed_loses_no_request(server: ServerProcess) -> None:
    """Every client is answered, with its own tile or with 503, and the next engine serves."""
    restarts = metric(server, "semsr_process_restarts_total")
    tiles = metric(server, "semsr_tiles_total")
    with Load(server) as load:
        for _ in range(3):
            until(lambda: is_ready(server))
            time.sleep(0.3)
            [victim] = engines(server)
            os.kill(victim, signal.SIGKILL)
            until(lambda victim=victim: engines(server) not in ([], [victim]))
        until(lambda: is_ready(server))
    assert not load.failures
    assert set(load.statuses) <= {200, 503}
    assert load.statuses[200] > 10
    assert load.wrong == 0
    # Counters go on over the death of a process.
    until(lambda: metric(server, "semsr_process_restarts_total") == restarts + 3)
    assert metric(server, "semsr_tiles_total") >= tiles
    assert metric(server, "semsr_engine_up") == 1


def test_an_engine_that_hangs_is_replaced(server: ServerProcess) -> None:
    """Stopped in the middle of its life, it tells nothing any more."""
    with running_server({**POOL, "SEMSR_ENGINE_TIMEOUT_S": "3"}) as hanging:
        [victim] = engines(hanging)
        os.kill(victim, signal.SIGSTOP)
        answer = post(hanging, np.zeros((24, 24), np.uint8))
        assert answer.status_code == 200, answer.text
        assert engines(hanging) != [victim]
        assert "engine_hangs" in {event["event"] for event in events(hanging)}


def test_a_front_end_that_is_killed_comes_back(server: ServerProcess) -> None:
    """The other one goes on meanwhile, and what waits for the dead one is served in the end."""
    fronts = [pid for pid, module in children(server.pid).items() if module == FRONT_END]
    assert len(fronts) == 2
    os.kill(fronts[0], signal.SIGKILL)
    for value in range(8):
        assert post(server, np.full((24, 24), value, np.uint8)).status_code == 200
    until(lambda: len(children(server.pid)) == 3)
    until(lambda: is_ready(server))


def test_a_front_end_that_hangs_is_replaced() -> None:
    """Stopped and not dead, it gives no sign of life; the other one goes on meanwhile."""
    with running_server({**POOL, "SEMSR_FRONT_END_TIMEOUT_S": "3"}) as pool:
        fronts = [pid for pid, module in children(pool.pid).items() if module == FRONT_END]
        os.kill(fronts[0], signal.SIGSTOP)
        until(lambda: fronts[0] not in children(pool.pid))
        until(lambda: len(children(pool.pid)) == 3 and is_ready(pool))
        hangs = [event for event in events(pool) if event["event"] == "front_end_hangs"]
        assert len(hangs) == 1
        assert fronts[1] in children(pool.pid)
        for value in range(8):
            assert post(pool, np.full((24, 24), value, np.uint8)).status_code == 200


def test_sigterm_under_load_answers_every_request() -> None:
    """Readiness turns first; what was accepted is answered; no process is left."""
    # Where the machine stands still for a whole drain the client comes too late: a longer one then.
    statuses = stop_under_load(1) or stop_under_load(20)

    assert set(statuses) == {200}


def stop_under_load(drain_s: float) -> list[int]:
    """Stop a pool that is used; returns what the client was answered, [] if it came too late."""
    with running_server({**POOL, "SEMSR_DRAIN_S": str(drain_s)}) as pool:
        pids = list(children(pool.pid))
        tile = np.zeros((24, 24), np.uint8)
        statuses: list[int] = []
        with httpx2.Client(trust_env=False, timeout=60) as client:
            assert client.post(f"{pool.url}/superresolve", content=tile.tobytes(), headers=RAW)
            told_s = time.monotonic()
            os.kill(pool.pid, signal.SIGTERM)
            try:
                until(lambda: not is_ready(pool))
            except httpx2.TransportError:
                if time.monotonic() - told_s < drain_s:
                    raise
                return []
            while True:
                try:
                    answer = client.post(
                        f"{pool.url}/superresolve", content=tile.tobytes(), headers=RAW
                    )
                except httpx2.TransportError:
                    break  # the end: the address is closed
                statuses.append(answer.status_code)
        until(lambda: not any(map(is_there, [*pids, pool.pid])))
    return statuses


def is_there(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has asked after has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 0)]
)
def test_no_child_outlives_its_supervisor(number: signal.Signals, code: int) -> None:
    """Even one that cannot say goodbye."""
    environment = {**os.environ, **POOL, "SEMSR_PORT": "0", "SEMSR_LOG_FORMAT": "json"}
    with subprocess.Popen(
        [sys.executable, "-m", "service"], env=environment, stderr=subprocess.DEVNULL
    ) as supervisor:
        until(lambda: len(children(supervisor.pid)) == 3)
        pids = list(children(supervisor.pid))
        time.sleep(1.0)
        supervisor.send_signal(number)
        assert supervisor.wait(60) == code
    until(lambda: not any(map(is_there, pids)))


@pytest.mark.parametrize(("then", "status"), [(signal.SIGCONT, 200), (signal.SIGKILL, 503)])
def test_what_was_accepted_is_answered_when_the_supervisor_dies(
    then: signal.Signals, status: int
) -> None:
    """By the engine that is still there; without one nobody waits for its successor."""
    with running_server(POOL) as pool:
        pids = list(children(pool.pid))
        [engine] = engines(pool)
        os.kill(engine, signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            answers = [
                clients.submit(post, pool, np.full((24, 24), value, np.uint8)) for value in range(4)
            ]
            until(lambda: metric(pool, "semsr_admitted_tiles") == 4)
            # It must not start another engine, nor wake the stopped one by its own end.
            os.kill(pool.pid, signal.SIGSTOP)
            os.kill(engine, then)
            os.kill(pool.pid, signal.SIGKILL)
            got = [answer.result(60) for answer in answers]
        assert {answer.status_code for answer in got} == {status}
        if status == 503:
            assert "is not started again" in got[0].json()["detail"]
        until(lambda: not any(map(is_there, pids)))


def test_a_model_that_cannot_be_loaded_ends_the_pool(tmp_path: Path) -> None:
    """With the engine's own reason, and exit code 3."""
    bundle = tmp_path / "bundle"
    shutil.copytree(TINY_BUNDLE, bundle)
    settings = {**POOL, "SEMSR_BUNDLE": str(bundle), "SEMSR_ENGINE": "tensorrt"}
    with (
        pytest.raises(ServerStartError, match=r"exit code 3(.|\n)*tensorrt"),
        running_server(settings),
    ):
        pass
    (bundle / "manifest.json").write_text("{}")
    with pytest.raises(ServerStartError, match=r"exit code 3"), running_server(settings):
        pass


def run_to_its_end(*prefix: str, port: str) -> subprocess.CompletedProcess[str]:
    """Start a pool that cannot start, by a command before its own if given."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "service"],
        env={**os.environ, **POOL, "SEMSR_PORT": port},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_taken_address_is_known_at_once(server: ServerProcess) -> None:
    """Although the front ends of one pool share it."""
    port = server.url.rpartition(":")[2]
    done = run_to_its_end(port=port)
    assert done.returncode == 4
    assert "cannot_listen" in done.stderr


def test_memory_that_cannot_be_had_ends_with_its_settings() -> None:
    """With code 3, as any model that cannot be served, and not with a trace."""
    done = run_to_its_end("prlimit", "--fsize=1048576", port="0")
    assert done.returncode == 3
    assert "SEMSR_MAX_QUEUE, SEMSR_FRONT_ENDS" in done.stderr
    assert "Traceback" not in done.stderr


def test_models_are_loaded_anew_and_unloaded(tmp_path: Path) -> None:
    """Beside the running one, in an engine process of its own; a bad one changes nothing."""
    bundles = {name: tmp_path / name for name in ("fine", "fast")}
    for path in bundles.values():
        shutil.copytree(TINY_BUNDLE, path)
    (tmp_path / "keys").write_text(f"boss {hash_key('b')} admin\n")
    settings = {
        **POOL,
        "SEMSR_BUNDLE": "",
        "SEMSR_BUNDLES": ",".join(f"{name}={path}" for name, path in bundles.items()),
        "SEMSR_API_KEYS": str(tmp_path / "keys"),
        "SEMSR_ROLLBACK_KEEP_S": "0",
    }
    tile = np.zeros((24, 24), np.uint8)
    with running_server(settings) as pool:
        client = httpx2.Client(
            base_url=pool.url, headers={"authorization": "Bearer b"}, trust_env=False, timeout=60
        )
        with client:

            def send(model: str) -> int:
                answer = client.post(
                    f"/superresolve?model={model}", content=tile.tobytes(), headers=RAW
                )
                return answer.status_code

            def change(name: str, verb: str) -> httpx2.Response:
                return client.post(f"/v2/repository/models/{name}/{verb}")

            before = set(engines(pool))
            assert len(before) == 2
            assert change("fast", "load").status_code == 200
            assert send("fast") == send("fine") == 200
            until(lambda: len(engines(pool)) == 2 and set(engines(pool)) != before)

            (bundles["fast"] / "model.onnx").write_bytes(b"tampered")
            refused = change("fast", "load")
            assert refused.status_code == 422
            assert "model.onnx" in refused.json()["detail"]
            assert send("fast") == 200

            assert change("fine", "unload").status_code == 200
            until(lambda: len(engines(pool)) == 1)
            assert send("fine") == 404
            assert send("fast") == 200
            assert change("none", "load").status_code == 404
            # More than a message between processes holds, once it is written as JSON.
            assert change("%01" * 20_000, "load").status_code == 404
            until(lambda: client.get("/readyz").status_code == 200)


class Versions:
    """A pool that serves one of two versions of a model, and its admin."""

    def __init__(self, folder: Path) -> None:
        self.paths = {name: folder / "bundles" / name for name in ("one", "two")}
        for index, path in enumerate(self.paths.values()):
            shutil.copytree(TINY_BUNDLE, path)
            # Spaces at the end of a manifest change nothing but the version.
            manifest = path / "manifest.json"
            manifest.write_text(manifest.read_text() + " " * index)
        self.versions = {name: load_bundle(path).version for name, path in self.paths.items()}
        (folder / "keys").write_text(
            f"boss {hash_key('b')} admin\nline {hash_key('l')}\n", encoding="utf-8"
        )
        self.settings = {
            **POOL,
            "SEMSR_BUNDLE": "",
            "SEMSR_BUNDLES": f"m={self.paths['one']}",
            "SEMSR_API_KEYS": str(folder / "keys"),
            "SEMSR_LOAD_FROM": str(folder / "bundles"),
        }

    def change(self, pool: ServerProcess, verb: str, bundle: str | None = None) -> httpx2.Response:
        """Ask for a load or a rollback."""
        return httpx2.post(
            f"{pool.url}/admin/models/m/{verb}",
            json=None if bundle is None else {"bundle": bundle},
            headers={"authorization": "Bearer b"},
            trust_env=False,
            timeout=120,
        )

    def served(self, pool: ServerProcess) -> set[str]:
        """Versions that answer on several connections: the kernel deals them out."""
        answers = [self.send(pool) for _ in range(8)]
        assert {answer.status_code for answer in answers} == {200}
        return {answer.headers["x-model-version"] for answer in answers}

    def send(self, pool: ServerProcess) -> httpx2.Response:
        """Send a tile on a connection of its own."""
        return httpx2.post(
            f"{pool.url}/superresolve",
            content=bytes(576),
            headers={**RAW, "authorization": "Bearer l"},
            trust_env=False,
            timeout=60,
        )


def test_a_version_is_replaced_and_rolled_back_under_load(tmp_path: Path) -> None:
    """In an engine process of its own; no request fails, and all front ends switch at once."""
    models = Versions(tmp_path)
    one, two = models.versions["one"], models.versions["two"]
    with running_server(models.settings) as pool:
        statuses: Counter[int] = Counter()
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                statuses[models.send(pool).status_code] += 1

        clients = [threading.Thread(target=load) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            [first] = engines(pool)
            answer = models.change(pool, "load", "two")
            assert answer.status_code == 200, answer.text
            assert (answer.json()["version"], answer.json()["kept"]) == (two, one)
            until(lambda: models.served(pool) == {two})
            assert len(engines(pool)) == 2
            assert first in engines(pool)

            # The files of the version before are not needed to go back to it.
            shutil.rmtree(models.paths["one"])
            both = set(engines(pool))
            answer = models.change(pool, "rollback")
            assert answer.status_code == 200, answer.text
            assert (answer.json()["version"], answer.json()["kept"]) == (one, two)
            until(lambda: models.served(pool) == {one})
            assert set(engines(pool)) == both

            (models.paths["two"] / "model.onnx").write_bytes(b"tampered")
            answer = models.change(pool, "load", "two")
            assert answer.status_code == 422
            assert "model.onnx" in answer.json()["detail"]
            assert models.served(pool) == {one}
            until(lambda: set(engines(pool)) == both)
        finally:
            stop.set()
            for client in clients:
                client.join(60)
        assert set(statuses) == {200}


def test_a_bundle_put_in_the_place_of_one_that_is_served_is_not_served_unasked(
    tmp_path: Path,
) -> None:
    """An engine process that is started anew looks at what it loads; what is kept may be lost."""
    models = Versions(tmp_path)
    with running_server(models.settings) as pool:
        [first] = engines(pool)
        assert models.change(pool, "load", "two").status_code == 200
        manifest = models.paths["one"] / "manifest.json"
        manifest.write_text(manifest.read_text() + "\n")
        os.kill(first, signal.SIGKILL)
        until(lambda: "kept_version_lost" in {event["event"] for event in events(pool)})
        assert "another bundle than the one that was served" in pool.log.read_text()
        assert models.change(pool, "rollback").status_code == 409
        assert models.served(pool) == {models.versions["two"]}
        assert is_ready(pool)
