"""The page's files and its views together: maps and a second model of listed files, links, keys."""

import io
import re

import numpy as np
import pytest
import tifffile
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Page, expect

from tests import test_page as page_tests
from tests.test_page_files import give, png, row, stack

chromium, server, visit = page_tests.chromium, page_tests.server, page_tests.visit
choose, pixels = page_tests.choose, page_tests.pixels
RAMP = np.linspace(1000, 30000, 48 * 48).reshape(48, 48).astype(np.uint16)
LEFT = "fast"


def deep() -> bytes:
    """A 16-bit TIFF that states its pixel size."""
    with io.BytesIO() as file:
        tifffile.imwrite(file, RAMP)
        return file.getvalue()


RECORD = """() => {
  const { fetch } = window;
  window.asked = [];
  window.fetch = async (path, options) => {
    if (options.body) {
      const body = Array.from(new Uint8Array(await options.body.arrayBuffer()));
      const [type, range] = ["content-type", "x-window"].map((name) => options.headers.get(name));
      window.asked.push([path, body, type, range]);
    }
    return fetch(path, options);
  };
}"""


def record(page: Page) -> None:
    """Note the page's requests with pictures from now on."""
    page.evaluate(RECORD)


def asked(page: Page) -> dict[str, tuple[bytes, str, str | None]]:
    """What was sent since the last call, by path: body, content type and window."""
    requests = page.evaluate("() => window.asked.splice(0)")
    assert len({path for path, *_ in requests}) == len(requests)
    return {path: (bytes(body), *rest) for path, body, *rest in requests}


def take_left(page: Page, name: str = LEFT) -> None:
    """Choose the second model."""
    page.get_by_label("Left", exact=True).select_option(name)


def test_a_listed_tiff_is_shown_with_its_map_and_a_second_model(server, visit) -> None:
    """Both models get the same bytes in the same window; another second model asks it alone."""
    page = visit(server)
    give(page, a__png=png(), deep__tif=deep())
    expect(page.locator("#list-summary")).to_have_text("2 of 2 done")
    row(page, "deep.tif").click()
    expect(page.locator("#note")).to_contain_text("deep.tif · grey levels 1000–30000")
    expect(page.locator("#tag-left")).to_have_text("LR bicubic, greys matched")
    choose(page, "Difference")
    expect(page.locator("#tag-right")).to_contain_text("SR − LR bicubic")
    record(page)
    take_left(page)
    expect(page.locator("#tag-left")).to_have_text(f"SR of {LEFT}, greys matched")
    # The first model's own window, whatever the second's is.
    assert {f"superresolve?model={LEFT}": (deep(), "image/tiff", "0,65535")} == asked(page)
    take_left(page, "")
    expect(page.locator("#tag-left")).to_have_text("LR bicubic, greys matched")
    page.get_by_label("16-bit window").fill("0,30000")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#note")).to_contain_text("shown 0–30000")
    expect(page.locator("#list-summary")).to_have_text("1 of 2 done")
    first = asked(page)["superresolve?model=fine"]
    take_left(page)
    expect(page.locator("#tag-left")).to_have_text(f"SR of {LEFT}, greys matched")
    expect(page.locator("#tag-right")).to_contain_text(f"SR of fine − SR of {LEFT}")
    # Neither the first model nor the decoding again.
    assert {f"superresolve?model={LEFT}": first} == asked(page)
    assert (deep(), "image/tiff", "0,30000") == first
    # One bundle under two names: nothing differs.
    page.locator("#wipe").press("Home")
    shown = pixels(page)[:, 4:]
    assert {20} == set(np.unique(shown[shown > 0]))
    # The next file keeps map and model.
    page.locator("#canvas").press("PageUp")
    expect(page.locator("#note")).to_have_text("a.png")
    expect(page.locator("#tag-right")).to_contain_text(f"SR of fine − SR of {LEFT}")


