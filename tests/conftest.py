"""What tests need from outside: system programs and real images, and what happens without them.

A test says what it needs: the marker `requires_program("nginx")`, the fixture `data_folder`
(marker `requires_data`) for images named by `SEMSR_DATA`, or the fixture `vgg16_path` for the
weights named by `SEMSR_VGG16`. Where that is absent the test skips with the reason. Where
`SEMSR_REQUIRE_TESTS` names it (`nginx,chromium,data`, as `.ci/run` sets it) a skip for that reason
is a failure, so that a test cannot get lost unseen.

`--passed-to FILE` appends the tests that pass to a file, and `--passed-in FILE` leaves those out:
`make test` runs the service's tests where torch is absent, then in the development environment
only those of them that could not run there.
"""

import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path

# OpenMP threads that wait spin by default. Two test processes of two threads each on two cores then
# take five times the processor time (measured on the estimation of a degradation: 22 s for 4.3 s).
# torch's OpenMP reads these when it is loaded, so before any import that may load it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import pytest

DATA_VARIABLE = "SEMSR_DATA"
VGG16_VARIABLE = "SEMSR_VGG16"
REQUIRED_VARIABLE = "SEMSR_REQUIRE_TESTS"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options by which a run leaves out what another run has tested."""
    group = parser.getgroup("semsr")
    group.addoption("--passed-to", type=Path, help="file to which the tests that pass are appended")
    group.addoption("--passed-in", type=Path, help="file of tests to leave out, one id a line")


def pytest_configure(config: pytest.Config) -> None:
    """Begin the file of `--passed-to` empty."""
    path: Path | None = config.getoption("--passed-to")
    if path is not None and not hasattr(config, "workerinput"):
        path.write_text("", encoding="utf-8")
        config.pluginmanager.register(_PassedTests(path))


class _PassedTests:
    """Recorder of the tests that pass; in a run with several processes, of the one that reports."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Append the id of a test whose call passed."""
        if report.when == "call" and report.passed:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{report.nodeid}\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that the file of `--passed-in` names."""
    path: Path | None = config.getoption("--passed-in")
    if path is None:
        return
    passed = set(path.read_text(encoding="utf-8").splitlines())
    left_out = [item for item in items if item.nodeid in passed]
    items[:] = [item for item in items if item.nodeid not in passed]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder that SEMSR_DATA names; the test skips where there is none."""
    reason = _missing_data()
    if reason:
        pytest.skip(reason)
    return Path(os.environ[DATA_VARIABLE])


@pytest.fixture(scope="session")
def vgg16_path() -> Path:
    """The file that SEMSR_VGG16 names; the test skips where there is none."""
    named = os.environ.get(VGG16_VARIABLE)
    if not named or not Path(named).is_file():
        pytest.skip(f"{VGG16_VARIABLE} names no file ({named}): no weights of the feature network")
    return Path(named)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program or data is absent."""
    for marker in item.iter_markers("requires_program"):
        program = marker.args[0]
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if item.get_closest_marker("requires_data"):
        reason = _missing_data()
        if reason:
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a required test into a failure."""
    report = yield
    if not hasattr(report, "wasxfail"):  # an expected failure is reported as skipped too
        _fail_if_required(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole required file into a failure."""
    report = yield
    _fail_if_required(report)
    return report


def _missing_data() -> str | None:
    """Say why there are no real images, or None where they are."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        return f"{DATA_VARIABLE} is not set: no real images"
    if not Path(folder).is_dir():
        return f"{DATA_VARIABLE} names {folder}, which is not a folder"
    return None


def _fail_if_required(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Fail a skipped report whose reason names something that SEMSR_REQUIRE_TESTS lists."""
    if not report.skipped:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    for name in filter(None, os.environ.get(REQUIRED_VARIABLE, "").split(",")):
        word = {"data": DATA_VARIABLE, "vgg16": VGG16_VARIABLE}.get(name, name)
        if re.search(rf"\b{re.escape(word)}\b", reason):
            report.outcome = "failed"
            report.longrepr = f"skipped, but {REQUIRED_VARIABLE} requires {name!r}: {reason}"
