"""Measurement of every method on a split, in several processes and with a cache.

The main process renders the pictures, because an engine has threads of its own; single-threaded
worker processes measure them. Only a few tiles are in progress at once, so that memory does not
grow with the split.
"""

import hashlib
import json
import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import torch

from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import Picture, Tile
from training.evaluation.sets.measurement import Judge, Measured, measure_tile, measured_from
from training.ground.progress import tracked
from training.ground.whole_file import write_whole_text

_JUDGING_CODE = (
    *sorted((Path(__file__).parents[1] / "measures").glob("*.py")),
    Path(__file__).with_name("measurement.py"),
    Path(__file__).parents[1] / "compared" / "methods.py",
)
"""Files that decide what a measurement is: a change of one of them makes the cache stale."""

_judge: list[Judge] = []
"""The judge of a worker process, set once when it starts."""


class MeasurementCache:
    """Finished measurements of whole splits, one JSON file for each split and method.

    Args:
        folder: Folder of the cache, made where absent.
        judge_version: Digest of detector and feature network; another one means another file.
    """

    def __init__(self, folder: Path, *, judge_version: str) -> None:
        self.folder = folder
        self.judge_version = judge_version

    def load(self, tiles: Sequence[Tile], method: Method, content: str) -> list[Measured] | None:
        """Return the cached measurements of a method on these tiles, or None."""
        path = self._path(tiles, method, content)
        if path is None or not path.is_file():
            return None
        return [measured_from(values) for values in json.loads(path.read_text(encoding="utf-8"))]

    def save(
        self, tiles: Sequence[Tile], method: Method, content: str, measured: Sequence[Measured]
    ) -> None:
        """Cache measurements, if the method has a version."""
        path = self._path(tiles, method, content)
        if path is None:
            return
        write_whole_text(path, json.dumps([asdict(item) for item in measured]))

    def _path(self, tiles: Sequence[Tile], method: Method, content: str) -> Path | None:
        if method.version is None:
            return None
        names = [tile.key for tile in tiles]
        parts = [content, names, method.name, method.version, self.judge_version, _code_version()]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return self.folder / f"{tiles[0].split}-{digest[:24]}.json"


def measure_split(
    tiles: Sequence[Tile],
    methods: Sequence[Method],
    judge: Judge,
    *,
    jobs: int = 1,
    cache: MeasurementCache | None = None,
) -> dict[str, list[Measured]]:
    """Measure every tile of a split by every method.

    Args:
        tiles: Tiles of one split; an empty sequence gives empty lists.
        methods: Methods to compare.
        judge: Detector and feature network; must pickle where `jobs` is above 1.
        jobs: Processes that judge; 1 judges in this one.
        cache: Cache of finished measurements.

    Returns:
        Method name to one measurement a tile, in the tiles' order.
    """
    if not tiles:
        return {method.name: [] for method in methods}
    content = content_hash(tiles) if cache is not None else ""
    done: dict[str, list[Measured]] = {}
    for method in methods:
        kept = None if cache is None else cache.load(tiles, method, content)
        if kept is not None:
            done[method.name] = kept
    missing = [method for method in methods if method.name not in done]
    if missing:
        fresh: dict[str, list[Measured]] = {method.name: [] for method in missing}
        results = _judged(tiles, missing, judge, jobs=jobs)
        for result in tracked(results, f"judging {tiles[0].split}", total=len(tiles)):
            for name, item in result.items():
                fresh[name].append(item)
        for method in missing:
            if cache is not None:
                cache.save(tiles, method, content, fresh[method.name])
        done |= fresh
    return {method.name: done[method.name] for method in methods}


def content_hash(tiles: Sequence[Tile]) -> str:
    """Return a hash of the tiles' picture files and defects."""
    digest = hashlib.sha256()
    for tile in tiles:
        for path in (tile.lr_path, tile.hr_path, tile.mask_path, tile.noise_free_path):
            if path is not None:
                digest.update(path.read_bytes())
        digest.update(repr(tile.defects).encode())
    return digest.hexdigest()


def _judged(
    tiles: Sequence[Tile], methods: Sequence[Method], judge: Judge, *, jobs: int
) -> Iterator[dict[str, Measured]]:
    if jobs <= 1:
        for tile in tiles:
            yield measure_tile(tile, _render(tile, methods), judge)
        return
    # Spawned, not forked: a fork copies the locks of an engine's threads, but not the threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(judge,))
    with pool:
        waiting: deque[Future[dict[str, Measured]]] = deque()
        for tile in tiles:
            waiting.append(pool.submit(_measure_in_worker, tile, _render(tile, methods)))
            if len(waiting) > jobs + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _render(tile: Tile, methods: Sequence[Method]) -> dict[str, Picture | None]:
    return {
        method.name: None if method.render is None else method.render(tile) for method in methods
    }


def _start(judge: Judge) -> None:
    torch.set_num_threads(1)
    _judge.append(judge)


def _measure_in_worker(tile: Tile, pictures: dict[str, Picture | None]) -> dict[str, Measured]:
    return measure_tile(tile, pictures, _judge[0])


def _code_version() -> str:
    digest = hashlib.sha256()
    for path in _JUDGING_CODE:
        digest.update(path.read_bytes())
    return digest.hexdigest()
