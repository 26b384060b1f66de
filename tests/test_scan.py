"""`semsr scan` end to end: pictures, names, resuming, and what happens to bad tiles."""

import errno
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from bundle_format.bundle import load_bundle
from engines.batches import EngineOutput
from engines.cpu import available_cpus
from engines.identity_engine import IdentityEngine
from semsr.cli import main
from service.http.app import create_app
from service.scans.errors import ScanError, ScanMismatchError, StoreLostError
from service.scans.journal import Journal
from service.scans.local_store import LocalStore
from service.scans.sources import FolderSource, SourceImage, TileRef
from service.scans.work_folder import WorkFolder
from tests.fakes import FakeEngine
from tests.scans import (
    SCALE,
    TILE_PX,
    TINY_BUNDLE,
    enlarged,
    manifest,
    numbered_tile,
    outputs,
    scan,
    settings,
    write_lot,
)


class CountingEngine(IdentityEngine):
    """The identity engine; counts the tiles that are not black (warm-up is)."""

    def __init__(self) -> None:
        super().__init__(scale=SCALE)
        self.computed = 0

    def run(self, lr: Any, sr: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401
        """Count, then enlarge."""
        self.computed += sum(bool(tile.any()) for tile in lr)
        return super().run(lr, sr)


def test_a_folder_is_mirrored(tmp_path: Path) -> None:
    """Every tile becomes a file of its own name and _x4, whose hash is in the manifest."""
    tiles = write_lot(tmp_path / "lot" / "die1", 30)
    (tmp_path / "lot" / "notes.txt").write_text("no tile")

    report = scan(tmp_path / "lot", tmp_path / "out")

    assert report.is_complete
    assert {".txt": 1} == report.skipped
    version = load_bundle(TINY_BUNDLE).version
    assert f"identity {version}" == report.row()["model"]
    assert f"model: identity {version}" in report.text().splitlines()
    rows = manifest(report.manifest)
    assert [f"die1/t{index:05d}.npy" for index in range(30)] == [row["source"] for row in rows]
    for index, row in enumerate(rows):
        content = (tmp_path / "out" / f"die1/t{index:05d}_x4.npy").read_bytes()
        assert row["output"] == f"die1/t{index:05d}_x4.npy"
        assert row["output_sha256"] == hashlib.sha256(content).hexdigest()
        source = (tmp_path / "lot" / row["source"]).read_bytes()
        assert row["input_sha256"] == hashlib.sha256(source).hexdigest()
        assert (row["status"], row["model"], row["engine"]) == ("done", "identity", "identity")
        assert float(row["milliseconds"]) > 0
        assert float(row["consistency"]) == 1.0
        np.testing.assert_array_equal(
            enlarged(tiles[index]), np.load(tmp_path / "out" / row["output"])
        )


def test_pictures_are_those_of_the_service(tmp_path: Path, rng: np.random.Generator) -> None:
    """Every format, depth and size gives the bytes that POST /superresolve answers with."""
    lot = tmp_path / "lot"
    lot.mkdir()
    grey = rng.integers(0, 256, (TILE_PX, TILE_PX), dtype=np.uint8)
    large = rng.integers(0, 65536, (61, 50), dtype=np.uint16)
    Image.fromarray(grey).save(lot / "a.png", dpi=(25400, 25400))
    Image.fromarray(large).save(lot / "b.png")
    Image.fromarray(grey).save(lot / "c.jpg")
    Image.fromarray(grey).save(lot / "d.bmp")
    Image.fromarray(large).save(lot / "e.TIF", description="lot 7", resolution=2e6)
    np.save(lot / "f.npy", large)
    chosen = settings(engine="onnx")

    report = scan(lot, tmp_path / "out", settings=chosen, window=(100, 60000))

    assert report.is_complete
    app = create_app(chosen)
    with TestClient(app) as client:
        assert client.portal is not None
        client.portal.call(app.lifecycle.wait_loaded)
        for name, output, kind in (
            ("a.png", "a_x4.png", "image/png"),
            ("b.png", "b_x4.png", "image/png"),
            ("c.jpg", "c_x4.png", "image/jpeg"),
            ("d.bmp", "d_x4.png", "image/bmp"),
            ("e.TIF", "e_x4.TIF", "image/tiff"),
            ("f.npy", "f_x4.npy", "application/x-npy"),
        ):
            answer = client.post(
                "/superresolve",
                content=(lot / name).read_bytes(),
                headers={"content-type": kind, "x-window": "100,60000"},
            )
            assert answer.content == (tmp_path / "out" / output).read_bytes(), name


def test_a_finished_scan_computes_nothing_again(tmp_path: Path) -> None:
    """A second run only checks."""
    write_lot(tmp_path / "lot", 20)
    scan(tmp_path / "lot", tmp_path / "out")
    engine = CountingEngine()

    report = scan(tmp_path / "lot", tmp_path / "out", engine_loader=lambda *_: engine)

    assert (0, 0) == (engine.computed, report.computed)
    assert report.is_complete


@pytest.mark.parametrize("how", ["removed", "cut", "changed", "input", "new"])
def test_only_what_is_not_there_is_done_anew(tmp_path: Path, how: str) -> None:
    """An output that is gone or was altered, a tile that changed or is new: that one alone."""
    write_lot(tmp_path / "lot", 20)
    expected = scan(tmp_path / "lot", tmp_path / "out") and outputs(tmp_path / "out")
    output = tmp_path / "out" / "t00003_x4.npy"
    if how == "removed":
        output.unlink()
    elif how == "cut":
        output.write_bytes(output.read_bytes()[:-1])
    elif how == "changed":
        output.write_bytes(bytes(len(output.read_bytes())))
    else:
        number = 3 if how == "input" else 20
        np.save(tmp_path / "lot" / f"t{number:05d}.npy", numbered_tile(77))
    engine = CountingEngine()

    report = scan(
        tmp_path / "lot",
        tmp_path / "out",
        engine_loader=lambda *_: engine,
        verify=how == "changed",
    )

    assert 1 == engine.computed
    assert report.is_complete
    assert (1 if how in {"removed", "cut", "changed"} else 0) == report.lost
    if report.lost:
        assert expected == outputs(tmp_path / "out")
    else:
        name = "t00003_x4.npy" if how == "input" else "t00020_x4.npy"
        np.testing.assert_array_equal(enlarged(numbered_tile(77)), np.load(tmp_path / "out" / name))


def test_a_corrupt_tile_in_every_hundred_is_recorded(tmp_path: Path) -> None:
    """The others are done, the manifest says why these are not, and a repair completes it."""
    tiles = write_lot(tmp_path / "lot", 300)
    bad = [50, 150, 250]
    for number in bad:
        path = tmp_path / "lot" / f"t{number:05d}.npy"
        path.write_bytes(path.read_bytes()[:-7])

    report = scan(tmp_path / "lot", tmp_path / "out")

    assert (297, 3, 0) == (report.counts.done, report.counts.failed, report.counts.pending)
    assert not report.is_complete
    rows = manifest(report.manifest)
    failed = [row for row in rows if row["status"] == "failed"]
    assert [f"t{number:05d}.npy" for number in bad] == [row["source"] for row in failed]
    assert all("needs 576 bytes" in row["error"] and not row["output"] for row in failed)
    assert 297 == len(outputs(tmp_path / "out"))
    assert "3 tiles are missing; run the same command again" in report.text()

    for number in bad:
        np.save(tmp_path / "lot" / f"t{number:05d}.npy", tiles[number])
    report = scan(tmp_path / "lot", tmp_path / "out")
    assert (3, 300) == (report.computed, report.counts.done)


def test_a_tile_that_cannot_be_read_is_recorded(tmp_path: Path) -> None:
    """A link to nowhere is listed, and its row says what is wrong."""
    write_lot(tmp_path / "lot", 3)
    (tmp_path / "lot" / "t00009.npy").symlink_to(tmp_path / "nowhere.npy")

    report = scan(tmp_path / "lot", tmp_path / "out")

    assert [("t00009.npy", "cannot be read: No such file or directory")] == report.failures


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"bad\xff.npy", "bad\\xff.npy: cannot be read: its name is not UTF-8; rename it"),
        (b"die\xfe/a.npy", "die\\xfe/a.npy: cannot be read: its name is not UTF-8; rename it"),
        (b"n" * 251 + b".npy", "cannot be written as"),
        ("a\nb \U0001f600 'c' \\d.npy".encode(), None),
        (b"pipe.npy", "pipe.npy/: cannot be read: it is not a regular file"),
        (b"zero.npy", "zero.npy/: cannot be read: it is not a regular file"),
        (b"huge.npy", "huge.npy: has 2147483648 bytes; expected at most 1073741824"),
    ],
)
def test_an_odd_file_costs_at_most_itself(tmp_path: Path, name: bytes, said: str | None) -> None:
    """Names that are no text, too long or full of signs; pipes, devices, files without end."""
    write_lot(tmp_path / "lot", 3)
    path = tmp_path / "lot" / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    if name == b"pipe.npy":
        os.mkfifo(path)
    elif name == b"zero.npy":
        path.symlink_to("/dev/zero")
    elif name == b"huge.npy":
        path.touch()
        os.truncate(path, 2 << 30)
    else:
        path.write_bytes((tmp_path / "lot" / "t00000.npy").read_bytes())

    report = scan(tmp_path / "lot", tmp_path / "out")

    assert (4, 3 + (said is None), None) == (
        report.counts.total, report.counts.done, report.ended_by,
    )  # fmt: skip
    assert 4 == len(manifest(report.manifest))
    if said is not None:
        [(failed, reason)] = report.failures
        assert said in f"{failed}: {reason}"
        assert said in report.text()


