"""What can go wrong in a scan: with one tile, or with all of it.

    ScanError                   the scan cannot start or go on; what is done stays done
    ├── ScanMismatchError       a journal exists, of another scan
    ├── SourceMissingError      there is no such source
    ├── SourceDamagedError      a container ends early, or goes on after its end
    ├── StoreLostError          a source or sink does not answer, or takes nothing more
    ├── FolderHeldError         another process runs the scan
    ├── MissingExtraError       a package is not installed
    └── OutsideRootsError       a path or URL leads out of what the operator allowed
    TileError                   one tile cannot be read or written

A `TileError` is recorded and the scan goes on.
"""


class ScanError(Exception):
    """The scan cannot start or go on."""


class ScanMismatchError(ScanError):
    """The journal is of a scan with another model, engine, source, sink or options."""


class SourceMissingError(ScanError):
    """There is no such source: it never was, or it is gone by now."""


class SourceDamagedError(ScanError):
    """A container ends early or goes on after its end; what it holds before has been listed."""


class StoreLostError(ScanError):
    """A store does not answer, or takes nothing more (a full disk)."""


class FolderHeldError(ScanError):
    """Another process runs the scan of this work folder."""


class MissingExtraError(ScanError):
    """A package of an extra is not installed."""


class OutsideRootsError(ScanError):
    """A path or URL leads out of what the operator allowed."""


class TileError(Exception):
    """One tile cannot be read or written; the message is for its row of the manifest."""
