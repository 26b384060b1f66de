"""The numbers of the page's views against closed forms, NumPy, and the model's own flag.

The modules are imported by the page in a browser, as the page itself does, and called with inputs
whose results are known.
"""

import base64
import re
from collections.abc import Iterator
from math import erf, hypot
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from service.http.page import FILES
from tests.browser import find_chromium, running_browser

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Page, Route

Grey = npt.NDArray[np.uint8]
MODULES = ("colours.js", "maps.js", "profile.js", "scale.js")
# Machado, Oliveira and Fernandes 2009, table 1, severity 1, for linear RGB.
COLOUR_BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A blank page that can import the modules; no service is needed for pure functions."""
    program = find_chromium()
    if program is None:
        pytest.skip("chromium is not installed")
    with running_browser(program) as browser:
        opened = browser.new_page()
        opened.set_default_timeout(20_000)

        def serve(route: Route) -> None:
            name = route.request.url.rpartition("/")[2]
            if name in MODULES:
                text = (FILES / name).read_text(encoding="utf-8")
                route.fulfill(body=text, content_type="text/javascript")
            else:
                route.fulfill(body="<!doctype html>", content_type="text/html")

        opened.route("**/*", serve)
        opened.goto("http://page.invalid/")
        yield opened


def call(page: Page, module: str, expression: str, argument: object = None) -> Any:  # noqa: ANN401
    """Evaluate an expression of `m`, a module, `a`, the argument, and `picture(rows)`."""
    return page.evaluate(
        f"""async (a) => {{
          const m = await import("/page/{module}.js");
          const picture = ({{ shape, grey }}) => ({{
            width: shape[1], height: shape[0],
            grey: Uint8Array.from(atob(grey), (c) => c.charCodeAt(0)),
          }});
          return {expression};
        }}""",
        argument,
    )


def sent(picture: Grey) -> dict[str, object]:
    """A picture as `picture()` in the browser takes it."""
    return {"shape": picture.shape, "grey": base64.b64encode(picture.tobytes()).decode()}


def lines(
    starts: list[float],
    width: float,
    *,
    angle_deg: float = 0.0,
    sigma: float = 1.5,
    low: float = 40.0,
    high: float = 160.0,
    side: int = 240,
) -> Grey:
    """Bright lines with edges blurred by a Gaussian, exact at pixel centres: (side, side)."""
    angle = np.deg2rad(angle_deg)
    y, x = np.mgrid[:side, :side] + 0.5
    across = x * np.cos(angle) + y * np.sin(angle)
    step = np.vectorize(lambda t: 0.5 * (1 + erf(t / (sigma * 2**0.5))))
    share = sum(step(across - start) - step(across - start - width) for start in starts)
    return np.rint(low + (high - low) * np.asarray(share)).astype(np.uint8)


def measure(
    page: Page, picture: Grey, start: tuple[float, float], end: tuple[float, float], **options: Any
) -> dict[str, Any]:
    """Edges and widths along a line."""
    return call(
        page,
        "profile",
        """(() => {
          const line = { from: a.start, to: a.end };
          const profile = m.sampleLine(picture(a.picture), line, a.options);
          const found = m.findEdges(profile, a.options);
          const spread = m.spreadAcross(picture(a.picture), line, found.edges, a.options);
          return { ...found, widths: m.widthsOf(found.edges), length: profile.length, spread };
        })()""",
        {"picture": sent(picture), "start": start, "end": end, "options": options},
    )


# --- line profile ---


@pytest.mark.parametrize("phase", [0.0, 0.1, 0.25, 0.37, 0.5, 0.83])
def test_a_known_line_has_its_width(page: Page, phase: float) -> None:
    """A line of 40.5 px measures 40.5 ± 0.05 px, wherever it starts within a pixel."""
    found = measure(page, lines([100 + phase], 40.5), (20, 60.5), (220, 60.5), width=5)
    rising, falling = found["edges"]
    assert abs(rising["at"] - (80 + phase)) < 0.05
    assert abs(falling["at"] - (120.5 + phase)) < 0.05
    assert abs(found["widths"]["bright"]["mean"] - 40.5) < 0.05
    assert found["widths"]["dark"] is None
    assert found["widths"]["pitch"] is None


def test_a_grating_has_its_pitch(page: Page) -> None:
    """Lines of 13.3 px every 31.7 px: both are found, with their number and no spread."""
    starts = [20.2 + 31.7 * k for k in range(6)]
    found = measure(page, lines(starts, 13.3), (2, 100), (238, 100), width=9)
    widths = found["widths"]
    assert [6, 5, 10] == [widths[kind]["count"] for kind in ("bright", "dark", "pitch")]
    assert abs(widths["bright"]["mean"] - 13.3) < 0.05
    assert abs(widths["dark"]["mean"] - 18.4) < 0.05
    assert abs(widths["pitch"]["mean"] - 31.7) < 0.02
    assert widths["bright"]["sd"] < 0.05
    assert found["spread"]["bright"] < 0.05
    assert 9 == found["spread"]["lines"]


def test_a_tilted_line_is_measured_along_the_drawn_one(page: Page) -> None:
    """Across a line at 20°: its width; along x: longer by 1/cos."""
    picture = lines([150], 30.0, angle_deg=20)
    angle = np.deg2rad(20)
    normal = np.array([np.cos(angle), np.sin(angle)])
    foot = 165 * normal + 5 * np.array([-normal[1], normal[0]])
    straight = measure(page, picture, tuple(foot - 55 * normal), tuple(foot + 55 * normal), width=5)
    assert abs(straight["widths"]["bright"]["mean"] - 30.0) < 0.06
    along_x = measure(page, picture, (80, 60.5), (238, 60.5), width=1)
    assert abs(along_x["widths"]["bright"]["mean"] - 30.0 / np.cos(angle)) < 0.08


def test_the_coarse_picture_is_measured_in_the_units_of_the_fine_one(page: Page) -> None:
    """An LR line of 10.25 px is 41 px wide in SR pixels, at its place."""
    coarse = lines([25.0], 10.25, sigma=0.9, side=60)
    found = measure(page, coarse, (20, 120.5), (220, 120.5), width=9, scale=4)
    assert abs(found["widths"]["bright"]["mean"] - 41.0) < 0.3
    assert abs(found["edges"][0]["at"] - 80.0) < 0.3


def test_the_threshold_is_a_share_of_the_height(page: Page) -> None:
    """At 20 % a blurred line is wider than at 80 %, by the quantiles of the Gaussian."""
    picture = lines([100], 40.0, sigma=3.0)
    widths = [
        measure(page, picture, (20, 60.5), (220, 60.5), width=1, share=share)["widths"]["bright"]
        for share in (0.2, 0.5, 0.8)
    ]
    low, half, high = (width["mean"] for width in widths)
    assert abs(half - 40.0) < 0.05
    assert abs((low - half) - 2 * 0.8416 * 3.0) < 0.1
    assert abs((half - high) - 2 * 0.8416 * 3.0) < 0.1


def test_drift_of_the_levels_does_not_move_edges(page: Page) -> None:
    """Each edge has its own plateaus: a slope of the background by charging cancels."""
    drift = np.linspace(0, 60, 240)[None, :]
    picture = np.rint(lines([60, 150], 30.0, high=110.0) + drift).astype(np.uint8)
    found = measure(page, picture, (10, 60.5), (230, 60.5), width=5)
    assert 2 == found["widths"]["bright"]["count"]
    assert abs(found["widths"]["bright"]["mean"] - 30.0) < 0.3


def test_noise_counts_no_edge_twice_and_makes_none_up(page: Page) -> None:
    """Four edges under noise of 12 grey levels; on noise alone, a reason instead of edges."""
    noise = np.random.default_rng(3).normal(0, 12, (240, 240))
    noisy = np.clip(lines([60, 150], 30.0) + noise, 0, 255).astype(np.uint8)
    found = measure(page, noisy, (10, 120), (230, 120), width=9)
    assert [True, False, True, False] == [edge["rises"] for edge in found["edges"]]
    assert abs(found["widths"]["bright"]["mean"] - 30.0) < 0.6
    assert 0.1 < found["spread"]["bright"] < 3
    blank = np.clip(100 + noise, 0, 255).astype(np.uint8)
    for y in range(20, 220, 20):
        alone = measure(page, blank, (10, y), (230, y), width=1)
        assert [] == alone["edges"]
        assert "two distinct levels" in alone["reason"]


def test_impossible_lines_give_a_reason(page: Page) -> None:
    """No edges on one grey level, rounded or not, on a line without length, or outside."""
    flat = np.full((50, 50), 90, np.uint8)
    for start, end in (((5, 5), (45, 5)), ((5, 5), (5, 5)), ((60, 60), (90, 60))):
        found = measure(page, flat, start, end, width=1)
        assert [] == found["edges"]
        assert found["reason"]
    film = (90 + np.arange(50)[None, :] // 10 % 2 + np.zeros((50, 1))).astype(np.uint8)
    found = measure(page, film, (5, 25), (45, 25), width=9)
    assert ([], "The profile has one level.") == (found["edges"], found["reason"])


def test_the_csv_holds_the_profile_and_its_origin(page: Page) -> None:
    """A version, facts as comments that cannot break a line, and one row for each position."""
    text = call(
        page,
        "profile",
        "m.profileCsv({ facts: [['file', 'a\\nb.png']], step: 0.25, unitPerPx: 2, unit: 'nm',"
        " curves: [{ name: 'lr', values: [1, NaN] }, { name: 'sr', values: [3, 4.125] }] })",
    )
    expected = "# semsr-profile 1\n# file: a b.png\nposition_px,position_nm,lr_grey,sr_grey\n"
    assert f"{expected}0.000,0.000,1.00,3.00\n0.250,0.500,,4.13\n" == text


# --- maps ---


def test_maps_are_plain_differences(page: Page) -> None:
    """Difference and consistency agree with NumPy, with and without matched greys."""
    rng = np.random.default_rng(5)
    sr, other = rng.integers(0, 256, (2, 24, 32), dtype=np.uint8)
    lr = rng.integers(0, 256, (6, 8), dtype=np.uint8)
    for gain, offset in ((1.0, 0.0), (0.8, -12.0)):
        argument = {"sr": sent(sr), "other": sent(other), "lr": sent(lr)}
        greys = f"{{ gain: {gain}, offset: {offset} }}"
        plain = call(
            page, "maps", f"[...m.difference(picture(a.sr), picture(a.other), {greys})]", argument
        )
        expected = sr.astype(float) - (gain * other.astype(float) + offset)
        np.testing.assert_allclose(np.reshape(plain, sr.shape), expected, atol=1e-4)
        against = call(
            page, "maps", f"[...m.contradiction(picture(a.lr), picture(a.sr), {greys})]", argument
        )
        means = sr.reshape(6, 4, 8, 4).mean((1, 3))
        np.testing.assert_allclose(
            np.reshape(against, lr.shape), means - (gain * lr + offset), atol=1e-3
        )


@pytest.mark.parametrize("shape", [(60, 60), (47, 61)])
def test_the_residual_is_that_of_the_models_graph(page: Page, shape: tuple[int, int]) -> None:
    """The strongest score is the flag's, and it is where a structure was invented."""
    torch = pytest.importorskip("torch")
    from export.residual import explain, residual_score

    rng = np.random.default_rng(7)
    height, width = shape
    truth = np.kron(lines([10, 30], 9.0, side=64)[:height, :width], np.ones((4, 4), np.uint8))
    sr = truth.copy()
    sr[100:124, 140:164] = 200  # 6 x 6 LR pixels that the tile does not show
    seen = sr.reshape(height, 4, width, 4).mean((1, 3), dtype=np.float32)
    lr = truth.reshape(height, 4, width, 4).mean((1, 3)) + rng.normal(0, 6, shape)
    lr8 = np.clip(np.rint(1.2 * lr + 15), 0, 255).astype(np.uint8)

    scores = np.reshape(
        call(
            page,
            "maps",
            "[...m.residualScores(picture(a.lr), picture(a.sr), { base: 7, slope: 0.35 })]",
            {"lr": sent(lr8), "sr": sent(sr)},
        ),
        shape,
    )
    tensors = [torch.from_numpy(v.astype(np.float32) / 255)[None, None] for v in (lr8, seen)]
    flag = residual_score(explain(*tensors, noise_base=7.0, noise_slope=0.35).residual).item()
    assert abs(np.abs(scores).max() - flag) < 1e-3 * flag
    y, x = np.unravel_index(np.abs(scores).argmax(), shape)
    assert 25 <= y < 31
    assert 35 <= x < 41
    assert scores[y, x] < 0  # the tile is darker there than the answer explains


