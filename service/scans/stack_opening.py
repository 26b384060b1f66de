"""Opens a stack as the sink of a scan, new or begun by an earlier run."""

import contextlib
import heapq
from collections.abc import Iterator, Sequence
from typing import Any

from service.ground.errors import ServiceError
from service.images import codec
from service.scans.array_source import RAW
from service.scans.checks import check_new_stack
from service.scans.errors import ScanError, SourceDamagedError, TileError
from service.scans.journal import Journal
from service.scans.local_store import LocalStore
from service.scans.opening import StoreOpener, open_store
from service.scans.options import ModelLabel, ScanRequest
from service.scans.pins import STACK_TILE
from service.scans.sources import Listed, Source, TileRef
from service.scans.stack_formats import stack_format
from service.scans.stack_sink import StackSink, TileFormat
from service.scans.stores import Store
from service.scans.work_folder import WorkFolder

# Maximum number of tiles that are read to find the size of a stack's tiles.
_MOST_PROBED = 100
_MAX_PIXELS = 1 << 28


def open_scan_stack(
    request: ScanRequest,
    model: ModelLabel,
    source: Source,
    journal: Journal,
    work: WorkFolder,
    *,
    overwrite: bool,
    open_store: StoreOpener,
) -> StackSink:
    """Open the stack of a scan; for a new stack, old shards are removed first.

    Args:
        request: Source, sink and how tiles are read and written.
        model: The model that runs.
        source: Source of the tiles.
        journal: Journal of the scan, which knows the shape of a stack that was begun.
        work: Folder of the scan.
        overwrite: Whether a stack that this scan has not written is replaced.
        open_store: Function that opens the stores of sink and shards.

    Raises:
        ScanError: The stack exists already, or cannot be made.
    """
    pinned = journal.fact(STACK_TILE)
    is_new = pinned is None
    if is_new:
        if not overwrite:
            check_new_stack(request, open_store)
        pinned = _probe(source, request.source, model.bundle.manifest.scale)
    attributes: dict[str, Any] = {
        "scale": model.bundle.manifest.scale,
        "model": model.name,
        "model_version": model.bundle.version,
        "engine": model.engine,
        "precision": model.precision,
    }
    sink, shards = open_stack_sink(
        request, pinned, work, attributes=attributes, open_store=open_store
    )
    shards.remove_parts()
    if is_new:
        # Shards of another stack would be read as this one's. Once the journal has the shape, all
        # shards are this scan's own.
        sink.clear()
        journal.set_fact(STACK_TILE, pinned)
    return sink


def open_stack_sink(
    request: ScanRequest,
    shape: Sequence[int],
    work: WorkFolder,
    *,
    attributes: dict[str, Any],
    open_store: StoreOpener = open_store,
) -> tuple[StackSink, Store]:
    """Open a stack as a sink.

    Args:
        request: Source, sink and how tiles are read and written.
        shape: (H, W) of every output tile.
        work: Work folder, for the shards of a stack that is assembled from them.
        attributes: Attributes of the stack.
        open_store: Function that opens the stores of sink and shards.

    Returns:
        The sink, and the store of its shards.

    Raises:
        ScanError: No stack has this suffix.
    """
    url = request.sink.rstrip("/")
    folder, _, name = url.rpartition("/")
    store = open_store(
        folder or ("/" if url.startswith("/") else "."), patience_s=request.patience_s
    )
    tile = TileFormat((shape[0], shape[1]), request.answer_dtype)
    stack = stack_format(store, name, tile, work=work.path)
    shards: Store = LocalStore(work.shards)
    if stack.keeps_shards:
        shards = open_store(url, patience_s=request.patience_s)
    return StackSink(url, store, shards, stack, tile, attributes=attributes), shards


def _probe(source: Source, url: str, scale: int) -> tuple[int, int]:
    """Return the output shape of the first tile, in the order of names, that can be read."""

    def tiles() -> Iterator[Listed]:
        with contextlib.suppress(SourceDamagedError):  # the listing of the scan reports it
            yield from (item for item in source.listing() if item.is_tile)

    for item in heapq.nsmallest(_MOST_PROBED, tiles(), key=lambda item: item.name):
        try:
            image = source.read(TileRef(item.name, item.stem, item.place, item.size_bytes))
            if image.media_type == RAW and image.shape is not None:
                shape = image.shape
            else:
                pixels = codec.decode(
                    image.body, image.media_type, shape=None, dtype=None, max_pixels=_MAX_PIXELS
                ).pixels
                shape = (pixels.shape[0], pixels.shape[1])
        except (TileError, ServiceError):
            continue
        return scale * shape[0], scale * shape[1]
    raise ScanError(f"none of the first {_MOST_PROBED} tiles of {url} can be read")