def test_a_source_that_is_gone_is_not_its_tiles_fault(tmp_path: Path) -> None:
    """The scan ends, and does not go on with an empty folder in its place, as below a mount."""
    write_lot(tmp_path / "lot", 20)
    read = FolderSource.read
    seen = 0

    def read_then_lose(self: FolderSource, tile: TileRef) -> SourceImage:
        nonlocal seen
        seen += 1
        if seen == 5:
            (tmp_path / "lot").rename(tmp_path / "away")
        return read(self, tile)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderSource, "read", read_then_lose)
        report = scan(tmp_path / "lot", tmp_path / "out")

    assert (True, 0) == ("is gone" in str(report.ended_by), report.counts.failed)
    assert 0 < report.counts.pending
    (tmp_path / "lot").mkdir()
    with pytest.raises(ScanError, match="is empty; it held 20 tiles"):
        scan(tmp_path / "lot", tmp_path / "out")
    (tmp_path / "lot").rmdir()
    (tmp_path / "away").rename(tmp_path / "lot")
    assert scan(tmp_path / "lot", tmp_path / "out").is_complete


def test_a_damaged_journal_says_what_to_do(tmp_path: Path) -> None:
    """A file that is none, and one of which a part is gone: said so, and healed by its removal."""
    write_lot(tmp_path / "lot", 3)
    scan(tmp_path / "lot", tmp_path / "out")
    path = tmp_path / "out.scan" / "journal.sqlite"
    content = path.read_bytes()
    for damaged in (b"no database" * 1000, content[:4096] + bytes([255]) * (len(content) - 4096)):
        path.write_bytes(damaged)
        with pytest.raises(ScanError, match=r"is damaged.*remove it"):
            scan(tmp_path / "lot", tmp_path / "out")
    path.unlink()
    assert scan(tmp_path / "lot", tmp_path / "out").is_complete


