"""`semsr bench scan`: a scan and the limits of its cores and its disk, all in one run.

The baseline (`yardstick` in the rows) is the lower of two rates. The first is the number of cores
divided by the core time of one tile: decode, engine and encode, each measured alone. The second is
the rate at which the scan's own code writes files durably to the disk. Both are measured before and
after the scan, and the better result counts. A scan also computes the SHA-256 of both files of a
tile; a second baseline includes its core time.
"""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bundle_format.bundle import load_bundle
from engines.batches import run_batch
from engines.cpu import available_cpus
from engines.registry import load_engine
from loadtests.results import Row
from semsr.progress import progress
from service.hosting.loading import resolve_engine
from service.images import codec, tiling
from service.images.media_types import TYPES_BY_SUFFIX, choose_answer
from service.images.window import FULL_RANGE, to_uint8
from service.scans.local_store import LocalStore
from service.settings import Settings

_SAMPLED = 64
_DISK_FILES = 2048
# Files between two commits, far more than a scan has.
_DISK_SYNCED = 128
# From this tile on memory is flat: buffers and caches are full.
_WARM_TILES = 1000
_POLL_S = 0.1


def bench_scan(
    bundle: Path, *, engine: str, lot: Path | None, tiles: int, scratch: Path | None
) -> list[Row]:
    """Measure one scan and its baselines.

    Args:
        bundle: Bundle to run.
        engine: Engine name.
        lot: Folder of tiles; None makes `tiles` npy tiles of noise.
        tiles: Number of tiles of noise.
        scratch: Folder on the disk to be measured; None takes the system's temporary one.

    Returns:
        Rows for cores, disk, scan and memory.

    Raises:
        RuntimeError: The scan did not complete.
    """
    with (
        progress("bench scan", 5) as steps,
        tempfile.TemporaryDirectory(prefix="semsr-bench-", dir=scratch) as name,
    ):
        folder = Path(name)
        if lot is None:
            steps.say("writing tiles of noise")
            lot = write_noise(folder / "lot", tiles, load_bundle(bundle).manifest.tile)
        steps.say("cores")
        core_ms, sha256_ms, answer = _core_times(bundle, engine, lot)
        steps.update()
        steps.say("disk")
        disk_per_s = _disk(folder / "before", answer)
        steps.update()
        steps.say("scan")
        scan, memory = _scan(bundle, engine, lot, folder / "out")
        steps.update()
        steps.say("disk again")
        disk_per_s = max(disk_per_s, _disk(folder / "after", answer))
        steps.update()
        steps.say("cores again")
        core_ms_after, sha256_ms_after, _ = _core_times(bundle, engine, lot)
        steps.update()
    core_ms = {name: min(ms, core_ms_after[name]) for name, ms in core_ms.items()}
    sha256_ms = min(sha256_ms, sha256_ms_after)
    cores_per_s = 1e3 * available_cpus() / sum(core_ms.values())
    hashed_per_s = 1e3 * available_cpus() / (sum(core_ms.values()) + sha256_ms)
    limit, hashed_limit = min(cores_per_s, disk_per_s), min(hashed_per_s, disk_per_s)
    return [
        {"name": f"cores ({available_cpus()})", "tiles_per_s": cores_per_s, "core_ms": core_ms},
        {
            "name": f"cores ({available_cpus()}), SHA-256 too",
            "tiles_per_s": hashed_per_s,
            "core_ms": {"SHA-256": sha256_ms},
        },
        {"name": "disk, the same files", "tiles_per_s": disk_per_s},
        {
            "name": f"scan, {scan['total']} tiles",
            "engine": engine,
            "tiles_per_s": scan["tiles_per_s"],
            "ratio": scan["tiles_per_s"] / limit,
            "yardstick": "disk" if limit == disk_per_s else "cores",
        },
        {
            "name": "the same",
            "tiles_per_s": scan["tiles_per_s"],
            "ratio": scan["tiles_per_s"] / hashed_limit,
            "yardstick": "disk" if hashed_limit == disk_per_s else "cores, SHA-256 too",
        },
        {"name": "scan, resident memory", **memory},
    ]


def write_noise(folder: Path, count: int, shape: tuple[int, int]) -> Path:
    """Write npy tiles of noise, the same in every run, into a new folder; returns it."""
    folder.mkdir()
    noise = np.random.default_rng(1)
    for index in range(count):
        np.save(folder / f"t{index:06d}.npy", noise.integers(0, 256, shape, dtype=np.uint8))
    return folder


