"""The page in a browser: a tile's way, the view, errors in words, the key, the live figures.

The service is real, with the engine that enlarges by repetition, so that every expected pixel of
the SR is known.
"""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import tifffile
from PIL import Image

from semsr.server_process import ServerProcess, running_server
from service.ground.errors import DeadlineExceeded, QueueFull
from service.http.access import hash_key
from service.http.problems import problem_from

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import find_chromium, running_browser

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "0005_dense_lines_bridge.png"
SAMPLES = {
    "Bridge": "0005_dense_lines_bridge",
    "Line break": "0006_iso_lines_break",
    "Missing hole": "0003_sparse_holes_missing_hole",
}
SETTINGS = {"SEMSR_ENGINE": "identity", "SEMSR_BUNDLE": str(ROOT / "bundles" / "default")}
WIDE = (1280, 800)
NARROW = (390, 844)
# How Chromium itself tells of an answer like 415, or of none: no fault of the page's.
STATUS_ERROR = "Failed to load resource"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser; the tests skip where none is installed."""
    program = find_chromium()
    if program is None:
        pytest.skip("chromium is not installed")
    with running_browser(program) as browser:
        yield browser


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A service with two models, which are one and the same bundle."""
    bundle = SETTINGS["SEMSR_BUNDLE"]
    settings = {"SEMSR_ENGINE": "identity", "SEMSR_BUNDLES": f"fine={bundle},fast={bundle}"}
    with running_server(settings) as process:
        yield process


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open the page of a service; what its console says must be nothing in the end.

    Answers that are errors (`expects_problems`) are told by the browser itself and allowed.
    """
    opened: list[tuple[Any, list[str], bool]] = []

    def open_page(
        server: ServerProcess, size: tuple[int, int] = WIDE, *, expects_problems: bool = False
    ) -> Page:
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]})
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        opened.append((context, said, expects_problems))
        page.goto(server.url)
        return page

    yield open_page
    for context, said, expects_problems in opened:
        context.close()
        unexpected = [
            text for text in said if not (expects_problems and text.startswith(STATUS_ERROR))
        ]
        assert [] == unexpected


expect.set_options(timeout=WAIT_MS)


def take_sample(page: Page, name: str = "Bridge") -> None:
    """Choose a shipped sample and wait for its SR."""
    page.get_by_role("button", name=name).click()
    expect(page.locator("body[data-shown]")).to_be_visible()


def choose(page: Page, name: str) -> None:
    """Choose a way to view."""
    page.get_by_role("radio", name=name, exact=True).check()


def give(page: Page, name: str, content: bytes, media_type: str = "") -> None:
    """Choose a file of one's own."""
    page.locator("#file").set_input_files({"name": name, "mimeType": media_type, "buffer": content})


