"""`semsr.progress`: a bar on a terminal, lines in a pipe, never silence."""

import io
import re
import threading

import pytest

from semsr.progress import duration, progress, tracked

PATIENCE_S = 30.0


class Stream(io.StringIO):
    """Text that counts its writes, so that a test can wait for the next one."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        super().__init__()
        self.is_terminal = is_terminal
        self.written = threading.Condition()
        self.writes = 0

    def isatty(self) -> bool:
        """Say what the test wants."""
        return self.is_terminal

    def write(self, text: str) -> int:
        """Count it."""
        count = super().write(text)
        with self.written:
            self.writes += 1
            self.written.notify_all()
        return count

    def wait_for(self, writes: int) -> None:
        """Wait until so many writes have come."""
        with self.written:
            assert self.written.wait_for(lambda: self.writes >= writes, PATIENCE_S)


def test_a_pipe_gets_a_line_at_the_start_one_a_period_and_one_at_the_end() -> None:
    """The middle line comes from the clock alone: no step is done before it."""
    stream = Stream()
    with progress("bench", 3, unit="turn", stream=stream, period_s=0.01) as steps:
        assert "bench: 3 turns\n" == stream.getvalue()
        stream.wait_for(2)
        steps.update()
        steps.say("nginx")
        stream.wait_for(stream.writes + 2)
        steps.update(2)
    lines = stream.getvalue().splitlines()

    assert re.fullmatch(r"bench: 0 of 3 turns after \d+ s", lines[1])
    middle = r"bench: 1 of 3 turns after \d+ s, about \d+ s left, nginx"
    assert re.fullmatch(middle, lines[-2])
    assert re.fullmatch(r"bench: done, 3 of 3 turns after \d+ s", lines[-1])


def test_work_without_known_steps_is_named_and_timed() -> None:
    """A long single step says that it is at work."""
    stream = Stream()
    with progress("estimating the noise", stream=stream, period_s=0.01):
        stream.wait_for(2)
    lines = stream.getvalue().splitlines()

    assert "estimating the noise" == lines[0]
    assert re.fullmatch(r"estimating the noise: at work after \d+ s", lines[1])


def test_an_error_ends_the_lines_as_stopped() -> None:
    """The last line of a failed run does not say done."""
    stream = Stream()
    with (
        pytest.raises(ValueError, match="broken"),
        progress("bench", 3, unit="turn", done=1, stream=stream),
    ):
        raise ValueError("broken")

    first, last = stream.getvalue().splitlines()

    assert "bench: 3 turns, 1 done before" == first
    assert re.fullmatch(r"bench: stopped, 1 of 3 turns after \d+ s", last)


def test_a_terminal_gets_one_bar_whose_clock_runs() -> None:
    """The bar is drawn over itself, also while no step is done."""
    stream = Stream(is_terminal=True)
    with progress("bench", 2, unit="turn", stream=stream) as steps:
        before = stream.writes
        stream.wait_for(before + 1)
        steps.grow(2)
        steps.update(4)
    text = stream.getvalue()

    assert "bench: 100%" in text
    assert "4/4" in text
    assert 1 == text.count("\n")


def test_a_reader_that_has_gone_does_not_end_the_work() -> None:
    """Writing to a closed pipe costs the line only."""

    class Gone(Stream):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with progress("bench", 1, stream=Gone()) as steps:
        steps.update()


def test_items_are_counted_as_they_are_used() -> None:
    """`tracked` yields what it was given and ends with the whole count."""
    stream = Stream()

    assert [1, 2, 3] == list(tracked([1, 2, 3], "upscale", unit="image", stream=stream))
    assert "upscale: done, 3 of 3 images after" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (194, "3 min 14 s"), (7500, "2 h 05 min")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    """Two units at most."""
    assert text == duration(seconds)
