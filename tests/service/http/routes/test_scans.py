"""`/scans` by an app in this process, whose engine can be held: states, refusals, attacks."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.ground.pause_windows import PauseWindows
from service.http.access import hash_key
from service.images.codec.npy import npy_header
from service.scan_jobs.database import SqliteDatabase
from service.scan_jobs.run import JobRun, Stop
from service.scan_jobs.store import JobStore
from service.scans.klarf.klarf import read_klarf
from service.scans.work_folder import WorkFolder
from tests.scan_api import Scans
from tests.scans import enlarged, manifest, numbered_tile, outputs, write_lot
from tests.service.conftest import RAW, ServedApp

TILES = 12
LOT = tuple(range(TILES))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The allowed folder, with a lot in it."""
    write_lot(tmp_path / "root" / "lot", TILES)
    return tmp_path / "root"


@pytest.fixture
def start(serve, root: Path, tmp_path: Path) -> Callable[..., ServedApp]:
    """Start an app that may scan below the root."""

    def start_one(**settings: object) -> ServedApp:
        return serve(**{"scan_roots": str(root), "scan_state": tmp_path / "state", **settings})

    return start_one


@pytest.fixture
def app(start) -> ServedApp:
    """Such an app."""
    return start()


@pytest.fixture
def scans(app: ServedApp) -> Scans:
    """Its client."""
    return Scans(app.client)


@pytest.fixture
def asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a run is asked to begin no more tiles: waiting tiles continue only then."""
    asked = threading.Event()
    stop = JobRun.stop

    def noticed_stop(run: JobRun, reason: Stop) -> None:
        stop(run, reason)
        asked.set()

    monkeypatch.setattr(JobRun, "stop", noticed_stop)
    return asked


def hold(app: ServedApp) -> None:
    """Let no batch pass but by a permit; `started` counts from here on."""
    app.engine.gate.clear()
    while app.engine.started.acquire(blocking=False):
        pass


# --- without the extra `scan` ---


def test_without_pyarrow_a_scan_writes_its_manifest_as_csv(scans, app, root, monkeypatch):
    """The body of the docs works after `make install`; what was chosen stands in the options."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    body = {"source": str(root / "lot"), "sink": str(root / "out"), "name": "lot 7"}

    answer = app.client.post("/scans", json=body)

    assert 201 == answer.status_code, answer.text
    assert (201, "csv") == (answer.status_code, answer.json()["options"]["manifest"])
    info = scans.wait(answer.json()["id"])
    assert ("done", f"{root / 'out'}/manifest.csv") == (info["state"], info["result"]["manifest"])


