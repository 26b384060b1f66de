"""What `semsr scan` must not remove or replace: files in a work folder, stacks of others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from semsr.cli import main
from semsr.scan_dry_run import dry_run
from service.scans.errors import ScanError
from service.scans.journal import Journal
from service.scans.journal_file import count_done
from service.scans.options import ScanRequest
from service.scans.work_folder import WorkFolder
from tests.scans import TINY_BUNDLE, enlarged, scan, settings, write_lot

OWN = ("--bundle", str(TINY_BUNDLE), "--engine", "identity", "--manifest", "csv")


def files(folder: Path) -> dict[str, bytes]:
    """Read everything below a folder, hidden files too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- the work folder ---


@pytest.mark.parametrize("resume", [True, False])
def test_a_work_folder_that_holds_the_source_is_refused(tmp_path: Path, resume: bool) -> None:
    """Beginning anew once removed the lot with all that lay in the folder."""
    write_lot(tmp_path / "night" / "lot", 2)
    before = files(tmp_path)

    with pytest.raises(ScanError, match=r"the source .*lot lies within the work folder"):
        scan(tmp_path / "night" / "lot", tmp_path / "out", work=tmp_path / "night", resume=resume)
    assert before == files(tmp_path)


def test_a_work_folder_that_holds_the_sink_is_refused(tmp_path: Path) -> None:
    """The sink would be the work folder's to remove."""
    write_lot(tmp_path / "lot", 1)

    with pytest.raises(ScanError, match=r"the sink .*out lies within the work folder"):
        scan(tmp_path / "lot", tmp_path / "night" / "out", work=tmp_path / "night")


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_of_something_else_is_no_work_folder(tmp_path: Path, resume: bool) -> None:
    """It keeps what it holds, a folder `spool` too, and gets no lock."""
    write_lot(tmp_path / "lot", 1)
    (tmp_path / "data" / "spool").mkdir(parents=True)
    (tmp_path / "data" / "spool" / "mail.txt").write_text("mine")
    before = files(tmp_path)

    with pytest.raises(ScanError, match=r"the work folder .*data holds 'spool' and no journal"):
        scan(tmp_path / "lot", tmp_path / "out", work=tmp_path / "data", resume=resume)
    assert before == files(tmp_path)


def test_beginning_anew_removes_only_what_a_scan_wrote(tmp_path: Path) -> None:
    """A note that somebody put beside the journal stays."""
    write_lot(tmp_path / "lot", 2)
    scan(tmp_path / "lot", tmp_path / "out")
    (tmp_path / "out.scan" / "note.txt").write_text("keep")
    (tmp_path / "out.scan" / "mine").mkdir()
    (tmp_path / "out.scan" / "shards").mkdir()

    with WorkFolder(tmp_path / "out.scan") as folder:
        folder.forget()

    left = sorted(path.name for path in (tmp_path / "out.scan").iterdir())
    assert ["lock", "mine", "note.txt"] == left


def test_an_engine_that_cannot_be_loaded_costs_no_journal(tmp_path: Path) -> None:
    """Beginning anew forgets an earlier scan only once it can begin."""
    write_lot(tmp_path / "lot", 2)
    scan(tmp_path / "lot", tmp_path / "out")

    def broken(*_: object) -> None:
        raise RuntimeError("no such device")

    with pytest.raises(RuntimeError, match="no such device"):
        scan(tmp_path / "lot", tmp_path / "out", resume=False, engine_loader=broken)
    assert 2 == count_done(tmp_path / "out.scan" / "journal.sqlite")


