"""Plain English: the words of docs/style.md that a reader stumbles over do not return.

A line of code, comment, message or documentation in the folders below must not match any of the
patterns. Fix the line; if a word is right there, add the exact phrase to `ALLOWED`.
"""

import functools
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Folders and files that are clean; add others as they become so.
CLEAN = (
    "CONTRIBUTING.md",
    "Makefile",
    "README.md",
    "bundle_format",
    "client",
    "deploy",
    "docker-compose.gpu.yml",
    "docker-compose.yml",
    "docs",
    "engines",
    "export",
    "loadtests",
    "models",
    "pyproject.toml",
    "semsr",
    "service",
    "tests/bundle_format",
    "tests/deploy",
    "tests/engines",
    "tests/service/batching",
    "tests/service/ground",
    "tests/service/http",
    "tests/service/images",
    "training",
)
# The table of the words itself, tables that the measurements write, and recipes, which are records.
LEFT_OUT = ("docs/style.md", "docs/measurements/benchmarks.md", "training/recipes/")
SUFFIXES = {".css", ".html", ".js", ".md", ".py", ".sh", ".toml", ".yaml", ".yml"}

# What is found, and what docs/style.md says instead.
PATTERNS = {
    r"\banew\b": "again, new",
    r"\bbeside\b": "next to, in addition to, with",
    r"\bunder way\b": "in progress, in flight",
    r"\b(who|what|whom)(so)?ever\b": "the caller, the operator; any; regardless of",
    r"\b(nobody|somebody|someone)\b": "no client, the caller",
    r"\bthose that\b": "the noun itself",
    r"\b(is|are|was|be) told\b|\btold (of|that|to)\b|\bTold of\b": "reported, notified, returned",
    r"\bcom(e|es|ing) again\b": "retry",
    r"\bfor ever\b": "indefinitely, without a limit",
    r"^\W*So (many|often|long)\b|\b(for|at most|after) so (many|long)\b": "number of, interval",
    r"\blet go\b": "released",
    r"\bthe one before\b": "the previous version",
    r"\bmend(s|ed|ing)?\b": "fix, repaired",
    r"\byardstick\b": "baseline",
    r"\bharm(s|ed)?\b": "affects, slows down",
    r"\bin step\b": "updated",
    r"\bpass(ed)? over\b": "skipped",
    r"(?<!there )\b(is|are|was|were) no (?!longer|more|less|worse|better|faster)[a-z]+": "is not a",
    r"\bbesides\b": "also, in addition",
    r"\ball the same\b": "still",
    r"\bso far as\b|\bas it pleases\b": "if, unpredictable",
    # Descriptions of arguments and attributes start with a noun.
    r"^\s+\w+: (Of|Which|That|What|How|Told|Where|As|By|So|Whose|Gives|Says|Asks|Asked) ": "a noun",
}  # fmt: skip
ALLOWED: tuple[str, ...] = (
    "--beside-paper",
    # The key of JSON rows, and the head of its column.
    '"yardstick"',
    "'yardstick'",
    "`yardstick`",
    "% of yardstick",
    '"Yardstick"',
    '"Yardstick, the lower of cores and disk"',
)


@functools.cache
def lines() -> list[tuple[str, str]]:
    """Return each line of the clean folders with its place; outside a clone of all their files."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *CLEAN], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = listed.stdout.splitlines() or [
        str(path.relative_to(ROOT))
        for clean in CLEAN
        for path in ([ROOT / clean] if (ROOT / clean).is_file() else (ROOT / clean).rglob("*"))
    ]
    found: list[tuple[str, str]] = []
    for name in names:
        is_text = Path(name).suffix in SUFFIXES or name == "Makefile"
        if is_text and not name.startswith(LEFT_OUT):
            text = (ROOT / name).read_text(encoding="utf-8")
            for phrase in ALLOWED:
                text = text.replace(phrase, "")
            found += ((f"{name}:{n}", line) for n, line in enumerate(text.splitlines(), start=1))
    return found


@pytest.mark.parametrize("pattern", PATTERNS)
def test_clean_folders_stay_in_plain_english(pattern: str) -> None:
    """No line has a word from the table in docs/style.md."""
    word = re.compile(pattern, re.IGNORECASE if pattern.islower() else re.NOFLAG)
    found = [f"{place}: {line.strip()}" for place, line in lines() if word.search(line)]
    assert not found, f"write {PATTERNS[pattern]!r} instead:\n" + "\n".join(found)
