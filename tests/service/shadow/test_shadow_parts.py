"""The parts of a shadow without a process: figures, tap, report, frames."""

import asyncio
import math
import random
import socket
from datetime import UTC, datetime

import numpy as np
import pytest

from service.batching.tile_runner import TileResult
from service.ground.errors import EngineFailed
from service.ground.request_id import REQUEST_ID
from service.shadow.entry import Entry, entry_of
from service.shadow.figures import Differences, compare
from service.shadow.report import Report
from service.shadow.tap import Sample, Served, ShadowedRunner
from service.shadow.wire import receive_frame, send_frame

FLAGS = [0.0, 0.0, 1.0, 1.0, 0.5, 0.5]
SUSPECT = [0.0, 0.0, 1.0, 1.0, 1.5, 0.5]
SERVED = Served("v1", "d", (4, 4), 4)


def entry(edges: float, *, served: str = "v1", shadow_flags: list[float] = FLAGS) -> Entry:
    """Make a compared tile."""
    return Entry(
        time=datetime.now(UTC),
        request_id=f"r{edges}",
        sha256="0" * 64,
        served_version=served,
        differences=Differences(grey=1.0, shift=0.0, above=0.5, edges=edges),
        served_flags=FLAGS,
        shadow_flags=shadow_flags,
        served_s=0.1,
        shadow_s=0.2,
    )


class TestCompare:
    """Figures of two answers."""

    def test_a_brighter_answer_is_shifted_and_has_the_same_edges(self):
        """Counted: 3 grey levels everywhere."""
        served = np.random.default_rng(0).integers(0, 200, (32, 32), dtype=np.uint8)
        found = compare(served, served + 3, scale=4, limit_grey=2)
        assert found == Differences(grey=3.0, shift=3.0, above=1.0, edges=0.0)

    def test_grain_counts_less_than_a_moved_edge(self):
        """Although it moves every pixel."""
        rng = np.random.default_rng(1)
        served = np.full((64, 64), 60, np.uint8)
        served[:, 32:] = 180
        grain = (served + rng.integers(-9, 10, served.shape)).astype(np.uint8)
        moved = np.roll(served, 4, axis=1)
        noisy, shifted = (compare(served, sr, scale=4, limit_grey=16) for sr in (grain, moved))
        assert noisy.grey > 4
        assert shifted.edges > 2 * noisy.edges
        assert noisy.above == 0
        assert shifted.above == pytest.approx(8 / 64)

    def test_answers_of_other_shapes_are_refused(self):
        """With both shapes."""
        with pytest.raises(ValueError, match=r"\(4, 4\); expected \(8, 8\)"):
            compare(np.zeros((8, 8), np.uint8), np.zeros((4, 4), np.uint8), scale=4, limit_grey=1)


class FakeRunner:
    """Hands out futures that the test settles."""

    unavailable = None

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[TileResult]] = []

    def expected_wait_s(self, priority: object = None) -> float:
        """No wait."""
        return 0.0

    def check(self, count: int, **_: object) -> None:
        """Refuse nothing."""

    def submit(self, tiles, **_):
        """Keep the futures."""
        new = [asyncio.get_running_loop().create_future() for _ in tiles]
        self.futures += new
        return new


@pytest.mark.anyio
class TestTap:
    """`ShadowedRunner`."""

    async def test_a_share_of_the_tiles_is_drawn(self):
        """At random, with the id of the request that they were submitted in."""
        samples: list[Sample] = []
        runner = FakeRunner()
        tap = ShadowedRunner(
            runner, SERVED, share=0.3, offer=samples.append, draw=random.Random(0).random
        )
        REQUEST_ID.set("mine")
        tap.submit([np.zeros((4, 4), np.uint8)] * 1000)
        REQUEST_ID.set("another")
        result = TileResult(np.zeros((16, 16), np.uint8), np.zeros(6, np.float32), 0.0, 0.0, 1)
        for future in runner.futures:
            future.set_result(result)
        for _ in range(3):
            await asyncio.sleep(0)
        assert 240 < len(samples) < 360
        assert {sample.request_id for sample in samples} == {"mine"}

    async def test_failed_and_cancelled_tiles_are_not_shown(self):
        """Without an answer there is nothing to compare."""
        samples: list[Sample] = []
        runner = FakeRunner()
        tap = ShadowedRunner(runner, SERVED, share=1.0, offer=samples.append)
        failed, cancelled = tap.submit([np.zeros((4, 4), np.uint8)] * 2)
        failed.set_exception(EngineFailed("no"))
        cancelled.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert samples == []
        assert isinstance(failed.exception(), EngineFailed)