def test_an_engine_that_fails_costs_only_the_tiles_that_it_cannot_do(tmp_path: Path) -> None:
    """A batch that failed is tried once more; a tile that spoils its answer is recorded."""
    write_lot(tmp_path / "lot", 10)
    engine = FakeEngine(scale=SCALE)
    engine.name = "identity"
    # Warm-up runs each of the buckets 1, 2 and 4 twice.
    engine.failures.extend([*[None] * 6, RuntimeError("one bad moment")])

    def spoil(output: EngineOutput) -> EngineOutput:
        flags = output.flags.copy()
        flags[[int(sr[0, 0, 4]) == 7 for sr in output.sr]] = [0.5, *[np.nan] * 5]
        return output._replace(flags=flags)

    engine.spoil = spoil

    report = scan(tmp_path / "lot", tmp_path / "out", engine_loader=lambda *_: engine)

    [(name, reason)] = report.failures
    assert "t00007.npy" == name
    assert "non-finite values (NaN or infinite) at 50.00%" in reason
    assert 9 == report.counts.done


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": settings(engine="onnx")}, "engine was 'identity' and is 'onnx'"),
        ({"settings": settings(max_batch_size=2)}, "max_batch_size was 4 and is 2"),
        ({"answer_dtype": "uint16"}, "answer_dtype was 'uint8' and is 'uint16'"),
        ({"window": (0, 4095)}, r"window was None and is \[0, 4095\]"),
    ],
)
def test_a_resume_with_something_else_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """A scan ends with what it began with; the refusal says what differs, and touches nothing."""
    write_lot(tmp_path / "lot", 3)
    scan(tmp_path / "lot", tmp_path / "out")
    expected = outputs(tmp_path / "out")

    with pytest.raises(ScanMismatchError, match=message):
        scan(tmp_path / "lot", tmp_path / "out", **change)

    assert expected == outputs(tmp_path / "out")
    assert scan(tmp_path / "lot", tmp_path / "out", resume=False, **change).is_complete