def pixels(page: Page) -> np.ndarray:
    """Read the viewer's canvas once it has been painted: (H, W) uint8."""
    url = page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => setTimeout(
          () => done(document.getElementById("canvas").toDataURL()))))"""
    )
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))[:, :, 0]


def grey(path: Path) -> np.ndarray:
    """Read a grey image: (H, W) uint8."""
    with Image.open(path) as image:
        return np.asarray(image)


def has_no_sideways_scroll(page: Page) -> bool:
    """Whether nothing is wider than the window."""
    return page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


# --- a tile's way ---


def test_a_sample_comes_back_as_sr_with_all_that_is_said_of_it(server, visit) -> None:
    """Picture, download, size, stages, flags and grey levels are those of the service's answer."""
    page = visit(server)
    take_sample(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download SR").click()
    assert "0005_dense_lines_bridge_sr_960x960.png" == download.value.suggested_filename
    lr = grey(SAMPLE)
    np.testing.assert_array_equal(
        lr.repeat(4, axis=0).repeat(4, axis=1), grey(Path(download.value.path()))
    )
    expect(page.locator("#answer-facts")).to_contain_text("240×240 → 960×960")
    expect(page.locator("#answer-facts")).to_contain_text("identity")
    assert ["receive", "decode", "wait", "model", "encode", "rest"] == page.locator(
        "#stages dt"
    ).all_inner_texts()
    expect(page.locator("#quality")).to_contain_text("Follows the tile")
    row = page.locator("#quality > div").filter(has_text="Follows the tile")
    expect(row.locator("dd").first).to_have_text("1.000")
    row = f"LR {lr.mean():.1f} {lr.std():.1f} {lr.min()}–{lr.max()}"
    assert row in " ".join(page.locator("#statistics tbody tr").first.inner_text().split())


def test_left_is_pillows_bicubic_and_right_is_the_sr_to_the_pixel(server, visit) -> None:
    """At 1:1 the screen shows the answer's grey levels and, within one, Pillow's bicubic."""
    page = visit(server)
    take_sample(page)
    choose(page, "As sent")
    page.get_by_role("button", name="1:1").click()
    lr = grey(SAMPLE)
    bicubic = np.asarray(Image.fromarray(lr).resize((960, 960), Image.Resampling.BICUBIC))
    sr = lr.repeat(4, axis=0).repeat(4, axis=1)

    for key, expected, tolerance in (("Home", sr, 0), ("End", bicubic, 1)):
        page.locator("#wipe").press(key)
        shown = pixels(page)
        height, width = shown.shape
        top, left = (960 - height) // 2, (960 - width) // 2
        inner = shown[4:-4, 4:-4].astype(int)
        # Half a pixel of the centre may fall to either side.
        differences = [
            np.abs(
                expected[
                    top + dy + 4 : top + dy + height - 4, left + dx + 4 : left + dx + width - 4
                ]
                - inner
            ).max()
            for dy in (0, 1)
            for dx in (0, 1)
        ]
        assert min(differences) <= tolerance


def test_grey_levels_and_gradients_are_computed_right(server, visit) -> None:
    """Histogram and Sobel magnitude agree with NumPy's on the same picture."""
    page = visit(server)
    picture = grey(SAMPLE)[:60, :80]
    counts, magnitude = page.evaluate(
        """async ([width, height, values]) => {
          const imaging = await import(new URL("page/imaging.js", document.baseURI));
          const picture = { width, height, grey: Uint8Array.from(values) };
          const { counts } = imaging.histogram(picture);
          return [Array.from(counts), Array.from(imaging.gradient(picture))];
        }""",
        [80, 60, picture.ravel().tolist()],
    )
    np.testing.assert_array_equal(np.bincount(picture.ravel(), minlength=256), counts)
    padded = np.pad(picture.astype(float), 1, mode="edge")
    smooth_y = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_x = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    expected = np.hypot(smooth_y[:, 2:] - smooth_y[:, :-2], smooth_x[2:] - smooth_x[:-2]) / 8
    np.testing.assert_allclose(np.reshape(magnitude, (60, 80)), expected, atol=1e-4)


def test_a_dropped_file_is_taken_like_a_chosen_one(server, visit) -> None:
    """A drop anywhere on the page sends the file."""
    page = visit(server)
    page.evaluate(
        """async (path) => {
          const blob = await (await fetch(path)).blob();
          const transfer = new DataTransfer();
          transfer.items.add(new File([blob], "dropped.png", { type: "image/png" }));
          document.body.dispatchEvent(
            new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        "page/samples/0006_iso_lines_break.png",
    )
    expect(page.locator("body[data-shown]")).to_be_visible()
    expect(page.locator("#note")).to_have_text("dropped.png")


def test_a_file_that_browsers_cannot_show_is_shown_as_the_service_decoded_it(server, visit) -> None:
    """A 16-bit TIFF has both sides, in the window that was asked for, and its own grey range."""
    page = visit(server)
    deep = grey(SAMPLE).astype(np.uint16) * 257
    with io.BytesIO() as file:
        tifffile.imwrite(file, deep)
        give(page, "deep.tif", file.getvalue(), "image/tiff")
    brightness = page.locator("#statistics .lr + td")
    expect(brightness).to_have_text(f"{grey(SAMPLE).mean():.1f}")
    expect(page.locator("#tag-left")).to_have_text("LR bicubic, greys matched")
    expect(page.locator("#wipe")).to_be_enabled()
    low, high = deep.min(), deep.max()
    said = f"deep.tif · grey levels {low}–{high} in the file, shown 0–65535"
    expect(page.locator("#note")).to_have_text(said)
    page.get_by_label("16-bit window").fill("0,20000")
    page.get_by_role("button", name="Apply").click()
    windowed = np.floor(deep.astype(float).clip(0, 20000) / 20000 * 255 + 0.5)
    expect(brightness).to_have_text(f"{windowed.mean():.1f}")
    expect(page.locator("#statistics .sr + td")).to_have_text(f"{windowed.mean():.1f}")


def test_a_chosen_model_answers_and_shows_its_card(server, visit) -> None:
    """The models come from the service; the choice holds for the tile and the card."""
    page = visit(server)
    model = page.get_by_label("Model", exact=True)
    expect(model.locator("option")).to_have_text(["fine", "fast"])
    take_sample(page)
    expect(page.locator("#answer-facts")).to_contain_text("fine")
    model.select_option("fast")
    expect(page.locator("#answer-facts")).to_contain_text("fast")
    page.get_by_role("button", name="Model card").click()
    expect(page.get_by_role("dialog")).to_contain_text("Model card: fast")
    expect(page.get_by_role("dialog")).to_contain_text("openEBL")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


# --- the view ---


def test_the_boundary_moves_by_keyboard(server, visit) -> None:
    """Each step of the slider gives the left picture more room."""
    page = visit(server)
    take_sample(page)
    slider = page.get_by_role("slider", name="Boundary")
    slider.focus()
    start = int(slider.input_value())
    before = pixels(page)
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert str(start + 30) == slider.input_value()
    moved = pixels(page)
    changed = np.flatnonzero((before != moved).any(axis=0))
    width = before.shape[1]
    assert abs(changed.min() - 0.001 * start * width) <= 4
    assert abs(changed.max() - 0.001 * (start + 30) * width) <= 4


def test_a_sample_opens_with_the_boundary_in_its_defect(server, visit) -> None:
    """Of every sample's defect the first view shows one part as sent and one as answered."""
    index = json.loads((ROOT / "samples" / "index.json").read_text(encoding="utf-8"))
    boxes = {tile["name"]: [d["box_hr_px"] for d in tile["defects"]] for tile in index["tiles"]}
    for label, name in SAMPLES.items():
        page = visit(server)
        take_sample(page, label)
        page.wait_for_function("() => document.getElementById('wipe').value !== '500'")
        height, width = pixels(page).shape
        side = min(height, width)
        share = int(page.get_by_role("slider", name="Boundary").input_value()) / 1000
        x = (share * width - (width - side) / 2) / side * 960
        assert boxes[name][0]["left"] < x < boxes[name][0]["right"], name


def test_matched_greys_are_those_of_the_answer(server, visit) -> None:
    """Gain and offset are found again, noise or not; without structure only the mean is moved."""
    page = visit(server)
    fits = page.evaluate(
        """async () => {
          const { fitGreys } = await import("/page/imaging.js");
          const { greyTable } = await import("/page/colours.js");
          const side = 40, scale = 4;
          const fine = new Uint8Array((side * scale) ** 2).map((_, i) => 40 + 60 * ((i >> 4) % 2));
          const sr = { width: side * scale, height: side * scale, grey: fine };
          const coarse = (gain, offset, noise) => {
            const grey = new Uint8Array(side * side);
            for (let i = 0; i < grey.length; i++) {
              const at = 4 * Math.floor(i / side) * sr.width + 4 * (i % side);
              grey[i] = Math.round(gain * fine[at] + offset + noise * (((i * 7919) % 13) / 6 - 1));
            }
            return { width: side, height: side, grey };
          };
          const flat = { width: side, height: side, grey: new Uint8Array(side * side).fill(90) };
          return [
            fitGreys(coarse(1.5, 10, 0), sr), fitGreys(coarse(1.5, 10, 12), sr), fitGreys(flat, sr),
            greyTable(fitGreys(coarse(1.5, 10, 0), sr))[coarse(1.5, 10, 0).grey[0]] & 255, fine[0],
          ];
        }"""
    )
    clean, noisy, flat, shown, true = fits
    assert abs(clean["gain"] - 1 / 1.5) < 0.01
    assert abs(clean["offset"] + 10 / 1.5) < 0.7
    assert abs(noisy["gain"] - 1 / 1.5) < 0.05
    assert 1 == flat["gain"]
    assert abs(shown - true) <= 1


def test_both_pictures_move_together(server, visit) -> None:
    """Side by side, zoomed and moved by keyboard, both panes show the same place.

    The engine repeats pixels, and the left one is shown as pixels: the panes are then equal.
    """
    page = visit(server)
    take_sample(page)
    choose(page, "Side by side")
    choose(page, "Pixels")
    canvas = page.locator("#canvas")
    canvas.focus()
    for key in ("1", "+", "+", "+", "+", "ArrowLeft", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.locator("#zoom")).to_have_text("244 %")
    shown = pixels(page)
    half = shown.shape[1] // 2
    left, right = shown[:, : half - 1], shown[:, half + 1 : half + 1 + half - 1]
    assert left.std() > 20
    # One column may round the other way where a pixel's edge meets the screen's.
    assert (left != right).mean() < 0.01
    page.keyboard.press("0")
    expect(page.locator("#zoom")).not_to_have_text("244 %")


def test_pixels_are_seen_as_they_are_when_near(server, visit) -> None:
    """At a high zoom each picture pixel is one flat square: no value between neighbours."""
    page = visit(server)
    take_sample(page)
    page.locator("#wipe").press("Home")
    page.locator("#canvas").focus()
    page.keyboard.press("1")
    for _ in range(12):
        page.keyboard.press("+")
    shown = pixels(page)
    assert set(np.unique(shown)) <= set(np.unique(grey(SAMPLE)))
    choose(page, "Gradient")
    expect(page.locator("#tag-right")).to_contain_text("grey levels / px")
    assert not np.array_equal(shown, pixels(page))


def test_the_wheel_zooms_and_a_drag_moves(server, visit) -> None:
    """The pixel under the pointer stays there, and the readout names it."""
    page = visit(server)
    take_sample(page)
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.4)
    readout = page.locator("#readout")
    expect(readout).to_contain_text("SR")
    pattern = re.compile(r"x (\d+)  y (\d+)")

    def position() -> np.ndarray:
        found = pattern.search(readout.inner_text())
        assert found
        return np.array([int(found[1]), int(found[2])])

    before = position()
    page.mouse.wheel(0, -600)
    expect(page.locator("#zoom")).not_to_have_text(re.compile(r"^[0-9]{2} %$"))
    page.mouse.move(box["x"] + box["width"] * 0.6 + 1, box["y"] + box["height"] * 0.4)
    assert np.abs(position() - before).max() <= 2
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6 - 99, box["y"] + box["height"] * 0.4, steps=4)
    page.mouse.up()
    assert np.abs(position() - before).max() <= 2


