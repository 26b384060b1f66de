"""The views of the page in a browser: maps, greys, line profile, two models, flags, keys.

The service is real, with the engine that enlarges by repetition, so that every map is known: the
consistency with the tile is perfect and the residual is zero. Numbers of other pictures are in
`test_page_numbers.py`.
"""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from semsr.server_process import ServerProcess, running_server

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Page, Route, expect

from tests.test_page import (
    NARROW,
    SAMPLE,
    SAMPLES,
    SETTINGS,
    choose,
    chromium,
    give,
    grey,
    has_no_sideways_scroll,
    pixels,
    server,
    take_sample,
    visit,
)

__all__ = ["chromium", "server", "visit"]  # fixtures

Visit = Callable[..., Page]
HIGH = "non-finite=0.0000, saturated=0.0100, consistency=0.981, consistency-worst=0.874"


def png(picture: np.ndarray) -> bytes:
    """A grey picture as PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def stripes() -> np.ndarray:
    """Vertical lines of 10 LR px every 24: (240, 240) uint8."""
    x = np.arange(240) % 24
    return np.broadcast_to(np.where(x < 10, 180, 60), (240, 240)).astype(np.uint8)


def overlay(page: Page) -> np.ndarray:
    """Opacity of what is painted over the pictures: (H, W) uint8."""
    size, data = page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => {
          const { width, height } = document.getElementById("overlay");
          const context = document.getElementById("overlay").getContext("2d");
          const { data } = context.getImageData(0, 0, width, height);
          done([[height, width], Array.from(data.filter((_, i) => i % 4 === 3))]);
        })))"""
    )
    return np.array(data, np.uint8).reshape(size)


def flag(page: Page, quality: str, *, times: int = 1) -> None:
    """Let the service's answer carry other flags."""

    def answer(route: Route) -> None:
        response = route.fetch()
        headers = {**response.headers, "x-quality": quality}
        route.fulfill(response=response, headers=headers)

    page.route("**/superresolve**", answer, times=times)


# --- maps ---


def test_maps_show_what_is_known_of_repeated_pixels(server: ServerProcess, visit: Visit) -> None:
    """Averaged down, repeated pixels are the tile: the consistency map is one colour, zero."""
    page = visit(server)
    take_sample(page)
    page.locator("#wipe").press("Home")
    choose(page, "Consistency")
    expect(page.locator("#tag-right")).to_have_text("SR, averaged − LR")
    shown = pixels(page)[:, 4:]  # without the boundary
    assert {20} == set(np.unique(shown[shown > 0]))  # the colour of zero
    choose(page, "Difference")
    expect(page.locator("#tag-right")).to_contain_text("SR − LR bicubic")
    assert len(np.unique(pixels(page))) > 20
    expect(page.locator("#view-words")).to_contain_text("Orange: SR is brighter")
    box = page.locator("#canvas").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#readout")).to_contain_text(re.compile(r"difference −?\d+\.\d"))
    choose(page, "Residual")
    expect(page.locator("#tag-right")).to_have_text("SR, residual")
    assert overlay(page).any(axis=0).sum() > 200  # legend and scale bar


def test_maps_that_need_the_lr_say_so(server: ServerProcess, visit: Visit) -> None:
    """Without an LR to compare with, the maps are disabled, with the reason in their titles."""
    page = visit(server)
    choose(page, "Difference")
    other_size = png(np.zeros((90, 100), np.uint8))
    page.route(
        "**/superresolve**", lambda route: route.fulfill(response=route.fetch(), body=other_size)
    )
    give(page, "a.png", png(grey(SAMPLE)), "image/png")
    expect(page.locator("#tag-left")).to_contain_text("LR not shown")
    expect(page.get_by_role("radio", name="Picture")).to_be_checked()
    for name in ("Difference", "Consistency", "Residual"):
        radio = page.get_by_role("radio", name=name)
        expect(radio).to_be_disabled()
        label = page.locator("label").filter(has=radio)
        expect(label).to_have_attribute("title", re.compile("LR not shown: its size does not fit"))


def test_levels_stretch_both_pictures(server: ServerProcess, visit: Visit) -> None:
    """Black and white are set by number or by the SR's own greys, and reset."""
    page = visit(server)
    give(page, "stripes.png", png(stripes()))
    expect(page.locator("body[data-shown]")).to_be_visible()
    page.locator("#wipe").press("Home")
    choose(page, "As sent")
    inner = pixels(page)[200:300, 300:600]
    assert {60, 180} <= set(np.unique(inner))
    page.get_by_role("button", name="Auto").click()
    assert {0, 255} <= set(np.unique(pixels(page)[200:300, 300:600]))
    expect(page.get_by_label("Show from")).to_have_value("60")
    page.get_by_role("button", name="Reset").click()
    np.testing.assert_array_equal(inner, pixels(page)[200:300, 300:600])


