"""An answer is held against its tile: whatever belongs to another one, or to none, is an error."""

import tarfile
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
import pytest

from semsr_client import Client, ServiceError, SrTile
from semsr_client.answers import Scales
from semsr_client.archives import AnswerReader
from tests import client_servers as servers
from tests.client_fakes import BOTH, TILE, Script, answer, problem
from tests.client_servers import Answer, Run, Scripted, greys, scripted_servers, tiles


def with_headers(**changes: str | None) -> Script:
    """The right answer, but for some of its headers; None leaves one out."""

    def changed(request: httpx2.Request) -> httpx2.Response:
        response = answer(request)
        for name, value in changes.items():
            response.headers.pop(name.replace("_", "-"), None)
            if value is not None:
                response.headers[name.replace("_", "-")] = value
        return response

    return Script(changed)


@BOTH
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_request_id": "another"}, "another request's: its X-Request-ID is 'another', expected"),
        ({"x_request_id": None}, "its X-Request-ID is none, expected"),
        ({"x_tile_shape": "16,64"}, r"shape \(16, 64\) for a tile of shape \(8, 8\)"),
        ({"x_tile_shape": "64,16"}, r"shape \(64, 16\) for a tile of shape \(8, 8\)"),
        ({"x_tile_shape": "-32,-32"}, r"shape \(-32, -32\)"),
        ({"x_tile_shape": "31,31"}, "expected 3 x tile"),
        ({"x_tile_shape": "4,4"}, "expected a whole multiple of the tile"),
        ({"x_scale": "2"}, "expected 2 x tile"),
        ({"x_scale": "four"}, r"shape \(32, 32\)"),
        ({"x_tile_shape": "32"}, "does not fit the tile"),
        ({"x_tile_shape": None}, "does not fit the tile: KeyError"),
        ({"x_tile_dtype": "uint16"}, "its data type is 'uint16', expected 'uint8'"),
        ({"x_quality": "consistency=nan"}, "expected finite numbers"),
        ({"content_type": "text/html"}, "its Content-Type is 'text/html'"),
        ({"x_tile_shape": "64,64"}, "does not fit the tile: ValueError"),
    ],
)
def test_an_answer_to_something_else_is_refused(
    call: Callable[..., SrTile], changes: dict[str, str | None], words: str
) -> None:
    """By its id, shape, data type, type of content or length; it is not sent again."""
    script = with_headers(**changes)

    with pytest.raises(ServiceError, match=words) as caught:
        call(script)

    assert ("bad-answer", 1) == (caught.value.code, len(script.requests))


@BOTH
def test_every_request_has_an_id_of_its_own(call: Callable[..., SrTile]) -> None:
    """So that an answer can be compared where the caller names none."""
    script = Script(answer)

    ids = {call(script).request_id for _ in range(3)}

    assert 3 == len(ids)
    assert ids == {request.headers["x-request-id"] for request in script.requests}


@BOTH
def test_the_model_that_was_asked_for_must_answer(call: Callable[..., SrTile]) -> None:
    """Its name goes into the address, and the answer's is compared with it."""
    script = Script(answer)

    assert "default" == call(script, model="default").model
    assert "/superresolve?model=default" == script.requests[0].url.raw_path.decode()
    with pytest.raises(ServiceError, match="answer is of the model 'default', expected 'fine'"):
        call(script, model="fine")


def test_a_problem_of_another_request_says_so() -> None:
    """The status counts all the same: a proxy may have answered."""
    script = Script(lambda _: problem(422, "unsuitable-image"))
    with (
        Client("http://semsr", transport=script.transport) as client,
        pytest.raises(ServiceError, match=r"as it is \(this answers request 'r1'; .* 'mine'\)"),
    ):
        client.superresolve(TILE, request_id="mine")


@BOTH
def test_what_proxies_add_does_no_harm(call: Callable[..., SrTile]) -> None:
    """Their Server-Timing is left out, and a parameter of the content type ignored."""
    script = with_headers(
        server_timing="cdn-cache;desc=HIT, infer;dur=2.5, edge",
        content_type="application/octet-stream; charset=binary",
    )

    assert {"infer": 2.5} == call(script).timing_ms


@BOTH
def test_an_answer_that_cannot_be_decompressed_is_an_error_of_the_service(
    call: Callable[..., SrTile],
) -> None:
    """And not one of the HTTP library."""
    script = Script(
        lambda request: httpx2.Response(
            200,
            headers={
                "content-encoding": "gzip",
                "x-request-id": request.headers["x-request-id"],
                "content-type": "application/octet-stream",
            },
            stream=Stream(lambda: b"not gzip"),
        )
    )

    with pytest.raises(ServiceError, match=r"bad-answer.*cannot be decompressed"):
        call(script)


