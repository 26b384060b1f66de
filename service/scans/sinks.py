"""The sinks of a scan: their protocol, and the most common sink, a folder of files."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from service.images.image_steps import Answer
from service.images.media_types import TYPES_BY_SUFFIX
from service.scans.errors import TileError
from service.scans.facts import Facts, to_json
from service.scans.journal import Journal
from service.scans.rows import Outcome, PendingTile
from service.scans.sources import SIDECAR_SUFFIX, Listed
from service.scans.stores import Store

_SUFFIXES = {
    "image/png": ".png",
    "image/tiff": ".tiff",
    "image/jxl": ".jxl",
    "application/x-npy": ".npy",
}
FORMATS = {suffix.removeprefix("."): media_type for media_type, suffix in _SUFFIXES.items()}


@dataclass(frozen=True, slots=True)
class Computed:
    """A tile that is ready to be written.

    Attributes:
        tile: Its row.
        answer: Its encoded image.
        answer_sha256: SHA-256 of the encoded image.
        facts: Its facts, scaled.
        input_sha256: SHA-256 of the input.
    """

    tile: PendingTile
    answer: Answer
    answer_sha256: str
    facts: Facts
    input_sha256: str

    def outcome(self, output: str, *, output_bytes: int, is_shared: bool = False) -> Outcome:
        """Return the outcome of a tile that was written."""
        quality, size = self.answer.quality, self.answer.pixel_size
        spent_s = sum(seconds for name, seconds in self.answer.stages_s.items() if name != "queue")
        return Outcome(
            self.tile.id,
            "done",
            input_sha256=self.input_sha256,
            output=output,
            output_bytes=output_bytes,
            output_sha256=self.answer_sha256,
            milliseconds=1e3 * spent_s,
            quality=tuple(quality),
            pixel_size_nm=None if size is None else (size.x_nm, size.y_nm),
            metadata=to_json(self.facts) if self.facts else None,
            is_shared=is_shared,
        )

    def failure(self, reason: str) -> Outcome:
        """Return the outcome of a tile that was not written."""
        return Outcome(self.tile.id, "failed", error=reason, input_sha256=self.input_sha256)


class Sink(Protocol):
    """Stores tiles, from any thread, and the manifest.

    Attributes:
        url: URL that it was opened by.
        io_at_once: Number of parallel writes that pays off.
        io_per_thread: Number of parallel writes that share one thread.
        unit_tiles: Tiles of one write, in order of their positions.
    """

    url: str
    io_at_once: int
    io_per_thread: int
    unit_tiles: int

    def target(self, listed: Listed) -> str | None:
        """Return the name of a tile's own output file, or None."""
        ...

    def accept(self) -> str | None:
        """Return the media type of all answers, or None if each tile keeps its own."""
        ...

    def find_outputs(self) -> Iterator[tuple[str, int]]:
        """Yield name and length of every output in the sink."""
        ...

    def digest(self, output: str, position: int) -> str | None:
        """Return the SHA-256 of a tile in the sink, or None if it cannot be read."""
        ...

    def write(self, unit: Sequence[PendingTile], tiles: Sequence[Computed]) -> list[Outcome]:
        """Write tiles.

        Args:
            unit: All tiles of a unit, or several units of one tile.
            tiles: Those of them that were computed.

        Returns:
            Outcome of each of `tiles`.

        Raises:
            StoreLostError: The sink cannot be written.
        """
        ...

    def sync(self, outputs: Sequence[str]) -> None:
        """Make new outputs durable; raises as `write`."""
        ...

    def finish(self, journal: Journal) -> None:
        """Complete the sink once no tile is pending; raises as `write`."""
        ...

    def put_manifest(self, path: Path) -> str:
        """Move a manifest into the sink; returns its path or URL, raises as `write`."""
        ...


class FolderSink:
    """A folder (or prefix) in which every tile becomes a file, NAME_x4.SUFFIX."""

    unit_tiles = 1

    def __init__(self, store: Store, *, scale: int, answer_type: str | None) -> None:
        """Prepare.

        Args:
            store: Store of the files.
            scale: Upscaling factor, for the names.
            answer_type: Media type of the files; None keeps the type of each tile.
        """
        self.url = store.url
        self.io_at_once = store.io_at_once
        self.io_per_thread = store.io_per_thread
        self._store = store
        self._scale = scale
        self._answer_type = answer_type

    def target(self, listed: Listed) -> str:
        """See `Sink`."""
        return self.name(listed, scale=self._scale, answer_type=self._answer_type)

    @staticmethod
    def name(listed: Listed, *, scale: int, answer_type: str | None) -> str:
        """Return the name of a tile's output; its suffix stays if its type does."""
        own = TYPES_BY_SUFFIX[listed.suffix.lower()]
        answer_type = answer_type or (own if own in _SUFFIXES else "image/png")
        suffix = listed.suffix if answer_type == own else _SUFFIXES[answer_type]
        return f"{listed.stem}_x{scale}{suffix}"

    def accept(self) -> str | None:
        """See `Sink`."""
        return self._answer_type

    def find_outputs(self) -> Iterator[tuple[str, int]]:
        """See `Sink`."""
        for entry in self._store.walk():
            yield entry.name, entry.size_bytes

    def digest(self, output: str, position: int) -> str | None:
        """See `Sink`."""
        del position
        try:
            return hashlib.sha256(self._store.read(output)).hexdigest()
        except TileError:
            return None

    def write(self, unit: Sequence[PendingTile], tiles: Sequence[Computed]) -> list[Outcome]:
        """See `Sink`."""
        del unit
        # Sidecars before tiles, so that every visible tile has its facts.
        refused = self._write_all(
            [
                (computed, _sidecar(computed), to_json(computed.facts).encode())
                for computed in tiles
                if computed.facts
            ]
        )
        refused |= self._write_all(
            [
                (computed, _target(computed), computed.answer.body)
                for computed in tiles
                if computed.tile.id not in refused
            ]
        )
        return [refused.get(computed.tile.id) or _outcome(computed) for computed in tiles]

    def sync(self, outputs: Sequence[str]) -> None:
        """See `Sink`."""
        self._store.sync(outputs)

    def finish(self, journal: Journal) -> None:
        """See `Sink`: separate files need no completion."""

    def put_manifest(self, path: Path) -> str:
        """See `Sink`."""
        self._store.move_in(path.name, path)
        return f"{self.url}/{path.name}"

    def _write_all(
        self, files: Sequence[tuple[Computed, str, bytes | memoryview]]
    ) -> dict[int, Outcome]:
        """Write files of tiles; returns the outcomes of failed ones, by the tile's id."""
        errors = self._store.write_all([(name, content) for _, name, content in files])
        return {
            computed.tile.id: computed.failure(str(error))
            for (computed, _, _), error in zip(files, errors, strict=True)
            if error is not None
        }


def _target(computed: Computed) -> str:
    target = computed.tile.target
    assert target is not None  # noqa: S101 (the journal has `target` of this sink)
    return target


def _sidecar(computed: Computed) -> str:
    return str(PurePosixPath(_target(computed)).with_suffix(SIDECAR_SUFFIX))


def _outcome(computed: Computed) -> Outcome:
    return computed.outcome(_target(computed), output_bytes=len(computed.answer.body))