def test_parquet_without_pyarrow_is_refused_in_the_words_of_http(scans, root, monkeypatch):
    """A client of HTTP has no options of a command line."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    answer = scans.post(root / "lot", root / "out", options={"manifest": "parquet"})

    assert 422 == answer.status_code
    assert "a manifest in Parquet (one in CSV needs nothing)" in answer.json()["detail"]
    assert "--" not in answer.json()["detail"]


# --- a scan's way ---


def test_a_scan_takes_a_lot_from_source_to_sink(app, scans, root):
    """Every output is there and right, the manifest too, and nothing is missing at the end."""
    by = datetime.now(UTC) + timedelta(hours=8)
    scan = scans.start(root / "lot", root / "out", name="Lot 7", finish_by=by.isoformat())
    info = scans.wait(scan)
    assert ("done", "Lot 7", {"total": 12, "done": 12, "failed": 0, "pending": 0}) == (
        info["state"], info["name"], info["tiles"],
    )  # fmt: skip
    assert (True, 0.0, [], 0) == (
        info["makes_finish_by"], info["late_by_s"], info["failures"], info["result"]["missing"],
    )  # fmt: skip
    assert datetime.fromisoformat(info["finish_by"]) == by
    assert f"{root / 'out'}/manifest.csv" == info["result"]["manifest"]
    for index in LOT:
        found = np.load(root / "out" / f"t{index:05d}_x4.npy")
        np.testing.assert_array_equal(enlarged(numbered_tile(index)), found)
    assert ["done"] * TILES == [row["status"] for row in manifest(root / "out" / "manifest.csv")]
    app.until(lambda: app.metric("semsr_scans_ended_total", state="done") == 1)
    assert TILES == app.metric("semsr_scan_tiles_total", outcome="done")
    assert TILES == sum(
        sample.value
        for family in app.lifecycle.metrics.tiles.collect()
        for sample in family.samples
        if sample.name == "semsr_tiles_total" and sample.labels["priority"] == "nightly"
    )


def test_a_pattern_reads_lot_and_wafer_from_the_names(scans, root):
    """They are in the manifest, and the options of the scan have the pattern."""
    write_lot(root / "lots" / "L7", 2)
    pattern = "{lot}/t{wafer}"

    scan = scans.start(root / "lots", root / "out", options={"name_pattern": pattern})

    info = scans.wait(scan)
    assert ("done", pattern) == (info["state"], info["options"]["name_pattern"])
    rows = manifest(root / "out" / "manifest.csv")
    assert [("L7", "00000"), ("L7", "00001")] == [(row["lot"], row["wafer"]) for row in rows]


def test_the_answer_names_the_scan_and_the_listing_has_it(scans, app, root):
    """201 with its address; GET /scans gives the newest first, by state, page by page."""
    hold(app)
    answer = scans.post(root / "lot", root / "a")
    first = answer.json()["id"]
    assert (201, f"/scans/{first}") == (answer.status_code, answer.headers["location"])
    second = scans.start(root / "lot", root / "b")
    listed = app.client.get("/scans").json()
    assert [second, first] == [scan["id"] for scan in listed["scans"]]
    assert listed["next"] is None
    page = app.client.get("/scans", params={"limit": 1}).json()
    assert ([second], second) == ([scan["id"] for scan in page["scans"]], page["next"])
    older = app.client.get("/scans", params={"before": page["next"]}).json()
    assert [first] == [scan["id"] for scan in older["scans"]]
    scans.wait(first, "running")
    waiting = app.client.get("/scans", params={"state": ["queued", "paused"]}).json()["scans"]
    assert [(second, "waits for its turn")] == [(scan["id"], scan["detail"]) for scan in waiting]
    app.engine.open_gate()
    scans.wait(second)


def test_tiles_that_cannot_be_read_are_named_and_the_rest_is_done(scans, root):
    """The scan is incomplete and says which and why; after repair `resume` does what is missing."""
    (root / "lot" / "t00003.npy").write_bytes(b"no array")
    scan = scans.start(root / "lot", root / "out")
    info = scans.wait(scan)
    assert ("incomplete", 11, 1) == (info["state"], info["tiles"]["done"], info["tiles"]["failed"])
    assert "1 of 12 tiles failed" in info["detail"]
    assert "resume" in info["detail"]
    [failure] = info["failures"]
    assert "t00003.npy" == failure["source"]
    assert failure["error"]
    np.save(root / "lot" / "t00003.npy", numbered_tile(3))
    assert 200 == scans.do(scan, "resume").status_code
    info = scans.wait(scan)
    assert ("done", 1, []) == (info["state"], info["result"]["computed"], info["failures"])


def test_a_klarf_file_as_source(scans, root, tmp_path):
    """Its images and its copy, as by `semsr scan`; no link leads out of the roots."""
    write_lot(tmp_path / "elsewhere", 1)
    (root / "lot" / "link.npy").symlink_to(tmp_path / "elsewhere" / "t00000.npy")
    files = ("t00003.npy", "link.npy", "t00005.npy")
    rows = "".join(
        f'{row} Images 1 {{ "{name}" "NPY" 1 "0" }};\n' for row, name in enumerate(files)
    )
    (root / "lot" / "lot.klarf").write_text(
        'Record FileRecord "1.8" { Record LotRecord "L7" { Record WaferRecord "W" {\n'
        "List DefectList "
        f"{{ Columns 2 {{ int32 DEFECTID, ImageList I }} Data 3 {{\n{rows}}} }} }} }} }}\n"
        "EndOfFile;"
    )

    info = scans.wait(scans.start(root / "lot" / "lot.klarf", root / "out"))

    assert ("incomplete", 2, 1) == (info["state"], info["tiles"]["done"], info["tiles"]["failed"])
    assert ["link.npy"] == [failure["source"] for failure in info["failures"]]
    found = np.load(root / "out" / "t00005_x4.npy")
    np.testing.assert_array_equal(enlarged(numbered_tile(5)), found)
    copy = read_klarf(root / "out" / "lot_sr.klarf")
    assert [b"1", b"2", b"1"] == list(copy.column("SEMSR_STATUS"))
    rows = manifest(root / "out" / "manifest.csv")
    assert ["L7"] == sorted({row["lot"] for row in rows if row["status"] == "done"})


def test_a_malformed_klarf_file_fails_the_scan_with_its_line(scans, root):
    """As any source that cannot be read."""
    (root / "lot" / "lot.klarf").write_text("FileVersion 1 2;\nSlot x;\nEndOfFile;")

    info = scans.wait(scans.start(root / "lot" / "lot.klarf", root / "out"))

    assert "failed" == info["state"]
    assert "lot.klarf, line 2: found Slot 'x'; expected an integer" in info["detail"]


def test_options_say_how_tiles_are_read_and_written(scans, root):
    """As those of `semsr scan`: the format of outputs, a window, a stack."""
    pytest.importorskip("tifffile")
    scan = scans.start(root / "lot", root / "png", options={"format": "png", "window": "0,4095"})
    scans.wait(scan, "done")
    assert "t00000_x4.png" in outputs(root / "png")
    scan = scans.start(root / "lot", root / "out.tif")
    info = scans.wait(scan)
    assert "done" == info["state"]
    assert (root / "out.tif").stat().st_size > TILES * 96 * 96


@pytest.mark.parametrize(("name", "package"), [("out.tif", "tifffile"), ("out.zarr", "zarr")])
def test_a_stack_that_exists_is_not_replaced(scans, root, name, package):
    """The scan fails and says why, in words that a client of HTTP can follow."""
    pytest.importorskip(package)
    first = scans.wait(scans.start(root / "lot", root / name))
    assert "done" == first["state"], first
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    info = scans.wait(scans.start(root / "lot", root / name, name="again"))

    assert "failed" == info["state"], info
    assert f"{name} exists already, and this scan has not written it; remove it" in info["detail"]
    assert "--" not in info["detail"]
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert before == after


# --- pause, resume, delete ---


def test_a_paused_scan_rests_and_goes_on_where_it_was(app, scans, root, asked_to_stop):
    """Tiles in flight are finished; the rest is computed after `resume`, none twice."""
    write_lot(root / "big", 300)
    hold(app)
    scan = scans.start(root / "big", root / "out")
    assert app.engine.started.acquire(timeout=60)
    answer = scans.do(scan, "pause")
    assert (200, "running") == (answer.status_code, answer.json()["state"])
    assert "is being paused" in answer.json()["detail"]
    assert asked_to_stop.wait(timeout=60)
    app.engine.open_gate()
    info = scans.wait(scan, "paused")
    assert "resume" in info["detail"]
    assert 0 < info["tiles"]["done"] < 300
    assert info["tiles"]["done"] == len(outputs(root / "out"))
    assert "queued" == scans.do(scan, "resume").json()["state"]
    assert ("done", 300) == ((info := scans.wait(scan))["state"], info["tiles"]["done"])
    assert 300 == sum(size for size, _, _ in app.engine.batches)


def test_a_waiting_scan_can_be_paused_and_resumed(app, scans, root):
    """It is not begun while it is paused; others are."""
    hold(app)
    first = scans.start(root / "lot", root / "a")
    second = scans.start(root / "lot", root / "b")
    third = scans.start(root / "lot", root / "c")
    scans.wait(first, "running")
    assert "paused" == scans.do(second, "pause").json()["state"]
    assert "paused" == scans.do(second, "pause").json()["state"]
    app.engine.open_gate()
    scans.wait(third, "done")
    assert "paused" == scans.get(second)["state"]
    scans.do(second, "resume")
    scans.wait(second, "done")


def test_a_deleted_scan_stops_and_its_outputs_stay(start, tmp_path, root, asked_to_stop):
    """The answer says so; the scan is listed as cancelled until it is deleted once more."""
    write_lot(root / "big", 400)
    app = start()
    scans = Scans(app.client)
    hold(app)
    scan = scans.start(root / "big", root / "out")
    assert app.engine.started.acquire(timeout=60)
    app.engine.permits.release(3)
    scans.wait_done(scan, 1)
    answer = scans.delete(scan)
    assert 202 == answer.status_code
    assert "is being stopped" in answer.json()["detail"]
    assert asked_to_stop.wait(timeout=60)
    app.engine.open_gate()
    info = scans.wait(scan, "cancelled")
    assert "finished outputs stay in" in info["detail"]
    assert 0 < info["tiles"]["done"] < 400
    assert info["tiles"]["done"] == len(outputs(root / "out"))
    assert info["result"]["missing"] == 400 - info["tiles"]["done"]
    app.until(lambda: not (tmp_path / "state" / "scans" / scan).exists())
    for verb in ("pause", "resume"):
        assert 409 == scans.do(scan, verb).status_code
    assert 204 == scans.delete(scan).status_code
    assert 404 == scans.delete(scan).status_code
    assert info["tiles"]["done"] == len(outputs(root / "out"))


def test_a_waiting_scan_is_deleted_at_once(app, scans, root):
    """It never began, so there is nothing to wait for."""
    hold(app)
    first = scans.start(root / "lot", root / "a")
    second = scans.start(root / "lot", root / "b")
    scans.wait(first, "running")
    answer = scans.delete(second)
    assert (200, "cancelled") == (answer.status_code, answer.json()["state"])
    app.engine.open_gate()
    scans.wait(first, "done")
    assert not (root / "b").exists()


def test_scans_rest_in_pause_windows(start, root, monkeypatch, asked_to_stop):
    """A running scan stops when one begins, says until when it waits, and goes on afterwards."""
    write_lot(root / "big", 300)
    now: list[float] = [12 * 3600.0]
    windows = partial(PauseWindows, clock=lambda: now[0], local=time.gmtime)
    monkeypatch.setattr("service.scan_jobs.jobs.PauseWindows", windows)
    app = start(scan_pause="07:00-19:00")
    scans = Scans(app.client)
    scan = scans.start(root / "big", root / "out")
    info = scans.get(scan)
    assert ("queued", True) == (info["state"], "until 1970-01-01T19:00:00" in info["detail"])
    hold(app)
    now[0] = 19 * 3600.0
    scans.wait(scan, "running")
    assert app.engine.started.acquire(timeout=60)
    app.engine.permits.release(3)
    scans.wait_done(scan, 1)
    now[0] = 31 * 3600.0
    assert asked_to_stop.wait(timeout=60)
    app.engine.open_gate()
    info = scans.wait(scan, "queued")
    assert "until 1970-01-02T19:00:00" in info["detail"]
    assert 0 < info["tiles"]["pending"]
    now[0] = 43 * 3600.0
    info = scans.wait(scan)
    assert ("done", 300) == (info["state"], info["tiles"]["done"])


def test_a_scan_whose_folder_is_held_waits_for_it(app, scans, root, tmp_path):
    """A process that lost its lease without noticing keeps the next one out until it is gone."""
    hold(app)
    first = scans.start(root / "lot", root / "a")
    second = scans.start(root / "lot", root / "b")
    with WorkFolder(tmp_path / "state" / "scans" / second):
        app.engine.open_gate()
        scans.wait(first, "done")
        deadline_s = time.monotonic() + 60
        while "another process runs the scan" not in scans.get(second)["detail"]:
            assert time.monotonic() < deadline_s, scans.get(second)
            time.sleep(0.05)
        assert not (root / "b").exists()
    scans.do(second, "resume")
    scans.wait(second, "done")


# --- the same again ---


def test_an_idempotency_key_makes_one_scan(app, scans, root):
    """The same body gives the same scan with 200; another body is an error; a bad key too."""
    first = scans.post(root / "lot", root / "out", key="night-7")
    again = scans.post(root / "lot", root / "out", key="night-7")
    assert (201, 200) == (first.status_code, again.status_code)
    assert first.json()["id"] == again.json()["id"]
    other = scans.post(root / "lot", root / "other", key="night-7")
    assert (422, "urn:semsr:problem:unsuitable-scan") == (other.status_code, other.json()["type"])
    assert "Idempotency-Key" in other.json()["detail"]
    assert 400 == scans.post(root / "lot", root / "out", key="x" * 300).status_code
    scans.wait(first.json()["id"])
    assert 1 == len(app.client.get("/scans").json()["scans"])


def test_one_scan_at_a_time_writes_into_a_sink(app, scans, root):
    """A second one gets 409 and the id of the first."""
    hold(app)
    first = scans.start(root / "lot", root / "out")
    (root / "link").symlink_to(root / "out")
    for sink in (root / "out", f"{root}/out/", root / "link"):
        answer = scans.post(root / "lot", sink)
        assert (409, "urn:semsr:problem:scan-conflict") == (
            answer.status_code, answer.json()["type"],
        )  # fmt: skip
        assert first in answer.json()["detail"]
    app.engine.open_gate()
    scans.wait(first)


def test_keys_are_apart_by_client_and_needed(start, tmp_path, root):
    """With API keys each client has its own Idempotency-Keys; without a key there is nothing."""
    keys = tmp_path / "keys"
    keys.write_text(f"a {hash_key('key-a')}\nb {hash_key('key-b')}\n")
    app = start(api_keys=keys)
    assert 401 == app.client.get("/scans").status_code
    body = {"source": f"{root}/lot", "options": {"manifest": "csv"}}
    ids = [
        app.client.post(
            "/scans",
            json={**body, "sink": f"{root}/{name}"},
            headers={"authorization": f"Bearer key-{name}", "idempotency-key": "same"},
        ).json()["id"]
        for name in ("a", "b")
    ]
    assert 2 == len(set(ids))
    shown = app.client.get("/scans", headers={"authorization": "Bearer key-a"}).json()["scans"]
    assert ["b", "a"] == [scan["client"] for scan in shown]


# --- refusals ---


def test_without_roots_there_are_no_scans(serve):
    """Every route says what is missing, as a problem."""
    client = serve().client
    for method, path in [
        ("GET", "/scans"), ("POST", "/scans"), ("GET", "/scans/x"), ("DELETE", "/scans/x"),
        ("POST", "/scans/x/pause"), ("GET", "/scans/x/events"),
    ]:  # fmt: skip
        answer = client.request(method, path)
        assert (404, "urn:semsr:problem:scans-off") == (answer.status_code, answer.json()["type"])
        assert "SEMSR_SCAN_ROOTS" in answer.json()["detail"]
    assert "semsr_scans{" not in client.get("/metrics").text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": None}, "source"),
        ({"sink": ""}, "sink"),
        ({"surprise": 1}, "surprise"),
        ({"options": {"format": "bmp"}}, "options.format"),
        ({"options": {"window": "9,1"}}, "9,1"),
        ({"options": {"pixel_size_nm": "0"}}, "0"),
        ({"options": {"name_pattern": "{slot}_*"}}, "has {slot}; expected {lot}, {wafer}"),
        ({"options": {"patience_s": -1}}, "patience_s"),
        ({"finish_by": "06:00"}, "finish_by"),
        ({"finish_by": "2026-11-27T06:00:00"}, "finish_by"),
        ({"finish_by": "9999-11-27T06:00:00Z"}, "finish_by"),
        ({"sink": "{root}/lot/out"}, "within the source"),
        ({"sink": "{root}::out"}, "names something within"),
    ],
)
def test_a_scan_that_cannot_be_run_is_refused_at_once(app, root, changes, said):
    """422 names the field and what was expected."""
    body: dict[str, Any] = {
        "source": f"{root}/lot", "sink": f"{root}/out", "options": {"manifest": "csv"}, **changes,
    }  # fmt: skip
    if isinstance(body["sink"], str):
        body["sink"] = body["sink"].replace("{root}", str(root))
    answer = app.client.post("/scans", json=body)
    assert (422, "application/problem+json") == (
        answer.status_code, answer.headers["content-type"],
    )  # fmt: skip
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"source": 1}'])
def test_a_body_that_is_no_scan_is_refused(app, content):
    """Any body that is not JSON."""
    assert 422 == app.client.post("/scans", content=content).status_code


def test_a_body_without_end_is_refused(app):
    """A scan is a few lines; more is not read."""
    answer = app.client.post("/scans", content=b" " * 70_000)
    assert 413 == answer.status_code


@pytest.mark.parametrize(
    "place",
    [
        "/etc",
        "lot",
        "{root}/../root2",
        "{root}/lot/../../x",
        "file:///etc",
        "{root}-evil",
        "s3://bucket/x",
        "{root}/trap",
        "{root}/trap/inner",
        "{root}/" + 300 * "x",
    ],
)
def test_places_outside_the_roots_are_refused(app, scans, root, tmp_path, place):
    """As source and as sink: other folders, parts that lead upwards, links, other stores."""
    (tmp_path / "outside" / "inner").mkdir(parents=True)
    (root / "trap").symlink_to(tmp_path / "outside")
    place = place.replace("{root}", str(root))
    for source, sink in ((place, root / "out"), (root / "lot", place)):
        answer = scans.post(source, sink)
        assert (403, "urn:semsr:problem:outside-roots") == (
            answer.status_code, answer.json()["type"],
        )  # fmt: skip
    assert [] == list((tmp_path / "outside" / "inner").iterdir())


def test_links_in_a_lot_that_lead_out_are_failed_tiles(scans, root, tmp_path):
    """A linked file outside is not read, a linked folder is not entered; the rest is done."""
    outside = tmp_path / "outside"
    write_lot(outside, 1)
    (root / "lot" / "t90000.npy").symlink_to(outside / "t00000.npy")
    (root / "lot" / "more").symlink_to(outside)
    scan = scans.start(root / "lot", root / "out")
    info = scans.wait(scan)
    assert ("incomplete", TILES, 1) == (
        info["state"], info["tiles"]["done"], info["tiles"]["failed"],
    )  # fmt: skip
    [failure] = info["failures"]
    assert ("t90000.npy", True) == (failure["source"], "leads out" in failure["error"])


def test_a_sink_with_links_writes_nothing_outside(scans, root, tmp_path):
    """Where an output's folder is a link to outside, its tiles fail and nothing is written."""
    outside = tmp_path / "outside"
    outside.mkdir()
    write_lot(root / "lots" / "die1", 2)
    write_lot(root / "lots" / "die2", 2)
    (root / "out").mkdir()
    (root / "out" / "die1").symlink_to(outside)
    scan = scans.start(root / "lots", root / "out")
    info = scans.wait(scan)
    assert ("incomplete", 2, 2) == (info["state"], info["tiles"]["done"], info["tiles"]["failed"])
    assert [] == list(outside.iterdir())