class Stream(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body without end, for either client."""

    def __init__(self, next_part: Callable[[], bytes]) -> None:
        self._next_part = next_part

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self._next_part()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield self._next_part()


def endless(next_part: Callable[[], bytes]) -> Script:
    """An answer whose body does not end."""

    def respond(request: httpx2.Request) -> httpx2.Response:
        headers = dict(answer(request).headers)
        del headers["content-length"]
        return httpx2.Response(200, headers=headers, stream=Stream(next_part))

    return Script(respond)


@BOTH
def test_an_answer_that_does_not_end_is_not_kept(call: Callable[..., SrTile]) -> None:
    """More bytes than a tile's answer can have are an error at once."""
    with pytest.raises(ServiceError, match=r"has more than .* bytes for a tile of shape"):
        call(endless(lambda: bytes(1 << 18)))


@BOTH
def test_an_answer_that_trickles_ends_at_the_deadline(
    call: Callable[..., SrTile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is in time, all of them are not."""
    now_s = [0.0]

    def next_part() -> bytes:
        now_s[0] += 1.0
        return b"x"

    clock = type("Clock", (), {"monotonic": staticmethod(lambda: now_s[0])})
    monkeypatch.setattr("semsr_client.call.time", clock)

    with pytest.raises(
        ServiceError, match=r"within 5 s: .*still arriving at the deadline"
    ) as error:
        call(endless(next_part), timeout_s=5.0)

    assert ("deadline-exceeded", 6.0) == (error.value.code, now_s[0])


def test_a_scale_is_whole_and_stays() -> None:
    """Without `X-Scale` the first answer of a version says it; another version may have another."""
    scales = Scales()
    one, two = ({"x-model": "m", "x-model-version": version} for version in ("1", "2"))

    scales.check((8, 6), (32, 24), one)
    scales.check((5, 7), (10, 14), two)
    scales.check((5, 7), (20, 28), one)
    with pytest.raises(
        ServiceError, match=r"\(16, 12\) for a tile of shape \(8, 6\); expected 4 x"
    ):
        scales.check((8, 6), (16, 12), one)
    with pytest.raises(ServiceError, match="expected 2 x tile"):
        scales.check((8, 6), (16, 12 + 12), two)


# --- many tiles ---


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """Start scripted servers."""
    with scripted_servers() as start:
        yield start


def answers(**facts: str) -> Callable[[Answer], None]:
    """Answers one tile with facts that are not its own."""

    def step(peer: Answer) -> None:
        peer.begin()
        peer.entry(peer.tile(), **facts)
        peer.end()

    return step


def begins(**headers: str) -> Callable[[Answer], None]:
    """Answers one tile under a head that is not its own."""

    def step(peer: Answer) -> None:
        peer.begin(200, **{name.replace("_", "-"): value for name, value in headers.items()})
        peer.entry(peer.tile())
        peer.end()

    return step


def swaps(peer: Answer) -> None:
    """Answers the second tile first."""
    peer.begin()
    first, second = peer.tile(), peer.tile()
    peer.entry(second, **{"X-Tile-Index": "1"})
    peer.entry(first, **{"X-Tile-Index": "0"})
    peer.end()


def has_problem(index: int | None) -> Callable[[Answer], None]:
    """Answers a tile with a problem that cannot be taken."""

    def step(peer: Answer) -> None:
        peer.begin()
        peer.tile()
        peer.problem(422, "unsuitable-image", index=index)
        peer.end()

    return step


@servers.BOTH
@pytest.mark.parametrize(
    ("step", "words"),
    [
        (begins(x_request_id="another"), "its X-Request-ID is 'another', expected"),
        (begins(content_type="text/html"), "its Content-Type is 'text/html'"),
        (begins(content_encoding="gzip"), "Content-Encoding 'gzip', expected none"),
        (answers(**{"X-Tile-Index": "1"}), "tile index '1', expected 0"),
        (swaps, "tile index '1', expected 0"),
        (answers(**{"X-Tile-Shape": "16,64"}), r"shape \(16, 64\) for a tile of shape \(8, 8\)"),
        (answers(**{"X-Tile-Dtype": "uint16"}), "its data type is 'uint16', expected 'uint8'"),
        (answers(**{"Content-Type": "image/png"}), "a tile has the type 'image/png'"),
        (has_problem(index=3), "tile index 3, expected 0"),
        (has_problem(index=None), "tile index None, expected 0"),
    ],
)
def test_an_answer_to_something_else_ends_the_loop(
    scripted: Callable[..., Scripted], run: Run, step: Callable[[Answer], None], words: str
) -> None:
    """Also where errors are yielded: nothing that follows can be trusted."""
    with pytest.raises(ServiceError, match=words) as caught:
        run(scripted(step).url, tiles(2), {}, errors="yield")

    assert "bad-answer" == caught.value.code


def test_a_request_of_many_tiles_has_the_model_in_its_address(
    scripted: Callable[..., Scripted],
) -> None:
    """And its answer must be of that model."""

    def step(peer: Answer) -> None:
        peer.begin(200, **{"x-model": "fine one"})
        peer.entry(peer.tile())
        peer.end()

    def run(model: str) -> list[int]:
        server = scripted(step)
        server.target = f"/superresolve/batch?model={model.replace(' ', '+')}"
        return greys(servers.run_sync(server.url, tiles(1), {"model": model}))

    assert [0] == run("fine one")
    with pytest.raises(ServiceError, match="of the model 'fine one', expected 'fast'"):
        run("fast")


@pytest.mark.parametrize(
    ("pax", "words"),
    [
        (b"0 comment={}\n", "a record of 0 bytes"),
        (b"900 comment={}\n", "a record of 900 bytes"),
        (b"x comment={}\n", "invalid literal"),
        (b"14 comment=[]\n", "expected an object"),
        (b"13 comment={\n", "cannot be read"),
    ],
)
def test_a_malformed_record_ends_the_answer(pax: bytes, words: str) -> None:
    """Neither a loop without end nor an error of another kind."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(pax)
    block = info.tobuf(tarfile.USTAR_FORMAT) + pax + bytes(512 - len(pax))

    with pytest.raises(ServiceError, match=words):
        AnswerReader().feed(block, most_bytes=1000)


@pytest.mark.parametrize("size", [-512, 1001])
def test_an_entry_of_impossible_size_ends_the_answer(size: int) -> None:
    """A negative size, which GNU's form can hold, and more than a tile's answer can have."""
    info = tarfile.TarInfo("x")
    info.size = size

    with pytest.raises(ServiceError, match=f"an entry of {size} bytes, expected 0 to 1000"):
        AnswerReader().feed(info.tobuf(tarfile.GNU_FORMAT), most_bytes=1000)
