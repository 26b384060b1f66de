"""Files of the command line, its bench and its generators: whole or not at all, as scans write."""

from pathlib import Path

from service.scans.part_file import write_whole

__all__ = ["write_whole", "write_whole_text"]


def write_whole_text(path: Path, text: str) -> None:
    """Write UTF-8 text that has its name only once it is whole; it replaces what was there.

    Raises:
        OSError: It cannot be written.
    """
    write_whole(path, text.encode())
