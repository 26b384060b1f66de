"""The errors of a scan: some end the scan, others affect one tile.

    ScanError                   the scan cannot start or go on; finished tiles stay done
    ├── ScanMismatchError       the journal belongs to another scan
    ├── SourceMissingError      the source does not exist
    ├── SourceDamagedError      a container ends early, or goes on after its end
    ├── StoreLostError          a source or sink does not answer, or a disk is full
    ├── FolderHeldError         another process runs the scan
    ├── MissingExtraError       a package is not installed
    └── OutsideRootsError       a path or URL leads out of the allowed folders
    TileError                   one tile cannot be read or written

The scan records a `TileError` and goes on.
"""


class ScanError(Exception):
    """The scan cannot start or go on."""


class ScanMismatchError(ScanError):
    """The journal belongs to a scan with another model, engine, source, sink or options."""


class SourceMissingError(ScanError):
    """The source does not exist, or is gone."""


class SourceDamagedError(ScanError):
    """A container ends early or goes on after its end; tiles before that are listed."""


class StoreLostError(ScanError):
    """A store does not answer, or its disk is full."""


class FolderHeldError(ScanError):
    """Another process runs the scan of this work folder."""


class MissingExtraError(ScanError):
    """A package of an extra is not installed."""


class OutsideRootsError(ScanError):
    """A path or URL leads out of the folders that the operator allows."""


class TileError(Exception):
    """One tile cannot be read or written; the message goes into its row of the manifest."""
