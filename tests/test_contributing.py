"""CONTRIBUTING: the newcomer test names files that exist, four a task at most."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TASKS = re.findall(r"^\| (add an? [a-z ]+) \| (.+) \|$", TEXT, flags=re.MULTILINE)


def test_every_task_of_a_newcomer_names_existing_files() -> None:
    """Ten tasks, each with at most four places, all of them in the tree."""
    assert 10 == len(TASKS)
    for task, files in TASKS:
        # What a tool writes stands in brackets; of alternatives, one file is touched.
        written = re.sub(r"\(.*?\)", "", files)
        places = [place for place in re.findall(r"`([^`]+)`", written) if "…" not in place]
        assert len(written.split(", ")) <= 4, task
        assert places, task
        for place in places:
            assert (ROOT / place).exists(), f"{task}: {place}"