def test_everything_is_reached_by_the_tab_key(server, visit) -> None:
    """Focus walks through the controls in order, and none is left out."""
    page = visit(server)
    take_sample(page)
    page.evaluate("() => document.activeElement.blur()")
    reached: list[str] = []
    for _ in range(90):  # twice around, from wherever it begins
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("() => document.activeElement.id || document.activeElement.textContent")
        )
    for name in ("model", "card-open", "file", "Line break", "download", "zoom-in", "zoom-fit"):
        assert name in reached, name
    order = reached[reached.index("model") :]
    assert order.index("file") < order.index("canvas") < order.index("wipe")


# --- errors in words ---


@pytest.fixture(scope="module")
def small_server() -> Iterator[ServerProcess]:
    """A service that takes next to nothing."""
    with running_server({**SETTINGS, "SEMSR_MAX_PIXELS": "10000"}) as process:
        yield process


def test_refused_files_are_explained(small_server, visit) -> None:
    """What is wrong stands there in words, with the service's own detail and the request's id."""
    page = visit(small_server, expects_problems=True)
    coloured, broken = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (40, 40), (200, 10, 10)).save(coloured, "PNG")
    Image.new("L", (40, 40)).save(broken, "PNG")
    cases = [
        ("a.png", b"", "image/png", "file is empty", "0 bytes"),
        ("b.png", SAMPLE.read_bytes(), "image/png", "larger than the service allows", "10000"),
        ("c.png", broken.getvalue()[:60], "image/png", "cannot read this picture", "PNG"),
        ("d.png", coloured.getvalue(), "image/png", "Unsuitable picture", "channel"),
    ]
    for name, content, media_type, words, detail in cases:
        give(page, name, content, media_type)
        expect(page.locator("#note")).to_have_text(name)
        expect(page.get_by_role("alert")).to_contain_text(words)
        expect(page.get_by_role("alert")).to_contain_text(detail)
        if content:
            expect(page.get_by_role("alert")).to_contain_text("request id")
        expect(page.get_by_role("button", name="Try again")).to_be_hidden()
        expect(page.locator("#download")).to_be_hidden()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (QueueFull("all 128 places are taken", retry_after_s=0.25), "full at the moment"),
        (DeadlineExceeded("the deadline passed in the queue"), "not ready in time"),
    ],
)
def test_a_passing_error_can_be_tried_again(server, visit, error, words) -> None:
    """Overload and missed deadlines offer another try, which then succeeds."""
    page = visit(server, expects_problems=True)
    problem = problem_from(error, request_id="id-7", path="/superresolve")
    headers = {name.decode(): value.decode() for name, value in problem.headers}

    def refuse(route: Route) -> None:
        route.fulfill(status=problem.status, headers=headers, body=problem.body)

    page.route("**/superresolve**", refuse, times=1)
    page.get_by_role("button", name="Bridge").click()
    expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.get_by_role("alert")).to_contain_text(error.detail)
    expect(page.get_by_role("alert")).to_contain_text("id-7")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("body[data-shown]")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_service_that_is_gone_is_told(visit) -> None:
    """Neither an old figure nor a waiting sign stays when nothing answers any more."""
    with running_server(SETTINGS) as process:
        page = visit(process, expects_problems=True)
        expect(page.locator("#state")).to_have_text("ready")
        page.route("**/*", lambda route: route.abort("connectionfailed"))
        expect(page.locator("#state")).to_have_text("no answer")
        expect(page.locator("#live-note")).to_have_text("no answer")


