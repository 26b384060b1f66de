"""The page's scans in a browser: those that have ended, their manifest, and a new one."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from semsr.server_process import ServerProcess, running_server
from service.http.access import hash_key

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect

from tests import test_page as page_tests
from tests.scan_api import Scans

chromium, visit = page_tests.chromium, page_tests.visit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The allowed folder with a lot, of which one tile cannot be read."""
    lot = tmp_path / "root" / "lot"
    lot.mkdir(parents=True)
    for index in range(3):
        np.save(lot / f"t{index}.npy", np.zeros((240, 240), np.uint8))
    (lot / "t3.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return tmp_path / "root"


@pytest.fixture
def settings(root: Path, tmp_path: Path) -> dict[str, str]:
    """Settings of a service that scans below the root."""
    state = {"SEMSR_SCAN_ROOTS": str(root), "SEMSR_SCAN_STATE": str(tmp_path / "state")}
    return {**page_tests.SETTINGS, **state}


@pytest.fixture
def scan_server(settings: dict[str, str]) -> Iterator[ServerProcess]:
    """Such a service."""
    with running_server(settings) as process:
        yield process


def test_a_scan_is_started_ends_and_shows_why(scan_server, visit, root) -> None:
    """Errors stand at their fields; the end has its reason, its failures and its manifest."""
    page = visit(scan_server, expects_problems=True)
    page.get_by_text("Start a scan…").click()
    form = page.locator("#scan-form")
    form.get_by_label("Source").fill(str(root / "lot"))
    form.get_by_label("Sink").fill("/elsewhere/out")
    form.get_by_role("button", name="Start").click()
    expect(page.locator("[id='error-sink']")).to_contain_text("lies outside")
    expect(form.get_by_label("Sink")).to_be_focused()
    expect(page.locator("[id='error-source']")).to_be_empty()
    form.get_by_label("Sink").fill(str(root / "out"))
    form.get_by_label("Window, 16 bit").fill("9,3")
    page.keyboard.press("Enter")
    expect(page.locator("[id='error-options.window']")).to_contain_text("expected two grey levels")
    expect(page.locator("[id='error-sink']")).to_be_empty()
    form.get_by_label("Window, 16 bit").fill("0,4095")
    form.get_by_label("Name", exact=True).fill("lot <b>7")
    form.get_by_label("Manifest").select_option("csv")
    page.keyboard.press("Tab")
    form.get_by_role("button", name="Start").click()
    expect(page.locator("#scan-form-note")).to_contain_text("Added: lot <b>7")
    expect(form.get_by_label("Source")).to_have_value("")

    ended = page.locator("#scans-ended li")
    expect(ended).to_contain_text("lot <b>7")
    expect(ended).to_contain_text("incomplete")
    expect(ended).to_contain_text("3 of 4 tiles · 1 failed")
    expect(ended).to_contain_text(re.compile(r"t3\.png: .*PNG"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Manifest of lot").click()
    assert "lot_b_7_manifest.csv" == download.value.suggested_filename
    written = (root / "out" / "manifest.csv").read_bytes()
    assert written == Path(download.value.path()).read_bytes()
    assert page_tests.has_no_sideways_scroll(page)
    page.get_by_role("button", name="Retry of lot").click()
    expect(ended).to_contain_text("incomplete")  # tried again, and ended again
    page.close()


def test_scans_of_earlier_weeks_and_other_clients_need_a_key(settings, visit, tmp_path) -> None:
    """Without a key neither scans nor the form are shown; with it both are."""
    keys = tmp_path / "keys"
    keys.write_text(f"line {hash_key('right-key')}\n")
    root = settings["SEMSR_SCAN_ROOTS"]
    with running_server({**settings, "SEMSR_API_KEYS": str(keys)}) as process:
        headers = {"authorization": "Bearer right-key"}
        with httpx2.Client(
            base_url=process.url, headers=headers, trust_env=False, timeout=60
        ) as client:
            scans = Scans(client)
            scans.wait(scans.start(f"{root}/nothing", f"{root}/out"), "failed")
        page = visit(process, expects_problems=True)
        expect(page.locator("#scans-note")).to_have_text("Listed with an API key.")
        expect(page.locator("#scan-new")).to_be_hidden()
        page.get_by_label("API key", exact=True).fill("right-key")
        page.keyboard.press("Enter")
        expect(page.locator("#scans-ended li")).to_contain_text("failed")
        expect(page.locator("#scans-ended li")).to_contain_text("nothing")
        expect(page.locator("#scan-new")).to_be_visible()
        page.close()
