"""Sends pending tiles to a cluster and records their outcomes.

It works in rounds, each an execution of Ray Data: pending tiles go out in tables, their rows come
back and are recorded on arrival. A tile without a row was lost with its worker, or not finished
because of an error that the worker reports. Such a tile is still pending, and a careful round
retries it. A tile that is also lost when sent alone is recorded as failed.
"""

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from tqdm import tqdm

from semsr.cluster.conductor import Conductor, Pool, Progress
from semsr.cluster.connection import WorkerSize, count_places
from semsr.cluster.machines import Machines
from semsr.cluster.rounds import MOST_LOSSES, Plan, plan_round, plan_suspects
from semsr.cluster.tables import from_bytes, outcomes_of, tile_table, to_bytes
from semsr.cluster.worker import WorkerJob
from service.scans.errors import ScanError
from service.scans.preparation import PreparedScan
from service.scans.rows import Counts, Outcome

# Time limit of a call that fetches rows; the conductor returns earlier if rows have arrived.
_WAIT_S = 0.5
_LONGEST_ANSWER_S = 60.0
# The first call also waits for the conductor's process to start, on a head that may be busy.
_LONGEST_START_S = 180.0
# Time limit without any row: a worker may be building its engine, but not indefinitely.
_LONGEST_SILENCE_S = 900.0
_LOOK_AROUND_S = 5.0
# Number of conductors that may be lost, with their machines, before any row arrives.
_MOST_CONDUCTORS = 5
# Number of different faults of workers to print; of many, one is mostly enough.
_SHOWN_FAULTS = 10
# Ray gives this resource to the head, the machine that everything depends on.
_HEAD = {"node:__internal_head__": 0.001}