class TestReport:
    """`Report`."""

    def test_flags_that_disagree_come_first(self):
        """Then the largest difference of edges; those that fall out are returned."""
        report = Report(keep=2)
        small, large = entry(1.0), entry(9.0)
        flagged = entry(0.1, shadow_flags=SUSPECT)
        assert report.add(small, shadow_version="s") == []
        assert report.add(large, shadow_version="s") == []
        assert report.ranks(flagged)
        assert report.add(flagged, shadow_version="s") == [small]
        assert not report.ranks(entry(8.0))
        shown = report.describe()
        assert [tile["request_id"] for tile in shown["most_different"]] == ["r0.1", "r9.0"]
        assert shown["versions"][0]["flags"] == {
            "neither": 2, "both": 0, "served_only": 0, "shadow_only": 1,
        }  # fmt: skip

    def test_flags_that_are_no_numbers_are_shown_as_null(self):
        """Those of a model that gives NaN: what a shadow is there to show."""
        report = Report(keep=1)
        broken = entry_of(
            {
                "sha256": "0" * 64,
                "differences": {"grey": 1.0, "shift": 0.0, "above": 0.5, "edges": 2.0},
                # JSON has no NaN.
                "flags": [1.0, None, None, None, None, None],
                "seconds": 0.2,
            },
            request_id="r",
            served_version="v1",
            served_flags=[1.0, *[math.nan] * 5],
            served_s=0.1,
        )
        report.add(broken, shadow_version="s")
        shown = report.describe()
        [tile] = shown["most_different"]
        assert (tile["flags"], shown["versions"][0]["flags"]["both"]) == ("both", 1)
        assert list(tile["shadow_flags"].values()) == [1.0, *[None] * 5]
        assert tile["served_flags"] == tile["shadow_flags"]

    def test_a_reset_while_a_tile_is_ranked_is_not_an_error(self):
        """The thread of the worker asks, and an error there ends the shadow."""

        class Resetting:
            """An entry whose comparison is overtaken by a reset."""

            @property
            def rank(self) -> tuple[bool, float]:
                report.reset()
                return False, 2.0

        report = Report(keep=1)
        report.add(entry(1.0), shadow_version="s")
        assert report.ranks(Resetting())  # pyright: ignore[reportArgumentType]

    def test_versions_are_told_apart_and_bounded(self):
        """A service that runs for years does not grow."""
        report = Report(keep=1)
        for number in range(40):
            report.add(entry(1.0, served=f"v{number}"), shadow_version="s")
        versions = [pair["served_version"] for pair in report.describe()["versions"]]
        assert versions == [f"v{number}" for number in range(24, 40)]


class TestFrames:
    """`send_frame` and `receive_frame`."""

    def test_a_frame_arrives_as_it_was_sent(self):
        """Head and pixels."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
            send_frame(ours, {"shape": [3, 4]}, [pixels, pixels[:, ::2]])
            head, content = receive_frame(theirs)
            assert head["shape"] == [3, 4]
            assert bytes(content) == pixels.tobytes() + pixels[:, ::2].tobytes()

    def test_a_closed_or_strange_peer_is_an_error(self):
        """Not a wait without a limit, and no allocation of what it announces."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"\xff\xff\xff\xff")
            with pytest.raises(ValueError, match="head has 4294967295 bytes"):
                receive_frame(theirs)
            ours.sendall(b"\x01")
            ours.close()
            with pytest.raises(EOFError):
                receive_frame(theirs)