def test_hdf5_that_lies_in_other_files_is_not_followed(scans, root, tmp_path):
    """External and virtual datasets name files of their own choice."""
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(24 * 24))
    with h5py.File(root / "external.h5", "w") as file:
        file.create_dataset("tiles", (1, 24, 24), "uint8", external=[(str(secret), 0, 24 * 24)])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["tiles"] = np.zeros((1, 24, 24), np.uint8)
    layout = h5py.VirtualLayout((1, 24, 24), "uint8")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "tiles", (1, 24, 24))
    with h5py.File(root / "virtual.h5", "w") as file:
        file.create_virtual_dataset("tiles", layout)
    for name in ("external.h5", "virtual.h5"):
        info = scans.wait(scans.start(root / name, root / f"{name}-out"))
        assert "failed" == info["state"]
        assert "lies in other files" in info["detail"]


def test_zarr_with_a_link_is_refused(scans, root, tmp_path):
    """Its chunks are opened by path, so a link in it ends the scan."""
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        root / "lot.zarr", shape=(2, 24, 24), dtype="uint8", chunks=(1, 24, 24), compressors=None
    )
    array[:] = 7
    info = scans.wait(scans.start(root / "lot.zarr", root / "good"))
    assert ("done", 2) == (info["state"], info["tiles"]["done"])
    (tmp_path / "secret").write_bytes(bytes(24 * 24))
    chunk = root / "lot.zarr" / "c" / "1" / "0" / "0"
    chunk.unlink()
    chunk.symlink_to(tmp_path / "secret")
    info = scans.wait(scans.start(root / "lot.zarr", root / "bad"))
    assert ("failed", True) == (info["state"], "is a link" in info["detail"])


