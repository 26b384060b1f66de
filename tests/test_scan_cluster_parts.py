"""What a scan over a cluster is made of, without a cluster; `test_scan_cluster` has the rest."""

import importlib.util
import socket
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.identity_engine import IdentityEngine
from engines.registry import load_engine
from semsr.cli import main
from semsr.cluster.connection import WorkerSize, count_places, worker_size
from semsr.cluster.machines import Machines
from semsr.cluster.rounds import plan_round, plan_suspects
from semsr.cluster.scan import absolute, check_shareable
from semsr.cluster.tables import (
    Returned,
    from_bytes,
    outcome_table,
    outcomes_of,
    tile_table,
    tiles_of,
    to_bytes,
)
from semsr.cluster.worker import (
    PROBE,
    VERSION,
    Sample,
    ScanWorker,
    WorkerJob,
    WorkerModel,
    find_engine,
    take_sample,
)
from semsr.commands.options import EXIT_USAGE
from service.scans.errors import MissingExtraError, ScanError
from service.scans.group_work import GroupWork, Loaded
from service.scans.local_store import LocalStore
from service.scans.options import ScanRequest
from service.scans.rows import Outcome, PendingTile
from service.scans.sources import FolderSource, TileRef
from tests.scans import SCALE, TINY_BUNDLE, enlarged, scan, settings, write_lot


def tile(index: int, *, size_bytes: int = 100) -> PendingTile:
    """A pending tile whose row is its position and one."""
    name = f"t{index:05d}.npy"
    return PendingTile(
        index + 1, index, f"t{index:05d}_x4.npy", TileRef(name, name[:-4], 0, size_bytes)
    )


def positions(tables: Sequence[Sequence[PendingTile]]) -> list[list[int]]:
    """Positions of tiles, table by table."""
    return [[tile.position for tile in table] for table in tables]


def test_rows_travel_as_they_are() -> None:
    """Tiles and outcomes, with and without what they may lack."""
    pytest.importorskip("pyarrow")
    ref = TileRef("lot.tar", "lot/a", 512, 99, ("lot/a.json", 1024, 17))
    tiles = [tile(0), PendingTile(7, 1, None, ref)]
    outcomes = [
        Outcome(1, "failed", error="no picture"),
        Outcome(
            2, "done", None, "ab", "a_x4.npy", 12, "cd", 1.5,
            (0.0, 0.5, 1.0, 0.25, 0.5, None), (1.0, 2.0), '{"lot": "L7"}', is_shared=True,
        ),
    ]  # fmt: skip

    assert tiles == tiles_of(from_bytes(to_bytes(tile_table(tiles))))
    faults = {3: "n1: KeyError: 'x'"}
    for told in (
        Returned(outcomes),
        Returned(outcomes, faults),
        Returned(outcomes, faults, "n1: the disk is full"),
        Returned([]),
    ):
        table = outcome_table(told.outcomes, faults=told.faults, ended_by=told.ended_by)
        assert told == outcomes_of(from_bytes(to_bytes(table)))


def test_a_round_fills_every_worker_and_keeps_shards_whole() -> None:
    """Few tiles are spread; many go 64 at a time; large ones count as the tiles they hold."""

    def plan(count: int, *, unit_tiles: int = 1, size_bytes: int = 100) -> list[list[int]]:
        return positions(
            plan_round(
                [tile(index, size_bytes=size_bytes) for index in range(count)],
                {},
                count=count,
                workers=2,
                unit_tiles=unit_tiles,
                tile_bytes=100,
            ).tables
        )

    assert [[index] for index in range(16)] == plan(16)
    assert [list(range(start, start + 64)) for start in range(0, 6400, 64)] == plan(6400)
    assert [list(range(16)), list(range(16, 32)), [32, 33]] == plan(34, unit_tiles=16)
    assert 400 == len(plan(6400, size_bytes=400))
    assert [] == plan(0)


def test_suspects_go_alone_and_one_of_a_shard_at_a_time() -> None:
    """Lost once: with its shard; lost twice: by itself, and no other of its shard beside it."""
    tiles = [tile(index) for index in range(40)]
    fresh = plan_round(tiles, {3: 1, 4: 2}, count=40, workers=1, unit_tiles=1, tile_bytes=100)
    assert {2, 3}.isdisjoint(tile.position for table in fresh.tables for tile in table)
    assert not fresh.is_careful

    once = plan_suspects(tiles, dict.fromkeys((1, 2, 17), 1), unit_tiles=16)
    assert [[0, 1], [16]] == positions(once.tables)
    twice = plan_suspects(tiles, {1: 1, 2: 2, 3: 2, 17: 2}, unit_tiles=16)
    assert [[1], [16]] == positions(twice.tables)
    files = plan_suspects(tiles, dict.fromkeys((1, 2), 2), unit_tiles=1)
    assert [[0], [1]] == positions(files.tables)
    assert once.is_careful


