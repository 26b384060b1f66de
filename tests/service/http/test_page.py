"""The files of the page at `/`: how they are served, and that they reach for nothing elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.http.access import hash_key
from service.http.page import FILES

ROOT = Path(__file__).parents[3]
NAMES = sorted(path.relative_to(FILES).as_posix() for path in FILES.rglob("*") if path.is_file())
TEXTS = [name for name in NAMES if not name.endswith(".png")]
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


class Elements(HTMLParser):
    """Collects every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.found.append((tag, dict(attrs)))


def index() -> list[tuple[str, dict[str, str | None]]]:
    """The elements of the page."""
    return Elements((FILES / "index.html").read_text(encoding="utf-8")).found


def test_the_page_is_what_people_find_at_the_root(serve):
    """`/` is the page itself, and leads on to the description and the metrics."""
    response = serve().client.get("/", follow_redirects=False)
    assert 200 == response.status_code
    assert (FILES / "index.html").read_bytes() == response.content
    links = {attributes.get("href") for tag, attributes in index() if tag == "a"}
    assert {"docs", "metrics"} <= links


def test_every_file_has_its_type_and_its_policy(serve):
    """Each file has its content type; browsers may run and load only the service's own files."""
    client = serve().client
    for path, name in [("/", "index.html"), *((f"/page/{name}", name) for name in NAMES)]:
        response = client.get(path)
        assert 200 == response.status_code, path
        assert (FILES / name).read_bytes() == response.content
        assert TYPES[name.rpartition(".")[2]] == response.headers["content-type"]
        assert "nosniff" == response.headers["x-content-type-options"]
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "img-src 'self' blob: data:" in policy
        assert "unsafe" not in policy


def test_an_unchanged_file_is_not_sent_again(serve):
    """The tag is the content's, also as a proxy changes it; another tag gets the file."""
    client = serve().client
    first = client.get("/page/app.js", headers={"accept-encoding": "identity"})
    tag = first.headers["etag"]
    assert "no-cache" == first.headers["cache-control"]
    for asked in (tag, f"W/{tag}", f'"other", {tag}'):
        again = client.get("/page/app.js", headers={"if-none-match": asked})
        assert (304, b"") == (again.status_code, again.content)
        assert tag == again.headers["etag"]
    assert 200 == client.get("/page/app.js", headers={"if-none-match": '"other"'}).status_code
    assert tag != client.get("/page/page.css").headers["etag"]


def test_a_browser_gets_the_text_compressed(serve):
    """The same file in a third of the bytes; clients that do not ask for it get it as it is."""
    client = serve().client
    plain = client.get("/page/app.js", headers={"accept-encoding": "br, deflate"})
    packed = client.get("/page/app.js", headers={"accept-encoding": "gzip, deflate, br"})
    assert plain.content == packed.content
    assert "content-encoding" not in plain.headers
    assert "gzip" == packed.headers["content-encoding"]
    assert "accept-encoding" == packed.headers["vary"] == plain.headers["vary"]
    assert int(packed.headers["content-length"]) < 0.4 * len(packed.content)
    tag = packed.headers["etag"]
    assert f"W/{plain.headers['etag']}" == tag
    assert 304 == client.get("/page/app.js", headers={"if-none-match": tag}).status_code
    picture = client.get("/page/samples/0006_iso_lines_break.png")
    assert "content-encoding" not in picture.headers


def test_a_head_is_answered_without_the_file(serve):
    """HEAD has the same headers and no body."""
    response = serve().client.head("/", headers={"accept-encoding": "identity"})
    assert (200, b"") == (response.status_code, response.content)
    assert str((FILES / "index.html").stat().st_size) == response.headers["content-length"]


@pytest.mark.parametrize(
    "path", ["/page/", "/page/nothing.js", "/page/../settings.py", "/page/%2e%2e/__init__.py"]
)
def test_nothing_but_the_files_is_served(serve, path):
    """Other paths below /page/ are problems like any other unknown address."""
    response = serve().client.get(path)
    assert 404 == response.status_code
    assert "application/problem+json" == response.headers["content-type"]


def test_the_page_needs_no_key_and_takes_none_of_a_quota(serve, tmp_path):
    """A browser cannot send a key before the page has asked for one; everything else wants it."""
    keys = tmp_path / "keys"
    keys.write_text(f"line {hash_key('secret')}\n")
    client = serve(api_keys=keys, rate_limit_per_s=0.001, rate_limit_burst=1).client
    for path in ("/", "/favicon.ico", "/page/app.js", "/page/samples/0006_iso_lines_break.png"):
        for _ in range(3):
            assert 200 == client.get(path).status_code
    for path in ("/model", "/pages", "/docs"):
        assert 401 == client.get(path).status_code


def test_the_description_is_about_the_interface_only(serve):
    """The page's addresses are not part of the HTTP interface."""
    paths = serve().client.get("/openapi.json").json()["paths"]
    assert [] == [path for path in paths if path == "/" or path.startswith("/page")]


@pytest.mark.parametrize("name", TEXTS)
def test_no_file_names_another_host(name):
    """An air-gapped browser finds everything at the service."""
    text = (FILES / name).read_text(encoding="utf-8").replace(SVG_NAMESPACE, "")
    assert [] == re.findall(r"\w+://\S*", text)
    assert [] == re.findall(r"""["'(]//[^"')]*""", text)
    assert "@import" not in text


def test_the_page_has_no_inline_script_and_no_inline_style():
    """The policy forbids both, so that they would silently not work."""
    elements = index()
    assert [] == [tag for tag, _ in elements if tag == "style"]
    assert [] == [one for one in elements if "style" in one[1]]
    assert [] == [one for one in elements if any(name.startswith("on") for name in one[1])]
    assert all(attributes.get("src") for tag, attributes in elements if tag == "script")


def test_the_page_names_its_files_relatively_and_only_those_that_exist():
    """Relative addresses work behind a proxy that adds a prefix."""
    named = [
        attributes[key]
        for _, attributes in index()
        for key in ("src", "href", "data-sample")
        if attributes.get(key)
    ]
    files = {name.removeprefix("page/") for name in named if name and name.startswith("page/")}
    assert {"docs", "metrics"} == {name for name in named if name and not name.startswith("page/")}
    assert set() == files - set(NAMES)
    scripts = {name for name in NAMES if name.endswith(".js")}
    imported = {
        found
        for script in scripts
        for found in re.findall(r'from "\./([\w.]+)"', (FILES / script).read_text(encoding="utf-8"))
    }
    assert scripts == imported | {"app.js", "worker.js", "zip_worker.js"}


def test_every_control_of_the_page_is_found_by_its_script():
    """An id that the scripts ask for exists once in the page."""
    ids = [attributes["id"] for _, attributes in index() if "id" in attributes]
    assert len(ids) == len(set(ids))
    asked = {
        found
        for path in FILES.glob("*.js")
        for found in re.findall(r'\$\("([\w-]+)"\)', path.read_text(encoding="utf-8"))
    }
    assert set() == asked - set(ids)


def test_the_samples_are_those_of_the_repository():
    """They are simulated tiles, small, and links to samples/, so that each is stored once."""
    samples = [name for name in NAMES if name.startswith("samples/")]
    assert 3 == len(samples)
    for name in samples:
        assert (ROOT / name).read_bytes() == (FILES / name).read_bytes()
        assert (FILES / name).resolve() == ROOT / name
    assert sum((FILES / name).stat().st_size for name in NAMES) < 400_000