def test_both_models_get_the_same_page_of_a_stack(server, visit) -> None:
    """The page that the service decoded for the first; the saved files are named by it."""
    page = visit(server)
    expect(page.locator("#left-model option")).to_have_count(3)
    take_left(page)
    give(page, lot__tif=stack(RAMP, RAMP[::-1], RAMP.T))
    expect(page.locator("#list-summary")).to_have_text("3 of 3 done")
    expect(page.locator("#tag-left")).to_have_text(f"SR of {LEFT}, greys matched")
    record(page)
    row(page, "page 3").click()
    expect(page.locator("#note")).to_contain_text("lot.tif · page 3 · grey levels")
    expect(page.locator("#tag-left")).to_have_text(f"SR of {LEFT}, greys matched")
    sent = asked(page)
    assert {"decode?model=fine&page=2", f"superresolve?model={LEFT}"} == set(sent)
    body, media_type, window = sent[f"superresolve?model={LEFT}"]
    assert (media_type, window) == ("image/png", None)
    with Image.open(io.BytesIO(body)) as image:
        np.testing.assert_allclose(np.asarray(image), RAMP.T / 257, atol=0.51)
    expect(page.locator("#statistics tbody tr")).to_have_count(3)
    means = page.locator("#statistics th + td").all_inner_texts()
    assert means[1] == means[2]
    with page.expect_download() as download:
        page.get_by_role("button", name="Save view").click()
    assert download.value.suggested_filename == "lot_page0003_view.png"
    page.locator("#canvas").press("l")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    assert download.value.suggested_filename == "lot_page0003_profile.csv"


def test_a_wanted_map_comes_back_with_the_next_file(server, visit) -> None:
    """A file without it is shown as a picture meanwhile."""
    page = visit(server, expects_problems=True)
    choose(page, "Residual")
    page_tests.take_sample(page)
    expect(page.locator("#tag-right")).to_have_text("SR, residual")
    page.route("**/model?*", lambda route: route.fulfill(status=404, body=""), times=2)
    page.get_by_label("Model", exact=True).select_option(LEFT)
    expect(page.get_by_role("radio", name="Residual")).to_be_disabled()
    expect(page.get_by_role("radio", name="Picture")).to_be_checked()
    page.get_by_label("Model", exact=True).select_option("fine")
    expect(page.get_by_role("radio", name="Residual")).to_be_checked()
    expect(page.locator("#tag-right")).to_have_text("SR, residual")


def test_a_link_reopens_map_levels_line_models_and_place(server, visit) -> None:
    """The whole view: the second page shows the same pixels and the same figures."""
    page = visit(server)
    expect(page.locator("#left-model option")).to_have_count(3)
    page_tests.take_sample(page)
    take_left(page)
    expect(page.locator("#tag-left")).to_contain_text(f"SR of {LEFT}")
    choose(page, "Gradient")
    page.locator("#level-black").fill("40")
    page.locator("#level-white").fill("200")
    page.locator("#level-white").press("Enter")
    page.locator("#canvas").press("l")
    page.locator("#line-width").fill("25")
    page.locator("#line-width").press("Enter")
    page.locator("#line-share").fill("40")
    page.locator("#line-share").press("Enter")
    for key in ("1", "+", "ArrowLeft", "ArrowDown", "Shift+ArrowDown"):
        page.locator("#canvas").press(key)
    page.locator("#wipe").press("End")
    page.wait_for_function("() => location.hash.includes('%2C1&line=')")
    shown, link = pixels(page), page.url
    widths = page.locator("#profile-widths").inner_text()

    second = visit(server)
    second.goto("about:blank")
    second.goto(link)
    expect(second.locator("#tag-left")).to_have_text(f"SR of {LEFT}, gradient")
    expect(second.locator("#profile-widths")).to_have_text(re.compile(r"edges"))
    expect(second.get_by_role("radio", name="Gradient")).to_be_checked()
    assert ["40", "200", "25", "40", "1000"] == [
        second.locator(f"#{name}").input_value()
        for name in ("level-black", "level-white", "line-width", "line-share", "wipe")
    ]
    second.wait_for_function("(text) => location.href === text", arg=link)
    assert widths == second.locator("#profile-widths").inner_text()
    np.testing.assert_allclose(shown, pixels(second), atol=1)

    # Another link in the same tab: what it leaves out is at its default.
    second.goto(f"{link.partition('#')[0]}#v=1&sample={link.rpartition('sample=')[2]}")
    expect(second.locator("#tag-left")).to_have_text("LR bicubic, greys matched")
    expect(second.locator("#profile-panel")).to_be_hidden()
    expect(second.locator("#level-black")).to_have_value("0")
    expect(second.locator("#wipe")).to_have_value("500")

    # Of another sample: the place is that sample's, not the shown one's.
    fragment = "#v=1&at=2,300,200,0.25&line=1,2,90,80,5,50&sample=0006_iso_lines_break"
    second.goto(f"{link.partition('#')[0]}{fragment}")
    expect(second.locator("#note")).to_have_text("0006_iso_lines_break.png")
    expect(second.locator("#zoom")).to_have_text("200 %")
    expect(second.locator("#wipe")).to_have_value("250")
    expect(second.locator("#line-x2")).to_have_value("90")