# --- the key ---


def test_a_key_is_asked_for_used_and_forgotten(visit, tmp_path) -> None:
    """The page works as soon as it has a key, keeps it for the tab alone, and drops it on wish."""
    keys = tmp_path / "keys"
    keys.write_text(f"line {hash_key('right-key')}\n")
    with running_server({**SETTINGS, "SEMSR_API_KEYS": str(keys)}) as process:
        page = visit(process, expects_problems=True)
        field = page.get_by_label("API key", exact=True)
        expect(field).to_be_focused()
        field.fill("wrong-key")
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_contain_text("does not take this key")
        page.get_by_role("button", name="Bridge").click()
        expect(page.get_by_role("alert")).to_contain_text("requires a valid API key")
        field.fill("right-key")
        page.keyboard.press("Enter")
        # The tile that was refused is sent again by itself.
        expect(page.locator("body[data-shown]")).to_be_visible()
        expect(page.locator("#key-form")).to_be_hidden()
        assert page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
        page.reload()
        take_sample(page, "Line break")
        page.get_by_role("button", name="Forget key").click()
        expect(field).to_be_focused()
        assert 0 == page.evaluate("() => sessionStorage.length")


# --- the live figures ---


def test_the_live_figures_move_under_load(server, visit) -> None:
    """Throughput, latency and refused requests follow what other clients do."""
    page = visit(server)
    expect(page.locator("#live-tiles")).to_have_text("0.0")
    refused = int(page.locator("#live-since").inner_text().split("/")[0])
    tile = bytes(240 * 240)
    headers = {"content-type": "application/octet-stream", "x-tile-shape": "240,240"}
    with ThreadPoolExecutor(4) as pool, httpx2.Client(trust_env=False, timeout=60) as client:
        is_over = False

        def load() -> None:
            while not is_over:
                client.post(f"{server.url}/superresolve", content=tile, headers=headers)

        runs = [pool.submit(load) for _ in range(4)]
        try:
            expect(page.locator("#live-tiles")).to_have_text(re.compile(r"^[1-9]\d*(\.\d)?$"))
            expect(page.locator("#live-latency")).to_have_text(re.compile(r"\d / [\d.]+ ms"))
        finally:
            is_over = True
        for run in runs:
            run.result()
        bad = client.post(f"{server.url}/superresolve", content=b"%PDF", headers={})
    assert 415 == bad.status_code
    expect(page.locator("#live-errors")).to_have_text("1 / 0")
    expect(page.locator("#live-since")).to_have_text(f"{refused + 1} / 0")


