"""The napari plugin: its package, and its widget with napari's own layers, Qt and threads.

The tests of the widget need napari with a Qt binding, in no lock file: `pip install napari pyqt6`
into a folder that PYTHONPATH names, and `-p no:napari -p no:npe2`, whose fixtures are not needed.
They run without a screen and thus without the canvas.
"""

import ast
import importlib
import importlib.util
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from semsr.server_process import ServerProcess, running_server

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "client" / "napari"
PACKAGE = PLUGIN / "napari_semsr"
TINY_BUNDLE = ROOT / "tests" / "data" / "tiny_bundle"

needs_napari = pytest.mark.skipif(
    importlib.util.find_spec("napari") is None, reason="napari is not installed"
)


@pytest.fixture(autouse=True)
def plugin_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package importable, as its wheel would; no screen is there."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")


def test_the_manifest_names_what_exists() -> None:
    """The entry point, the widget's class, and the version of the service."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    service = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [point] = project["entry-points"]["napari.manifest"].values()
    package, _, file = point.partition(":")
    manifest = yaml.safe_load((PLUGIN / package / file).read_text(encoding="utf-8"))
    [command] = manifest["contributions"]["commands"]
    [widget] = manifest["contributions"]["widgets"]
    module, _, name = command["python_name"].partition(":")
    tree = ast.parse((PLUGIN / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))

    assert project["name"] == manifest["name"]
    assert command["id"] == widget["command"]
    assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert service["version"] == project["version"]


def test_the_plugin_asks_pip_for_no_package_of_ours() -> None:
    """Our packages are on no package index: a stranger's would be installed."""
    text = (PLUGIN / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = tomllib.loads(text)["project"]["dependencies"]

    assert [] == [name for name in dependencies if name.startswith("semsr")]


def test_the_plugin_imports_ours_only_where_it_uses_it() -> None:
    """Without the client or semsr it opens, and says what is missing; no other folder of ours."""
    allowed = {"semsr_client", "semsr", "bundle_format", "engines"}  # the last two: error classes
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()} | allowed
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = {name for node in tree.body for name in imported(node)}
        deep = {name for node in ast.walk(tree) for name in imported(node)}
        assert set() == top & ours, path
        assert deep & ours <= allowed, path