def test_the_strongest_places_are_apart(page: Page) -> None:
    """Neighbours of a maximum are not another place, and neither is what is weaker than half."""
    values = np.zeros((40, 50), np.float32)
    values[10, 12], values[10, 13], values[30, 40], values[5, 45] = -8, 7, 5, 3
    places = call(page, "maps", "m.strongest(Float32Array.from(a), 50)", values.ravel().tolist())
    assert [(12, 10, -8), (40, 30, 5)] == [(p["x"], p["y"], p["value"]) for p in places]


def test_a_scale_is_round_and_holds_almost_all(page: Page) -> None:
    """Ends are 1, 2 or 5 times a power of ten; one value in a thousand may lie outside."""
    for largest, end in ((0.2, 1), (3.0, 5), (18.0, 20), (51.0, 100)):
        values = np.linspace(-largest, largest, 5000)
        values[0] = 250
        assert end == call(page, "maps", "m.scaleEnd(Float32Array.from(a))", values.tolist())


# --- colours and lengths ---


def test_the_colours_of_maps_are_told_apart_without_red_and_green(page: Page) -> None:
    """For all three kinds of colour blindness a sign is seen, and a larger value is brighter."""
    table = np.array(call(page, "colours", "[...m.divergingTable()]"), np.uint32)
    colours = np.stack([table & 255, (table >> 8) & 255, (table >> 16) & 255], axis=1) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for name, matrix in [("normal", np.eye(3)), *COLOUR_BLINDNESS.items()]:
        seen = _to_lab(np.clip(linear @ np.array(matrix).T, 0, 1))
        middle = len(seen) // 2
        for share in (0.25, 0.5, 1.0):
            reach = int(share * middle)
            distance = np.linalg.norm(seen[middle + reach] - seen[middle - reach])
            assert distance > 20, (name, share, distance)
        assert np.all(np.diff(seen[middle:, 0]) >= -0.2), name
        assert np.all(np.diff(seen[: middle + 1, 0]) <= 0.2), name


