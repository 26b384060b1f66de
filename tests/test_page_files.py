"""The page with files of one's own in a browser: several at once, stacks, the zip, and links."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import httpx2
import numpy as np
import pytest
import tifffile
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Page, Route, expect

from semsr.server_process import ServerProcess
from service.ground.errors import QueueFull
from service.http.problems import problem_from
from tests import test_page as page_tests

chromium, server, visit = page_tests.chromium, page_tests.server, page_tests.visit
SAMPLE = page_tests.SAMPLE
SMALL = np.arange(48 * 48, dtype=np.uint8).reshape(48, 48)


def png(pixels: np.ndarray = SMALL, **options: object) -> bytes:
    """A PNG, or another file that Pillow writes."""
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, **{"format": "PNG", **options})
        return file.getvalue()


def stack(*pages: np.ndarray) -> bytes:
    """A TIFF with several pages."""
    with io.BytesIO() as file:
        with tifffile.TiffWriter(file) as writer:
            for page in pages:
                writer.write(page, contiguous=False, metadata=None)
        return file.getvalue()


def give(page: Page, **files: bytes) -> None:
    """Choose several files; `__` in a name stands for the dot."""
    page.locator("#file").set_input_files(
        [
            {"name": name.replace("__", "."), "mimeType": "", "buffer": content}
            for name, content in files.items()
        ]
    )


def row(page: Page, name: str):
    """The line of a file."""
    return page.get_by_role("option", name=name)


def answer_of(server: ServerProcess, content: bytes, media_type: str = "image/png") -> bytes:
    """The SR that the service gives for a file."""
    headers = {"content-type": media_type, "accept": "image/png"}
    url = f"{server.url}/superresolve"
    return httpx2.post(url, content=content, headers=headers, trust_env=False, timeout=60).content


def save(page: Page) -> zipfile.ZipFile:
    """Take the zip."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save zip").click()
    assert re.fullmatch(r"semsr_results_[\d-]+_\d+\.zip", download.value.suggested_filename)
    content = Path(download.value.path()).read_bytes()
    return zipfile.ZipFile(io.BytesIO(content))


# --- several files ---


def test_several_files_are_run_listed_and_saved_as_one_zip(server, visit) -> None:
    """Names are kept or made unique, each SR is the service's own, and the table holds the rest."""
    page = visit(server)
    deep = SMALL.astype(np.uint16) * 200
    with io.BytesIO() as file:
        tifffile.imwrite(file, deep)
        tiff = file.getvalue()
    files = {"a__png": png(), "=b__png": png(SMALL[::-1]), "a__tif": tiff, "c__pdf": b"%PDF-1.7"}
    give(page, **files)
    expect(page.locator("#list-summary")).to_have_text("3 of 4 done · 1 failed")
    expect(row(page, "c.pdf")).to_contain_text("failed")
    expect(row(page, "c.pdf")).to_contain_text("This is a PDF document")
    expect(row(page, "a.tif")).to_contain_text("done")
    expect(row(page, "=b.png")).to_have_attribute("aria-selected", "true")
    archive = save(page)
    assert archive.testzip() is None
    names = ["=b.png", "a.png", "a (2).png", "results.csv", "results.json"]
    assert names == archive.namelist()
    for name, source in (("a.png", "a__png"), ("=b.png", "=b__png")):
        assert answer_of(server, files[source]) == archive.read(name)
    assert answer_of(server, tiff, "image/tiff") == archive.read("a (2).png")
    table = json.loads(archive.read("results.json"))
    assert ("semsr-page-results", 1) == (table["format"], table["format_version"])
    rows = {one["source"]: one for one in table["results"]}
    assert ["=b.png", "a.png", "a.tif", "c.pdf"] == [*rows]
    assert 1.0 == rows["a.png"]["consistency"]
    assert ("fine", "192,192") == (rows["a.png"]["model"], rows["a.png"]["shape"])
    assert rows["c.pdf"]["error"].startswith("This is a PDF document")
    lines = list(csv.DictReader(io.StringIO(archive.read("results.csv").decode("utf-8-sig"))))
    assert ["'=b.png", "a.png", "a.tif", "c.pdf"] == [line["source"] for line in lines]
    assert ["'=b.png", "a.png", "a (2).png", ""] == [line["output"] for line in lines]
    page.close()