@pytest.mark.parametrize("sink", [".", "../here/..", "./"])
def test_a_sink_without_a_name_of_its_own_has_a_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sink: str
) -> None:
    """`semsr scan ../lot .` keeps its journal beside the folder that it runs in."""
    write_lot(tmp_path / "lots" / "lot", 2)
    (tmp_path / "out" / "here").mkdir(parents=True)
    at = tmp_path / "out" if sink in {".", "./"} else tmp_path / "out" / "here"
    monkeypatch.chdir(at)

    assert 0 == main(["scan", str(tmp_path / "lots" / "lot"), sink, *OWN])

    assert (tmp_path / "out" / "t00000_x4.npy").exists()
    assert 2 == count_done(tmp_path / "out.scan" / "journal.sqlite")


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    """It opens the journal of an earlier run for reading only."""
    write_lot(tmp_path / "lot", 3)
    scan(tmp_path / "lot", tmp_path / "out")
    work = tmp_path / "out.scan"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    request = ScanRequest(str(tmp_path / "lot"), str(tmp_path / "out"), manifest="csv")

    row = dry_run(request, settings=settings(), work=work)

    assert (3, 3) == (row["tiles"], row["done"])
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_tiles_are_counted_while_their_scan_runs(tmp_path: Path) -> None:
    """What is in SQLite's log only, as after a kill, counts too."""
    write_lot(tmp_path / "lot", 3)
    scan(tmp_path / "lot", tmp_path / "out")
    path = tmp_path / "out.scan" / "journal.sqlite"
    journal = Journal(path)
    try:
        journal.forget(1)
        before = (path.stat().st_mtime_ns, path.read_bytes())

        assert 2 == count_done(path)
        assert before == (path.stat().st_mtime_ns, path.read_bytes())
    finally:
        journal.close()
    assert 0 == count_done(tmp_path / "no journal.sqlite")


# --- stacks that exist ---


@pytest.mark.parametrize("kind", ["h5", "tif", "zarr"])
def test_a_stack_of_others_is_replaced_only_when_asked(tmp_path: Path, kind: str) -> None:
    """It stays as it is without --overwrite, however often the command runs."""
    write_lot(tmp_path / "a", 20)
    second = write_lot(tmp_path / "b", 3)
    sink = tmp_path / f"out.{kind}"
    scan(tmp_path / "a", sink, work=tmp_path / "work-a", answer_dtype="uint16")
    before = files(sink) if kind == "zarr" else sink.read_bytes()

    for resume in (True, True, False):
        with pytest.raises(ScanError, match=r"exists already.*--overwrite"):
            scan(tmp_path / "b", sink, work=tmp_path / "work-b", resume=resume)
    assert before == (files(sink) if kind == "zarr" else sink.read_bytes())

    assert scan(tmp_path / "b", sink, work=tmp_path / "work-b", overwrite=True).is_complete
    # From here on it is this scan's own.
    assert scan(tmp_path / "b", sink, work=tmp_path / "work-b").is_complete
    if kind == "zarr":
        np.testing.assert_array_equal(
            enlarged(np.stack(second)), np.asarray(zarr.open_array(sink / "0", mode="r")[:])
        )
        assert {"zarr.json", "0/zarr.json", "0/c/0/0/0"} == set(files(sink))


@pytest.mark.parametrize("kind", ["h5", "zarr"])
def test_a_scan_replaces_its_own_stack_when_it_begins_anew(tmp_path: Path, kind: str) -> None:
    """`--no-resume` says so already."""
    write_lot(tmp_path / "lot", 18)
    sink = tmp_path / f"out.{kind}"
    scan(tmp_path / "lot", sink)

    report = scan(tmp_path / "lot", sink, resume=False, answer_dtype="uint16")

    assert (18, True) == (report.computed, report.is_complete)


# --- SIGTERM ---


def test_sigterm_before_the_first_tile_ends_with_130(tmp_path: Path) -> None:
    """Here while the engine is loaded; no traceback either."""
    code = """
import os, signal, sys
import semsr.scan
def load(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    raise SystemExit("still running")
semsr.scan.load_model = load
from semsr.cli import main
sys.exit(main(sys.argv[1:]))
"""
    write_lot(tmp_path / "lot", 1)

    process = subprocess.run(
        [sys.executable, "-c", code, "scan", tmp_path / "lot", tmp_path / "out", *OWN],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert 130 == process.returncode, process.stderr
    assert "Traceback" not in process.stderr


def test_sigterm_while_a_stack_is_finished_ends_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last tile too, when the loop has given the signal back."""
    write_lot(tmp_path / "lot", 1)
    before = signal.getsignal(signal.SIGTERM)

    def finish(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("service.scans.stack_sink.StackSink.finish", finish)

    assert 130 == main(["scan", str(tmp_path / "lot"), str(tmp_path / "out.h5"), *OWN])
    assert before == signal.getsignal(signal.SIGTERM)
