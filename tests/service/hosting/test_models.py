"""Several models in one service: which one answers, loading anew, unloading, statistics."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle_format.bundle import Bundle
from engines.protocol import Engine, EngineOptions
from service.http.access import hash_key
from service.settings import Settings
from tests.fakes import FakeEngine
from tests.service.conftest import RAW, TINY_BUNDLE, ServedApp

TILE = np.random.default_rng(1).integers(0, 256, (24, 24), dtype=np.uint8)


class Models:
    """Two copies of the tiny bundle, served by an engine each."""

    def __init__(self, folder: Path) -> None:
        self.paths = {name: folder / name for name in ("fine", "fast")}
        for path in self.paths.values():
            shutil.copytree(TINY_BUNDLE, path)
        self.engines: list[tuple[str, FakeEngine]] = []
        (folder / "keys").write_text(
            f"boss {hash_key('b')} admin\nline {hash_key('l')}\n", encoding="utf-8"
        )
        self.settings: dict[str, object] = {
            "bundle": None,
            "bundles": ",".join(f"{name}={path}" for name, path in self.paths.items()),
            "api_keys": folder / "keys",
            "rollback_keep_s": 0,
        }

    def loader(self, name: str, bundle: Bundle, options: EngineOptions) -> Engine:
        """Make an engine, kept with the name of its bundle's folder."""
        engine = FakeEngine()
        engine.name = "identity"
        self.engines.append((bundle.path.name, engine))
        return engine

    def batches(self) -> list[tuple[str, int]]:
        """Batches run so far, without warm-up, by model."""
        return [(name, len(engine.batches)) for name, engine in self.engines]


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """Two models' folders and engines."""
    return Models(tmp_path)


@pytest.fixture
def app(models: Models, serve) -> ServedApp:
    """A service with both."""
    served = serve(loader=models.loader, **models.settings)
    served.client.headers["authorization"] = "Bearer l"
    for _, engine in models.engines:
        engine.batches.clear()
    return served


def admin(app: ServedApp, path: str):
    """Post as the admin."""
    return app.client.post(path, headers={"authorization": "Bearer b"})


class TestChoice:
    """Which model a request gets."""

    def test_by_name_and_else_the_first(self, app: ServedApp, models: Models):
        """Each has its own engine; answers and the log name it."""
        for query, name in (("", "fine"), ("?model=fast", "fast"), ("?model=fine", "fine")):
            answer = app.client.post(f"/superresolve{query}", content=TILE.tobytes(), headers=RAW)
            assert (answer.status_code, answer.headers["x-model"]) == (200, name)
        assert models.batches() == [("fine", 2), ("fast", 1)]
        assert app.metric("semsr_model_requests_total", model="fine", outcome="success") == 2
        assert app.client.get("/model?model=fast").json()["name"] == "fast"

    def test_a_batch_request_chooses_too(self, app: ServedApp, models: Models):
        """All its tiles go to one model."""
        answer = app.client.post(
            "/superresolve/batch?model=fast", content=TILE.tobytes() * 3, headers=RAW
        )
        assert (answer.status_code, answer.headers["x-model"]) == (200, "fast")
        assert models.batches()[0] == ("fine", 0)
        assert models.batches()[1][1] > 0

    @pytest.mark.parametrize(
        ("query", "status", "words"),
        [
            ("?model=none", 404, "the model none is not served; served are: fine version"),
            ("?name=fast", 400, "expected model=NAME"),
            ("?model=fast&model=fine", 400, "expected model=NAME"),
            ("?model=", 400, "expected model=NAME"),
            ("?%ff", 400, "expected model=NAME"),
        ],
    )
    def test_a_mistyped_name_gives_no_other_model(
        self, app: ServedApp, models: Models, query: str, status: int, words: str
    ):
        """An error says what there is."""
        answer = app.client.post(f"/superresolve{query}", content=TILE.tobytes(), headers=RAW)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True)
        assert models.batches() == [("fine", 0), ("fast", 0)]

    def test_the_protocol_lists_both(self, app: ServedApp):
        """Index and metadata."""
        entries = app.client.post("/v2/repository/index").json()
        assert [(entry["name"], entry["state"]) for entry in entries] == [
            ("fine", "READY"),
            ("fast", "READY"),
        ]
        assert app.client.get("/v2/models/fast/ready").status_code == 200

    def test_a_bundle_that_cannot_be_served_fails_the_start(self, models: Models, serve):
        """With its name, and without the other one seeming ready."""
        (models.paths["fast"] / "manifest.json").write_text("{}", encoding="utf-8")
        app = serve(loader=models.loader, **models.settings)
        ready = app.client.get("/readyz")
        assert ready.status_code == 503
        assert "fast" in ready.json()["detail"]