def test_a_source_without_tiles_fails_with_the_reason(scans, root):
    """Said by the scan, since a listing may take minutes."""
    (root / "empty").mkdir()
    info = scans.wait(scans.start(root / "empty", root / "out"))
    assert ("failed", True) == (info["state"], "holds no tiles" in info["detail"])
    assert 404 == scans.do("nothing", "pause").status_code


def test_a_link_to_itself_is_no_source(scans, root):
    """Refused as any place where nothing is."""
    (root / "loop").symlink_to(root / "loop")
    info = scans.wait(scans.start(root / "loop", root / "out"))
    assert ("failed", True) == (info["state"], "neither a folder nor" in info["detail"])


def test_an_unknown_model_fails_with_the_reason(scans, root):
    """It may be served tomorrow; today the scan says which one is missing."""
    info = scans.wait(scans.start(root / "lot", root / "out", options={"model": "ghost"}))
    assert ("failed", True) == (info["state"], "ghost" in info["detail"])


def test_a_full_store_is_tried_again_later(scans, root):
    """A sink that takes nothing more sets the scan back; it waits and says why and until when."""
    (root / "out").write_bytes(b"a file where the sink should be")
    scan = scans.start(root / "lot", root / "out" / "deeper")
    deadline_s = time.monotonic() + 60
    while "tried again at" not in scans.get(scan)["detail"]:
        info = scans.get(scan)
        assert info["state"] not in {"done", "incomplete", "failed"}, info
        assert time.monotonic() < deadline_s, info
        time.sleep(0.05)
    (root / "out").unlink()
    scans.do(scan, "resume")
    assert "done" == scans.wait(scan)["state"]


