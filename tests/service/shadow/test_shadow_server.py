"""A shadow model next to a served one: same answers, a report of differences, harmless faults."""

import hashlib
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from bundle_format.bundle import load_bundle
from service.http.startup import FolderError, _check
from service.settings import Settings
from service.shadow_process import _settings, yield_processor
from tests.service.conftest import RAW, TINY_BUNDLE
from tests.shadow_app import (
    TILES,
    compared,
    process_of,
    report,
    running,
    send,
    send_all,
    shadow_of,
    state,
    tiles,
)


class TestDifferences:
    """What the report and the metrics say."""

    def test_the_answers_are_the_same_bytes_with_and_without_a_shadow(self, start, serve):
        """Also those of images of several tiles, and of the v2 route's headers."""
        shadowed = running(start())
        plain = serve(engine="onnx", self_test_minutes=0)
        large = np.tile(TILES[0], (3, 2))
        headers = {**RAW, "x-tile-shape": f"{large.shape[0]},{large.shape[1]}"}
        answers = [
            [*send_all(app), app.post(large.tobytes(), headers).content]
            for app in (shadowed, plain)
        ]
        assert answers[0] == answers[1]
        assert compared(shadowed, 1)["tiles"]["failed"] == 0

    def test_the_report_names_versions_tiles_and_their_differences(self, start):
        """Request id and digest lead to the tile; the figures are those of the two answers."""
        app = running(start())
        [sr] = send(app, 1)
        shown = compared(app, 1)
        version = load_bundle(TINY_BUNDLE).version
        assert shown["format"] == "semsr-shadow-report"
        assert shown["format_version"] == 1
        assert (shown["model"], shown["shadow"]["version"]) == ("identity", version)
        assert shown["shadow"]["engine"] == "onnx"
        [tile] = shown["most_different"]
        assert tile["request_id"] == "tile-0"
        assert tile["sha256"] == hashlib.sha256(TILES[0].tobytes()).hexdigest()
        assert len(sr) == 96 * 96
        assert 0 < tile["grey_difference"] < 255
        assert tile["pictures"] is None
        [pair] = shown["versions"]
        assert pair["compared"] == 1
        assert pair["figures"]["grey_difference"]["max"] == tile["grey_difference"]
        labels = {"model": "identity"}
        assert app.metric("semsr_shadow_up", **labels) == 1
        assert app.metric("semsr_shadow_tiles_total", outcome="compared", **labels) == 1
        assert app.metric("semsr_shadow_grey_difference_count", **labels) == 1
        assert app.metric("semsr_shadow_edge_difference_count", **labels) == 1
        assert app.metric("semsr_shadow_pixels_above_ratio_count", **labels) == 1
        assert app.metric("semsr_shadow_duration_seconds_count", side="shadow", **labels) == 1
        assert sum(pair["flags"].values()) == 1

    def test_the_list_is_bounded_and_its_pictures_follow_it(self, start, tmp_path: Path):
        """Pictures are stored only on request, three for each listed tile; a reset deletes them."""
        folder = tmp_path / "pictures"
        folder.mkdir()
        (folder / "shadow-000001-0123-lr.png").write_bytes(b"of an earlier run")
        (folder / "own.png").write_bytes(b"of somebody else")
        app = running(start(shadow_keep=2, shadow_pictures=folder))
        send(app, 5)
        shown = compared(app, 5)
        edges = [tile["edge_difference"] for tile in shown["most_different"]]
        assert len(edges) == 2
        assert edges == sorted(edges, reverse=True)
        assert edges[0] == shown["versions"][0]["figures"]["edge_difference"]["max"]
        wanted = {
            f"{tile['pictures']}-{kind}.png"
            for tile in shown["most_different"]
            for kind in ("lr", "served", "shadow")
        }
        app.until(lambda: {path.name for path in folder.iterdir()} == {*wanted, "own.png"})
        assert app.client.post("/admin/shadow/reset").json()["most_different"] == []
        app.until(lambda: {path.name for path in folder.iterdir()} == {"own.png"})

    def test_only_an_admin_gets_it_and_only_where_there_is_one(self, start, serve):
        """401 without a key; 404 without a shadow."""
        app = start()
        assert app.client.get("/admin/shadow", headers={"authorization": "x"}).status_code == 401
        app = start(shadow_bundle=None, shadow_share=None)
        answer = app.client.get("/admin/shadow")
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:semsr:problem:shadow-off"


class TestVersions:
    """Other versions of the served model."""

    def test_a_load_and_a_rollback_are_told_apart(self, start, tmp_path: Path):
        """Each tile counts for the version that answered it."""
        for index, name in enumerate(("one", "two")):
            shutil.copytree(TINY_BUNDLE, tmp_path / name)
            manifest = tmp_path / name / "manifest.json"
            manifest.write_text(manifest.read_text() + " " * index, encoding="utf-8")
        app = running(start(bundle=None, bundles=f"m={tmp_path / 'one'}", load_from=tmp_path))
        one, two = (load_bundle(tmp_path / name).version for name in ("one", "two"))
        send(app, 1)
        assert app.client.post("/admin/models/m/load", json={"bundle": "two"}).status_code == 200
        send(app, 2)
        assert app.client.post("/admin/models/m/rollback").status_code == 200
        send(app, 1)
        versions = {pair["served_version"]: pair["compared"] for pair in report(app)["versions"]}
        assert versions == {one: 2, two: 2}

    def test_only_the_named_model_is_shadowed(self, start):
        """Tiles of another model are not drawn."""
        app = running(
            start(bundle=None, bundles=f"a={TINY_BUNDLE},b={TINY_BUNDLE}", shadow_model="b")
        )
        for name, count in (("a", 0), ("b", 1)):
            answer = app.client.post(
                f"/superresolve?model={name}", content=TILES[0].tobytes(), headers=RAW
            )
            assert answer.status_code == 200
            assert compared(app, count)["tiles"]["compared"] == count


