"""Scans that are killed, whose disk is full, or whose object store goes away."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from semsr.server_process import running_server
from service.scans.journal import Journal
from service.scans.sources import FolderSource, SourceImage, TileRef
from tests.scan_api import Scans
from tests.scans import (
    TINY_BUNDLE,
    enlarged,
    manifest,
    numbered_tile,
    outputs,
    scan,
    write_lot,
)

ROOT = Path(__file__).resolve().parents[1]
PROCESS = Path(__file__).with_name("scan_process.py")


def start(source: Path, sink: Path, log: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Start a scan in a process of its own."""
    return subprocess.Popen(
        [sys.executable, PROCESS, source, sink, log, *more],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def computed(log: Path) -> list[int]:
    """The numbers of the tiles that engines have computed so far, in order."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def recorded(sink: Path) -> set[int]:
    """The numbers of the tiles that the journal says are done."""
    path = sink.with_name(f"{sink.name}.scan") / "journal.sqlite"
    journal = Journal(path)
    done = {int(row["name"][1:6]) for row in journal.rows() if row["status"] == "done"}
    journal.close()
    return done


def wait_for_more(log: Path, count: int, process: "subprocess.Popen[bytes]") -> None:
    """Return once so many more tiles are computed, or the process has ended."""
    goal = len(computed(log)) + count
    while len(computed(log)) < goal and process.poll() is None:
        time.sleep(0.002)


def kill_and_resume(tmp_path: Path, *, tiles: int, kills: int, sink_name: str) -> None:
    """Kill a scan at random moments; each resume goes on, and the end is as if undisturbed."""
    chance = random.Random(kills)
    write_lot(tmp_path / "lot", tiles)
    scan(tmp_path / "lot", tmp_path / "undisturbed" / sink_name)
    sink, log = tmp_path / sink_name, tmp_path / "computed.log"
    done: set[int] = set()
    seen = 0
    for _ in range(kills):
        process = start(tmp_path / "lot", sink, log)
        wait_for_more(log, chance.randrange(1, tiles // kills), process)
        time.sleep(chance.random() * 0.02)
        process.kill()
        process.communicate()
        numbers = computed(log)[seen:]
        seen += len(numbers)
        assert len(numbers) == len(set(numbers))
        # What was recorded before this run began was not computed again.
        assert set() == done & set(numbers)
        done = recorded(sink)
        # Nothing half-written has a final name.
        if sink.is_dir() and not sink_name.endswith(".zarr"):
            for name, content in outputs(sink).items():
                if not name.endswith(".semsr-part"):
                    expected = (tmp_path / "undisturbed" / sink_name / name).read_bytes()
                    assert expected == content, name
        else:
            assert sink_name.endswith(".zarr") or not sink.exists()

    process = start(tmp_path / "lot", sink, log)
    _, errors = process.communicate()
    assert 0 == process.returncode, errors.decode()

    numbers = computed(log)[seen:]
    assert set() == done & set(numbers)
    assert set(range(tiles)) == set(computed(log))
    assert set(range(tiles)) == recorded(sink)
    if sink.is_dir():
        assert outputs(tmp_path / "undisturbed" / sink_name) == outputs(sink)
    else:
        assert (tmp_path / "undisturbed" / sink_name).read_bytes() == sink.read_bytes()


@pytest.mark.parametrize("sink_name", ["out", "out.zarr"])
def test_a_killed_scan_resumes_without_a_trace(tmp_path: Path, sink_name: str) -> None:
    """Two kills among 200 tiles, into files and into a stack of shards."""
    if sink_name.endswith("zarr"):
        pytest.importorskip("zarr")
    kill_and_resume(tmp_path, tiles=200, kills=2, sink_name=sink_name)


@pytest.mark.slow
@pytest.mark.parametrize("sink_name", ["out", "out.zarr", "out.tif"])
def test_ten_kills_among_two_thousand_tiles(tmp_path: Path, sink_name: str) -> None:
    """The same at the size that is promised."""
    kill_and_resume(tmp_path, tiles=2000, kills=10, sink_name=sink_name)


def test_a_signal_stops_cleanly(tmp_path: Path) -> None:
    """What is under way is recorded, so that nothing at all is computed twice."""
    write_lot(tmp_path / "lot", 400)
    sink, log = tmp_path / "out", tmp_path / "computed.log"
    process = start(tmp_path / "lot", sink, log, "20")
    _, errors = process.communicate(timeout=120)

    assert 1 == process.returncode, errors.decode()
    first = computed(log)
    assert set(first) == recorded(sink)
    assert len(first) < 400
    rows = manifest(sink / "manifest.csv")
    assert 400 == len(rows)
    assert len(first) == sum(row["status"] == "done" for row in rows)

    report = scan(tmp_path / "lot", sink)
    assert (400 - len(first), True) == (report.computed, report.is_complete)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB; the test skips where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("work", ["beside", "elsewhere"])
def test_a_full_disk_ends_the_scan_and_loses_nothing(
    tmp_path: Path, small_disk: Path, work: str
) -> None:
    """The summary says why; with more space the rest is done, and no file is half-written."""
    write_lot(tmp_path / "lot", 200)
    sink = small_disk / "out"
    folder = small_disk / "out.scan" if work == "beside" else tmp_path / "work"

    report = scan(tmp_path / "lot", sink, work=folder)

    assert report.ended_by is not None
    assert "No space left on device" in report.ended_by or "full" in report.ended_by
    # A journal beside the outputs may find no space either: then less is recorded than was written.
    assert (0 if work == "beside" else 1) <= report.counts.done < 200
    assert 0 == report.counts.failed
    found = {name: content for name, content in outputs(sink).items() if name.endswith(".npy")}
    for name, content in found.items():
        tile = numbered_tile(int(name[1:6]))
        assert content == _npy(enlarged(tile)), name
    assert max(1, report.counts.done) <= len(found)

    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    report = scan(tmp_path / "lot", sink, work=folder)
    assert (200, True) == (report.counts.done, report.is_complete)
    assert 200 == len([name for name in outputs(sink) if name.endswith("_x4.npy")])


@pytest.mark.parametrize("side", ["source", "sink"])
def test_what_is_unmounted_ends_the_scan_and_loses_nothing(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """The folder below it is no lot whose tiles have gone, and no place for outputs."""
    lot = (small_disk if side == "source" else tmp_path) / "lot"
    sink = (small_disk if side == "sink" else tmp_path) / "out"
    write_lot(lot, 40)
    sink.mkdir()
    read, seen = FolderSource.read, 0

    def read_then_cover(self: FolderSource, tile: TileRef) -> SourceImage:
        nonlocal seen
        seen += 1
        if seen == 20:
            # As if what lies beneath came to light; nothing that is open keeps it from that.
            subprocess.run(["mount", "-t", "tmpfs", "none", small_disk], check=True)
            for name in ("lot", "out"):
                # A thread that writes an output may have made it meanwhile.
                (small_disk / name).mkdir(exist_ok=True)
        return read(self, tile)

    monkeypatch.setattr(FolderSource, "read", read_then_cover)
    try:
        report = scan(lot, sink, work=tmp_path / "work")
    finally:
        subprocess.run(["umount", small_disk], check=True)

    assert report.ended_by is not None
    said = {"source": ["is gone"], "sink": ["another file system", "No such file"]}[side]
    assert any(text in report.ended_by for text in said), report.ended_by
    assert 0 == report.counts.failed
    report = scan(lot, sink, work=tmp_path / "work")
    assert (40, True) == (report.counts.done, report.is_complete)
    assert 40 == len([name for name in outputs(sink) if name.endswith("_x4.npy")])


def _npy(pixels: Any) -> bytes:  # noqa: ANN401
    from service.images.codec.npy import encode_npy
    from service.images.metadata import ImageMetadata

    return encode_npy(pixels, ImageMetadata())


class S3Server:
    """moto's S3 server in this process, which can go away and come back at the same address."""

    def __init__(self) -> None:
        self._port = 0  # any, until it has been there once
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self.come()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def come(self) -> None:
        """Begin to answer."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", self._port, app, threaded=True)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def go(self) -> None:
        """Answer no more; what is stored stays."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._thread = None


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Server, Any]]:
    """A server with the bucket `fab`, and a client's view of it."""
    pytest.importorskip("moto", reason="moto, the S3 server of these tests, is not installed")
    s3fs = pytest.importorskip("s3fs")
    server = S3Server()
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "*",
    }.items():
        monkeypatch.setenv(name, value)
    # What an earlier test stored lives in this process.
    reset = httpx2.post(f"{server.url}/moto-api/reset", trust_env=False, timeout=60)
    reset.raise_for_status()
    bucket = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    bucket.mkdir("fab")
    yield server, bucket
    server.go()