STRANGE = (
    "layer=nothing&greys=%22%5D&levels=200,100&left=none&line=0,0,9,9,9,50",
    "levels=0,256&line=1,1,9,9,0,50&layer=residual%22],x",
    "levels=-1,1e2&line=NaN,1,9,9,9,5&left=%3Cb%3E&at=0,1,1,1",
    "levels=1&line=1,1,9,9,9,95&at=1,2,3",
)


def test_strange_values_of_views_change_nothing(server, visit) -> None:
    """Of a link with parts that are wrong, the right ones are applied."""
    page = visit(server)
    for fragment in STRANGE:
        page.goto("about:blank")
        page.goto(f"{server.url}/#v=1&layout=side&sample=0005_dense_lines_bridge&{fragment}")
        expect(page.locator("body[data-shown]")).to_be_visible()
        expect(page.get_by_role("radio", name="Side by side")).to_be_checked()
        expect(page.get_by_role("radio", name="Picture")).to_be_checked()
        expect(page.locator("#tag-left")).to_have_text("LR bicubic, greys matched")
        assert ["0", "255"] == [
            page.locator(f"#level-{end}").input_value() for end in ("black", "white")
        ]


def test_keys_of_list_and_views_do_not_collide(server, visit) -> None:
    """Letters change the view from the list, too; arrows and paging keep to what has the focus."""
    page = visit(server)
    noise = np.random.default_rng(7).integers(0, 255, (48, 48), np.uint8)
    give(page, a__png=png(), b__png=png(noise), c__png=png(noise.T), d__pdf=b"%PDF-1.7")
    expect(page.locator("#list-summary")).to_have_text("3 of 4 done · 1 failed")
    expect(page.locator("#note")).to_have_text("a.png")
    listed = page.locator("#list")
    listed.press("d")
    expect(page.get_by_role("radio", name="Difference")).to_be_checked()
    listed.press("ArrowDown")
    expect(page.locator("#note")).to_have_text("b.png")
    expect(page.locator("#tag-right")).to_contain_text("SR − LR bicubic")
    canvas = page.locator("#canvas")
    canvas.press("l")
    canvas.press("1")
    before = page.locator("#line-y1").input_value()
    canvas.press("Shift+ArrowDown")
    expect(page.locator("#line-y1")).not_to_have_value(before)
    drawn = page.locator("#line-y1").input_value()
    canvas.press("ArrowDown")  # pans
    expect(page.locator("#note")).to_have_text("b.png")
    canvas.press("PageDown")
    expect(page.locator("#note")).to_have_text("c.png")
    expect(page.locator("#zoom")).to_have_text("100 %")
    expect(page.get_by_role("radio", name="Difference")).to_be_checked()
    expect(page.locator("#profile-panel")).to_be_visible()
    # A file that fails takes neither map nor line nor place away.
    canvas.press("PageDown")
    expect(page.locator("#note")).to_have_text("d.pdf")
    expect(page.locator("#profile-panel")).to_be_hidden()
    canvas.press("PageUp")
    expect(page.locator("#profile-panel")).to_be_visible()
    expect(page.locator("#line-y1")).to_have_value(drawn)
    expect(page.locator("#zoom")).to_have_text("100 %")
    page.get_by_label("Files to show").press("p")  # a choice, where letters select
    expect(page.get_by_role("radio", name="Difference")).to_be_checked()
    canvas.press("?")
    for words in ("previous, next file of the list", "first, last file", "move the boundary"):
        expect(page.get_by_role("dialog")).to_contain_text(words)
    page.keyboard.press("PageUp")
    expect(page.locator("#note")).to_have_text("c.png")
