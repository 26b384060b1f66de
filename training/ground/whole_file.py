"""Atomic writing of files, used throughout training and evaluation.

If writing fails or the process is killed, the previous file, if any, stays unchanged. The path
never holds a partly written file.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, *, is_durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder; at the end, the file is renamed to `path`.

    Args:
        path: File to write; its folder is made where absent. An existing file is replaced.
        is_durable: Whether to wait until the disk has the content, so that a power cut cannot lose
            it: for what takes hours to make.

    Yields:
        Path of the same suffix, since libraries choose the format by it. After an error it is
        removed, and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, so that a listing of the folder does not show it; of fixed length, so that a long name
    # has one too; random, so that two processes never write to the same one.
    part = path.parent / f".{secrets.token_hex(8)}.part{path.suffix}"
    try:
        yield part
        if is_durable:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