def test_auto_resumes_with_the_engine_and_precision_that_began(tmp_path: Path) -> None:
    """What is fastest today must not split a scan."""
    write_lot(tmp_path / "lot", 3)
    scan(tmp_path / "lot", tmp_path / "out", settings=settings(precision="int8"))

    report = scan(tmp_path / "lot", tmp_path / "out", settings=settings(engine="auto"))

    assert report.is_complete


def test_a_journal_of_another_format_is_refused(tmp_path: Path) -> None:
    """An unknown version is not guessed at."""
    write_lot(tmp_path / "lot", 3)
    scan(tmp_path / "lot", tmp_path / "out")
    journal = Journal(tmp_path / "out.scan" / "journal.sqlite")
    journal._file.write("PRAGMA user_version = 99")
    journal.close()

    with pytest.raises(ScanError, match="has format 99; expected 2"):
        scan(tmp_path / "lot", tmp_path / "out")


def test_names_that_would_meet_are_refused(tmp_path: Path) -> None:
    """Nothing is overwritten unseen."""
    (tmp_path / "lot").mkdir()
    for name in ("a.bmp", "a.jpg"):
        Image.fromarray(numbered_tile(1)).save(tmp_path / "lot" / name)

    with pytest.raises(ScanError, match=r"a\.\w+ and a\.\w+ would both become a_x4\.png"):
        scan(tmp_path / "lot", tmp_path / "out")


@pytest.mark.parametrize("sink", ["lot", "lot/out", "lot/../lot/out.zarr"])
def test_a_sink_within_its_source_is_refused(tmp_path: Path, sink: str) -> None:
    """A resume would take outputs for tiles."""
    write_lot(tmp_path / "lot", 3)

    with pytest.raises(ScanError, match=r"the sink .* lies within the source"):
        scan(tmp_path / "lot", tmp_path / sink, work=tmp_path / "work")
    with pytest.raises(ScanError, match=r"the work folder .* lies within the source"):
        scan(tmp_path / "lot", tmp_path / "out", work=tmp_path / sink)


def test_a_source_without_tiles_is_an_error(tmp_path: Path) -> None:
    """Nothing done is not everything done."""
    (tmp_path / "lot").mkdir()
    (tmp_path / "lot" / "a.txt").write_text("x")

    with pytest.raises(ScanError, match=r"holds no tiles; it has 1 x \.txt"):
        scan(tmp_path / "lot", tmp_path / "out")


