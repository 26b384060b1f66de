"""The HTTP protocol that serves tiles itself where it can; see `service.http.direct`."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.http.direct import DirectTile, DirectTiles, Host
from service.http.protocol import REFUSAL, BoundedHttp


class _DateLines:
    """The headers that uvicorn adds to every answer, as text; made once a second."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._text = ""

    def text(self, headers: list[tuple[bytes, bytes]]) -> str:
        """Return the headers as lines."""
        if headers is not self._headers:
            self._headers = headers
            lines = (b"%b: %b\r\n" % header for header in headers)
            self._text = b"".join(lines).decode("latin-1")
        return self._text


class DirectHttp(BoundedHttp):
    """One connection.

    Attributes:
        direct: Requests that are served without the app.
    """

    direct: DirectTiles
    _date_lines = _DateLines()
    # The request that arrives now, and the one whose answer is being sent, if they are direct.
    _tile: DirectTile | None = None
    _sending: DirectTile | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up the requests of the connection."""
        for cycle in self._unfinished():
            if isinstance(cycle, DirectTile):
                cycle.lost()
        self._tile = self._sending = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received data."""
        super().data_received(data)
        if self._tile is not None:
            self._tile.wait_for_body()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self._tile is None:
            super().on_body(body)
        else:
            self._note_body()
            self._tile.take(body)

    def on_message_complete(self) -> None:
        """Run a tile when its body is complete."""
        if self._tile is None:
            super().on_message_complete()
        else:
            tile, self._tile = self._tile, None
            self._is_between = True
            tile.run()

    def resume_writing(self) -> None:
        """Finish the answer that has left the connection's buffer."""
        super().resume_writing()
        if self._sending is not None:
            self._end_answer(self._sending)

    def send_answer(self, tile: DirectTile, head: str, body: memoryview) -> None:
        """Send a tile's answer; see `service.http.direct.Host`."""
        date = self._date_lines.text(self.server_state.default_headers)
        end = "\r\n" if tile.keep_alive else "connection: close\r\n\r\n"
        self._joined.send(f"HTTP/1.1 200 OK\r\n{date}{head}{end}".encode("latin-1"), body)
        if self.flow.write_paused:
            self._sending = tile
        else:
            self._end_answer(tile)

    def hand_over(self, tile: DirectTile, error: Exception | None) -> None:
        """Let the app serve a request; see `service.http.direct.Host`."""
        path, _, query = tile.url.partition(b"?")
        scope: Any = tile.scope
        scope |= {
            "method": "POST",
            "path": path.decode("ascii"),
            "raw_path": path,
            "query_string": query,
        }
        if error is not None:
            scope["extensions"][REFUSAL] = error
        cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=tile.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body += tile.body
        cycle.more_body = not tile.is_body_complete
        cycle.message_event.set()  # there is a part of the body, or all of it
        cycle.disconnected = tile.disconnected
        if self._tile is tile:
            self._tile = None
        replaced = cast("RequestResponseCycle", tile)
        if self.cycle is replaced:
            self.cycle = cycle
        self._cycles = tuple(cycle if other is replaced else other for other in self._cycles)
        self._start_asgi_task(cycle, cast("Any", self).app)

    def _begin_request(self, version: str) -> None:
        previous = cast("RequestResponseCycle | None", self.cycle)
        is_alone = previous is None or previous.response_complete
        tile: DirectTile | None = None
        if is_alone and version == "1.1" and not self._asks_upgrade:
            tile = self._direct_tile()
        if tile is None:
            super()._begin_request(version)
        else:
            tile.keep_alive = self.parser.should_keep_alive()
            self._tile = tile
            # It has what uvicorn reads of a cycle.
            self.cycle = cast("RequestResponseCycle", tile)
            self._cycles = (self.cycle,)

    def _direct_tile(self) -> DirectTile | None:
        if self.parser.get_method() != b"POST":
            return None
        return self.direct.begin(cast("Host", self), self.url, cast("dict[str, Any]", self.scope))

    def _end_answer(self, tile: DirectTile) -> None:
        self._sending = None
        tile.sent()
        if not tile.keep_alive:
            self.transport.close()
        self.on_response_complete()


def http_protocol(
    *, head_timeout_s: float, send_timeout_s: float, direct: DirectTiles | None
) -> type[BoundedHttp]:
    """Make a protocol class for `uvicorn.Config(http=…)`.

    Args:
        head_timeout_s: Time limit for a head, see `BoundedHttp`.
        send_timeout_s: Time limit for a peer that takes no data, see `BoundedHttp`.
        direct: Requests that are served without the app; None lets the app serve all.
    """
    limits = {"head_timeout_s": head_timeout_s, "send_timeout_s": send_timeout_s}
    if direct is None:
        return type("LimitedHttp", (BoundedHttp,), limits)
    return type("LimitedDirectHttp", (DirectHttp,), {**limits, "direct": direct})
