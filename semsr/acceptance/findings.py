"""Findings on own images: a level, a sentence, and the files that it is about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_NAMED = 20
Level = Literal["refused", "warning", "note"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding.

    Attributes:
        level: `refused` stops the acceptance, `warning` and `note` go into the report.
        text: Sentence that names the thing, the value and what was expected.
        files: Files that it is about; empty where it is about a folder.
    """

    level: Level
    text: str
    files: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the finding as one line of text; of many files the first `MAX_NAMED`."""
        return f"{self.level}: {self.text}" + (f": {listed(self.files)}" if self.files else "")


class ImagesRefusedError(ValueError):
    """The images of a folder cannot be used; the message has every finding."""


def listed(files: Sequence[str]) -> str:
    """Return names in one line, of many the first `MAX_NAMED`."""
    more = len(files) - MAX_NAMED
    return ", ".join(files[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def refuse(findings: Sequence[Finding]) -> None:
    """Raise where a finding refuses the images.

    Raises:
        ImagesRefusedError: At least one finding is `refused`.
    """
    refused = [item for item in findings if item.level == "refused"]
    if refused:
        lines = [item.line() for item in [*refused, *(f for f in findings if f not in refused)]]
        raise ImagesRefusedError("\n  ".join(["the images cannot be used:", *lines]))