def node(cpus: float, gpus: float = 0, *, alive: bool = True) -> dict[str, Any]:
    """A machine as `ray.nodes()` lists it."""
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}}


def test_lost_and_new_machines_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Each once, by name and address; the first look only learns them."""

    def named(name: str, *, alive: bool = True) -> dict[str, Any]:
        facts = {"NodeID": name, "NodeManagerHostname": name, "NodeManagerAddress": "10.0.0.7"}
        return {**node(1, alive=alive), **facts}

    machines = Machines()
    machines.look([named("a"), named("b")])
    machines.look([named("a"), named("b")])
    assert "" == capsys.readouterr().err

    machines.look([named("a", alive=False), named("b"), named("c")])
    machines.look([named("a", alive=False), named("b"), named("c")])

    assert [
        "machine a (10.0.0.7) is lost; its tiles in flight are computed again",
        "machine c (10.0.0.7) has joined the cluster; the next round uses it",
    ] == capsys.readouterr().err.splitlines()


def test_workers_fit_the_machines() -> None:
    """Every core of the smallest machine, or one for each GPU; lost machines do not count."""
    machines = [node(0), node(4), node(8), node(64, alive=False)]
    assert WorkerSize(4, 0) == worker_size(machines, settings(threads=None), None)
    assert 3 == count_places(machines, WorkerSize(4, 0))
    assert WorkerSize(2, 0) == worker_size(machines, settings(threads=2), None)
    assert WorkerSize(3, 0) == worker_size(machines, settings(threads=2), 3)
    cards = [node(8, 2), node(32, 4), node(4)]
    assert WorkerSize(4, 1) == worker_size(cards, settings(device="cuda"), None)
    assert 6 == count_places(cards, WorkerSize(4, 1))
    with pytest.raises(ScanError, match="room for a worker"):
        worker_size(machines, settings(device="cuda"), None)


@pytest.mark.parametrize(
    ("source", "sink", "expected"),
    [
        ("lot", "out.h5", "writes a folder or a .zarr; out.h5"),
        ("lot", "out.tif", "writes a folder or a .zarr; out.tif"),
        ("s3://fab/lot.h5::tiles", "out", "copied to every worker"),
    ],
)
def test_what_only_one_machine_can_reach_is_refused(source: str, sink: str, expected: str) -> None:
    """Before anything is started."""
    with pytest.raises(ScanError, match=expected):
        check_shareable(ScanRequest(source, sink))
    check_shareable(ScanRequest("lot.h5", "out.zarr"))
    check_shareable(ScanRequest("s3://fab/lot.klarf", "out"))


def test_paths_are_those_of_every_process() -> None:
    """Relative ones become absolute; URLs stay."""
    assert f"{Path.cwd()}/lot.h5::scan/tiles" == absolute("lot.h5::scan/tiles")
    assert "s3://fab/lot" == absolute("s3://fab/lot")


def worker_model(*, version: str = VERSION, **changes: Any) -> WorkerModel:
    """The identity engine with other settings."""
    values = {"bundle": TINY_BUNDLE, "engine": "identity", "cache_dir": None, "threads": 1}
    return WorkerModel({**values, **changes}, load_engine, 1, version)


def worker_job(folder: Path, **changes: Any) -> WorkerJob:
    """The job of a worker of this machine."""
    model = worker_model()
    LocalStore(folder / "out").write(PROBE, b"token")
    values: dict[str, Any] = {
        "request": ScanRequest(str(folder / "lot"), str(folder / "out")),
        "model": model,
        "digest": find_engine(model).digest,
        "stack_tile": None,
        "token": "token",
        "sample": take_sample(FolderSource(LocalStore(folder / "lot")), tile(0).ref),
        **changes,
    }
    return WorkerJob(**values)


def test_a_worker_writes_tiles_and_returns_rows(tmp_path: Path) -> None:
    """Pictures lie in the sink under their names; a bad tile is a row, a lost source the end."""
    pytest.importorskip("pyarrow")
    tiles = write_lot(tmp_path / "lot", 20)
    (tmp_path / "lot" / "t00007.npy").write_bytes(b"no picture")
    worker = ScanWorker(worker_job(tmp_path))
    table = tile_table([tile(index) for index in range(20)])

    returned = outcomes_of(worker(table))

    assert ({}, None) == (returned.faults, returned.ended_by)
    assert set(range(1, 21)) == {outcome.id for outcome in returned.outcomes}
    assert [8] == [outcome.id for outcome in returned.outcomes if outcome.status == "failed"]
    for index in set(range(20)) - {7}:
        found = np.load(tmp_path / "out" / f"t{index:05d}_x4.npy")
        np.testing.assert_array_equal(enlarged(tiles[index]), found)

    (tmp_path / "lot").rename(tmp_path / "elsewhere")
    returned = outcomes_of(worker(table))
    assert [] == returned.outcomes
    assert "lot is gone" in str(returned.ended_by)


def test_a_fault_of_a_worker_is_told_with_the_tiles_that_it_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no ScanError neither ends the scan nor is lost: machine, kind and words come back."""
    pytest.importorskip("pyarrow")
    write_lot(tmp_path / "lot", 20)
    worker = ScanWorker(worker_job(tmp_path))
    table = tile_table([tile(index) for index in range(20)])
    whole = GroupWork.load

    def load(self: GroupWork, tiles: Sequence[PendingTile]) -> list[Loaded | Outcome]:
        if any(one.position == 7 for one in tiles):
            raise KeyError("a fault")
        return whole(self, tiles)

    monkeypatch.setattr(GroupWork, "load", load)
    returned = outcomes_of(worker(table))

    done = {outcome.id for outcome in returned.outcomes}
    assert returned.ended_by is None
    assert 8 in returned.faults
    assert set(range(1, 21)) == done | set(returned.faults)
    assert not done & set(returned.faults)
    assert {f"{socket.gethostname()}: KeyError: 'a fault'"} == set(returned.faults.values())
    assert "in load" in capsys.readouterr().err  # the traceback, for Ray's logs

    monkeypatch.undo()
    again = outcomes_of(worker(tile_table([tile(7)])))
    assert [(8, "done")] == [(outcome.id, outcome.status) for outcome in again.outcomes]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"token": "other"}, "not the folder that the scan was started with"),
        ({"digest": "0"}, " differs: digest "),
        ({"sample": Sample(tile(0).ref, "0")}, "lot is not the source .* t00000.npy is missing"),
        ({"sample": Sample(tile(1).ref, "0")}, "lot is not the source .* t00001.npy is missing"),
        ({"model": worker_model(version="0.0.1")}, f"semsr {VERSION}; expected 0.0.1"),
    ],
)
def test_a_machine_that_differs_is_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    """Another folder under the same path, another bundle: an error that names the machine."""
    write_lot(tmp_path / "lot", 1)
    with pytest.raises(ScanError, match=f"^{socket.gethostname()}: .*{expected}"):
        ScanWorker(worker_job(tmp_path, **changes))