# --- line profile ---


def test_a_line_is_drawn_measured_and_saved(server: ServerProcess, visit: Visit) -> None:
    """Widths in nm by the pixel size that is given; the CSV holds the same greys and edges."""
    page = visit(server)
    give(page, "stripes.png", png(stripes()))
    expect(page.locator("body[data-shown]")).to_be_visible()
    page.get_by_role("button", name="Line profile").click()
    expect(page.locator("#pixel-size-words")).to_contain_text("states no pixel size")
    canvas = page.locator("#canvas")
    box = canvas.bounding_box()
    assert box
    zoom = float(page.locator("#zoom").inner_text().rstrip(" %")) / 100
    left = box["x"] + box["width"] / 2 - 480 * zoom
    middle = box["y"] + box["height"] / 2
    page.mouse.move(left + 60 * zoom, middle)
    page.mouse.down()
    page.mouse.move(left + 900 * zoom, middle + 3, steps=5)
    page.keyboard.down("Shift")  # at a multiple of 45 degrees
    page.mouse.move(left + 900 * zoom, middle + 4, steps=2)
    page.keyboard.up("Shift")
    page.mouse.up()
    cells = page.locator("#profile-widths tbody tr").filter(has_text="SR").locator("td")
    expect(cells.nth(1)).to_contain_text("40.0 px")
    expect(cells.nth(2)).to_contain_text("56.0 px")
    expect(cells.nth(3)).to_contain_text("96.0 px")
    page.get_by_label("LR pixel size").fill("4 5")
    page.get_by_role("button", name="Use", exact=True).click()
    expect(page.locator("#pixel-size-words")).to_contain_text("is 4 5; expected a positive number")
    page.get_by_label("LR pixel size").fill("6")
    page.get_by_role("button", name="Use", exact=True).click()
    expect(cells.nth(1)).to_contain_text("60.0 nm")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    assert "stripes_profile.csv" == download.value.suggested_filename
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert text.startswith("# semsr-profile 1\n# file: stripes.png\n")
    assert "# sr_pixel_size_nm: 1.5,1.5\n" in text
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    assert {60.0, 180.0} <= {float(row["sr_grey"]) for row in rows}
    assert float(rows[-1]["position_nm"]) == pytest.approx(
        1.5 * float(rows[-1]["position_px"]), abs=0.01
    )


def test_a_line_is_set_and_moved_by_keyboard(server: ServerProcess, visit: Visit) -> None:
    """Its ends are fields; with the image in focus, Shift and an arrow move it by one pixel."""
    page = visit(server)
    give(page, "stripes.png", png(stripes()))
    expect(page.locator("body[data-shown]")).to_be_visible()
    page.locator("#canvas").focus()
    page.keyboard.press("l")
    for field, value in (("x1", "100"), ("y1", "200"), ("x2", "500"), ("y2", "200")):
        page.locator(f"#line-{field}").fill(value)
        page.keyboard.press("Tab")
    expect(page.locator("#profile-length")).to_have_text("400.0 px")
    page.locator("#canvas").focus()
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#line-y1")).to_have_value("201")
    expect(page.locator("#line-x2")).to_have_value("501")
    expect(page.get_by_role("img", name="Grey levels along a line of 400.0 px")).to_be_visible()
    page.keyboard.press("l")
    expect(page.locator("#profile-panel")).to_be_hidden()


# --- two models ---


def test_two_models_are_compared_on_one_tile(server: ServerProcess, visit: Visit) -> None:
    """The left side is another model's SR; both are one bundle here, so that nothing differs."""
    page = visit(server)
    expect(page.locator("#left-model option")).to_have_text(["LR", "SR of fine", "SR of fast"])
    take_sample(page)
    page.get_by_label("Left", exact=True).select_option("fast")
    expect(page.locator("#tag-left")).to_have_text("SR of fast, greys matched")
    expect(page.locator("#tag-right")).to_have_text("SR of fine")
    expect(page.locator("#statistics tbody tr")).to_have_count(3)
    choose(page, "Side by side")
    shown = pixels(page)
    half = shown.shape[1] // 2
    left, right = shown[:, : half - 1].astype(int), shown[:, half + 1 : 2 * half].astype(int)
    assert np.abs(left - right).max() <= 1  # from resampling at other places of the screen
    choose(page, "Wipe")
    page.locator("#wipe").press("Home")
    choose(page, "Difference")
    expect(page.locator("#tag-right")).to_contain_text("SR of fine − SR of fast")
    shown = pixels(page)[:, 4:]
    assert {20} == set(np.unique(shown[shown > 0]))


