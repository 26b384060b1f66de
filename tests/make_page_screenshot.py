"""Makes `docs/images/page.webp`: the page with a sample, as an operator sees it.

Run `python tests/make_page_screenshot.py` from the repository root after a change of the page's
looks. It needs Chromium and the default bundle, and serves the model while other tiles are sent, so
that the live figures show something.
"""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from PIL import Image
from playwright.sync_api import Page, expect

from semsr.server_process import running_server
from tests.browser import find_chromium, running_browser

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "images" / "page.webp"
WIDTH, HEIGHT = 1280, 800
TILES = 16
WAIT_MS = 120_000


def make(out: Path) -> None:
    """Take the picture."""
    program = find_chromium()
    if program is None:
        raise SystemExit("chromium is not installed")
    settings = {"SEMSR_ENGINE": "onnx", "SEMSR_BUNDLE": str(ROOT / "bundles" / "default")}
    with running_server(settings) as server, running_browser(program) as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(server.url)
        expect(page.locator("#state")).to_have_text("ready", timeout=WAIT_MS)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: _send_tile(server.url), range(TILES)))
        page.get_by_role("button", name="Bridge").click()
        expect(page.locator("body[data-shown]")).to_be_visible(timeout=WAIT_MS)
        _show_the_bridge(page)
        expect(page.locator("#live-flight")).to_have_text("0")
        expect(page.locator("#live-latency")).to_have_text(re.compile(r"\d"))
        picture = page.screenshot()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").save(out, quality=70, method=6)


def _send_tile(url: str) -> None:
    tile = (ROOT / "samples" / "0000_dense_lines.png").read_bytes()
    headers = {"content-type": "image/png"}
    with httpx2.Client(trust_env=False, timeout=60) as client:
        client.post(f"{url}/superresolve", content=tile, headers=headers).raise_for_status()


def _show_the_bridge(page: Page) -> None:
    """Zoom in around the bridge: the boundary runs through it from the start."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    share = int(page.get_by_role("slider", name="Boundary").input_value()) / 1000
    page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.54 * box["height"])
    page.mouse.wheel(0, -330)


if __name__ == "__main__":
    make(OUT)
