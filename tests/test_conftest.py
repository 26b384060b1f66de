"""The hooks of conftest.py, run on small test files in a folder of their own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CONFTEST = Path(__file__).parent / "conftest.py"
MARKERS = """
[pytest]
markers =
    requires_program(name): needs a program
    requires_data: needs SEMSR_DATA
"""


def run_pytest(
    folder: Path, test_files: Sequence[str], *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest on some files with our conftest.py and only the SEMSR_… variables given.

    Options that the environment has for this run are not for that one.
    """
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "pytest.ini").write_text(MARKERS)
    for number, test_file in enumerate(test_files):
        (folder / f"test_{number}.py").write_text(test_file)
    own = ("SEMSR_", "PYTEST_ADDOPTS")
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(own)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", *arguments, str(folder)],
        env={**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


NEEDS_PROGRAM = """
import pytest
@pytest.mark.requires_program("semsr-no-such-program")
def test_program(): pass
"""
NEEDS_DATA_BY_MARKER = """
import pytest
@pytest.mark.requires_data
def test_data(): pass
"""
NEEDS_DATA_BY_FIXTURE = """
def test_data(data_folder): assert data_folder.is_dir()
"""
NEEDS_DATA_AS_A_FILE = """
import pytest
pytest.skip("SEMSR_DATA is not set", allow_module_level=True)
"""


NEEDY = (NEEDS_PROGRAM, NEEDS_DATA_BY_MARKER, NEEDS_DATA_BY_FIXTURE)


def test_a_skip_is_a_skip_where_nothing_is_required(tmp_path: Path) -> None:
    """What is absent skips, with the reason."""
    result = run_pytest(
        tmp_path, [*NEEDY, NEEDS_DATA_AS_A_FILE], SEMSR_REQUIRE_TESTS="something-else"
    )

    assert "4 skipped" in result.stdout
    assert "semsr-no-such-program is not installed" in result.stdout
    assert "SEMSR_DATA is not set" in result.stdout


def test_a_required_skip_fails(tmp_path: Path) -> None:
    """What is absent fails where SEMSR_REQUIRE_TESTS names it."""
    result = run_pytest(
        tmp_path, NEEDY, SEMSR_REQUIRE_TESTS="something-else,semsr-no-such-program,data"
    )

    assert "3 errors" in result.stdout
    assert "skipped" not in result.stdout.splitlines()[-1]
    assert "requires 'semsr-no-such-program'" in result.stdout
    assert "requires 'data'" in result.stdout
    assert 1 == result.returncode


def test_a_required_file_that_skips_fails(tmp_path: Path) -> None:
    """A file that skips as a whole while it is collected fails too."""
    result = run_pytest(tmp_path, [NEEDS_DATA_AS_A_FILE], SEMSR_REQUIRE_TESTS="data")

    assert "1 error" in result.stdout
    assert "requires 'data'" in result.stdout
    assert 2 == result.returncode


def test_a_test_runs_where_its_needs_are_met(tmp_path: Path) -> None:
    """A test with its program and data there runs and passes."""
    test_file = NEEDS_DATA_BY_FIXTURE + NEEDS_DATA_BY_MARKER.replace("test_data", "test_marked")

    result = run_pytest(
        tmp_path, [test_file], SEMSR_DATA=str(tmp_path), SEMSR_REQUIRE_TESTS="nginx,data"
    )

    assert "2 passed" in result.stdout
    assert 0 == result.returncode


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    """An xfail whose reason mentions something required stays an xfail.

    The marked test exists in the text below only, for a pytest run of its own.
    """
    test_file = """
import pytest
@pytest.mark.xfail(reason="nginx answers differently")
def test_unfinished(): assert False
"""

    result = run_pytest(tmp_path, [test_file], SEMSR_REQUIRE_TESTS="nginx")

    assert "1 xfailed" in result.stdout
    assert 0 == result.returncode


TWO_PASS_ONE_FAILS_ONE_SKIPS = """
import pytest
@pytest.mark.parametrize("name", ["plain", "with blank, and µ"])
def test_pass(name): pass
def test_fail(): assert 1 == 2
def test_skip(): pytest.skip("cannot run here")
"""


def test_tests_that_passed_elsewhere_are_left_out(tmp_path: Path) -> None:
    """A second run has those that failed or skipped in the first, and no others."""
    passed = tmp_path / "passed"
    run_pytest(tmp_path, [TWO_PASS_ONE_FAILS_ONE_SKIPS], f"--passed-to={passed}")

    second = run_pytest(tmp_path, [TWO_PASS_ONE_FAILS_ONE_SKIPS], f"--passed-in={passed}")

    assert 2 == len(passed.read_text().splitlines())
    assert "1 failed, 1 skipped, 2 deselected" in second.stdout


def test_the_list_of_passed_tests_begins_empty(tmp_path: Path) -> None:
    """What an earlier run left there must not excuse a test that fails now."""
    passed = tmp_path / "passed"
    passed.write_text("test_0.py::test_fail\n")

    run_pytest(tmp_path, [TWO_PASS_ONE_FAILS_ONE_SKIPS], f"--passed-to={passed}")

    assert "test_fail" not in passed.read_text()
