"""Another version of a model while the service runs: loaded, refused, rolled back, released."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle_format.bundle import Bundle, load_bundle
from engines.protocol import Engine, EngineOptions
from service.http.access import hash_key
from tests.fakes import FakeEngine
from tests.service.conftest import RAW, TINY_BUNDLE, ServedApp

TILE = np.random.default_rng(1).integers(0, 256, (24, 24), dtype=np.uint8)


class Bundles:
    """Versions of one model, each in a folder of its own, and the engines made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bundles"
        self.engines: list[FakeEngine] = []
        for index, name in enumerate(("one", "two", "three")):
            shutil.copytree(TINY_BUNDLE, self.folder / name)
            # Spaces at the end of a manifest change nothing but the version.
            manifest = self.folder / name / "manifest.json"
            manifest.write_text(manifest.read_text() + " " * index, encoding="utf-8")
        shutil.copytree(TINY_BUNDLE, folder / "elsewhere")
        (self.folder / "link").symlink_to(folder / "elsewhere")
        (folder / "keys").write_text(
            f"boss {hash_key('b')} admin\nline {hash_key('l')}\n", encoding="utf-8"
        )
        self.settings: dict[str, object] = {
            "bundle": None,
            "bundles": f"m={self.folder / 'one'}",
            "api_keys": folder / "keys",
            "load_from": self.folder,
        }

    def loader(self, _name: str, bundle: Bundle, _options: EngineOptions) -> Engine:
        """Make an engine; that of the bundle `three` computes something else than its golden."""
        engine = FakeEngine()
        engine.name = "fake" if bundle.path.name == "three" else "identity"
        self.engines.append(engine)
        return engine

    def version(self, name: str) -> str:
        """Version of a bundle as it lies there."""
        return load_bundle(self.folder / name).version


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    """Three versions."""
    return Bundles(tmp_path)


@pytest.fixture
def start(bundles: Bundles, serve: Callable[..., ServedApp]) -> Callable[..., ServedApp]:
    """Serve the first version."""

    def begin(**settings: object) -> ServedApp:
        app = serve(loader=bundles.loader, **{**bundles.settings, **settings})
        app.client.headers["authorization"] = "Bearer b"
        return app

    return begin


def load(app: ServedApp, bundle: str | None = None) -> Any:  # noqa: ANN401 (an answer)
    """Ask for a load."""
    order = None if bundle is None else {"bundle": bundle}
    return app.client.post("/admin/models/m/load", json=order)


def roll_back(app: ServedApp) -> Any:  # noqa: ANN401 (an answer)
    """Ask for a rollback."""
    return app.client.post("/admin/models/m/rollback")


def served(app: ServedApp) -> str:
    """Version that answers a tile."""
    answer = app.post(TILE.tobytes())
    assert answer.status_code == 200, answer.text
    return answer.headers["x-model-version"]


