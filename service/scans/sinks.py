"""Where super-resolved tiles go: what a sink is, and the commonest one, a folder that mirrors."""

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
        tile: Which one.
        answer: Its picture.
        answer_sha256: Of that picture, as it is encoded.
        facts: What is known of it beside, scaled.
        input_sha256: Of what was read.
    """

    tile: PendingTile
    answer: Answer
    answer_sha256: str
    facts: Facts
    input_sha256: str

    def outcome(self, output: str, *, output_bytes: int, is_shared: bool = False) -> Outcome:
        """Say that it was written."""
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
        """Say why it was not written."""
        return Outcome(self.tile.id, "failed", error=reason, input_sha256=self.input_sha256)


class Sink(Protocol):
    """Takes tiles, from any thread, and what belongs to the whole scan.

    Attributes:
        url: What it was opened by.
        io_at_once: Writes that are worth having under way at once.
        io_per_thread: How many of them one thread takes, rather than each its own.
        unit_tiles: Tiles that make one write, in order of their positions.
    """

    url: str
    io_at_once: int
    io_per_thread: int
    unit_tiles: int

    def target(self, listed: Listed) -> str | None:
        """Return the name of a tile's own output file, or None."""
        ...

    def accept(self) -> str | None:
        """Return the media type that answers must have, or None for their own."""
        ...

    def find_outputs(self) -> Iterator[tuple[str, int]]:
        """Yield name and length of what lies in the sink."""
        ...

    def digest(self, output: str, position: int) -> str | None:
        """Return the sha256 of a tile as it lies in the sink, or None where it cannot be read."""
        ...

    def write(self, unit: Sequence[PendingTile], tiles: Sequence[Computed]) -> list[Outcome]:
        """Write tiles.

        Args:
            unit: All of a unit, or several units of one tile.
            tiles: Those of them that could be computed.

        Returns:
            What became of each of `tiles`.

        Raises:
            StoreLostError: The sink takes nothing more.
        """
        ...

    def sync(self, outputs: Sequence[str]) -> None:
        """Make outputs just written durable; raises as `write`."""
        ...

    def finish(self, journal: Journal) -> None:
        """Put together what the sink holds, once nothing is pending; raises as `write`."""
        ...

    def put_manifest(self, path: Path) -> str:
        """Move a manifest in; returns where it lies then; raises as `write`."""
        ...


class FolderSink:
    """A folder (or prefix) in which every tile becomes a file of its own name and `_x4`."""

    unit_tiles = 1

    def __init__(self, store: Store, *, scale: int, answer_type: str | None) -> None:
        """Prepare.

        Args:
            store: Where the files go.
            scale: For the names.
            answer_type: Media type of the files; None keeps each tile's own.
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
        """Name a tile's output; the suffix is the tile's own where its type stays."""
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
        # Sidecars before tiles: who sees a tile sees what is known of it.
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
        """See `Sink`: every file stands for itself."""

    def put_manifest(self, path: Path) -> str:
        """See `Sink`."""
        self._store.move_in(path.name, path)
        return f"{self.url}/{path.name}"

    def _write_all(
        self, files: Sequence[tuple[Computed, str, bytes | memoryview]]
    ) -> dict[int, Outcome]:
        """Write files of tiles; returns those that cannot be written, by the tile's id."""
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