def test_two_processes_do_not_run_one_scan(tmp_path: Path) -> None:
    """The second is told so."""
    write_lot(tmp_path / "lot", 3)

    with (
        WorkFolder(tmp_path / "out.scan"),
        pytest.raises(ScanError, match="another process runs the scan"),
    ):
        scan(tmp_path / "lot", tmp_path / "out")


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    """Temporary files go at the next start."""
    write_lot(tmp_path / "lot" / "die", 3)
    scan(tmp_path / "lot", tmp_path / "out")
    (tmp_path / "out" / "die" / ".0123456789abcdef.semsr-part").write_bytes(b"half")

    scan(tmp_path / "lot", tmp_path / "out")

    assert {f"die/t{number:05d}_x4.npy" for number in range(3)} == set(outputs(tmp_path / "out"))


def test_a_name_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    """The other files of its group are written, and nothing is left under a temporary name."""
    store = LocalStore(tmp_path)
    names = ["a.npy", f"{'b' * 300}.npy", "../c.npy", "die/d.npy"]

    failures = store.write_all([(name, name.encode()) for name in names])

    assert [False, True, True, False] == [failure is not None for failure in failures]
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert {"a.npy", "die/d.npy"} == found
    assert b"die/d.npy" == (tmp_path / "die" / "d.npy").read_bytes()


def test_a_store_that_is_lost_amid_a_group_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file gets its name before all of them are durable."""
    store = LocalStore(tmp_path)
    calls = 0

    def full(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreLostError, match="No space left on device"):
        store.write_all([(f"{index}.npy", b"tile") for index in range(3)])

    assert [] == list(tmp_path.iterdir())


def test_look_ahead_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the engine stands still, only so many tiles are read, however many there are."""
    write_lot(tmp_path / "lot", 400)
    engine = FakeEngine(scale=SCALE)
    engine.name = "identity"
    engine.permits.release(6)  # for the warm-up: two batches of 1, 2 and 4
    engine.gate.clear()
    most = 2 * (4 + available_cpus()) + 2 * LocalStore.io_at_once
    # Tiles are read in groups, and a group that does not fit waits.
    most -= most % LocalStore.io_per_thread
    reads = 0
    all_places_taken = threading.Event()
    read = FolderSource.read

    def counted(source: FolderSource, tile: TileRef) -> SourceImage:
        nonlocal reads
        reads += 1
        if reads == most:
            all_places_taken.set()
        return read(source, tile)

    monkeypatch.setattr(FolderSource, "read", counted)
    seen: list[int] = []

    def watch() -> None:
        all_places_taken.wait(20)
        # More would be read at once if they were allowed to.
        threading.Event().wait(0.3)
        seen.append(reads)
        engine.open_gate()

    watcher = threading.Thread(target=watch)
    watcher.start()
    report = scan(tmp_path / "lot", tmp_path / "out", engine_loader=lambda *_: engine)
    watcher.join()

    assert report.is_complete
    assert [most] == seen


def test_facts_beside_a_tile_are_carried_and_scaled(tmp_path: Path) -> None:
    """A JSON file gives pixel size, stage position and identity; manifest and file say them."""
    lot = tmp_path / "lot"
    lot.mkdir()
    Image.fromarray(numbered_tile(1)).save(lot / "a.png")
    facts = {"pixel_size_nm": 4, "stage_x": 1.5, "lot": "L7", "wafer": 12, "operator": "ß"}
    (lot / "a.json").write_text(json.dumps(facts))
    Image.fromarray(numbered_tile(2)).save(lot / "b.png")

    report = scan(lot, tmp_path / "out")

    first, second = manifest(report.manifest)
    assert ("1.0", "1.5", "L7", "12") == tuple(
        first[name] for name in ("pixel_size_x_nm", "stage_x", "lot", "wafer")
    )
    assert ("", "", "") == (second["pixel_size_x_nm"], second["lot"], second["metadata"])
    expected = {**facts, "pixel_size_nm": 1.0}
    assert expected == json.loads(first["metadata"])
    assert expected == json.loads((tmp_path / "out" / "a_x4.json").read_text())
    with Image.open(tmp_path / "out" / "a_x4.png") as picture:
        assert 25.4e6 == pytest.approx(picture.info["dpi"][0], rel=1e-6)
    assert not (tmp_path / "out" / "b_x4.json").exists()