def test_wrong_settings_of_a_machine_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own environment holds for what the starting process does not say."""
    monkeypatch.setenv("SEMSR_PORT", "many")
    with pytest.raises(ScanError, match=f"{socket.gethostname()}: wrong settings: port: "):
        find_engine(worker_model())


def test_an_engine_that_hangs_ends_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process goes, so that the cluster starts another; a call cannot be taken back."""
    pytest.importorskip("pyarrow")
    write_lot(tmp_path / "lot", 1)
    codes: list[int] = []
    monkeypatch.setattr("semsr.cluster.worker.os._exit", codes.append)
    gate = threading.Event()

    class HangingEngine(IdentityEngine):
        """Waits for the gate where the tile is not black."""

        def run(self, lr: Any, sr: Any) -> Any:  # noqa: ANN401
            """Wait, then enlarge."""
            if any(tile.any() for tile in lr):
                gate.wait()
            return super().run(lr, sr)

    job = worker_job(tmp_path)
    hanging = replace(
        worker_model(engine_timeout_s=0.1), loader=lambda *_: HangingEngine(scale=SCALE)
    )
    worker = ScanWorker(replace(job, model=hanging))
    caller = threading.Thread(target=worker, args=(tile_table([tile(0)]),), daemon=True)
    caller.start()
    while not codes and caller.is_alive():
        caller.join(0.05)
    gate.set()
    assert [70] == codes[:1]


def test_without_ray_the_error_names_the_extra(tmp_path: Path) -> None:
    """Before anything is written."""
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("Ray is in this environment")
    write_lot(tmp_path / "lot", 1)
    with pytest.raises(MissingExtraError, match="make install-ray"):
        scan(tmp_path / "lot", tmp_path / "out", cluster="local")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--worker-cpus", "2"], "--worker-cpus needs --cluster"),
        (["--cluster", "local", "--worker-cpus", "0"], "expected at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is opened."""
    code = main(["scan", "lot", "out", "--bundle", str(TINY_BUNDLE), *options])
    assert EXIT_USAGE == code
    assert expected in capsys.readouterr().err
