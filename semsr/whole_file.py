"""Atomic writes of text files, for commands, benchmarks and generators."""

from pathlib import Path

from service.scans.part_file import write_whole

__all__ = ["write_whole", "write_whole_text"]


def write_whole_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; an existing file is replaced.

    Raises:
        OSError: The file cannot be written.
    """
    write_whole(path, text.encode())
