"""The KLARF file of a scan's first run, kept in the work folder: a resume needs the same file.

With another file, images would get other positions and facts, and the results could stand next to
other defects than those whose images were computed.
"""

import gzip
import zlib
from pathlib import Path

from service.scans.errors import ScanError, ScanMismatchError, StoreLostError
from service.scans.klarf.document import decoded
from service.scans.klarf.errors import KlarfError
from service.scans.klarf.klarf import read_klarf
from service.scans.klarf_source import KlarfSource
from service.scans.part_file import write_whole

# Fast: the copy is read only where the file has changed.
_LEVEL = 1
_SHOWN_BYTES = 60


def check_unchanged(source: KlarfSource, path: Path) -> None:
    """Keep a copy of the file of a scan, or compare the file with the copy of an earlier run.

    Args:
        source: Source of the scan.
        path: Path of the copy.

    Raises:
        ScanMismatchError: The file has changed; the message names the first line that differs.
        ScanError: The copy cannot be read.
        StoreLostError: The copy cannot be written.
    """
    content = source.klarf.to_bytes()
    if not path.exists():
        try:
            write_whole(path, gzip.compress(content, _LEVEL, mtime=0))
        except OSError as error:
            raise StoreLostError(f"cannot write {path}: {error.strerror or error}") from error
        return
    try:
        before = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ScanError(
            f"the copy {path} of {source.name} is damaged: {error}; delete it to resume with "
            f"{source.url} as it is now"
        ) from error
    if before != content:
        raise ScanMismatchError(
            f"{source.url} has changed since the scan began: {_difference(before, source)}. Resume "
            f"with the file of then ({path} has it, compressed by gzip), start from scratch "
            "(--no-resume), or use another sink"
        )


def _difference(before: bytes, source: KlarfSource) -> str:
    """Name the first line that differs, and the numbers of defects."""
    old, new = (content.splitlines() for content in (before, source.klarf.to_bytes()))
    if old == new:
        return "its line ends differ"
    same = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        same += 1
    was, now = (_shown(lines[same]) if same < len(lines) else "missing" for lines in (old, new))
    parts = [f"line {same + 1} was {was} and is {now}"]
    try:
        num_before = read_klarf(before).num_defects
    except KlarfError:  # a copy by another version, with other rules
        num_before = source.klarf.num_defects
    if num_before != source.klarf.num_defects:
        parts.append(f"it had {num_before} defects and has {source.klarf.num_defects}")
    return "; ".join(parts)


def _shown(line: bytes) -> str:
    cut = line[:_SHOWN_BYTES]
    return repr(decoded(cut)) + ("…" if len(cut) < len(line) else "")
