"""The log says who did what, and with `SEMSR_AUDIT` by which bytes an answer can be checked."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bundle_format.bundle import load_bundle
from service.http.access import hash_key
from service.http.key_uses import INTERVAL_S, KeyUses
from service.http.middleware import MAX_KEY_LINES_PER_S
from tests.fakes import FakeEngine
from tests.scan_api import Scans
from tests.scans import enlarged, numbered_tile, write_lot
from tests.service.conftest import RAW, TINY_BUNDLE, ServedApp

TILE = numbered_tile(1)
VERSION = load_bundle(TINY_BUNDLE).version


def sha256(content: bytes) -> str:
    """What `sha256sum` says."""
    return hashlib.sha256(content).hexdigest()


def named(lines: list[EventDict], event: str) -> list[dict[str, Any]]:
    """The lines of an event."""
    return [dict(line) for line in lines if line["event"] == event]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A key file with a client and an admin."""
    path = tmp_path / "keys"
    path.write_text(f"line-3 {hash_key('k')}\nboss {hash_key('b')} admin\n")
    return path


def bearer(key: str) -> dict[str, str]:
    """Headers with a key."""
    return {**RAW, "authorization": f"Bearer {key}"}


class TestHashes:
    """One image, a batch, tensors."""

    def test_one_image(self, serve, keys: Path):
        """The line has client, address, model, version, tool, and both hashes as sent."""
        app: ServedApp = serve(audit=True, api_keys=keys)
        with capture_logs() as lines:
            answer = app.post(TILE.tobytes(), {**bearer("k"), "x-tool": "CDSEM-07"})
        [line] = named(lines, "request_finished")
        assert {
            "client": "line-3",
            "address": "testclient",
            "model": "identity",
            "model_version": VERSION,
            "tool": "CDSEM-07",
            "request_id": answer.headers["x-request-id"],
            "input_sha256": sha256(TILE.tobytes()),
            "output_sha256": sha256(answer.content),
        }.items() <= line.items()

    def test_a_form_is_hashed_by_its_file(self, serve):
        """The auditor has the file, and not the boundaries around it."""
        app: ServedApp = serve(audit=True)
        file = io.BytesIO()
        np.save(file, TILE)
        with capture_logs() as lines:
            answer = app.client.post("/superresolve", files={"file": ("t.npy", file.getvalue())})
        assert 200 == answer.status_code
        [line] = named(lines, "request_finished")
        assert sha256(file.getvalue()) == line["input_sha256"]
        assert sha256(answer.content) == line["output_sha256"]

    def test_without_the_setting_nothing_is_hashed(self, serve):
        """The version is there at no cost; hashes and addresses are not."""
        app: ServedApp = serve()
        with capture_logs() as lines:
            app.post(TILE.tobytes())
        [line] = named(lines, "request_finished")
        assert VERSION == line["model_version"]
        assert not {"input_sha256", "output_sha256", "address"} & line.keys()

    def test_no_line_is_omitted(self, serve):
        """The budget of lines is for operators, not for auditors."""
        app: ServedApp = serve(audit=True, log_requests_per_s=1)
        with capture_logs() as lines:
            for _ in range(5):
                app.post(TILE.tobytes())
        assert 5 == len(named(lines, "request_finished"))

    @pytest.mark.parametrize("kind", ["raw", "npy", "tar", "tiff"])
    def test_a_batch_has_a_line_for_each_image(self, serve, kind: str):
        """In the order of the images, with names where the container has them."""
        app: ServedApp = serve(audit=True)
        tiles = [numbered_tile(index) for index in range(3)]
        body, headers, inputs = io.BytesIO(), {"x-tool": "A"}, [tile.tobytes() for tile in tiles]
        if kind == "raw":
            headers |= RAW
            body.write(b"".join(inputs))
        elif kind == "npy":
            headers["content-type"] = "application/x-npy"
            np.save(body, np.stack(tiles))
        elif kind == "tiff":
            headers["content-type"] = "image/tiff"
            tifffile.imwrite(body, np.stack(tiles), photometric="minisblack")
        else:
            headers["content-type"] = "application/x-tar"
            inputs = []
            with tarfile.open(fileobj=body, mode="w") as archive:
                for index, tile in enumerate(tiles):
                    file = io.BytesIO()
                    np.save(file, tile)
                    inputs.append(file.getvalue())
                    info = tarfile.TarInfo(f"t{index}.npy")
                    info.size = len(inputs[-1])
                    archive.addfile(info, io.BytesIO(inputs[-1]))
        with capture_logs() as lines:
            answer = app.client.post(
                "/superresolve/batch", content=body.getvalue(), headers=headers
            )
        assert 200 == answer.status_code
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
            outputs = [archive.extractfile(entry).read() for entry in archive]  # type: ignore[union-attr]
        found = sorted(named(lines, "image_answered"), key=lambda line: line["index"])
        assert [0, 1, 2] == [line["index"] for line in found]
        assert list(map(sha256, inputs)) == [line["input_sha256"] for line in found]
        assert list(map(sha256, outputs)) == [line["output_sha256"] for line in found]
        entries = [f"t{index}.npy" for index in range(3)] if kind == "tar" else [None] * 3
        assert entries == [line.get("entry") for line in found]
        request_id = answer.headers["x-request-id"]
        for line in found:
            same = {"model": "identity", "model_version": VERSION, "tool": "A"}
            assert {**same, "request_id": request_id}.items() <= line.items()

    def test_tensors_have_a_line_for_each_tile(self, serve):
        """By their pixels, since JSON may write the same numbers in many ways."""
        app: ServedApp = serve(audit=True)
        tiles = np.stack([numbered_tile(index)[None] for index in range(2)])
        tensor = {"name": "lr", "datatype": "UINT8", "shape": tiles.shape, "data": tiles.tolist()}
        with capture_logs() as lines:
            answer = app.client.post("/v2/models/identity/infer", json={"inputs": [tensor]})
        assert 200 == answer.status_code
        found = named(lines, "image_answered")
        assert [sha256(tile.tobytes()) for tile in tiles] == [x["input_sha256"] for x in found]
        outputs = [enlarged(tile[0]).tobytes() for tile in tiles]
        assert list(map(sha256, outputs)) == [line["output_sha256"] for line in found]