def wait_for_detail(scans: Scans, scan: str, said: str) -> dict[str, Any]:
    """Wait until a scan rests and says why."""
    deadline_s = time.monotonic() + 60
    while said not in (info := scans.get(scan))["detail"] or info["state"] != "queued":
        assert info["state"] not in {"done", "incomplete", "failed"}, info
        assert time.monotonic() < deadline_s, info
        time.sleep(0.02)
    return info


def test_a_source_that_is_gone_is_waited_for(app, scans, root):
    """Not only by the run that loses it; a place without it is not a wrong source any more."""
    write_lot(root / "big", 300)
    hold(app)
    scan = scans.start(root / "big", root / "out")
    assert app.engine.started.acquire(timeout=60)
    app.until(lambda: scans.get(scan)["tiles"] is not None)
    (root / "big").rename(root / "away")
    app.engine.open_gate()
    wait_for_detail(scans, scan, "is gone")
    scans.do(scan, "resume")
    wait_for_detail(scans, scan, "does not exist")
    (root / "big").mkdir()
    scans.do(scan, "resume")
    info = wait_for_detail(scans, scan, "is empty; it held 300 tiles")
    assert 0 == info["tiles"]["failed"]
    (root / "big").rmdir()
    (root / "away").rename(root / "big")
    scans.do(scan, "resume")
    info = scans.wait(scan)
    assert ("done", 300) == (info["state"], len(outputs(root / "out")))


