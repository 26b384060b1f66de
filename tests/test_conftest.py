"""The hooks of conftest.py, run on small test files in a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent / "conftest.py"
MARKERS = """
[pytest]
markers =
    requires_program(name): needs a program
    requires_data: needs SEMSR_DATA
"""


def run_pytest(
    folder: Path, test_file: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest on one file with our conftest.py and only the SEMSR_… variables given."""
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "pytest.ini").write_text(MARKERS)
    (folder / "test_file.py").write_text(test_file)
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("SEMSR_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(folder)],
        env={**inherited, **environment},
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


@pytest.mark.parametrize(
    ("test_file", "name"),
    [
        (NEEDS_PROGRAM, "semsr-no-such-program"),
        (NEEDS_DATA_BY_MARKER, "data"),
        (NEEDS_DATA_BY_FIXTURE, "data"),
        (NEEDS_DATA_AS_A_FILE, "data"),
    ],
    ids=["program", "data-marker", "data-fixture", "data-file"],
)
def test_a_skip_fails_only_where_it_is_required(tmp_path: Path, test_file: str, name: str) -> None:
    """What is absent skips with the reason, and fails where SEMSR_REQUIRE_TESTS names it."""
    free = run_pytest(tmp_path, test_file)
    other = run_pytest(tmp_path, test_file, SEMSR_REQUIRE_TESTS="something-else")
    required = run_pytest(tmp_path, test_file, SEMSR_REQUIRE_TESTS=f"something-else,{name}")

    assert "1 skipped" in free.stdout
    assert "1 skipped" in other.stdout
    assert "1 skipped" not in required.stdout
    assert "1 error" in required.stdout
    assert f"requires '{name}'" in required.stdout
    assert required.returncode not in {0, 5}


def test_a_test_runs_where_its_needs_are_met(tmp_path: Path) -> None:
    """A test with its program and data there runs and passes."""
    test_file = NEEDS_DATA_BY_FIXTURE + NEEDS_DATA_BY_MARKER.replace("test_data", "test_marked")

    result = run_pytest(
        tmp_path, test_file, SEMSR_DATA=str(tmp_path), SEMSR_REQUIRE_TESTS="nginx,data"
    )

    assert "2 passed" in result.stdout
    assert 0 == result.returncode


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    """An xfail whose reason mentions something required stays an xfail."""
    test_file = """
import pytest
@pytest.mark.xfail(reason="nginx answers differently")
def test_unfinished(): assert False
"""

    result = run_pytest(tmp_path, test_file, SEMSR_REQUIRE_TESTS="nginx")

    assert "1 xfailed" in result.stdout
    assert 0 == result.returncode
