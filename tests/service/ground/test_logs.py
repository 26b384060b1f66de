"""How many lines are written."""

import io
import time

import pytest

from service.ground.logs import Form, LineBudget, _Unbreakable, say_ready


def test_lines_beyond_the_budget_are_left_out_and_counted():
    """The next line that is written says how many there were."""
    now_s = [10.2]
    budget = LineBudget(2, clock=lambda: now_s[0])
    assert [budget.take() for _ in range(5)] == [0, 0, None, None, None]
    now_s[0] = 11.0
    assert [budget.take() for _ in range(3)] == [3, 0, None]
    now_s[0] = 13.9
    assert budget.take() == 1


def test_a_busy_service_logs_every_failure(serve, capsys):
    """What went well is sampled, what did not is not."""
    app = serve(log_requests_per_s=1)
    began_s = time.monotonic()
    for _ in range(4):
        assert app.post(bytes(576)).status_code == 200
    seconds = time.monotonic() - began_s
    for _ in range(3):
        assert app.post(b"short").status_code == 422
    lines = [line for line in capsys.readouterr().out.splitlines() if "request_finished" in line]
    # One or more seconds may end in between.
    assert 1 <= sum("status=200" in line for line in lines) <= 2 + int(seconds)
    assert sum("status=422" in line for line in lines) == 3


def test_a_closed_log_harms_nobody():
    """A closed stream does not make requests fail."""
    file = io.StringIO()
    stream = _Unbreakable(file)
    file.close()
    assert stream.write("x") == 0
    stream.flush()


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("json", ""),
        ("auto", ""),
        ("console", "Ready: open http://127.0.0.1:8000/ in a browser; Ctrl-C ends the service\n"),
    ],
)
def test_people_are_told_which_address_to_open(
    form: Form, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal in a sentence; machines read the event, in their own format."""
    say_ready("http://127.0.0.1:8000/", form)
    written = capsys.readouterr()
    assert expected == written.err
    assert "serving" in written.out
