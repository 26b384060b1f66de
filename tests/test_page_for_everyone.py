"""The page for everyone: what axe finds, sizes from a phone to 24 inches, and the first paint."""

import gzip
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Page, expect

from semsr.server_process import running_server
from service.http.page import FILES
from tests import test_page as page_tests
from tests.test_page_files import give, png

chromium, server, visit = page_tests.chromium, page_tests.server, page_tests.visit
BIG_SCREEN = (1920, 1080)
FIRST_PAINT_MS = 500
# What a browser loads before it shows a picture, compressed; fab networks are slow.
MOST_BYTES = 100_000


def faults(page: Page) -> list[str]:
    """What axe finds: rule and element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize(("size", "scheme"), [(BIG_SCREEN, "dark"), (page_tests.NARROW, "light")])
def test_axe_finds_nothing(server, visit, size, scheme) -> None:
    """Empty, with list, map and profile, with the keys, with an error, and with the model card."""
    page = visit(server, size, expects_problems=True)
    page.emulate_media(color_scheme=scheme)
    expect(page.locator("#state")).to_have_text("ready")
    assert [] == faults(page)
    give(page, a__png=png(), c__pdf=b"%PDF-1.7", b__tif=b"II*\0")
    expect(page.locator("#list-summary")).to_have_text("1 of 3 done · 2 failed")
    page.get_by_label("Left", exact=True).select_option("fast")
    expect(page.locator("#tag-left")).to_contain_text("SR of fast")
    for key in ("c", "l"):
        page.locator("#canvas").press(key)
    expect(page.locator("#profile-widths")).to_contain_text("SR fast")
    assert page_tests.has_no_sideways_scroll(page)
    assert [] == faults(page)
    page.keyboard.press("?")
    assert [] == faults(page)
    page.keyboard.press("Escape")
    page.get_by_role("option", name="c.pdf").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert page_tests.has_no_sideways_scroll(page)
    assert [] == faults(page)
    page.get_by_role("button", name="Model card").click()
    assert [] == faults(page)


def test_axe_finds_nothing_about_scans(visit, tmp_path) -> None:
    """The form with its errors, and a scan that failed."""
    root = tmp_path / "root"
    root.mkdir()
    state = {"SEMSR_SCAN_ROOTS": str(root), "SEMSR_SCAN_STATE": str(tmp_path / "state")}
    with running_server({**page_tests.SETTINGS, **state}) as process:
        page = visit(process, page_tests.NARROW, expects_problems=True)
        page.get_by_text("Start a scan…").click()
        page.get_by_label("Source").fill(str(root / "nothing"))
        page.get_by_label("Sink").fill(str(root / "out"))
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#scans-ended li")).to_contain_text("failed")
        page.get_by_label("Source").fill("/etc")
        page.get_by_label("Sink").fill("/etc")
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#error-source")).to_contain_text("outside")
        assert page_tests.has_no_sideways_scroll(page)
        assert [] == faults(page)
        page.close()


def test_a_big_screen_holds_the_list_and_all_panels_at_once(server, visit) -> None:
    """At 1920x1080 nothing scrolls, and the picture is what takes the room."""
    page = visit(server, BIG_SCREEN)
    give(page, a__png=png(), b__png=png())
    expect(page.locator("#list-summary")).to_have_text("2 of 2 done")
    expect(page.locator("body[data-shown]")).to_be_visible()
    boxes = "() => [document.documentElement, document.querySelector('aside')]"
    assert page.evaluate(f"{boxes}.every((box) => box.scrollHeight <= box.clientHeight)")
    stage = page.locator("#stage").bounding_box()
    assert stage is not None
    assert stage["height"] > 800
    assert stage["width"] > 1100


def test_the_page_stays_small() -> None:
    """Scripts, styles and the page itself, without the samples."""
    files = [path for path in Path(FILES).iterdir() if path.is_file()]
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < MOST_BYTES


@pytest.mark.slow
def test_the_first_paint_comes_soon(server, visit) -> None:
    """On an idle machine, from the request to the first content, with an empty cache."""
    page = visit(server)
    expect(page.locator("#state")).to_have_text("ready")
    times = []
    for _ in range(5):
        page.goto("about:blank")
        page.goto(server.url)
        times.append(
            page.evaluate(
                """() => new Promise((done) => new PerformanceObserver((list) =>
                  list.getEntriesByName("first-contentful-paint").forEach(
                    ({ startTime }) => done(startTime)))
                  .observe({ type: "paint", buffered: true }))"""
            )
        )
    assert min(times) <= FIRST_PAINT_MS, times