def test_from_object_store_to_object_store(tmp_path: Path, s3: tuple[S3Server, Any]) -> None:
    """Files, stacks and the manifest go through real HTTP; a second run finds all done."""
    _, bucket = s3
    tiles = write_lot(tmp_path / "lot", 8)
    bucket.put(str(tmp_path / "lot"), "fab/lot", recursive=True)
    (tmp_path / "facts.json").write_text('{"lot": "L7"}')
    bucket.put(str(tmp_path / "facts.json"), "fab/lot/t00003.json")

    report = scan("s3://fab/lot", "s3://fab/out", work=tmp_path / "work")

    assert report.is_complete
    assert "s3://fab/out/manifest.csv" == report.manifest
    names = {name.rpartition("/")[2] for name in bucket.find("fab/out")}
    expected = {f"t{index:05d}_x4.npy" for index in range(8)}
    assert {*expected, "manifest.csv", "t00003_x4.json"} == names
    for index, tile in enumerate(tiles):
        assert _npy(enlarged(tile)) == bucket.cat(f"fab/out/t{index:05d}_x4.npy")
    bucket.rm("fab/out/t00007_x4.npy")
    again = scan("s3://fab/lot", "s3://fab/out", work=tmp_path / "work")
    assert (1, 1, True) == (again.computed, again.lost, again.is_complete)

    for kind in ("zarr", "tif"):
        stack = scan("s3://fab/lot", f"s3://fab/out.{kind}", work=tmp_path / f"work-{kind}")
        assert stack.is_complete
        back = scan(f"s3://fab/out.{kind}", tmp_path / f"back-{kind}")
        assert (8, True) == (back.counts.done, back.is_complete)