def test_a_sink_that_is_replaced_is_filled_anew(app, scans, root):
    """The outputs in the previous sink are missing there, which the end has to report."""
    write_lot(root / "big", 300)
    hold(app)
    scan = scans.start(root / "big", root / "out")
    assert app.engine.started.acquire(timeout=60)
    app.engine.permits.release(3)
    scans.wait_done(scan, 1)
    (root / "out").rename(root / "before")
    app.engine.open_gate()
    wait_for_detail(scans, scan, "tried again at")
    scans.do(scan, "resume")
    info = scans.wait(scan)
    assert ("done", 300) == (info["state"], len(outputs(root / "out")))
    assert info["result"]["lost"] > 0


def test_a_scan_has_not_ended_before_its_manifest_is_written(scans, root):
    """Its journal goes with its end: the manifest could not be written afterwards."""
    (root / "out" / "manifest.csv" / "in-the-way").mkdir(parents=True)
    scan = scans.start(root / "lot", root / "out")
    info = wait_for_detail(scans, scan, "manifest.csv")
    assert TILES == info["tiles"]["done"]
    shutil.rmtree(root / "out" / "manifest.csv")
    scans.do(scan, "resume")
    info = scans.wait(scan)
    assert ("done", f"{root / 'out'}/manifest.csv") == (info["state"], info["result"]["manifest"])
    assert ["done"] * TILES == [row["status"] for row in manifest(root / "out" / "manifest.csv")]