class TestKeys:
    """Accepted and rejected keys."""

    def test_a_rejected_key_is_logged_without_the_key(self, serve, keys: Path):
        """Who, where and why; a key that is sent by mistake must not reach the log."""
        app: ServedApp = serve(api_keys=keys)
        with capture_logs() as lines:
            app.post(TILE.tobytes())
            app.post(TILE.tobytes(), bearer("secret"))
            app.client.post("/admin/models/identity/rollback", headers=bearer("k"))
        found = named(lines, "key_rejected")
        assert ["/superresolve", "/superresolve", "/admin/models/identity/rollback"] == [
            line["path"] for line in found
        ]
        assert {"testclient"} == {line["address"] for line in found}
        reasons = [line["reason"] for line in found]
        assert "has no API key" in reasons[0]
        assert "the API key is unknown" == reasons[1]
        assert "the key of line-3 is not an admin's" == reasons[2]
        assert "secret" not in str(lines)

    def test_many_rejected_keys_do_not_fill_the_log(self, serve, keys: Path):
        """The lines are bounded; the ones left out are counted in the next."""
        app: ServedApp = serve(api_keys=keys)
        with capture_logs() as lines:
            for _ in range(3 * MAX_KEY_LINES_PER_S):
                app.client.get("/model")
        found = named(lines, "key_rejected")
        assert MAX_KEY_LINES_PER_S <= len(found) <= 3 * MAX_KEY_LINES_PER_S

    def test_a_quota_is_that_of_a_named_client(self, serve, keys: Path):
        """The answer 429 is counted and logged under its client."""
        app: ServedApp = serve(api_keys=keys, rate_limit_per_s=0.01, rate_limit_burst=1)
        with capture_logs() as lines:
            assert [200, 429] == [
                app.post(TILE.tobytes(), bearer("k")).status_code for _ in range(2)
            ]
        assert ["line-3"] * 2 == [line["client"] for line in named(lines, "request_finished")]
        assert 1 == app.metric("semsr_client_requests_total", client="line-3", code="429")
        assert 1 == app.metric("semsr_client_requests_total", client="line-3", code="200")
        assert 1 == app.metric("semsr_client_tiles_total", client="line-3")

    def test_a_large_image_counts_as_its_tiles_on_both_routes(self, serve, keys: Path):
        """A client that sends batches counts as much as one that sends single images."""
        app: ServedApp = serve(api_keys=keys)
        large = np.tile(TILE, (2, 2))
        headers = {**bearer("k"), "x-tile-shape": ",".join(map(str, large.shape))}
        assert 200 == app.post(large.tobytes(), headers).status_code
        count = app.metric("semsr_client_tiles_total", client="line-3")
        assert count > 1
        twice = 2 * large.tobytes()
        assert (
            200
            == app.client.post("/superresolve/batch", content=twice, headers=headers).status_code
        )
        assert 3 * count == app.metric("semsr_client_tiles_total", client="line-3")

    def test_an_address_is_not_a_label(self, serve):
        """Their number has no bound."""
        app: ServedApp = serve(rate_limit_per_s=10, rate_limit_burst=10)
        assert 200 == app.post(TILE.tobytes()).status_code
        assert "semsr_client_requests_total{" not in app.client.get("/metrics").text

    def test_an_accepted_key_is_logged_once_and_then_hourly(self):
        """With the number of uses since the last line, by key and address."""
        now_s = 0.0
        uses = KeyUses(clock=lambda: now_s)
        with capture_logs() as lines:
            for _ in range(3):
                uses.note("line-3", "10.0.0.1")
            uses.note("line-3", "10.0.0.2")
            now_s = INTERVAL_S
            for _ in range(2):
                uses.note("line-3", "10.0.0.1")
        assert [
            ("line-3", "10.0.0.1", 1),
            ("line-3", "10.0.0.2", 1),
            ("line-3", "10.0.0.1", 3),
        ] == [(line["client"], line["address"], line["uses"]) for line in lines]

    def test_a_service_with_keys_logs_the_first_use(self, serve, keys: Path):
        """Through the app, for a tile and for an admin."""
        app: ServedApp = serve(api_keys=keys)
        with capture_logs() as lines:
            for _ in range(2):
                app.post(TILE.tobytes(), bearer("k"))
            app.client.post("/admin/models/identity/rollback", headers=bearer("b"))
        assert ["line-3", "boss"] == [line["client"] for line in named(lines, "key_accepted")]