def test_a_second_model_that_fails_does_not_hide_the_first(
    server: ServerProcess, visit: Visit
) -> None:
    """Its error is shown in words next to the answer of the first."""
    page = visit(server, expects_problems=True)
    expect(page.locator("#left-model option")).to_have_count(3)
    take_sample(page)
    page.route("**/superresolve?model=fast", lambda route: route.fulfill(status=503, body=""))
    page.get_by_label("Left", exact=True).select_option("fast")
    expect(page.locator("#second-words")).to_contain_text("Left model fast: The service cannot")
    expect(page.locator("#tag-left")).to_contain_text("LR bicubic")


# --- flags ---


def test_a_broken_limit_looks_unlike_every_other_line(server: ServerProcess, visit: Visit) -> None:
    """It is named first, in words, in a box of its own; its line alone is marked."""
    page = visit(server)
    flag(page, f"{HIGH}, residual=0.612, domain-distance=1.720")
    take_sample(page)
    verdict = page.locator("#verdict")
    expect(verdict).to_contain_text("A limit is exceeded")
    expect(verdict).to_contain_text("not trained on tiles like this one")
    broken = page.locator("#quality .broken")
    expect(broken).to_have_count(1)
    expect(broken).to_contain_text("Far from the training1.72 / 1over the limit of 1")
    colours = page.evaluate(
        """() => [...document.querySelectorAll("#quality > div")].map((row) => [
          row.className, getComputedStyle(row).backgroundColor,
          getComputedStyle(row.querySelector("dt")).color])"""
    )
    ordinary = {(ground, ink) for name, ground, ink in colours if name != "broken"}
    assert 1 == len(ordinary)
    assert all((ground, ink) not in ordinary for name, ground, ink in colours if name == "broken")
    flag(page, f"{HIGH}, residual=0.612, domain-distance=0.5")
    page.get_by_role("button", name="Line break").click()
    expect(verdict).to_contain_text("Within the limits")
    expect(broken).to_have_count(0)
    flag(page, f"{HIGH}, residual=1.612, domain-distance=0.5", times=2)
    page.get_by_label("Left", exact=True).select_option("fast")
    expect(page.locator("#quality .left-over")).to_have_text(
        "left model: 1.61, over the limit of 1"
    )


def test_the_flag_points_to_its_place(server: ServerProcess, visit: Visit) -> None:
    """*Show where* opens the residual at its strongest place, near enough to be judged."""
    page = visit(server)
    flag(page, f"{HIGH}, residual=1.300, domain-distance=0.5")
    take_sample(page)
    expect(page.locator("#verdict")).to_contain_text("Something was lost or invented")
    page.get_by_role("button", name="Show where").click()
    expect(page.get_by_role("radio", name="Residual")).to_be_checked()
    expect(page.locator("#zoom")).to_have_text("300 %")
    expect(page.locator("#canvas")).to_be_focused()


def test_the_model_describes_the_limit_of_its_residual(server: ServerProcess) -> None:
    """`GET /model` has what a client needs to repeat the flag, as the bundle states it."""
    manifest = json.loads((Path(SETTINGS["SEMSR_BUNDLE"]) / "manifest.json").read_text())
    answer = httpx2.get(f"{server.url}/model", trust_env=False, timeout=60).json()
    assert {
        "noise": manifest["trust"]["noise"],
        "residual_limit": manifest["trust"]["residual_limit"],
    } == answer["trust"]


@pytest.mark.slow
def test_the_pages_residual_is_the_flag_of_the_answer(visit: Visit) -> None:
    """With the real model, the strongest place has the value of `X-Quality`."""
    with running_server({**SETTINGS, "SEMSR_ENGINE": "onnx"}) as process:
        page = visit(process)
        for name in SAMPLES:
            with page.expect_response("**/superresolve**") as response:
                take_sample(page, name)
            expect(page.locator("#note")).to_have_text(f"{SAMPLES[name]}.png")
            quality = response.value.headers["x-quality"]
            flag_value = float(quality.partition("residual=")[2].partition(",")[0])
            title = page.locator("#verdict .place").get_attribute("title")
            assert title
            assert float(title.partition(": ")[2].partition(" ")[0]) == pytest.approx(
                flag_value, abs=0.02
            )
        page.close()


# --- keys, full screen, files ---


