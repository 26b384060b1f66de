"""The formats of stacks: Zarr v3 consists of its shards, HDF5 and BigTIFF are copied from them."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from service.images.codec import Pixels
from service.scans.errors import ScanError, StoreLostError, TileError
from service.scans.extras import load_extra
from service.scans.facts import PIXEL_SIZE
from service.scans.ngff import AXES, LEVEL, group_metadata
from service.scans.stack_sink import SHARD_TILES, StackFormat, TileFormat
from service.scans.stores import Store

DATASET = "sr"
_NM_PER_CM = 1e7
_PACKAGES = {
    ".zarr": ("zarr", "a Zarr stack"),
    ".h5": ("h5py", "an HDF5 stack"),
    ".hdf5": ("h5py", "an HDF5 stack"),
    ".tif": ("tifffile", "a TIFF stack"),
    ".tiff": ("tifffile", "a TIFF stack"),
}

# Writes a file: path, tiles, their number and format, attributes; raises OSError.
Fill = Callable[[Path, Iterator[Pixels], int, TileFormat, dict[str, Any]], None]


class ZarrStack:
    """A Zarr v3 array (N, H, W) with one chunk per tile, in a group that describes it to viewers.

    The group's metadata (`service.scans.ngff`) are written last.
    """

    keeps_shards = True

    def __init__(self, store: Store, name: str, tile: TileFormat) -> None:
        self._zarr = load_extra("zarr", purpose="a Zarr stack")
        self._store = store
        self._name = name
        self._tile = tile

    def shard_name(self, index: int) -> str:
        """See `StackFormat`."""
        return f"{LEVEL}/c/{index}/0/0"

    def encode(self, tiles: Pixels) -> bytes:
        """See `StackFormat`: Zarr writes it in memory, so that the file is written whole."""
        held: dict[str, Any] = {}
        array = self._create(held, SHARD_TILES, {})
        array[:] = tiles
        return held["c/0/0/0"].to_bytes()

    def decode(self, content: bytes) -> Pixels:
        """See `StackFormat`."""
        held: dict[str, Any] = {}
        array = self._create(held, SHARD_TILES, {})
        held["c/0/0/0"] = self._zarr.core.buffer.cpu.Buffer.from_bytes(content)
        try:
            return np.asarray(array[:])
        except Exception as error:  # zarr's and numcodecs' errors share no base class
            raise TileError(f"the shard cannot be read: {error}") from error

    def assemble(
        self, shards: Iterator[Pixels], *, count: int, attributes: dict[str, Any]
    ) -> tuple[str, int]:
        """See `StackFormat`."""
        del shards
        held: dict[str, Any] = {}
        self._create(held, count, attributes)
        array, group = (f"{self._name}/{path}zarr.json" for path in (f"{LEVEL}/", ""))
        self._store.write(array, held["zarr.json"].to_bytes())
        self._store.sync([array])
        content = group_metadata(Path(self._name).stem, attributes.get(PIXEL_SIZE))
        self._store.write(group, content)
        self._store.sync([group])
        return group, len(content)

    def _create(self, held: dict[str, Any], count: int, attributes: dict[str, Any]) -> Any:
        height, width = self._tile.shape
        return self._zarr.create_array(
            store=self._zarr.storage.MemoryStore(held),
            shape=(count, height, width),
            dtype=self._tile.dtype,
            chunks=(1, height, width),
            shards=(SHARD_TILES, height, width),
            compressors=self._zarr.codecs.ZstdCodec(level=1),
            fill_value=0,
            dimension_names=AXES,
            attributes=attributes,
            # Black tiles are written too: a missing shard is a lost one.
            config={"write_empty_chunks": True},
        )


class CopiedStack:
    """A stack in one file, into which the shards are copied."""

    keeps_shards = False

    def __init__(
        self, store: Store, name: str, tile: TileFormat, *, work: Path, fill: Fill
    ) -> None:
        """Prepare.

        Args:
            store: Store of the file.
            name: Name of the file in the store.
            tile: Format of its tiles.
            work: Folder in which it is assembled.
            fill: Function that writes it.
        """
        self._store = store
        self._name = name
        self._tile = tile
        self._part = work / f"{name}.part"
        self._fill = fill

    def shard_name(self, index: int) -> str:
        """See `StackFormat`."""
        return f"{index:08d}.raw"

    def encode(self, tiles: Pixels) -> bytes:
        """See `StackFormat`."""
        return tiles.tobytes()

    def decode(self, content: bytes) -> Pixels:
        """See `StackFormat`."""
        height, width = self._tile.shape
        dtype = np.dtype(self._tile.dtype)
        if len(content) != SHARD_TILES * height * width * dtype.itemsize:
            raise TileError(f"the shard has {len(content)} bytes")
        return np.frombuffer(content, dtype).reshape(SHARD_TILES, height, width)

    def assemble(
        self, shards: Iterator[Pixels], *, count: int, attributes: dict[str, Any]
    ) -> tuple[str, int]:
        """See `StackFormat`."""
        try:
            self._fill(self._part, _tiles(shards, count), count, self._tile, attributes)
            size_bytes = self._part.stat().st_size
        except OSError as error:
            self._part.unlink(missing_ok=True)
            raise StoreLostError(f"cannot write {self._part}: {error}") from error
        self._store.move_in(self._name, self._part)
        return self._name, size_bytes


def fill_hdf5(
    path: Path, tiles: Iterator[Pixels], count: int, tile: TileFormat, attributes: dict[str, Any]
) -> None:
    """Write an HDF5 file with the dataset `sr` (N, H, W), one chunk per tile."""
    h5py = load_extra("h5py", purpose="an HDF5 stack")
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            DATASET, (count, *tile.shape), tile.dtype, chunks=(1, *tile.shape)
        )
        for key, value in attributes.items():
            _put_attribute(dataset.attrs, key, value)
        for index, pixels in enumerate(tiles):
            dataset[index] = pixels


def _put_attribute(attributes: Any, key: str, value: Any) -> None:
    """Write an attribute as it is, else as JSON; skip it if both fail (the manifest has it)."""
    forms: list[Any] = [json.dumps(value)]
    if isinstance(value, str | int | float | list):
        forms.insert(0, value)
    for form in forms:
        # h5py raises many kinds of errors for unsupported types, names and sizes; a full disk
        # fails again with the pixels.
        with contextlib.suppress(TypeError, ValueError, OverflowError, RuntimeError, OSError):
            attributes[key] = form
            return


def fill_tiff(
    path: Path, tiles: Iterator[Pixels], count: int, tile: TileFormat, attributes: dict[str, Any]
) -> None:
    """Write a BigTIFF with one page per tile; the first description holds the attributes."""
    del count, tile
    tifffile = load_extra("tifffile", purpose="a TIFF stack")
    size_nm = attributes.get(PIXEL_SIZE)
    description: str | None = json.dumps(attributes)
    resolution: dict[str, Any] = {}
    if size_nm is not None:
        resolution = {
            "resolution": [_NM_PER_CM / nm for nm in size_nm],
            "resolutionunit": "CENTIMETER",
        }
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for pixels in tiles:
            writer.write(
                pixels,
                photometric="minisblack",
                contiguous=False,
                metadata=None,
                software="semsr",
                description=description,
                **resolution,
            )
            description = None


def stack_format(store: Store, name: str, tile: TileFormat, *, work: Path) -> StackFormat:
    """Choose the format by the suffix of the name.

    Raises:
        ScanError: No stack has this suffix.
        MissingExtraError: A package that it needs is not installed.
    """
    suffix = Path(name).suffix.lower()
    check_stack(suffix)
    if suffix == ".zarr":
        return ZarrStack(store, name, tile)
    fill = fill_hdf5 if suffix in {".h5", ".hdf5"} else fill_tiff
    return CopiedStack(store, name, tile, work=work, fill=fill)


def check_stack(suffix: str) -> None:
    """Check that a stack with a suffix can be written.

    Raises:
        ScanError: No stack has this suffix.
        MissingExtraError: A package that it needs is not installed.
    """
    if suffix not in _PACKAGES:
        raise ScanError(f"{suffix} is not a stack; expected {', '.join(_PACKAGES)}")
    module, purpose = _PACKAGES[suffix]
    load_extra(module, purpose=purpose)


def _tiles(shards: Iterator[Pixels], count: int) -> Iterator[Pixels]:
    """Yield the first `count` tiles of all shards."""
    left = count
    for shard in shards:
        yield from shard[:left]
        left -= len(shard[:left])