def test_a_store_that_comes_back_is_waited_for(tmp_path: Path, s3: tuple[S3Server, Any]) -> None:
    """An outage shorter than the scan's patience costs no tile."""
    server, bucket = s3
    write_lot(tmp_path / "lot", 60)
    outage = threading.Thread(target=_outage, args=(server, bucket), daemon=True)
    outage.start()

    report = scan(tmp_path / "lot", "s3://fab/out", work=tmp_path / "work", patience_s=60.0)

    outage.join(60)
    assert (60, 0, True) == (report.counts.done, report.counts.failed, report.is_complete)
    assert 61 == len(bucket.find("fab/out"))


def _outage(server: S3Server, bucket: Any) -> None:  # noqa: ANN401
    while len(bucket.find("fab/out")) < 5:
        time.sleep(0.01)
    server.go()
    time.sleep(1.0)
    server.come()


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_store_that_stays_away_ends_the_scan(
    tmp_path: Path, s3: tuple[S3Server, Any], side: str
) -> None:
    """No tile is blamed for it; when it is back, the next run completes the scan."""
    server, bucket = s3
    write_lot(tmp_path / "lot", 120)
    bucket.put(str(tmp_path / "lot"), "fab/lot", recursive=True)
    sink = "s3://fab/out" if side == "sink" else str(tmp_path / "out")
    source = "s3://fab/lot" if side == "source" else str(tmp_path / "lot")

    def vanish() -> None:
        journal = tmp_path / "work" / "journal.sqlite-wal"
        while not journal.exists() or not len(list(_outputs_so_far(bucket, tmp_path, side))) > 3:
            time.sleep(0.01)
        server.go()

    gone = threading.Thread(target=vanish, daemon=True)
    gone.start()
    report = scan(source, sink, work=tmp_path / "work")
    gone.join(60)

    assert report.ended_by is not None
    assert "has not answered for 1 s" in report.ended_by
    assert 0 == report.counts.failed
    assert 0 < report.counts.done < 120
    rows = manifest(report.manifest)
    assert report.counts.done == sum(row["status"] == "done" for row in rows)

    server.come()
    report = scan(source, sink, work=tmp_path / "work")
    assert (120, True) == (report.counts.done, report.is_complete)


