"""Checks that a scan passes before an engine is loaded."""

import os
import tempfile
from pathlib import Path

from service.scans.errors import ScanError
from service.scans.manifest import check_form
from service.scans.opening import StoreOpener, open_source, open_store
from service.scans.options import ScanRequest
from service.scans.stack_formats import check_stack

# Formats that are copied from an object store before they are read; the checks do not copy them.
_COPIED = (".h5", ".hdf5", ".tif", ".tiff")


def check_request(
    request: ScanRequest, *, work: Path, open_store: StoreOpener = open_store
) -> None:
    """Check that a scan can begin: source first, then sink, then manifest.

    Args:
        request: Source, sink and how tiles are read and written.
        work: Folder of the journal, which need not exist.
        open_store: Function that opens the stores of source and sink.

    Raises:
        SourceMissingError: The source does not exist.
        ScanError: Source or sink cannot be used.
        MissingExtraError: A package that source, sink or manifest needs is not installed.
    """
    path = request.source.partition("::")[0].rstrip("/").lower()
    if not ("://" in path and path.endswith(_COPIED)):
        # Not in the work folder, which may not exist: files in it would count as another scan's.
        with tempfile.TemporaryDirectory(prefix="semsr-scan-") as spool:
            open_source(
                request.source,
                spool=Path(spool),
                patience_s=request.patience_s,
                open_store=open_store,
            ).close()
    check_apart(request.source, sink=request.sink, work_folder=str(work))
    check_outside(str(work), source=request.source, sink=request.sink)
    check_sink(request, open_store)
    check_form(request.manifest)


def check_sink(request: ScanRequest, open_store: StoreOpener = open_store) -> None:
    """Check that a sink can be written, as far as possible without writing.

    Raises:
        ScanError: It cannot be written.
        MissingExtraError: A package that it needs is not installed.
    """
    url = request.sink.rstrip("/")
    if request.is_stack:
        check_stack(Path(url).suffix.lower())
    scheme, separator, rest = url.partition("://")
    if separator and scheme != "file":
        open_store(url, patience_s=request.patience_s)
        return
    sink = Path(rest if separator else url or "/")
    is_file = request.is_stack and sink.suffix.lower() != ".zarr"
    if os.path.lexists(sink) and is_file == os.path.isdir(sink):  # noqa: PTH112 (Path's raises)
        wanted, found = ("a file", "a folder") if is_file else ("a folder", "not a folder")
        raise ScanError(f"the sink {request.sink} is {found}; expected {wanted}, or nothing there")
    place = sink.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not os.path.isdir(place) and place != sink.absolute():  # noqa: PTH112 (as above)
        raise ScanError(f"the sink {request.sink} cannot be made: {place} is not a folder")
    if not os.access(place, os.W_OK):
        raise ScanError(f"the sink {request.sink} cannot be written: no permission for {place}")


def check_new_stack(
    request: ScanRequest, open_store: StoreOpener = open_store, *, advice: str = "remove it"
) -> None:
    """Reject a sink that exists already, so that no scan replaces the stack of another scan.

    Args:
        request: Request of the scan; a folder as sink is not checked.
        open_store: Function that opens the store of the sink.
        advice: Advice for the message.

    Raises:
        ScanError: The stack exists.
    """
    if not request.is_stack:
        return
    url = request.sink.rstrip("/")
    if url.lower().endswith(".zarr"):
        found = next(iter(open_store(url, patience_s=request.patience_s).walk()), None)
    else:
        folder, _, name = url.rpartition("/")
        folder = folder or ("/" if url.startswith("/") else ".")
        found = open_store(folder, patience_s=request.patience_s).find(name)
    if found is not None:
        raise ScanError(
            f"the sink {request.sink} exists already, and this scan has not written it; "
            f"{advice}, or write into another sink"
        )


def check_apart(source: str, **others: str) -> None:
    """Reject a sink or work folder within the source: a resumed scan would list its outputs.

    Raises:
        ScanError: The sink or work folder lies within the source.
    """
    for name, other in others.items():
        if _place(other).startswith(_place(source)):
            words = name.replace("_", " ")
            raise ScanError(f"the {words} {other} lies within the source {source}")


def check_outside(work_folder: str, **others: str) -> None:
    """Reject a source or sink within the work folder, where a scan from scratch removes files.

    Raises:
        ScanError: The source or sink lies within the work folder.
    """
    for name, other in others.items():
        if _place(other).startswith(_place(work_folder)):
            raise ScanError(f"the {name} {other} lies within the work folder {work_folder}")


def _place(url: str) -> str:
    """Return a path with links resolved, or a URL; it is a prefix of every place within it."""
    scheme, separator, rest = url.partition("::")[0].partition("://")
    if not separator or scheme == "file":
        path = os.path.realpath(rest or scheme)
        return path if path == "/" else f"{path}/"
    return f"{url.rstrip('/')}/"