class ClusterRun:
    """One run over the pending tiles."""

    def __init__(
        self,
        ray: Any,
        prepared: PreparedScan,
        job: WorkerJob,
        size: WorkerSize,
        *,
        tile_bytes: int,
        on_progress: Callable[[Counts], None],
    ) -> None:
        """Read the journal's counts; nothing is sent yet.

        Args:
            ray: Module `ray`, connected to the cluster.
            prepared: The scan, with its journal.
            job: Description of the workers' work.
            size: CPUs and GPUs of each worker.
            tile_bytes: Size of a tile of the model's own size, bytes.
            on_progress: Callback with the counts after every group of recorded tiles.
        """
        self._ray = ray
        self._journal = prepared.journal
        self._counts = prepared.journal.counts()
        self._unit_tiles = prepared.sink.unit_tiles
        self._patience_s = prepared.request.patience_s
        self._job = job
        self._size = size
        self._tile_bytes = tile_bytes
        self._on_progress = on_progress
        self._losses: dict[int, int] = {}
        self._faults: dict[int, str] = {}
        self._shown_faults: set[str] = set()
        self._stopping = threading.Event()
        self._machines = Machines()
        self._looked_s = -math.inf
        self._conductor: Any = None
        self._conductors_lost = 0
        self._heard_s = self._roomy_s = time.monotonic()

    def run(self) -> bool:
        """Compute every pending tile.

        Returns:
            Whether a signal stopped it early.

        Raises:
            ScanError: The source, the sink, the engine or the cluster is lost.
        """
        with _signals(self._stopping):
            try:
                while (workers := self._wait_for_room()) and (plan := self._plan(workers)).tables:
                    self._run_round(plan, workers)
            except (ConnectionError, self._ray.exceptions.RayError) as error:
                raise ScanError(f"the connection to the cluster is lost: {error}") from error
            finally:
                self._end_conductor()
        return self._stopping.is_set()

    def _wait_for_room(self) -> int:
        """Return the number of workers that the cluster has room for; 0 when stopping.

        Raises:
            ScanError: There has been no room for too long.
        """
        while not self._stopping.is_set():
            if places := self._count_places():
                return places
            self._check_room()
            self._stopping.wait(_WAIT_S)
        return 0

    def _plan(self, workers: int) -> Plan:
        plan = plan_round(
            self._journal.pending(),
            self._losses,
            count=self._counts.pending,
            workers=workers,
            unit_tiles=self._unit_tiles,
            tile_bytes=self._tile_bytes,
        )
        if plan.tables:
            return plan
        return plan_suspects(self._journal.pending(), self._losses, unit_tiles=self._unit_tiles)

    def _run_round(self, plan: Plan, workers: int) -> None:
        missing = plan.ids()
        tables = [to_bytes(tile_table(tiles)) for tiles in plan.tables]
        pool = Pool(min(workers, len(tables)), self._size, plan.is_careful)
        self._heard_s = time.monotonic()
        try:
            conductor = self._start_conductor()
            self._answer(conductor.begin.remote(self._job, tables, pool), _LONGEST_START_S)
            del tables
            is_over = False
            while not is_over and not self._stopping.is_set():
                progress: Progress = self._answer(conductor.more.remote(_WAIT_S))
                self._record(progress, missing)
                is_over = progress.is_over
        except self._ray.exceptions.RayActorError as error:
            self._lose_conductor(error)
            return
        if is_over:
            self._note_losses(missing)

    def _record(self, progress: Progress, missing: set[int]) -> None:
        """Record the rows that have arrived.

        Raises:
            ScanError: A worker or Ray Data cannot continue, or no row has arrived for too long.
        """
        for content in progress.tables:
            returned = outcomes_of(from_bytes(content))
            # Their outputs are durable: workers sync them before they answer.
            self._note(returned.outcomes)
            missing.difference_update(outcome.id for outcome in returned.outcomes)
            for outcome in returned.outcomes:
                self._losses.pop(outcome.id, None)
                self._faults.pop(outcome.id, None)
            self._note_faults(returned.faults)
            if returned.ended_by is not None:
                raise ScanError(returned.ended_by)
        if progress.error is not None:
            raise ScanError(f"the cluster cannot go on: {progress.error}")
        now_s = time.monotonic()
        if progress.tables:
            self._heard_s = now_s
            self._conductors_lost = 0
        elif now_s - self._heard_s > _LONGEST_SILENCE_S:
            raise ScanError(f"nothing has come from the cluster for {_LONGEST_SILENCE_S:g} s")
        if now_s - self._looked_s > _LOOK_AROUND_S and not self._count_places():
            self._check_room()

    def _note_faults(self, faults: dict[int, str]) -> None:
        """Remember the faults of unfinished tiles, and print each new one."""
        self._faults |= faults
        for fault in dict.fromkeys(faults.values()):
            if fault not in self._shown_faults and len(self._shown_faults) < _SHOWN_FAULTS:
                self._shown_faults.add(fault)
                # Above the progress bar, if there is one.
                tqdm.write(f"a worker's fault, its tiles are tried again: {fault}", file=sys.stderr)

    def _note_losses(self, lost: set[int]) -> None:
        """Count the losses of tiles; a tile that was lost too often is recorded as failed."""
        given_up: list[Outcome] = []
        for tile_id in lost:
            self._losses[tile_id] = self._losses.get(tile_id, 0) + 1
            if self._losses[tile_id] >= MOST_LOSSES:
                del self._losses[tile_id]
                fault = self._faults.pop(tile_id, None)
                if fault is not None:
                    reason = f"not finished in {MOST_LOSSES} tries, a worker's fault: {fault}"
                else:
                    reason = (
                        f"its worker ended in each of {MOST_LOSSES} tries: a crash, "
                        "a hang, too little memory, or a lost machine; Ray's logs may say which"
                    )
                given_up.append(Outcome(tile_id, "failed", error=reason))
        self._note(given_up)

    def _note(self, outcomes: list[Outcome]) -> None:
        """Record outcomes and count them here, since the journal's own count reads every tile."""
        if not outcomes:
            return
        self._journal.record(outcomes)
        self._counts = self._counts.with_outcomes(outcomes)
        self._on_progress(self._counts)

    def _count_places(self) -> int:
        """Count the workers that fit on the cluster, and report lost machines."""
        nodes = self._ray.nodes()
        self._machines.look(nodes)
        self._looked_s = time.monotonic()
        places = count_places(nodes, self._size)
        if places:
            self._roomy_s = self._looked_s
        return places

    def _check_room(self) -> None:
        waited_s = time.monotonic() - self._roomy_s
        if waited_s > self._patience_s + _LOOK_AROUND_S:
            raise ScanError(
                f"no machine of the cluster has had room for a worker ({self._size}) for "
                f"{waited_s:.0f} s"
            )

    def _start_conductor(self) -> Any:
        if self._conductor is None:
            options = {"num_cpus": 0, "resources": _HEAD}
            self._conductor = self._ray.remote(Conductor).options(**options).remote()
        return self._conductor

    def _end_conductor(self) -> None:
        """End the conductor together with its workers."""
        if self._conductor is not None:
            # The cluster itself may be lost.
            with contextlib.suppress(Exception):
                self._ray.kill(self._conductor)
            self._conductor = None

    def _lose_conductor(self, error: Exception) -> None:
        self._end_conductor()
        self._conductors_lost += 1
        if self._conductors_lost > _MOST_CONDUCTORS:
            raise ScanError(f"the cluster cannot go on: {error}") from error

    def _answer(self, reference: Any, longest_s: float = _LONGEST_ANSWER_S) -> Any:
        try:
            return self._ray.get(reference, timeout=longest_s)
        except self._ray.exceptions.GetTimeoutError as error:
            raise ScanError(f"the cluster has not answered for {longest_s:g} s") from error
        except self._ray.exceptions.RayTaskError as error:
            raise ScanError(f"the cluster cannot go on: {error.cause}") from error


@contextlib.contextmanager
def _signals(stopping: threading.Event) -> Generator[None]:
    """Let SIGINT and SIGTERM set an event.

    Tiles in flight on the cluster are dropped, since they may take long; the next run repeats them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
