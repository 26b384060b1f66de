"""Plots as PNG files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from semsr.whole_file import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as a PNG, whole or not at all; makes the folder."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, picture.getbuffer())