class TestLoad:
    """`POST /admin/models/NAME/load`."""

    def test_another_bundle_is_served_and_the_old_one_kept(self, start, bundles: Bundles):
        """The answer says which is which; the old engine stays loaded."""
        app = start()
        answer = load(app, "two")
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "model": "m",
            "version": bundles.version("two"),
            "sha": load_bundle(bundles.folder / "two").digest,
            "kept": bundles.version("one"),
        }
        assert served(app) == bundles.version("two")
        assert app.metric("semsr_engine_up") == 1
        assert [engine.closed for engine in bundles.engines] == [False, False]

    def test_without_a_bundle_the_present_folder_is_read_again(self, start, bundles: Bundles):
        """That of the last load, not that of the settings; the v2 route does the same."""
        app = start()
        assert load(app, "two").status_code == 200
        manifest = bundles.folder / "two" / "manifest.json"
        manifest.write_text(manifest.read_text() + "\n", encoding="utf-8")
        assert load(app).json()["version"] == bundles.version("two")
        manifest.write_text(manifest.read_text() + "\n", encoding="utf-8")
        assert app.client.post("/v2/repository/models/m/load").status_code == 200
        assert served(app) == bundles.version("two")

    @pytest.mark.parametrize(
        ("bundle", "words"),
        [("two", "model.onnx does not match"), ("three", "golden tile"), ("none", "not a bundle")],
    )
    def test_what_cannot_be_served_changes_nothing(
        self, start, bundles: Bundles, bundle: str, words: str
    ):
        """Tampered with, wrong on its golden tile, not there: the old one answers on."""
        app = start()
        (bundles.folder / "two" / "model.onnx").write_bytes(b"tampered")
        answer = load(app, bundle)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
        assert served(app) == bundles.version("one")
        assert app.client.get("/readyz").status_code == 200
        assert roll_back(app).status_code == 409

    @pytest.mark.parametrize("bundle", ["../elsewhere", "link", "/", "{elsewhere}"])
    def test_a_bundle_elsewhere_is_refused(self, start, bundles: Bundles, bundle: str):
        """Whole addresses and links lead no further than relative ones."""
        app = start()
        answer = load(app, bundle.format(elsewhere=bundles.folder.parent / "elsewhere"))
        assert answer.status_code == 403
        assert "SEMSR_LOAD_FROM" in answer.json()["detail"]
        assert len(bundles.engines) == 1

    def test_a_whole_address_within_is_allowed(self, start, bundles: Bundles):
        """As the settings name bundles."""
        assert load(start(), str(bundles.folder / "two")).status_code == 200

    def test_without_the_setting_no_bundle_may_be_named(self, start, bundles: Bundles):
        """Loading again is allowed."""
        app = start(load_from=None)
        assert load(app, str(bundles.folder / "two")).status_code == 403
        assert load(app).status_code == 200

    @pytest.mark.parametrize("order", [{"path": "two"}, {"bundle": ""}, {"bundle": 3}, []])
    def test_a_mistyped_order_is_refused(self, start, bundles: Bundles, order: object):
        """Not taken for one without a bundle."""
        answer = start().client.post("/admin/models/m/load", json=order)
        assert answer.status_code == 422
        assert len(bundles.engines) == 1

    @pytest.mark.parametrize("verb", ["load", "rollback"])
    def test_only_an_admin_may_and_only_models_of_the_settings(self, start, verb: str):
        """Only an admin gets 404."""
        app = start()
        for key, status in (("Bearer l", 403), ("Bearer x", 401), ("Bearer b", 404)):
            headers = {"authorization": key}
            answer = app.client.post(f"/admin/models/none/{verb}", headers=headers)
            assert answer.status_code == status


class TestRollback:
    """`POST /admin/models/NAME/rollback`."""

    def test_it_loads_nothing_and_goes_both_ways(self, start, bundles: Bundles):
        """Even where the old bundle's files are gone."""
        app = start()
        one, two = bundles.version("one"), bundles.version("two")
        assert load(app, "two").status_code == 200
        shutil.rmtree(bundles.folder / "one")
        answer = roll_back(app)
        assert answer.json() | {"sha": ""} == {"model": "m", "version": one, "sha": "", "kept": two}
        assert served(app) == one
        assert roll_back(app).json()["version"] == two
        assert served(app) == two
        assert len(bundles.engines) == 2

    @pytest.mark.parametrize("path", ["/superresolve", "/superresolve/batch"])
    def test_requests_under_way_are_answered_by_what_they_began_with(
        self, start, bundles: Bundles, path: str
    ):
        """Nothing is lost at a switch, to either side, and each answer names what computed it."""
        app = start()
        one, two = bundles.version("one"), bundles.version("two")
        answers = []
        for change in (lambda: load(app, "two"), lambda: roll_back(app)):
            engine = bundles.engines[len(answers)]
            engine.gate.clear()
            engine.batches.clear()
            answers.append(app.post_in_background(path, TILE.tobytes(), RAW))
            app.until(lambda engine=engine: bool(engine.batches))
            assert change().status_code == 200
        for engine in bundles.engines:
            engine.open_gate()
        versions = [answer.result(30).headers["x-model-version"] for answer in answers]
        assert {answer.result(30).status_code for answer in answers} == {200}
        assert [one, two] == versions

    def test_without_an_earlier_version_it_is_refused(self, start):
        """With the reason, as a problem of its own."""
        answer = roll_back(start())
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:semsr:problem:nothing-kept"

    def test_what_is_kept_is_let_go_in_time(self, start, bundles: Bundles):
        """Its memory is free again, and there is nothing to go back to."""
        app = start(rollback_keep_s=0.05)
        assert load(app, "two").status_code == 200
        app.until(lambda: bundles.engines[0].closed)
        assert roll_back(app).status_code == 409
        assert served(app) == bundles.version("two")

    def test_unloading_lets_go_of_both(self, start, bundles: Bundles):
        """And a rollback does not bring an unloaded model back."""
        app = start()
        assert load(app, "two").status_code == 200
        assert app.client.post("/v2/repository/models/m/unload").status_code == 200
        app.until(lambda: all(engine.closed for engine in bundles.engines))
        assert roll_back(app).status_code == 404