def _outputs_so_far(bucket: Any, folder: Path, side: str) -> list[str]:  # noqa: ANN401
    if side == "sink":
        return list(bucket.find("fab/out"))
    return [str(path) for path in (folder / "out").glob("*_x4.npy")]


def test_a_bucket_that_is_not_there_ends_the_scan(tmp_path: Path, s3: tuple[S3Server, Any]) -> None:
    """At the first write, with its name."""
    del s3
    np.save(tmp_path / "a.npy", numbered_tile(1))
    (tmp_path / "lot").mkdir()
    (tmp_path / "a.npy").rename(tmp_path / "lot" / "a.npy")

    report = scan(tmp_path / "lot", "s3://other/out", work=tmp_path / "work")

    assert report.ended_by is not None
    assert "s3://other/out" in report.ended_by
    assert (0, 0) == (report.counts.done, report.counts.failed)


def test_the_service_scans_an_object_store_below_its_roots(
    tmp_path: Path, s3: tuple[S3Server, Any]
) -> None:
    """From prefix to prefix; another prefix is refused; a store that is away sets the scan back."""
    server, bucket = s3
    tiles = write_lot(tmp_path / "lot", 40)
    bucket.put(str(tmp_path / "lot"), "fab/lots/7", recursive=True)
    settings = {
        "SEMSR_BUNDLE": str(TINY_BUNDLE),
        "SEMSR_ENGINE": "identity",
        "SEMSR_SCAN_ROOTS": "s3://fab/lots",
        "SEMSR_SCAN_STATE": str(tmp_path / "state"),
    }
    with (
        running_server(settings) as service,
        httpx2.Client(base_url=service.url, trust_env=False, timeout=60) as http,
    ):
        scans = Scans(http)
        for outside in ("s3://fab/other", "s3://fab/lots/../other", "s3://fab/lots2"):
            assert 403 == scans.post("s3://fab/lots/7", outside).status_code
            assert 403 == scans.post(outside, "s3://fab/lots/7-sr").status_code
        info = scans.wait(scans.start("s3://fab/lots/7", "s3://fab/lots/7-sr"))
        assert ("done", 40) == (info["state"], info["tiles"]["done"])
        for index, tile in enumerate(tiles):
            assert _npy(enlarged(tile)) == bucket.cat(f"fab/lots/7-sr/t{index:05d}_x4.npy")

        server.go()
        options = {"patience_s": 0}
        scan_id = scans.start("s3://fab/lots/7", "s3://fab/lots/again", options=options)
        deadline_s = time.monotonic() + 60
        while "has not answered" not in scans.get(scan_id)["detail"]:
            assert time.monotonic() < deadline_s, scans.get(scan_id)
            time.sleep(0.05)
        assert "queued" == scans.get(scan_id)["state"]
        server.come()
        scans.do(scan_id, "resume")
        assert "done" == scans.wait(scan_id)["state"]