class TestActions:
    """Changes of models and scans, with who."""

    def test_loads_and_rollbacks(self, serve, keys: Path, tmp_path: Path):
        """Begun and done, with both versions; refused, with the problem."""
        engines: list[FakeEngine] = []

        def loader(*_: object) -> FakeEngine:
            engines.append(FakeEngine())
            engines[-1].name = "identity"
            return engines[-1]

        app: ServedApp = serve(
            loader=loader, api_keys=keys, load_from=TINY_BUNDLE.parent, rollback_keep_s=60
        )
        headers = {"authorization": "Bearer b"}
        with capture_logs() as lines:
            for action, body in (
                ("load", {"bundle": "tiny_bundle"}),
                ("rollback", None),
                ("load", {"bundle": str(tmp_path)}),
            ):
                app.client.post(f"/admin/models/identity/{action}", json=body, headers=headers)
            app.client.post("/v2/repository/models/identity/unload", headers=headers)
        found = named(lines, "model_action")
        assert [
            ("load", "begun"), ("load", "done"), ("rollback", "begun"), ("rollback", "done"),
            ("load", "begun"), ("load", "refused"), ("unload", "begun"), ("unload", "done"),
        ] == [(line["action"], line["outcome"]) for line in found]  # fmt: skip
        for line in found:
            who = {"client": "boss", "address": "testclient", "model": "identity"}
            assert {**who, "version_before": VERSION}.items() <= line.items()
            assert line["request_id"]
        assert VERSION == found[1]["version"]
        assert "forbidden" == found[5]["problem"]

    def test_scans(self, serve, keys: Path, tmp_path: Path):
        """Submitted, refused, cancelled and deleted; the run names the model's version."""
        write_lot(tmp_path / "root" / "lot", 2)
        app: ServedApp = serve(
            api_keys=keys, scan_roots=str(tmp_path / "root"), scan_state=tmp_path / "state"
        )
        app.client.headers["authorization"] = "Bearer k"
        scans = Scans(app.client)
        with capture_logs() as lines:
            scan = scans.start(tmp_path / "root" / "lot", tmp_path / "root" / "out")
            scans.wait(scan)
            assert 409 == scans.do(scan, "pause").status_code
            assert 204 == scans.delete(scan).status_code
            assert 403 == scans.post(tmp_path, tmp_path / "root" / "out").status_code
            app.until(lambda: bool(named(lines, "scan_left")))
        found = named(lines, "scan_action")
        assert [
            ("submit", "done"), ("pause", "refused"), ("delete", "done"), ("submit", "refused"),
        ] == [(line["action"], line["outcome"]) for line in found]  # fmt: skip
        assert {("line-3", "testclient")} == {(x["client"], x["address"]) for x in found}
        assert [scan] * 3 == [line["scan"] for line in found[:3]]
        for event in ("scan_model", "scan_left"):
            [line] = named(lines, event)
            assert (scan, VERSION) == (line["scan"], line["model_version"])