class TestFaults:
    """A shadow that is broken, or a service that is busy."""

    def test_a_busy_service_skips_tiles(self, start, monkeypatch: pytest.MonkeyPatch):
        """A tile that waited for the engine is not shown to the shadow."""
        app = running(start())
        monkeypatch.setattr("service.shadow.shadow._BUSY_S", 0.0)
        send(app, 2)
        assert report(app)["tiles"]["busy"] == 2
        assert app.metric("semsr_shadow_tiles_total", model="identity", outcome="busy") == 2

    def test_a_bundle_that_cannot_be_loaded_leaves_the_service_ready(self, start, tmp_path: Path):
        """The report says why, tiles are answered, and the service keeps trying for a while."""
        app = start(shadow_bundle=tmp_path / "none")
        app.until(lambda: state(app) in {"restarting", "failed"})
        assert "not a bundle" in report(app)["reason"]
        assert app.client.get("/readyz").status_code == 200
        send(app, 2)
        assert report(app)["tiles"]["down"] == 2
        assert app.metric("semsr_shadow_up", model="identity") == 0

    def test_a_killed_shadow_is_restarted(self, start):
        """The report goes on."""
        app = running(start())
        send(app, 1)
        process_of(app).kill()
        app.until(lambda: state(app) != "running")
        running(app)
        send(app, 1)
        assert compared(app, 2)["versions"][0]["compared"] == 2

    def test_a_hanging_shadow_holds_two_tiles_and_delays_none(self, start):
        """Further tiles are skipped; it goes on where it stopped."""
        app = running(start())
        process = process_of(app)
        process.send_signal(signal.SIGSTOP)
        assert len(send(app, 5, pause=False)) == 5
        app.until(lambda: tiles(app)["full"] == 3)
        process.send_signal(signal.SIGCONT)
        assert compared(app, 2)["tiles"]["failed"] == 0

    @pytest.mark.slow
    def test_a_reset_starts_a_shadow_again_that_has_failed_for_good(
        self, start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Once the operator has put the bundle there."""
        monkeypatch.setattr("service.shadow.worker.MAX_FAILURES", 1)
        app = start(shadow_bundle=tmp_path / "late")
        app.until(lambda: state(app) == "failed")
        shutil.copytree(TINY_BUNDLE, tmp_path / "late")
        assert app.client.post("/admin/shadow/reset").json()["state"] == "starting"
        running(app)

    def test_a_model_of_another_size_is_compared_with_nothing(self, start, tmp_path: Path):
        """Its tiles are counted as unsuitable."""
        app = running(start())
        hello = shadow_of(app)._state.hello
        assert hello is not None
        hello["tile"] = [48, 48]
        send(app, 1)
        assert report(app)["tiles"]["unsuitable"] == 1

    @pytest.mark.slow
    def test_a_stopped_service_leaves_no_process(self, start):
        """Also while the shadow is still being loaded."""
        for app in (running(start()), start()):
            process = process_of(app)
            app.client.__exit__(None, None, None)
            assert process.wait(10) != 0
            app.client.__enter__()


def test_the_shadow_gets_left_over_processor_time_only(monkeypatch: pytest.MonkeyPatch):
    """The policy below every niceness; the greatest niceness where a sandbox refuses it."""
    asked: list[object] = []

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "nice", asked.append)
    monkeypatch.setattr(os, "sched_setscheduler", lambda _, policy, __: asked.append(policy))
    yield_processor()
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    yield_processor()
    assert asked == [os.SCHED_IDLE, 19]


def test_a_shadow_needs_no_16_bit_graph(monkeypatch: pytest.MonkeyPatch):
    """The service answers in 16 bits; the bundle of its shadow may be one without such a graph."""
    monkeypatch.setenv("SEMSR_ANSWER_BITS", "16")
    given = {"engine": "onnx", "threads": 1, "device": "cpu", "hint": "latency"}
    config = {**given, "bundle": str(TINY_BUNDLE), "precision": None, "wanted_precision": "fp32"}
    settings = _settings({**config, "plan_cache": None})
    assert (settings.answer_bits, settings.precision) == (8, "fp32")


def test_a_folder_for_pictures_must_exist(tmp_path: Path):
    """A mistyped one is named before anything is loaded."""
    settings = Settings(shadow_bundle=TINY_BUNDLE, shadow_pictures=tmp_path / "none")
    with pytest.raises(FolderError, match=r"SEMSR_SHADOW_PICTURES .*none: expected a folder"):
        _check(settings)