def test_a_hidden_tab_asks_for_nothing(server, visit) -> None:
    """/metrics is read once a second while the tab is seen, and not at all while it is not."""
    page = visit(server)
    expect(page.locator("#state")).to_have_text("ready")
    asked: list[str] = []
    page.clock.install()
    page.reload()
    expect(page.locator("#state")).to_have_text("ready")
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_request("**/metrics"):
        page.clock.run_for(1500)
    page.evaluate(
        """() => {
          const hidden = { value: "hidden", configurable: true };
          Object.defineProperty(document, "visibilityState", hidden);
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    asked.clear()
    page.clock.run_for(30_000)
    assert [] == asked
    with page.expect_request("**/metrics"):
        page.evaluate(
            """() => {
              delete document.visibilityState;
              document.dispatchEvent(new Event("visibilitychange"));
            }"""
        )


# --- narrow and dark ---


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_needs_no_sideways_scroll(server, visit, scheme) -> None:
    """At 390 px everything has its place, empty, with a picture, and with an error."""
    page = visit(server, NARROW, expects_problems=True)
    page.emulate_media(color_scheme=scheme)
    assert has_no_sideways_scroll(page)
    take_sample(page)
    assert has_no_sideways_scroll(page)
    page.get_by_role("button", name="Model card").click()
    assert has_no_sideways_scroll(page)
    page.keyboard.press("Escape")
    give(page, f"{'long' * 30}.pdf", b"%PDF-1.7", "application/pdf")
    expect(page.get_by_role("alert")).to_be_visible()
    assert has_no_sideways_scroll(page)


def test_a_wide_window_holds_everything_at_once(server, visit) -> None:
    """At 1280×800 nothing has to be scrolled."""
    page = visit(server)
    take_sample(page)
    assert page.evaluate(
        """() => [document.documentElement, document.querySelector("aside")]
          .every((box) => box.scrollHeight <= box.clientHeight)"""
    )


def test_the_page_works_below_the_prefix_of_a_proxy(server, visit) -> None:
    """Every address is relative: `/fab/` in front of the service changes nothing."""
    page = visit(server)

    def strip(route: Route) -> None:
        route.continue_(url=route.request.url.replace("/fab/", "/"))

    page.route("**/fab/**", strip)
    page.goto(f"{server.url}/fab/")
    take_sample(page)
    expect(page.locator("#answer-facts")).to_contain_text("960×960")


# --- scans ---


def test_without_scans_there_is_no_panel_of_them(server, visit) -> None:
    """They are off here: nothing is shown and nothing asked for."""
    page = visit(server)
    expect(page.locator("#live-tiles")).to_have_text("0.0")
    expect(page.locator("#scans-panel")).to_be_hidden()


def test_scans_show_their_progress_and_are_paused_by_keyboard(visit, tmp_path) -> None:
    """Name, bar and words are the service's own; the focus stays on the button that was used."""
    lot = tmp_path / "root" / "lot"
    lot.mkdir(parents=True)
    for index in range(3000):
        np.save(lot / f"t{index:05d}.npy", np.zeros((240, 240), np.uint8))
    settings = {
        **SETTINGS,
        # By the network, so that the scan lasts for minutes, however slow the browser is.
        "SEMSR_ENGINE": "onnx",
        "SEMSR_SCAN_ROOTS": str(tmp_path / "root"),
        "SEMSR_SCAN_STATE": str(tmp_path / "state"),
    }
    with running_server(settings) as process:
        page = visit(process)
        expect(page.locator("#scans-note")).to_have_text("None runs or waits.")
        body = {
            "name": "Lot 7 <b>",
            "source": str(lot),
            "sink": str(tmp_path / "root" / "out"),
            "finish_by": "2001-01-01T06:00:00Z",
            "options": {"manifest": "csv"},
        }
        answer = httpx2.post(f"{process.url}/scans", json=body, trust_env=False, timeout=60)
        assert 201 == answer.status_code, answer.text
        scan = page.locator("#scans li")
        expect(scan.locator("b")).to_have_text("Lot 7 <b>")
        expect(page.get_by_role("progressbar", name="Lot 7 <b>")).to_be_visible()
        expect(scan.locator("p")).to_contain_text(re.compile(r"[1-9][\d,]* of 3,000 tiles"))
        expect(scan.locator("p")).to_contain_text("late by")
        button = page.get_by_role("button", name="Pause Lot 7")
        button.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Resume Lot 7")).to_be_focused()
        expect(scan.locator("p")).to_contain_text(re.compile("^paused"))
        assert has_no_sideways_scroll(page)
        page.keyboard.press("Space")
        expect(page.get_by_role("button", name="Pause Lot 7")).to_be_focused()
        url = f"{process.url}/scans/{answer.json()['id']}"
        assert httpx2.delete(url, trust_env=False, timeout=60).status_code in {200, 202}
        expect(page.locator("#scans li")).to_have_count(0)
        expect(page.locator("#scans-note")).to_have_text("None runs or waits.")
        page.close()  # before the service goes, which it would ask for its figures