def _to_lab(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Linear sRGB to CIELAB (D65)."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(to_xyz).T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


@pytest.mark.parametrize(
    ("units_per_px", "room", "units"), [(1.0, 160, 100), (0.8, 160, 100), (7.3, 160, 1000)]
)
def test_a_scale_bar_is_round_and_true(
    page: Page, units_per_px: float, room: float, units: float
) -> None:
    """The longest round length that fits, and its pixels."""
    found = call(page, "scale", f"m.barFor({units_per_px}, {room})")
    assert units == pytest.approx(found["units"])
    assert units / units_per_px == pytest.approx(found["pixels"])
    assert found["pixels"] <= room


def test_lengths_follow_both_pixel_sizes(page: Page) -> None:
    """Pixels need not be square; without a size a length stays in pixels."""
    found = call(
        page,
        "scale",
        """[m.lengthOf(3, 4, { x: 2, y: 0.5 }), m.lengthOf(3, 4, null), m.readPixelSize("1,1.5"),
            m.readPixelSize("2"), m.readPixelSize(null), m.readPixelSize("0,1"),
            m.barWords(2000, true), m.barWords(50, true), m.barWords(20, false)]""",
    )
    assert [pytest.approx(hypot(6, 2)), 5, {"x": 1, "y": 1.5}, {"x": 2, "y": 2}] == found[:4]
    assert [None, None, "2 µm", "50 nm", "20 px"] == found[4:]


def test_levels_are_linear_between_black_and_white(page: Page) -> None:
    """Matched greys first, then the window; outside it everything is black or white."""
    table = call(
        page,
        "colours",
        "[...m.greyTable({ gain: 2, offset: -10 }, { black: 50, white: 150 })].map((c) => c & 255)",
    )
    levels = np.clip((2 * np.arange(256) - 10 - 50) * 2.55, 0, 255)
    assert np.abs(np.array(table) - levels).max() < 0.51


def test_every_module_is_preloaded() -> None:
    """The page names every module it loads, so that none waits for another to be parsed."""
    index = (FILES / "index.html").read_text(encoding="utf-8")
    loaded, waiting = set(), ["app.js"]
    while waiting:
        text = (FILES / waiting.pop()).read_text(encoding="utf-8")
        found = set(re.findall(r'from "\./([\w.]+)"', text)) - loaded
        loaded |= found
        waiting += sorted(found)
    assert len(loaded) > 10
    missing = [name for name in loaded if f'rel="modulepreload" href="page/{name}"' not in index]
    assert [] == missing