def test_keys_are_listed_and_can_be_switched_off(server: ServerProcess, visit: Visit) -> None:
    """Every letter works outside of fields, none does within them or once they are off."""
    page = visit(server)
    take_sample(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    layers = {"g": "Gradient", "d": "Difference", "c": "Consistency", "r": "Residual"}
    for key, name in {**layers, "p": "Picture", "w": "Side by side", "m": "As sent"}.items():
        page.keyboard.press(key)
        expect(page.get_by_role("radio", name=name)).to_be_checked()
    page.keyboard.press("l")
    page.locator("#line-x1").focus()
    page.keyboard.press("g")
    expect(page.get_by_role("radio", name="Picture")).to_be_checked()
    page.keyboard.press("?")  # a field takes it, too
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_role("checkbox", name="Single-letter shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.locator("#canvas").focus()
    page.keyboard.press("g")
    expect(page.get_by_role("radio", name="Picture")).to_be_checked()


def _column_of_the_boundary(page: Page) -> float:
    """Column of the SR below the boundary, while the picture is fitted."""
    height, width = pixels(page).shape
    share = int(page.get_by_role("slider", name="Boundary").input_value()) / 1000
    side = min(height, width)
    return (share * width - (width - side) / 2) / side * 960


def test_full_screen_is_entered_and_left(server: ServerProcess, visit: Visit) -> None:
    """By its button or `f`, with the tools and the picture."""
    page = visit(server)
    take_sample(page)
    button = page.get_by_role("button", name="Full screen")
    column = _column_of_the_boundary(page)
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("() => document.getElementById('canvas').clientWidth > 1000")
    assert abs(_column_of_the_boundary(page) - column) < 3
    assert "MAIN" == page.evaluate("() => document.fullscreenElement.tagName")
    page.keyboard.press("f")
    expect(button).to_have_attribute("aria-pressed", "false")


def test_the_view_is_saved_with_scale_bar_and_caption(server: ServerProcess, visit: Visit) -> None:
    """The PNG holds the canvas as seen, what is painted over it, and lines of text below."""
    page = visit(server)
    take_sample(page)
    choose(page, "Consistency")
    seen, over = pixels(page), overlay(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save view").click()
    assert "0005_dense_lines_bridge_view.png" == download.value.suggested_filename
    saved = grey(Path(download.value.path()))[:, :, 0]
    height, width = seen.shape
    assert width == saved.shape[1]
    assert 40 < saved.shape[0] - height < 140
    plain = (over == 0) & (seen > 0)
    plain[:40] = False  # the names of the sides
    np.testing.assert_array_equal(seen[plain], saved[:height][plain])
    assert (saved[:height][over == 255] == 255).any()  # the scale bar
    caption = saved[height:]
    assert 255 == caption[0, 0]
    assert (caption < 90).sum() > 500  # text


def test_a_view_is_read_and_restored(server: ServerProcess, visit: Visit) -> None:
    """The state holds all that a link needs, as plain JSON, and gives the same pixels again."""
    page = visit(server)
    take_sample(page)
    choose(page, "Difference")
    page.keyboard.press("l")
    page.locator("#canvas").focus()
    page.keyboard.press("1")
    page.keyboard.press("ArrowLeft")
    page.locator("#wipe").press("End")
    before = pixels(page)
    state = page.evaluate(
        "async () => JSON.stringify((await import('/page/views.js')).viewState())"
    )
    page.reload()
    take_sample(page)
    page.evaluate(
        "async (state) => (await import('/page/views.js')).restoreView(JSON.parse(state))", state
    )
    np.testing.assert_array_equal(before, pixels(page))
    expect(page.locator("#profile-panel")).to_be_visible()


def test_a_wide_screen_is_used(server: ServerProcess, visit: Visit) -> None:
    """On a 24-inch screen the figures stand in two columns next to the picture, all at once."""
    page = visit(server, (1920, 1080))
    take_sample(page)
    page.keyboard.press("l")
    boxes = page.evaluate(
        """() => [...document.querySelectorAll("aside > .panel:not([hidden])")]
          .map((panel) => panel.getBoundingClientRect())
          .map(({ left, bottom }) => [left, bottom])"""
    )
    assert 2 == len({round(left) for left, _ in boxes})
    assert max(bottom for _, bottom in boxes) <= 1080


def test_a_phone_draws_a_line_without_sideways_scroll(server: ServerProcess, visit: Visit) -> None:
    """All panels fit into 390 px, in every layer."""
    page = visit(server, NARROW)
    take_sample(page)
    page.keyboard.press("l")
    for name in ("Gradient", "Difference", "Consistency", "Residual"):
        choose(page, name)
        assert has_no_sideways_scroll(page), name
