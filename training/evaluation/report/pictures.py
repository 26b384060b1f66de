"""Pictures of the report: LR, SR and true HR side by side, defects boxed; curves; gradient maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.evaluation.folders.benchmark import Box, Defect, Picture
from training.evaluation.measures.background import LOWEST_FREQUENCY
from training.evaluation.measures.detection import Scores, froc_curve
from training.evaluation.measures.gradients import gradient_magnitude
from training.ground.whole_file import whole_file

GAP_PX = 8
MIN_FONT_PX = 15
CLOSE_UP_PX = 128
MAX_COLUMNS = 9
"""Pictures of a row: more, such as those of a comparison of many systems, take further rows."""

BOX_COLOURS = {"planted": (64, 160, 255), "unseen": (255, 80, 64), "unknown": (255, 176, 32)}
MAX_GRADIENT = 0.15
MAX_GRADIENT_COLUMNS = 5

Floats = NDArray[np.float64]


def side_by_side(
    pictures: Mapping[str, Picture],
    *,
    boxes: Sequence[tuple[Box, str]] = (),
    zoom: int = 1,
    columns: int = MAX_COLUMNS,
) -> Image.Image:
    """Place captioned pictures of one size in rows, with boxes drawn into each.

    Args:
        pictures: Caption to (H, W) uint8, left to right, then down.
        boxes: left, top, right, bottom and the defect's group, in pixels of the pictures.
        zoom: Times that each pixel is repeated.
        columns: Pictures of a row.

    Returns:
        An RGB picture; grey levels as they are.
    """
    height, width = (zoom * side for side in next(iter(pictures.values())).shape)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    # A page shows a row at one width, so that captions must grow with the pictures.
    font_px = max(MIN_FONT_PX, width // 30)
    caption_px = round(1.7 * font_px)
    row_px = height + caption_px
    size = (columns * width + (columns - 1) * GAP_PX, rows * row_px + (rows - 1) * GAP_PX)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=font_px)
    for number, (caption, picture) in enumerate(pictures.items()):
        left = number % columns * (width + GAP_PX)
        top = number // columns * (row_px + GAP_PX) + caption_px
        large = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
        canvas.paste(Image.fromarray(large), (left, top))
        draw.text((left + 2, top - caption_px + font_px // 4), caption, fill="black", font=font)
        for (x0, y0, x1, y1), group in boxes:
            corners = (
                left + zoom * x0 - 2,
                top + zoom * y0 - 2,
                left + zoom * x1 + 1,
                top + zoom * y1 + 1,
            )
            draw.rectangle(corners, outline=BOX_COLOURS.get(group, (255, 200, 0)), width=2)
    return canvas


def repeated(lr: Picture, *, scale: int) -> Picture:
    """Enlarge an LR tile by repeating its pixels: the LR picture as it is."""
    return lr.repeat(scale, axis=0).repeat(scale, axis=1)


def close_up(defect: Defect, shape: tuple[int, ...]) -> tuple[slice, slice, Box]:
    """Choose the window of a close-up around a defect: rows, columns, and the box within it."""
    left, top, right, bottom = defect.box_hr_px
    side_px = min(max(CLOSE_UP_PX, right - left + 32, bottom - top + 32), *shape[:2])
    y = min(max((top + bottom - side_px) // 2, 0), shape[0] - side_px)
    x = min(max((left + right - side_px) // 2, 0), shape[1] - side_px)
    box = (left - x, top - y, right - x, bottom - y)
    return slice(y, y + side_px), slice(x, x + side_px), box


def draw_froc(
    path: Path, scores: Mapping[str, Scores], points: Mapping[str, tuple[float, float]]
) -> None:
    """Draw recall over false alarms a tile, with each method's point at the fixed threshold.

    Args:
        path: PNG to write.
        scores: Method name to its scores.
        points: Method name to (alarms a tile, recall) at the fixed threshold.
    """
    figure = _figure(7.5, 5.0)
    axes = figure.add_subplot()
    for name, item in scores.items():
        alarms, recall = froc_curve(item)
        # Up to the k-th alarm the threshold stays above it: a step, not a slope.
        (line,) = axes.step(alarms, recall, where="post", label=name, linewidth=1.6)
        if name in points:
            axes.plot(*points[name], "o", color=line.get_color(), markersize=6)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.02),
        xlabel="false alarms a tile",
        ylabel="recall of defects",
        title="FROC; dots: threshold fixed on true HR (off the plot where alarms exceed 1)",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    _save(figure, path)


def draw_spectra(
    path: Path, spectra: Mapping[str, Mapping[str, Floats]], reference: Mapping[str, Floats]
) -> None:
    """Draw each method's mean spectrum less the reference's, one panel for each scene kind.

    Args:
        path: PNG to write.
        spectra: Method name to scene kind to mean spectrum in dB.
        reference: Scene kind to mean spectrum in dB.
    """
    scenes = list(reference)
    columns = min(len(scenes), 4)
    rows = -(-len(scenes) // columns)
    figure = _figure(3.6 * columns, 2.9 * rows + 0.6)
    for number, scene in enumerate(scenes):
        axes = figure.add_subplot(rows, columns, number + 1)
        bins = reference[scene].size
        frequency = LOWEST_FREQUENCY + (np.arange(bins) + 0.5) * (1 - LOWEST_FREQUENCY) / bins
        for name, of_scene in spectra.items():
            if scene in of_scene:
                difference = of_scene[scene] - reference[scene]
                axes.plot(frequency, difference, label=name, linewidth=1.3)
        axes.axhspan(-2, 2, color="green", alpha=0.08)
        axes.set(title=scene, xlabel="frequency / Nyquist", ylabel="dB above reference")
        axes.set_ylim(-26, 10)
        axes.grid(alpha=0.3)
        if number == 0 and axes.lines:
            axes.legend(fontsize=7)
    _save(figure, path)


def draw_gradients(path: Path, pictures: Mapping[str, Picture]) -> None:
    """Draw gradient maps of pictures of one size side by side, on one colour scale."""
    columns = min(len(pictures), MAX_GRADIENT_COLUMNS)
    rows = -(-len(pictures) // columns)
    figure = _figure(3.2 * columns + 0.6, 3.6 * rows)
    for number, (name, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        shown = axes.imshow(gradient_magnitude(picture), cmap="magma", vmin=0, vmax=MAX_GRADIENT)
        axes.set_title(name, fontsize=9)
        axes.set_axis_off()
        if number == len(pictures) - 1:
            figure.colorbar(shown, ax=axes, shrink=0.8)
    _save(figure, path)


def _figure(width_inch: float, height_inch: float) -> Figure:
    # No pyplot: it keeps figures alive and looks for a display.
    figure = Figure(figsize=(width_inch, height_inch), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"savefig.dpi": 110}), whole_file(path) as part:
        figure.savefig(part, metadata={"Software": None})