def imported(node: ast.AST) -> set[str]:
    """Return the top-level packages that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()


@pytest.fixture(scope="module")
def service() -> Iterator[ServerProcess]:
    """A service that repeats pixels, with a key."""
    settings = {"SEMSR_BUNDLE": str(TINY_BUNDLE), "SEMSR_ENGINE": "identity"}
    with running_server(settings) as server:
        yield server


class Desk:
    """A viewer without canvas and the plugin's widget in it."""

    def __init__(self) -> None:
        from napari.components import ViewerModel  # pyright: ignore[reportMissingImports]
        from qtpy.QtWidgets import QApplication  # pyright: ignore[reportMissingImports]

        self.app: Any = QApplication.instance() or QApplication([])
        self.viewer: Any = ViewerModel()
        self.widget: Any = importlib.import_module("napari_semsr.widget").SuperResolve(self.viewer)

    def run(self, *, until: Callable[[], bool] | None = None) -> Any:  # noqa: ANN401 (a layer)
        """Press the button and run Qt's loop until the work ends; returns the topmost layer."""
        self.widget.run.clicked.emit(True)
        self.wait(until or (lambda: self.widget.run.enabled))
        return self.viewer.layers[-1]

    def wait(self, is_done: Callable[[], bool]) -> None:
        """Process Qt's events until a condition holds."""
        deadline_s = time.monotonic() + 60
        while not is_done():
            assert time.monotonic() < deadline_s, self.widget.status.value
            self.app.processEvents()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The widget, whose notifications are recorded instead of shown."""
    notifications = pytest.importorskip("napari.utils.notifications")
    desk = Desk()
    desk.shown = []  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("show_error", "show_warning"):
        monkeypatch.setattr(notifications, name, desk.shown.append)  # pyright: ignore[reportAttributeAccessIssue]
    return desk


def centre(layer: Any, pixel: tuple[float, ...]) -> list[float]:  # noqa: ANN401 (a layer)
    """Return the place of a pixel in the world."""
    return np.asarray(layer.data_to_world(pixel)).round(6).tolist()


@pytest.mark.slow
@needs_napari
@pytest.mark.filterwarnings("ignore")  # those of napari's own packages
class TestWidget:
    """The widget as a user meets it."""

    def test_a_layer_becomes_one_that_overlays_it(self, desk: Desk, service: ServerProcess) -> None:
        """By the service: the picture, its place in the world, and what it was made by."""
        tile = np.random.default_rng(1).integers(0, 256, (24, 30), dtype=np.uint8)
        source = desk.viewer.add_image(
            tile,
            name="tile",
            scale=(2, 3),
            rotate=30,
            shear=[0.2],
            translate=(5, 7),
            affine=[[1, 0.1, 3], [0, 1.5, 2], [0, 0, 1]],
            units=("nm", "nm"),
        )
        desk.widget.url.value = service.url
        result = desk.run()

        assert "tile x4" == result.name
        assert tile.repeat(4, axis=0).repeat(4, axis=1).tolist() == result.data.tolist()
        # A coarse pixel has its centre in the middle of its four by four fine ones.
        assert centre(source, (3, 5)) == centre(result, (3 * 4 + 1.5, 5 * 4 + 1.5))
        assert [0.5, 0.75] == result.scale.round(9).tolist()
        assert [str(unit) for unit in source.units] == [str(unit) for unit in result.units]
        facts = result.metadata["semsr"]
        assert ("tile", "identity") == (facts["source"], facts["engine"])
        assert 0.0 == facts["quality"][0]["non-finite"]

    def test_a_stack_keeps_its_axes(self, desk: Desk, service: ServerProcess) -> None:
        """Time and depth stay, 16-bit images use the contrast limits that the user set."""
        stack = np.zeros((2, 3, 24, 24), np.uint16)
        stack[1, 2] = 4095
        desk.viewer.add_image(stack, scale=(10, 3, 1, 1), contrast_limits=(0, 4095))
        desk.widget.url.value = service.url
        desk.widget.grey_range.value = "limits"
        result = desk.run()

        assert (2, 3, 96, 96) == result.data.shape
        assert [0, 255] == [int(result.data[0, 0].max()), int(result.data[1, 2].min())]
        assert [10, 3, 0.25, 0.25] == result.scale.tolist()
        assert 6 == len(result.metadata["semsr"]["quality"])
        assert (0, 4095) == result.metadata["semsr"]["window"]
        assert 6 == desk.widget.bar.value

    def test_this_machine_computes_without_a_service(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a bundle that is chosen, floats by the contrast limits."""
        monkeypatch.setenv("SEMSR_ENGINE", "identity")
        desk.viewer.add_image(np.linspace(0, 1, 576).reshape(24, 24), contrast_limits=(0, 1))
        desk.widget.place.value = "this machine"
        desk.widget.bundle.value = TINY_BUNDLE
        before = len(desk.viewer.layers)
        desk.run()
        assert "is float64; expected uint8 or uint16; for floats, take" in desk.widget.status.value
        assert before == len(desk.viewer.layers)
        desk.widget.grey_range.value = "limits"
        result = desk.run()

        assert (96, 96) == result.data.shape
        assert [0, 255] == [int(result.data.min()), int(result.data.max())]

    def test_flags_beyond_their_limits_are_warnings(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Shown, kept in the metadata; the layer is added."""
        import semsr
        from semsr.upscaler import SrImage

        class Doubtful:
            def __init__(self, *_: object, **__: object) -> None: ...
            def __enter__(self) -> "Doubtful":
                return self

            def __exit__(self, *_: object) -> None: ...
            def many(self, tiles: Any) -> Iterator[SrImage]:  # noqa: ANN401 (the plugin's)
                for tile in tiles:
                    yield SrImage(pixels=tile.repeat(4, 0).repeat(4, 1), quality={"residual": 1.5})

        monkeypatch.setitem(vars(semsr), "Upscaler", Doubtful)
        desk.viewer.add_image(np.zeros((24, 24), np.uint8), name="spot")
        desk.widget.place.value = "this machine"
        result = desk.run()

        [warning] = desk.shown  # pyright: ignore[reportAttributeAccessIssue]
        assert "spot x4: residual is 1.50 of its limit" in warning
        assert [{"residual": 1.5}] == result.metadata["semsr"]["quality"]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"url": "http://127.0.0.1:9"}, "unreachable"),
            ({"url": "127.0.0.1"}, "http"),
            ({"model": "nonsense"}, "nonsense"),
            ({"place": "this machine", "bundle": "/nowhere"}, "/nowhere is not a bundle"),
        ],
    )
    def test_errors_are_shown_and_the_button_comes_back(
        self,
        desk: Desk,
        service: ServerProcess,
        monkeypatch: pytest.MonkeyPatch,
        change: dict[str, str],
        words: str,
    ) -> None:
        """The service's or the client's own words; no layer is added."""
        monkeypatch.setattr("napari_semsr.backends.TIMEOUT_S", 2.0)
        desk.viewer.add_image(np.zeros((24, 24), np.uint8))
        desk.widget.url.value = service.url
        for name, value in change.items():
            getattr(desk.widget, name).value = value
        desk.run()

        [error] = desk.shown  # pyright: ignore[reportAttributeAccessIssue]
        assert words in error
        assert 1 == len(desk.viewer.layers)

    def test_layers_that_cannot_be_used_are_refused(self, desk: Desk) -> None:
        """None at all, colour, another kind of layer is not even offered."""
        desk.viewer.add_labels(np.zeros((24, 24), np.uint8))
        desk.widget.run.clicked.emit(True)
        assert "no image layer is selected" in desk.widget.status.value
        assert desk.widget.bundle.value is None
        desk.viewer.add_image(np.zeros((24, 24, 3), np.uint8), rgb=True)
        desk.widget.run.clicked.emit(True)
        assert "is coloured; expected grey levels" in desk.widget.status.value
        assert desk.widget.run.enabled

    def test_a_stop_adds_nothing(self, desk: Desk, service: ServerProcess) -> None:
        """The thread ends after the image in progress, and the widget can be used again."""
        desk.viewer.add_image(np.zeros((2000, 24, 24), np.uint8))
        desk.widget.url.value = service.url
        desk.run(until=lambda: desk.widget.bar.value > 0)
        desk.widget.stop.clicked.emit(True)
        desk.wait(lambda: desk.widget.run.enabled)

        assert 1 == len(desk.viewer.layers)
        assert desk.widget.bar.value < 2000
        assert "Stopped; nothing was added." == desk.widget.status.value

    def test_closing_the_widget_ends_its_work(self, desk: Desk, service: ServerProcess) -> None:
        """The thread stops at the next image, and no signal reaches a control that is gone."""
        qt_core = pytest.importorskip("qtpy.QtCore")
        desk.viewer.add_image(np.zeros((2000, 24, 24), np.uint8))
        desk.widget.url.value = service.url
        desk.run(until=lambda: desk.widget.bar.value > 0)
        desk.widget.native.deleteLater()
        desk.app.sendPostedEvents(None, qt_core.QEvent.Type.DeferredDelete)
        desk.wait(lambda: desk.widget._worker is None)

        assert 1 == len(desk.viewer.layers)
        assert [] == desk.shown  # pyright: ignore[reportAttributeAccessIssue]

    def test_napari_reads_the_manifest(self) -> None:
        """npe2 validates it, and its command makes the widget."""
        npe2 = pytest.importorskip("npe2")
        magicgui = pytest.importorskip("magicgui")
        manifest = npe2.PluginManifest.from_file(PACKAGE / "napari.yaml")
        [command] = manifest.contributions.commands
        module, _, name = command.python_name.partition(":")

        assert issubclass(vars(importlib.import_module(module))[name], magicgui.widgets.Container)