def test_the_list_is_walked_by_keyboard(server, visit) -> None:
    """Arrows in the list, page keys in the picture; what is shown follows."""
    page = visit(server, expects_problems=True)
    give(page, a__png=png(), b__png=png(SMALL // 2), c__txt=b"no picture", d__png=png(SMALL // 4))
    expect(page.locator("#list-summary")).to_have_text("3 of 4 done · 1 failed")
    names = page.get_by_role("listbox", name="Files")
    names.focus()
    for key, name in (("ArrowDown", "b.png"), ("End", "d.png"), ("ArrowUp", "c.txt")):
        page.keyboard.press(key)
        expect(row(page, name)).to_have_attribute("aria-selected", "true")
        expect(page.locator("#note")).to_have_text(name)
    assert row(page, "c.txt").get_attribute("id") == names.get_attribute("aria-activedescendant")
    expect(page.get_by_role("alert")).to_contain_text("This is a text file")
    page.locator("#canvas").focus()
    page.keyboard.press("PageUp")
    expect(page.locator("#note")).to_have_text("b.png")
    expect(page.locator("#statistics .lr + td")).to_have_text(f"{(SMALL // 2).mean():.1f}")
    page.get_by_label("Files to show").select_option("failed")
    expect(page.get_by_role("option").filter(visible=True)).to_have_text(re.compile("c.txt"))


def test_flags_beyond_their_limit_stand_in_the_list(server, visit) -> None:
    """A file that needs a look is told from one that does not, and both are found again."""
    page = visit(server)

    def doubtful(route: Route) -> None:
        response = route.fetch()
        quality = "consistency=0.9, residual=1.309, domain-distance=0.4"
        headers = {**response.headers, "x-quality": quality}
        route.fulfill(response=response, headers=headers)

    page.route("**/superresolve**", doubtful, times=1)
    give(page, a__png=png(), b__png=png(SMALL // 2))
    expect(page.locator("#list-summary")).to_have_text("2 of 2 done · 1 flagged")
    expect(page.locator('#list [data-state="flagged"]')).to_contain_text("residual 1.31")
    page.get_by_label("Files to show").select_option("flagged")
    expect(page.get_by_role("option").filter(visible=True)).to_have_count(1)


def test_a_full_service_is_waited_for_and_a_run_can_be_cancelled(server, visit) -> None:
    """503 in a run is no failure; after Cancel the rest waits until Run."""
    page = visit(server, expects_problems=True)
    problem = problem_from(
        QueueFull("all places are taken", retry_after_s=0.1), request_id="id", path="/superresolve"
    )
    asked: list[str] = []
    is_full = True

    def refuse(route: Route) -> None:
        asked.append(route.request.headers.get("x-priority", ""))
        if is_full and route.request.headers.get("x-priority") == "nightly":
            headers = {name.decode(): value.decode() for name, value in problem.headers}
            route.fulfill(status=503, headers=headers, body=problem.body)
        else:
            route.continue_()

    page.route("**/superresolve**", refuse)
    give(page, **{f"t{index}__png": png(SMALL // (index + 1)) for index in range(7)})
    expect(page.locator('#list [data-state="running"]')).to_have_count(4)
    expect(row(page, "t0.png")).to_contain_text("done")  # what people look at goes first
    page.wait_for_function(
        "() => document.querySelectorAll('#list [data-state=failed]').length === 0"
    )
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator('#list [data-state="waiting"]')).to_have_count(6)
    expect(page.locator("#list-note")).to_contain_text("Cancelled")
    is_full = False
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#list-summary")).to_have_text("7 of 7 done")
    assert {"", "nightly"} == set(asked)
    assert 1 == asked.count("")


def test_results_keep_to_their_share_of_memory(server, visit) -> None:
    """At the limit the run stops; the saved zip makes room and the run goes on by itself."""
    page = visit(server)
    page.evaluate(
        """async () => {
          const { limits } = await import(new URL("page/list_run.js", document.baseURI));
          limits.keptBytes = 1;
          limits.atOnce = 1;
        }"""
    )
    give(page, a__png=png(), b__png=png(SMALL // 2), c__png=png(SMALL // 3))
    expect(page.locator("#list-note")).to_contain_text("Save them, and the run goes on")
    saved = set()
    for _ in range(3):
        saved |= {name for name in save(page).namelist() if name.endswith(".png")}
        if len(saved) == 3:
            break
        expect(page.locator("#list-save")).to_be_enabled()
    assert {"a.png", "b.png", "c.png"} == saved
    expect(page.locator("#list-summary")).to_have_text("3 of 3 done")
    page.close()


def test_another_model_runs_the_list_again(server, visit) -> None:
    """Results of two models in one zip would not be told apart."""
    page = visit(server)
    give(page, a__png=png(), b__png=png(SMALL // 2))
    expect(page.locator("#list-summary")).to_have_text("2 of 2 done")
    page.get_by_label("Model", exact=True).select_option("fast")
    expect(page.locator("#list-summary")).to_have_text("1 of 2 done")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#list-summary")).to_have_text("2 of 2 done")
    rows = json.loads(save(page).read("results.json"))["results"]
    assert ["fast", "fast"] == [one["model"] for one in rows]
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#list-panel")).to_be_hidden()
    expect(page.locator("#hint")).to_be_visible()


# --- what is shown ---


def test_the_pages_of_a_stack_are_files_of_the_list(server, visit) -> None:
    """Each page has its own LR and SR, and its number in the zip."""
    page = visit(server)
    give(page, lot__tif=stack(SMALL, SMALL // 2, SMALL[:40] // 3))
    expect(page.locator("#list-summary")).to_have_text("3 of 3 done")
    row(page, "lot.tif · page 3").click()
    expect(page.locator("#note")).to_have_text("lot.tif · page 3")
    expect(page.locator("#answer-facts")).to_contain_text("48×40 → 192×160")
    expect(page.locator("#statistics .lr + td")).to_have_text(f"{(SMALL[:40] // 3).mean():.1f}")
    archive = save(page)
    outputs = [name for name in archive.namelist() if name.endswith(".png")]
    assert [f"lot_page000{number}.png" for number in (1, 2, 3)] == outputs
    with Image.open(io.BytesIO(archive.read(outputs[1]))) as image:
        sr = np.asarray(image)
    np.testing.assert_array_equal((SMALL // 2).repeat(4, 0).repeat(4, 1), sr)
    page.close()


def test_what_the_browser_would_turn_is_shown_as_the_service_reads_it(server, visit) -> None:
    """Orientation in EXIF is not applied, so that the LR lies on the SR."""
    page = visit(server)
    exif = Image.Exif()
    exif[0x0112] = 6
    tile = np.add.outer(np.arange(40), np.arange(64)).astype(np.uint8)
    give(page, turned__jpg=png(tile, format="JPEG", exif=exif, quality=95))
    expect(page.locator("#answer-facts")).to_contain_text("64×40 → 256×160")
    expect(page.locator("#tag-left")).to_have_text("LR bicubic, greys matched")
    expect(page.locator("#wipe")).to_be_enabled()


def test_a_folder_is_taken_without_what_is_no_picture(server, visit, tmp_path) -> None:
    """Paths stay in the zip; notes and hidden files are left out and counted."""
    page = visit(server)
    for name, content in (("lot/b.png", png()), ("lot/sub/a.png", png(SMALL // 2))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "lot" / "notes.txt").write_text("x")
    (tmp_path / "lot" / ".hidden.png").write_bytes(b"")
    page.locator("#folder").set_input_files(tmp_path / "lot")
    expect(page.locator("#list-summary")).to_have_text("2 of 2 done")
    expect(page.locator("#list-note")).to_contain_text("2 other files were left out")
    assert ["lot/b.png", "lot/sub/a.png"] == save(page).namelist()[:2]
    page.close()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_files_are_dropped_or_pasted(server, visit, event) -> None:
    """Several at once, and a pasted picture is shown like a file."""
    page = visit(server)
    page.evaluate(
        """async ([kind, paths]) => {
          const transfer = new DataTransfer();
          for (const path of paths) {
            const blob = await (await fetch(`page/samples/${path}`)).blob();
            transfer.items.add(new File([blob], path, { type: "image/png" }));
          }
          const init = { bubbles: true, cancelable: true };
          document.body.dispatchEvent(kind === "drop"
            ? new DragEvent("drop", { ...init, dataTransfer: transfer })
            : new ClipboardEvent("paste", { ...init, clipboardData: transfer }));
        }""",
        [event, ["0006_iso_lines_break.png", "0005_dense_lines_bridge.png"]],
    )
    expect(page.locator("#list-summary")).to_have_text("2 of 2 done")


def test_a_zip_of_our_own_is_read_by_python(server, visit) -> None:
    """Names beyond ASCII, empty files, dates before 1980, and many entries."""
    page = visit(server)
    data = page.evaluate(
        """async () => {
          const { makeZip } = await import(new URL("page/zip.js", document.baseURI));
          const blob = (text) => new Blob([text]);
          const files = [
            { name: "Ω/ä.txt", blob: blob("grey µ"), date: new Date(2026, 10, 30, 21, 14, 36) },
            { name: "empty", blob: blob(""), date: new Date(1970, 0, 1) },
          ];
          const date = new Date();
          for (let i = 0; i < 300; i++) files.push({ name: `n${i}`, blob: blob(`${i}`), date });
          return Array.from(new Uint8Array(await (await makeZip(files)).arrayBuffer()));
        }"""
    )
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        assert archive.testzip() is None
        assert 302 == len(archive.namelist())
        assert "grey µ" == archive.read("Ω/ä.txt").decode()
        assert (2026, 11, 30, 21, 14, 36) == archive.getinfo("Ω/ä.txt").date_time
        assert b"299" == archive.read("n299")


def test_names_in_the_zip_stay_in_their_folder(server, visit) -> None:
    """Neither a path of another system nor a name that Windows keeps for itself gets out."""
    page = visit(server)
    names = page.evaluate(
        """async () => {
          const { resultFiles } = await import(new URL("page/results.js", document.baseURI));
          const headers = new Headers();
          const answer = { sr: new Blob([]), headers, kind: {} };
          const names = ["../../etc/a.png", "C:\\\\x\\\\b.png", "/c.tif", "con.png", "A.PNG",
            "a.png", "results.csv", "..", "x?.png", ".png"];
          return resultFiles(names.map((name) => ({ name, page: null, state: "done", answer })), "")
            .map(({ name }) => name);
        }"""
    )
    assert names[:-2] == [
        "etc/a.png", "C_/x/b.png", "c.png", "_con.png", "A.png", "a (2).png",
        "results.png", "picture.png", "x_.png", ".png",
    ]  # fmt: skip


# --- links ---


def test_a_link_reopens_the_same_view(server, visit) -> None:
    """Model, sample, ways to view, boundary, zoom and place; and no key."""
    page = visit(server)
    page.evaluate("() => sessionStorage.setItem('semsr-api-key', 'secret')")
    page.get_by_label("Model", exact=True).select_option("fast")
    page_tests.take_sample(page, "Line break")
    page_tests.choose(page, "Pixels")
    page.locator("#canvas").focus()
    for key in ("1", "+", "+", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    page.locator("#wipe").press("Home")
    expect(page.locator("#zoom")).to_have_text("156 %")
    shown = page_tests.pixels(page)
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#copy-link")).to_have_text(re.compile("^Copied|failed"))
    page.wait_for_function("() => /lr=pixels.*at=.*%2C0&sample/.test(location.hash)")
    link = page.url
    assert "secret" not in link

    second = visit(server)
    second.goto("about:blank")
    second.goto(link)
    expect(second.locator("body[data-shown]")).to_be_visible()
    expect(second.locator("#answer-facts")).to_contain_text("fast")
    expect(second.get_by_label("Model", exact=True)).to_have_value("fast")
    expect(second.get_by_role("radio", name="Pixels")).to_be_checked()
    expect(second.locator("#zoom")).to_have_text("156 %")
    expect(second.locator("#wipe")).to_have_value("0")
    np.testing.assert_allclose(shown, page_tests.pixels(second), atol=1)


STRANGE_LINKS = (
    "v=1&model=none&sample=../../secret&layout=odd&at=9,9&window=<b>",
    "v=1&at=1e9,NaN,-4,2&lr=none&lr=bicubic",
    "v=1&at=fit,7&window=1,2,3",
    "v=99&sample=0006_iso_lines_break",
    f"v=1&model={'x' * 5000}",
    "%",
)


def test_a_strange_link_opens_the_page_as_it_is(server, visit) -> None:
    """Links come from anywhere: values are checked, and unknown ones change nothing."""
    page = visit(server)
    for fragment in STRANGE_LINKS:
        page.goto("about:blank")
        page.goto(f"{server.url}/#{fragment}")
        expect(page.get_by_label("Model", exact=True)).to_have_value("fine")
        expect(page.locator("#window")).to_have_value("")
        expect(page.locator("#hint")).to_be_visible()
        is_refused = not fragment.startswith("v=1&") or len(fragment) > 2000
        assert is_refused == ("another version" in page.locator("#hint").inner_text()), fragment
    page_tests.take_sample(page)
    expect(page.locator("#zoom")).to_have_text(re.compile(r"^\d\d %$"))
