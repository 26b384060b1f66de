"""`/scans` for those who come in the morning: what has ended, its manifest, and errors by field."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.scan_api import Scans
from tests.scans import write_lot
from tests.service.conftest import ServedApp


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The allowed folder, with a lot in it."""
    write_lot(tmp_path / "root" / "lot", 3)
    return tmp_path / "root"


@pytest.fixture
def app(serve: Callable[..., ServedApp], root: Path, tmp_path: Path) -> ServedApp:
    """An app that may scan below the root."""
    return serve(scan_roots=str(root), scan_state=tmp_path / "state")


@pytest.fixture
def scans(app: ServedApp) -> Scans:
    """Its client."""
    return Scans(app.client)


def test_the_manifest_of_a_scan_is_handed_out(app, scans, root):
    """The same bytes as in the sink, as a download."""
    scan = scans.start(root / "lot", root / "out")
    scans.wait(scan, "done")
    answer = app.client.get(f"/scans/{scan}/manifest")
    assert 200 == answer.status_code
    assert (root / "out" / "manifest.csv").read_bytes() == answer.content
    assert answer.headers["content-type"].startswith("text/csv")
    named = "attachment; filename*=UTF-8''manifest.csv"
    assert named == answer.headers["content-disposition"]


def test_a_manifest_that_is_not_there_is_a_problem_with_the_reason(app, scans, root, tmp_path):
    """Not yet written, removed, or replaced by a link that leads out of the roots."""
    failed = scans.start(root / "nothing", root / "none")
    scans.wait(failed, "failed")
    answer = app.client.get(f"/scans/{failed}/manifest")
    assert (409, "urn:semsr:problem:no-manifest") == (answer.status_code, answer.json()["type"])
    assert "it is failed" in answer.json()["detail"]
    scan = scans.start(root / "lot", root / "out")
    scans.wait(scan, "done")
    manifest = root / "out" / "manifest.csv"
    manifest.unlink()
    assert 409 == app.client.get(f"/scans/{scan}/manifest").status_code
    secret = tmp_path / "secret"
    secret.write_text("not for clients")
    manifest.symlink_to(secret)
    answer = app.client.get(f"/scans/{scan}/manifest")
    assert 409 == answer.status_code
    assert "not for clients" not in answer.text
    assert 404 == app.client.get("/scans/0123/manifest").status_code


def test_scans_are_listed_by_their_end(app, scans, root):
    """`ended_after` leaves out earlier ends, and scans that have not ended."""
    before = datetime.now(UTC) - timedelta(minutes=1)
    scan = scans.start(root / "lot", root / "out")
    ended = datetime.fromisoformat(scans.wait(scan)["ended"])

    def listed(after: datetime) -> list[str]:
        answer = app.client.get("/scans", params={"ended_after": after.isoformat()})
        assert 200 == answer.status_code, answer.text
        return [one["id"] for one in answer.json()["scans"]]

    assert [scan] == listed(before)
    assert [] == listed(ended + timedelta(seconds=1))
    active = scans.start(root / "lot", root / "again")
    scans.do(active, "pause")
    if scans.get(active)["state"] == "paused":
        assert [scan] == listed(before)
    for text in ("yesterday", "2026-11-30T06:00:00", "1999-12-31T23:00:00Z"):
        assert 422 == app.client.get("/scans", params={"ended_after": text}).status_code


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"source": ""}, ["source"]),
        ({"sink": None, "options": {"format": "gif"}}, ["sink", "options.format"]),
        ({"finish_by": "soon"}, ["finish_by"]),
        ({"sorce": "x"}, ["sorce"]),
        ({"source": "/etc"}, ["source"]),
        ({"sink": "/etc"}, ["sink"]),
        ({"sink": "{root}/lot"}, ["sink"]),
        ({"sink": "{root}/a.zarr::b"}, ["sink"]),
        ({"options": {"window": "9"}}, ["options.window"]),
        ({"options": {"pixel_size_nm": "wide"}}, ["options.pixel_size_nm"]),
        ({"options": {"name_pattern": "{slot}_*"}}, ["options.name_pattern"]),
        ({"options": {"answer_bits": 16}}, ["options.answer_bits"]),
    ],
)
def test_a_refused_scan_says_which_fields_are_wrong(app, root, changes, fields):
    """A form can show each error at its field."""
    body = {"source": str(root / "lot"), "sink": str(root / "out"), **changes}
    body = {
        name: value.format(root=root) if isinstance(value, str) else value
        for name, value in body.items()
    }
    answer = app.client.post("/scans", json=body)
    assert answer.status_code in {403, 422}, answer.text
    assert fields == [one["field"] for one in answer.json()["errors"]]
    assert all(one["detail"] for one in answer.json()["errors"])