def test_a_scan_that_is_done_when_the_service_stops_has_its_manifest(start, root, tmp_path):
    """All its tiles were in flight, so the stop finished them; it will not run again."""
    app = start(max_batch_size=1)
    scans = Scans(app.client)
    hold(app)
    scan = scans.start(root / "lot", root / "out")
    app.until(lambda: _depth(app, "nightly") >= TILES - 2)
    assert app.client.portal is not None
    app.client.portal.call(lambda: app.lifecycle.begin_drain(0.0))
    time.sleep(1.5)
    app.engine.open_gate()
    folder = tmp_path / "state" / "scans" / scan
    app.until(lambda: (root / "out" / "manifest.csv").exists() or not folder.exists())
    assert ["done"] * TILES == [row["status"] for row in manifest(root / "out" / "manifest.csv")]


def test_a_full_state_folder_sets_scans_back_and_does_not_fail_them(scans, root, tmp_path):
    """A list of lots must not fail within a minute without an operator."""
    (tmp_path / "state" / "scans").write_bytes(b"a file where journals should be")
    scan = scans.start(root / "lot", root / "out")
    wait_for_detail(scans, scan, "cannot use the folder")
    (tmp_path / "state" / "scans").unlink()
    scans.do(scan, "resume")
    assert "done" == scans.wait(scan)["state"]