class TestLoading:
    """Load and unload while others are served."""

    def test_load_puts_a_new_engine_in_place(self, app: ServedApp, models: Models):
        """What is served next comes from it; the old engine is closed when nobody uses it."""
        assert admin(app, "/v2/repository/models/fast/load").status_code == 200
        assert [name for name, _ in models.engines] == ["fine", "fast", "fast"]
        models.engines[-1][1].batches.clear()
        answer = app.client.post("/superresolve?model=fast", content=TILE.tobytes(), headers=RAW)
        assert answer.status_code == 200
        assert models.batches() == [("fine", 0), ("fast", 0), ("fast", 1)]
        app.until(lambda: models.engines[1][1].closed)
        assert not models.engines[2][1].closed

    def test_a_request_under_way_is_answered_by_the_old_engine(
        self, app: ServedApp, models: Models
    ):
        """Nothing is lost at the switch."""
        old = models.engines[1][1]
        old.gate.clear()
        answer = app.post_in_background("/superresolve?model=fast", TILE.tobytes(), RAW)
        app.until(lambda: old.started.acquire(blocking=False) and bool(old.batches))
        assert admin(app, "/v2/repository/models/fast/load").status_code == 200
        assert not old.closed
        old.open_gate()
        assert answer.result(30).status_code == 200
        app.until(lambda: old.closed)

    def test_a_bundle_that_has_gone_bad_changes_nothing(self, app: ServedApp, models: Models):
        """The error says what is wrong, and the old model goes on."""
        (models.paths["fast"] / "model.onnx").write_bytes(b"tampered")
        answer = admin(app, "/v2/repository/models/fast/load")
        assert answer.status_code == 422
        assert "model.onnx" in answer.json()["detail"]
        answer = app.client.post("/superresolve?model=fast", content=TILE.tobytes(), headers=RAW)
        assert answer.status_code == 200
        assert app.client.get("/readyz").status_code == 200

    def test_unload_and_load_again(self, app: ServedApp, models: Models):
        """An unloaded model is not there; the others are, and the service is ready."""
        assert admin(app, "/v2/repository/models/fine/unload").status_code == 200
        gone = app.client.post("/superresolve", content=TILE.tobytes(), headers=RAW)
        assert (gone.status_code, gone.json()["type"]) == (404, "urn:semsr:problem:unknown-model")
        assert app.client.get("/readyz").status_code == 200
        assert admin(app, "/v2/repository/models/fine/unload").status_code == 404
        assert admin(app, "/v2/repository/models/fine/load").status_code == 200
        assert app.post(TILE.tobytes()).headers["x-model"] == "fine"
        app.until(lambda: models.engines[0][1].closed)

    def test_nothing_loaded_is_not_ready(self, app: ServedApp):
        """Readiness tells the truth."""
        for name in ("fine", "fast"):
            assert admin(app, f"/v2/repository/models/{name}/unload").status_code == 200
        assert app.client.get("/readyz").json()["detail"] == "no model is loaded"

    @pytest.mark.parametrize(
        ("key", "status"), [(None, 401), ("Bearer x", 401), ("Bearer l", 403), ("Bearer b", 404)]
    )
    def test_only_an_admin_may(self, app: ServedApp, key: str | None, status: int):
        """Whether the model exists is told to nobody else."""
        del app.client.headers["authorization"]
        headers = {} if key is None else {"authorization": key}
        answer = app.client.post("/v2/repository/models/none/load", headers=headers)
        assert answer.status_code == status

    def test_without_keys_nobody_may(self, serve):
        """A service that everybody may use is still not everybody's to change."""
        client, route = serve().client, "/v2/repository/models/identity/unload"

        without = client.post(route)
        unknown = client.post(route, headers={"Authorization": "Bearer some-key"})

        assert [401, 403] == [without.status_code, unknown.status_code]
        assert "SEMSR_API_KEYS" in without.json()["detail"]
        assert "SEMSR_API_KEYS" in unknown.json()["detail"]

    @pytest.mark.parametrize(
        "path",
        [
            "/v2/repository/models/fast/unload%0A",
            "/v2/repository/models/fast/load%0A",
            "/admin/models/fast/load%0A",
            "/admin/models/fast/rollback%0A",
            "/%61dmin/models/fast/load",
        ],
    )
    def test_no_spelling_of_an_address_goes_past_the_admin(self, app: ServedApp, path: str):
        """The router takes an address with a line's end behind it, too."""
        for key, status in (("Bearer l", 403), ("Bearer x", 401)):
            answer = app.client.post(path, headers={"authorization": key})
            assert answer.status_code == status
        assert set(app.lifecycle.models) == {"fine", "fast"}


def test_statistics_count_requests_tiles_and_batches(app: ServedApp):
    """By model, in the shape of the protocol's extension."""
    for content in (TILE.tobytes(), bytes(48 * 48), b"short"):
        side = 48 if len(content) == 48 * 48 else 24
        headers = {**RAW, "x-tile-shape": f"{side},{side}"}
        app.client.post("/superresolve?model=fast", content=content, headers=headers)
    [stats] = app.client.get("/v2/models/fast/stats").json()["model_stats"]
    assert stats["inference_stats"]["success"]["count"] == 2
    assert stats["inference_stats"]["fail"]["count"] == 1
    assert stats["inference_count"] == stats["inference_stats"]["queue"]["count"] > 2
    assert stats["execution_count"] == stats["inference_stats"]["compute_infer"]["count"] > 0
    assert stats["inference_stats"]["compute_infer"]["ns"] > 0
    [other] = app.client.get("/v2/models/fine/stats").json()["model_stats"]
    assert other["inference_count"] == 0


class TestSettings:
    """`SEMSR_BUNDLES`."""

    @pytest.mark.parametrize("value", ["a", "=x", "a=", "a=x,a=y", "a b=x", "a=x,,b=y"])
    def test_what_is_no_list_of_names_and_folders_is_refused(self, value: str):
        """With the part that cannot be read."""
        with pytest.raises(ValueError, match="NAME=FOLDER"):
            Settings(bundles=value)  # type: ignore[arg-type]

    def test_one_way_or_the_other(self):
        """Both at once is a mistake."""
        with pytest.raises(ValueError, match="set one of them"):
            Settings(bundle=Path("a"), bundles="b=c")  # type: ignore[arg-type]
        assert Settings(bundles="b=c, d=e").model_paths() == {"b": Path("c"), "d": Path("e")}  # type: ignore[arg-type]
