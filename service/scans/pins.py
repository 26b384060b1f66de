"""The pins of a scan: the values that must be the same in all its runs."""

import contextlib
from typing import Any

from service.scans.journal import Journal
from service.scans.options import ModelLabel, ScanRequest
from service.scans.work_folder import WorkFolder

STACK_TILE = "stack_tile"
"""Name of the fact in the journal that holds the output shape of a stack's tiles."""


def scan_pins(request: ScanRequest, model: ModelLabel) -> dict[str, Any]:
    """Return the pins of a scan."""
    size = request.pixel_size
    return {
        "source": request.source,
        "sink": request.sink,
        "model": model.name,
        "model_version": model.bundle.version,
        "bundle_digest": model.bundle.digest,
        "engine": model.engine,
        "precision": model.precision,
        "max_batch_size": model.max_batch_size,
        "window": None if request.window is None else list(request.window),
        "answer_dtype": request.answer_dtype,
        # None equals the absence in journals of earlier versions.
        "answer_bits": None if request.answer_bits == 8 else request.answer_bits,
        "answer_type": request.answer_type,
        "pixel_size_nm": None if size is None else [size.x_nm, size.y_nm],
        "name_pattern": request.name_pattern,
    }


def pinned_engine(work: WorkFolder) -> dict[str, str]:
    """Return engine and precision of a scan's first run, as settings; empty for a new scan."""
    pins = _read_pins(work)
    return {name: pins[name] for name in ("engine", "precision") if name in pins}


def owns_stack(work: WorkFolder, sink: str) -> bool:
    """Return whether the scan of a work folder has begun to write a stack."""
    pins = _read_pins(work)
    return pins.get("sink") == sink and STACK_TILE in pins


def _read_pins(work: WorkFolder) -> dict[str, Any]:
    if not work.journal_path.exists():
        return {}
    with contextlib.closing(Journal(work.journal_path)) as journal:
        return journal.pins()
