"""Line charts of the report as SVG text: sharp in print, and small."""

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 38
COLOURS = ("#8a94a6", "#d08a1d", "#1f5fbf", "#1c2330")
DASHES = ("4 3", "7 3", "", "2 2")


def line_chart(
    x: Sequence[float], rows: Mapping[str, Sequence[float]], *, x_label: str, y_label: str
) -> str:
    """Draw rows over one axis; at most four rows have colours of their own.

    Args:
        x: Positions, at least two, rising.
        rows: Name to values, one a position.
        x_label: Title of the axis.
        y_label: Title of the values.

    Returns:
        An `<svg>` element.
    """
    values = [value for row in rows.values() for value in row]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 1.0
    low, high = low - margin, high + margin
    span_x = (x[-1] - x[0]) or 1.0

    def at(px: float, py: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * (px - x[0]) / span_x,
            TOP + (HEIGHT - TOP - BOTTOM) * (high - py) / (high - low),
        )

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} over '
        f'{escape(x_label)}" xmlns="http://www.w3.org/2000/svg">'
    ]
    for number in range(5):
        value = low + (high - low) * number / 4
        _, y = at(x[0], value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="tick end">{value:.3g}</text>'
        )
        place = x[0] + span_x * number / 4
        px, _ = at(place, low)
        parts.append(f'<text x="{px:.1f}" y="{HEIGHT - 22}" class="tick middle">{place:.3g}</text>')
    for number, (name, row) in enumerate(rows.items()):
        points = " ".join("{:.1f},{:.1f}".format(*at(*pair)) for pair in zip(x, row, strict=True))
        colour, dash = COLOURS[number % 4], DASHES[number % 4]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"><title>{escape(name)}</title></polyline>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 5}" class="tick middle">'
        f"{escape(x_label)}</text>"
        f'<text x="12" y="{HEIGHT / 2 - 10:.0f}" class="tick middle" '
        f'transform="rotate(-90 12 {HEIGHT / 2 - 10:.0f})">{escape(y_label)}</text></svg>'
    )
    return "".join(parts)


def legend(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return name, colour and dash of each row, in the chart's order."""
    return [(name, COLOURS[n % 4], DASHES[n % 4]) for n, name in enumerate(names)]