def test_a_damaged_list_is_told_to_who_asks(start, tmp_path):
    """Not that it comes back by itself; tiles are served, and where the file lies stays here."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "scans.sqlite").write_bytes(b"no list of scans " * 1000)
    app = start()

    answer = app.client.get("/scans")

    assert 503 == answer.status_code
    assert "cannot be used: it is damaged (file is not a database)" in answer.json()["detail"]
    assert str(tmp_path) not in answer.text
    assert "60" == answer.headers["retry-after"]
    assert 200 == app.client.get("/readyz").status_code


def test_a_listing_without_end_can_be_stopped(scans, root):
    """An array may say that it has any number of tiles."""
    header = npy_header("|u1", (10**9, 24, 24))
    with (root / "endless.npy").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 10**9 * 24 * 24)  # which takes no room
    scan = scans.start(root / "endless.npy", root / "out")
    scans.wait(scan, "running")
    time.sleep(0.5)
    assert 202 == scans.delete(scan).status_code
    assert "cancelled" == scans.wait(scan)["state"]


# --- after a death ---


def leave_running(store: JobStore, scan: str) -> None:
    """Take a scan as a process would that dies at once."""
    job = store.claim("dead", lease_s=1.5)
    assert job is not None
    assert scan == job.id


@pytest.mark.parametrize("is_deleted", [False, True])
def test_what_a_dead_process_has_left_is_not_called_running(
    start, root, tmp_path, monkeypatch, is_deleted
):
    """Also while scans pause: it waits, or it is gone with its journal where that was wanted."""
    windows = partial(PauseWindows, clock=lambda: 12 * 3600.0, local=time.gmtime)
    monkeypatch.setattr("service.scan_jobs.jobs.PauseWindows", windows)
    app = start(scan_pause="07:00-19:00")
    scans = Scans(app.client)
    scan = scans.start(root / "lot", root / "out")
    store = JobStore(SqliteDatabase(tmp_path / "state" / "scans.sqlite"))
    folder = tmp_path / "state" / "scans" / scan
    folder.mkdir(parents=True)
    leave_running(store, scan)
    if is_deleted:
        store.cancel(scan)
    store.close()
    info = scans.wait(scan, "cancelled" if is_deleted else "queued")
    assert ("finished outputs" if is_deleted else "scans pause") in info["detail"]
    app.until(lambda: folder.exists() is not is_deleted)


# --- next to online traffic ---


def test_online_tiles_go_before_those_of_a_scan(start, root):
    """While a scan has its tiles in the queue, an online tile is in the very next batch."""
    write_lot(root / "big", 200)
    app = start(max_batch_size=1)
    scans = Scans(app.client)
    hold(app)
    scan = scans.start(root / "big", root / "out")
    assert app.engine.started.acquire(timeout=60)
    app.until(lambda: _depth(app, "nightly") >= 8)
    answer = app.post_in_background("/superresolve", bytes([201]) * 576, RAW)
    app.until(lambda: _depth(app, "online") == 1)
    before = len(app.engine.first_pixels)
    app.engine.permits.release(1)
    assert app.engine.started.acquire(timeout=60)
    assert [201] == app.engine.first_pixels[before]
    app.engine.open_gate()
    assert 200 == answer.result(60).status_code
    assert "done" == scans.wait(scan)["state"]


def _depth(app: ServedApp, priority: str) -> float:
    return app.metric("semsr_queue_depth", priority=priority)


# --- events ---


def _follow(app: ServedApp, scan: str, into: list[str], **headers: str) -> threading.Thread:
    def follow() -> None:
        answer = app.client.get(f"/scans/{scan}/events", headers=headers)
        into.extend([str(answer.status_code), answer.headers.get("content-type", ""), answer.text])

    thread = threading.Thread(target=follow)
    thread.start()
    return thread


def _read_events(text: str) -> list[dict[str, str]]:
    """Split a stream as browsers do."""
    events: list[dict[str, str]] = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":")
        )
        if "data" in fields:
            events.append(fields)
    return events


def test_events_tell_every_change_until_the_end(app, scans, root):
    """With growing ids; the last one is the end, after which a browser stops reconnecting."""
    hold(app)
    scan = scans.start(root / "lot", root / "out")
    scans.wait(scan, "running")
    told: list[str] = []
    thread = _follow(app, scan, told)
    app.engine.open_gate()
    scans.wait(scan)
    thread.join(60)
    assert ["200", "text/event-stream; charset=utf-8"] == told[:2]
    events = _read_events(told[2])
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(set(ids))
    assert "end" == events[-1]["event"]
    assert {"progress"} == {event["event"] for event in events[:-1]} | {"progress"}
    assert scans.get(scan) == json.loads(events[-1]["data"])
    after = app.client.get(f"/scans/{scan}/events", headers={"last-event-id": str(ids[-1])})
    assert (204, "") == (after.status_code, after.text)
    assert 404 == app.client.get("/scans/none/events").status_code


def test_nobody_follows_a_scan_that_was_forgotten(app, scans, root, monkeypatch):
    """The stream ends; another request gets 404."""
    monkeypatch.setattr("service.http.routes.scan_events._LOOK_EVERY_S", 0.01)
    hold(app)
    first = scans.start(root / "lot", root / "a")
    second = scans.start(root / "lot", root / "b")
    scans.wait(first, "running")
    told: list[str] = []
    thread = _follow(app, second, told)
    time.sleep(0.3)
    # In one step, so that no reader sees the end before.
    app.jobs._store._table.run("DELETE FROM scans WHERE id = ?", (second,))
    thread.join(60)
    assert not thread.is_alive()
    app.engine.open_gate()


def test_no_more_follow_than_there_may_be(app, scans, root, monkeypatch):
    """Each of them asks the list of scans; one more gets 503 with advice."""
    monkeypatch.setattr("service.http.routes.scan_events._MOST_WATCHERS", 0)
    scan = scans.start(root / "lot", root / "out")
    answer = app.client.get(f"/scans/{scan}/events")
    assert (503, True) == (answer.status_code, "GET /scans/ID" in answer.json()["detail"])
    scans.wait(scan)


def test_events_end_when_the_service_drains(app, scans, root, monkeypatch):
    """Followers do not keep the service from stopping; until then comments keep them connected."""
    monkeypatch.setattr("service.http.routes.scan_events._HEARTBEAT_S", 0.0)
    monkeypatch.setattr("service.http.routes.scan_events._LOOK_EVERY_S", 0.01)
    hold(app)
    scan = scans.start(root / "lot", root / "out")
    scans.wait(scan, "running")
    looks: list[str] = []
    get = app.jobs.get

    def noted_get(job_id: str) -> Any:  # noqa: ANN401 (what is awaited)
        looks.append(job_id)
        return get(job_id)

    monkeypatch.setattr(app.jobs, "get", noted_get)
    told: list[str] = []
    thread = _follow(app, scan, told)
    # The first is the route's own; with the third look the first round has told everything.
    app.until(lambda: len(looks) > 3)
    assert app.client.portal is not None
    app.client.portal.call(lambda: app.lifecycle.begin_drain(0.0))
    thread.join(60)
    assert not thread.is_alive()
    assert ": nothing new\n\n" in told[2]
    assert told[2].endswith(": the service is stopping\n\n")
    app.engine.open_gate()


def test_openapi_describes_the_routes(app):
    """With the body's schema, whose references lead somewhere."""
    schema = app.client.get("/openapi.json").json()
    body = schema["paths"]["/scans"]["post"]["requestBody"]["content"]["application/json"]
    assert "#/components/schemas/ScanBody" == body["schema"]["$ref"]
    text = json.dumps(schema)
    for name in schema["components"]["schemas"]:
        assert name
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schema["components"]["schemas"]
    assert {"get", "post"} <= set(schema["paths"]["/scans"])
    assert {
        "/scans/{scan}", "/scans/{scan}/pause", "/scans/{scan}/resume", "/scans/{scan}/events",
    } <= set(schema["paths"])  # fmt: skip
