"""Pictures of a run: sample pictures, curves of every figure, TensorBoard events."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from training.ground.whole_file import whole_file

NOT_CURVES = frozenset({"step", "elapsed_s", "data_share"})
COLUMNS = 3

# No display is needed to draw into a file.
mpl.use("Agg")


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write (H, W) uint8 as PNG; the folder is made where absent."""
    with whole_file(path) as part:
        Image.fromarray(picture).save(part)


def draw_curves(stats: Sequence[Mapping[str, float]], *, path: Path) -> None:
    """Draw each logged figure over the steps, one small plot each, as PNG.

    Args:
        stats: Records with `step` and any other figures, as in `stats.jsonl`.
        path: PNG file, replaced.
    """
    names = list(dict.fromkeys(key for record in stats for key in record if key not in NOT_CURVES))
    if not names:
        return
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.4 * rows))
    # Fixed margins: a layout that is solved for costs seconds on a slow machine.
    figure.subplots_adjust(0.05, 0.1 / rows + 0.02, 0.98, 1 - 0.1 / rows, 0.2, 0.45)
    for number, name in enumerate(names):
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        points = [(record["step"], record[name]) for record in stats if name in record]
        axes.plot(*zip(*points, strict=True), linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    with whole_file(path) as part:
        figure.savefig(part, dpi=90)


class EventWriter:
    """Writes records for TensorBoard, which is optional; without a folder it does nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is not None:
            try:
                tensorboard = importlib.import_module("torch.utils.tensorboard")
            except ImportError as error:
                raise ImportError(
                    "run.tensorboard = true needs the package tensorboard, which is not installed"
                ) from error
            self._writer = tensorboard.SummaryWriter(str(folder))

    def __enter__(self) -> "EventWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, record: Mapping[str, float]) -> None:
        """Write every figure of a record at its step."""
        if self._writer is None:
            return
        for name, value in record.items():
            if name not in NOT_CURVES:
                self._writer.add_scalar(name, value, int(record["step"]))