def test_facts_that_cannot_be_read_fail_their_tile(tmp_path: Path) -> None:
    """A picture without its pixel size would be worse than a row that says so."""
    write_lot(tmp_path / "lot", 2)
    (tmp_path / "lot" / "t00000.json").write_text("[1, 2]")
    (tmp_path / "lot" / "t00001.json").write_text('{"pixel_size_nm": -4}')

    report = scan(tmp_path / "lot", tmp_path / "out")

    assert [
        ("t00000.npy", "t00000.json holds a list; expected a JSON object"),
        (
            "t00001.npy",
            "pixel_size_nm is -4; expected a positive number of nanometres, or [x, y]",
        ),
    ] == report.failures


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 30_000, "is not JSON"),
        (b'{"tool": "\\ud800"}', "is not JSON"),
        (b'{"\\udc00": 1}', "is not JSON"),
        (b'{"pixel_size_nm": 1' + b"0" * 400 + b"}", "expected a positive number"),
        (b'{"stage_x": 1' + b"0" * 400 + b"}", None),
        (b'{"tool": "\\u0000", "lot": null, "die": [1, "x"], "": NaN}', None),
    ],
)
def test_odd_facts_cost_at_most_their_tile(
    tmp_path: Path, content: bytes, said: str | None
) -> None:
    """What cannot be written again, or is no number that a column has room for."""
    write_lot(tmp_path / "lot", 3)
    (tmp_path / "lot" / "t00001.json").write_bytes(content)

    report = scan(tmp_path / "lot", tmp_path / "out")

    assert (2 + (said is None), None) == (report.counts.done, report.ended_by)
    assert 3 == len(manifest(report.manifest))
    for _, reason in report.failures:
        assert said is not None
        assert said in reason


def test_the_command_says_whether_anything_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 for all, 1 for a missing tile; JSON for machines; nothing for a dry run."""
    write_lot(tmp_path / "lot", 5)
    arguments = [
        "scan", str(tmp_path / "lot"), str(tmp_path / "out"), "--bundle", str(TINY_BUNDLE),
        "--engine", "identity", "--manifest", "csv", "--json",
    ]  # fmt: skip

    assert 0 == main([*arguments, "--dry-run"])
    [row] = json.loads(capsys.readouterr().out)
    assert (5, 0) == (row["tiles"], row["done"])
    assert ["lot"] == [path.name for path in tmp_path.iterdir()]

    assert 0 == main(arguments)
    [row] = json.loads(capsys.readouterr().out)
    assert (5, 5, 0) == (row["total"], row["done"], row["failed"])

    (tmp_path / "lot" / "bad.npy").write_bytes(b"x")
    assert 1 == main(arguments)
    [row] = json.loads(capsys.readouterr().out)
    assert ["bad.npy"] == [failure["source"] for failure in row["failures"]]


def test_the_manifest_is_parquet(tmp_path: Path) -> None:
    """With a version, typed columns and a row for every tile."""
    parquet = pytest.importorskip("pyarrow.parquet")
    write_lot(tmp_path / "lot", 5)
    (tmp_path / "lot" / "bad.npy").write_bytes(b"x")

    report = scan(tmp_path / "lot", tmp_path / "out", manifest="parquet")

    table = parquet.read_table(report.manifest)
    assert b"1" == table.schema.metadata[b"semsr_manifest_version"]
    assert ["failed"] + 5 * ["done"] == table["status"].to_pylist()
    assert [None] + 5 * [24 * 24 + 128] == [
        size if status == "done" else None
        for size, status in zip(
            table["input_bytes"].to_pylist(), table["status"].to_pylist(), strict=True
        )
    ]
    assert "double" == str(table.schema.field("milliseconds").type)
    for flag in ("residual", "domain_distance"):
        assert [None] + 5 * [0.0] == table[flag].to_pylist()