def _core_times(bundle: Path, name: str, lot: Path) -> tuple[dict[str, float], float, bytes]:
    """Return a tile's core time in ms for each stage and for SHA-256, and an encoded answer."""
    settings = Settings(bundle=bundle)
    loaded = load_bundle(bundle)
    name, options, _ = resolve_engine(loaded, settings, name=name)
    engine = load_engine(name, loaded, options)
    manifest = loaded.manifest
    paths = sorted(p for p in lot.rglob("*") if p.suffix.lower() in TYPES_BY_SUFFIX)[:_SAMPLED]
    bodies = [(path.read_bytes(), TYPES_BY_SUFFIX[path.suffix.lower()]) for path in paths]

    def decode(body: bytes, media_type: str) -> tuple[codec.DecodedImage, tiling.TilePlan, Any]:
        image = codec.decode(
            body, media_type, shape=None, dtype=None, max_pixels=settings.max_pixels
        )
        lr = to_uint8(
            image.pixels, manifest.window or FULL_RANGE, white_is_zero=image.white_is_zero
        )
        plan = tiling.plan(
            *lr.shape, tile=manifest.tile, halo_px=manifest.halo_px, grid_px=manifest.grid_px
        )
        return image, plan, plan.split(lr)

    decoded = [decode(*body) for body in bodies]
    batches = [np.ascontiguousarray(np.stack(tiles))[:, None] for _, _, tiles in decoded]
    answers = [run_batch(engine, batch).sr for batch in batches]
    merged = [
        plan.merge([sr[0] for sr in answer], scale=manifest.scale)
        for (_, plan, _), answer in zip(decoded, answers, strict=True)
    ]
    encodings = [
        (sr, choose_answer(None, media_type), image.metadata.scaled(manifest.scale))
        for sr, (_, media_type), (image, _, _) in zip(merged, bodies, decoded, strict=True)
    ]
    times = {
        "decode": _core_ms([lambda body=body: decode(*body) for body in bodies]),
        "engine": _core_ms([lambda batch=batch: run_batch(engine, batch) for batch in batches]),
        "encode": _core_ms([lambda parts=parts: codec.encode(*parts) for parts in encodings]),
    }
    engine.close()
    files = [codec.encode(*parts) for parts in encodings]
    hashing = [
        lambda files=pair: [hashlib.sha256(file).digest() for file in files]
        for pair in zip((body for body, _ in bodies), files, strict=True)
    ]
    return times, _core_ms(hashing), bytes(files[0])


def _core_ms(work: Sequence[Callable[[], object]]) -> float:
    """Return the core time of one call in milliseconds, the least of three rounds."""
    rounds: list[float] = []
    for _ in range(3):
        started_s = time.process_time()
        for call in work:
            call()
        rounds.append(1e3 * (time.process_time() - started_s) / len(work))
    return min(rounds)


def _disk(folder: Path, content: bytes) -> float:
    """Return the files per second that the sink's code alone writes.

    The files are kept: for minutes, ext4 does not reuse freed space and searches longer for other
    space.
    """
    store = LocalStore(folder)

    def write(names: Sequence[str]) -> None:
        store.write_all([(name, content) for name in names])

    started_s = time.perf_counter()
    with ThreadPoolExecutor(store.io_at_once // store.io_per_thread) as threads:
        for first in range(0, _DISK_FILES, _DISK_SYNCED):
            names = [f"{index}.bin" for index in range(first, first + _DISK_SYNCED)]
            size = store.io_per_thread
            list(threads.map(write, (names[i : i + size] for i in range(0, len(names), size))))
            store.sync(names)
    return _DISK_FILES / (time.perf_counter() - started_s)


def _scan(bundle: Path, engine: str, lot: Path, sink: Path) -> tuple[Row, Row]:
    """Run `semsr scan` in a process of its own and watch its memory."""
    process = start_scan(bundle, engine, lot, sink)
    journal = Path(f"{sink}.scan") / "journal.sqlite"
    warm_mib: float | None = None
    most_mib = 0.0
    while process.poll() is None:
        resident_mib = _resident_mib(process.pid)
        if warm_mib is None:
            if _num_done(journal) >= _WARM_TILES:
                warm_mib = most_mib = resident_mib
        else:
            most_mib = max(most_mib, resident_mib)
        time.sleep(_POLL_S)
    output, _ = process.communicate()
    [row] = json.loads(output)
    if process.returncode:
        raise RuntimeError(f"the scan did not complete: {row}")
    memory: Row = {} if warm_mib is None else {"mib": most_mib, "growth_mib": most_mib - warm_mib}
    return row, memory


def start_scan(
    bundle: Path, engine: str, lot: Path, sink: Path, more: Sequence[str] = ()
) -> "subprocess.Popen[bytes]":
    """Start `semsr scan` with a CSV manifest, its row as JSON on stdout, and further options."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "semsr", "scan", str(lot), str(sink), "--bundle", str(bundle),
            "--engine", engine, "--manifest", "csv", "--json", *more,
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "SEMSR_LOG_LEVEL": "warning"},
    )  # fmt: skip


def _num_done(journal: Path) -> int:
    if not journal.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
            [(count,)] = database.execute("SELECT count(*) FROM tiles WHERE status = 'done'")
            return count
    except sqlite3.Error:
        return 0  # not created yet


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGESIZE") / 2**20
