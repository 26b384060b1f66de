# pyright: reportMissingImports=false
# napari and magicgui are in the environment of the user's napari alone.
"""The dock widget: choose a layer and where it is computed, run, watch, stop."""

import logging
from typing import Any

from magicgui.widgets import (
    ComboBox,
    Container,
    FileEdit,
    Label,
    LineEdit,
    ProgressBar,
    PushButton,
)
from napari.layers import Image

from napari_semsr.backends import Backend, LocalBackend, ServiceBackend
from napari_semsr.job import super_resolve
from napari_semsr.layers import LayerError, read_layer

_LOG = logging.getLogger(__name__)
SERVICE, LOCAL = "semsr service", "this machine"
_GREY_RANGES = [("the model's window", "model"), ("the layer's contrast limits", "limits")]


class SuperResolve(Container):
    """Dock widget of the plugin.

    Args:
        napari_viewer: Viewer whose layers are offered and that gets the results; napari passes it
            by this name.
    """

    def __init__(self, napari_viewer: Any) -> None:  # noqa: ANN401 (napari has the type)
        self._viewer = napari_viewer
        self._worker: Any = None
        self._is_open = True
        self.layer = ComboBox(label="Image", choices=self._images, nullable=True)
        self.grey_range = ComboBox(
            label="Grey range",
            choices=_GREY_RANGES,
            tooltip="Values of 16-bit images that become black and white",
        )
        self.place = ComboBox(label="Compute on", choices=[SERVICE, LOCAL])
        self.url = LineEdit(label="URL", value="http://127.0.0.1:8000")
        self.model = LineEdit(label="Model", tooltip="Empty for the service's default")
        self.api_key = LineEdit(label="API key", tooltip="Empty where the service asks for none")
        self.bundle = FileEdit(
            label="Bundle", mode="d", nullable=True, tooltip="Empty for the shipped bundle"
        )
        self.run = PushButton(text="Super-resolve")
        self.stop = PushButton(text="Stop", enabled=False)
        self.bar = ProgressBar(label="Images", value=0, min=0, max=1)
        self.status = Label(value="")
        super().__init__(
            widgets=[
                self.layer,
                self.grey_range,
                self.place,
                self.url,
                self.model,
                self.api_key,
                self.bundle,
                self.run,
                self.stop,
                self.bar,
                self.status,
            ]
        )
        _hide_text(self.api_key)
        self.status.native.setWordWrap(True)
        self.place.changed.connect(self._show_fields)
        self.run.clicked.connect(self._start)
        self.stop.clicked.connect(self._stop)
        for event in ("inserted", "removed", "reordered"):
            getattr(self._viewer.layers.events, event).connect(self._list_layers)
        self._viewer.layers.selection.events.active.connect(self._follow_selection)
        self.native.destroyed.connect(self._abandon)
        self._show_fields()
        self._follow_selection()

    def _images(self, *_: object) -> list[tuple[str, Any]]:
        """List the image layers, the topmost first."""
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        return [(layer.name, layer) for layer in reversed(layers)]

    def _list_layers(self, *_: object) -> None:
        self.layer.reset_choices()

    def _follow_selection(self, *_: object) -> None:
        active = self._viewer.layers.selection.active
        self.layer.reset_choices()
        if any(layer is active for _, layer in self._images()):
            self.layer.value = active

    def _show_fields(self, *_: object) -> None:
        is_service = self.place.value == SERVICE
        for field in (self.url, self.model, self.api_key):
            field.visible = is_service
        self.bundle.visible = not is_service

    def _backend(self) -> Backend:
        if self.place.value == SERVICE:
            return ServiceBackend(self.url.value, self.model.value, self.api_key.value)
        return LocalBackend(str(self.bundle.value or ""))

    def _start(self, *_: object) -> None:
        from napari.qt.threading import create_worker

        if self._worker is not None:
            return
        try:
            source = read_layer(self.layer.value, self.grey_range.value)
        except LayerError as error:
            self._fail(error)
            return
        # napari would raise the error again in the main thread: it is shown by `_fail` alone.
        worker = create_worker(
            super_resolve, source, self._backend(), _start_thread=False, _ignore_errors=True
        )
        worker.yielded.connect(self._progressed)
        worker.returned.connect(self._add)
        worker.errored.connect(self._fail)
        worker.aborted.connect(lambda: self._say("Stopped; nothing was added."))
        worker.finished.connect(self._finished)
        self._worker = worker
        self.bar.max = len(source)
        self.bar.value = 0
        self.run.enabled, self.stop.enabled = False, True
        self._say(f"Super-resolving '{source.name}'…")
        worker.start()

    def _stop(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.quit()
            self.stop.enabled = False
            self._say("Stopping after the image in progress…")

    def _progressed(self, count: int) -> None:
        if self._is_open:
            self.bar.value = count

    def _add(self, result: tuple[dict[str, Any], list[str]]) -> None:
        from napari.utils.notifications import show_warning

        arguments, warnings = result
        layer = self._viewer.add_image(**arguments)
        self._say("\n".join([f"Added '{layer.name}'.", *warnings]))
        for line in warnings:
            show_warning(f"{layer.name}: {line}")

    def _fail(self, error: BaseException) -> None:
        from napari.utils.notifications import show_error

        text = str(error) or type(error).__name__
        _LOG.warning("super-resolution failed", exc_info=error)
        self._say(text)
        show_error(f"semsr: {text}")

    def _finished(self) -> None:
        self._worker = None
        if self._is_open:
            self.run.enabled, self.stop.enabled = True, False

    def _say(self, text: str) -> None:
        if self._is_open:
            self.status.value = text

    def _abandon(self, *_: object) -> None:
        """Stop the work of a widget that was closed; its controls exist no longer."""
        self._is_open = False
        if self._worker is not None:
            self._worker.quit()


def _hide_text(edit: LineEdit) -> None:
    from qtpy.QtWidgets import QLineEdit

    edit.native.setEchoMode(QLineEdit.EchoMode.Password)
