"""Runs Ray Data on the cluster and hands its rows over; an actor of its own.

Of its own, because Ray Data does not run in a process that is connected as a client (`ray://`), and
so that the process with the journal needs no place in the cluster.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from semsr.cluster.connection import WorkerSize
from semsr.cluster.tables import from_bytes, to_bytes
from semsr.cluster.worker import ScanWorker, WorkerJob
from service.scans.errors import ScanError
from service.scans.extras import load_extra

# Rows that wait to be fetched; more keep the workers waiting.
_MOST_WAITING = 64


@dataclass(frozen=True)
class Pool:
    """The workers.

    Attributes:
        workers: How many.
        size: Of each.
        is_careful: One table at a time on each: one that ends a worker takes no other along.
    """

    workers: int
    size: WorkerSize
    is_careful: bool


@dataclass(frozen=True)
class Progress:
    """What has come since the last question.

    Attributes:
        tables: Rows, see `tables.outcome_table`, as Arrow streams.
        is_over: Nothing more comes.
        error: Why it is over before its end, or None.
    """

    tables: list[bytes] = field(default_factory=list)
    is_over: bool = False
    error: str | None = None


class Conductor:
    """One execution of Ray Data at a time."""

    def __init__(self) -> None:
        self._come: queue.Queue[bytes | Progress] = queue.Queue(_MOST_WAITING)

    def begin(self, job: WorkerJob, tables: Sequence[bytes], pool: Pool) -> None:
        """Start to compute.

        Args:
            job: What workers do.
            tables: Tiles, see `tables.tile_table`, each a task of its own.
            pool: The workers.
        """
        threading.Thread(target=self._run, args=(job, tables, pool), daemon=True).start()

    def more(self, wait_s: float) -> Progress:
        """Return what has come, waiting a while for the first."""
        tables: list[bytes] = []
        try:
            item = self._come.get(timeout=wait_s)
            while isinstance(item, bytes):
                tables.append(item)
                item = self._come.get_nowait()
        except queue.Empty:
            return Progress(tables)
        return Progress(tables, is_over=True, error=item.error)

    def _run(self, job: WorkerJob, tables: Sequence[bytes], pool: Pool) -> None:
        error: str | None = None
        try:
            for table in _results(job, tables, pool):
                self._come.put(to_bytes(table))
        except Exception as caught:  # whatever it is, the other side must learn of it
            error = _reason(caught)
        self._come.put(Progress(is_over=True, error=error))


def _results(job: WorkerJob, tables: Sequence[bytes], pool: Pool) -> Iterator[Any]:
    """Yield the workers' rows as they come."""
    data = load_extra("ray.data", purpose="a scan over a cluster", extra="ray")
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    # A worker that ends, or whose machine does, loses its tables and no more: they are not tried
    # again at once, where they would end the next worker, but by whoever keeps the journal.
    context.max_errored_blocks = -1
    # An engine that cannot be had ends the round; machines that are lost meanwhile do not.
    context.max_consecutive_actor_init_deaths = pool.workers
    concurrent = 1 if pool.is_careful else 2
    dataset = data.from_arrow([from_bytes(table) for table in tables]).map_batches(
        ScanWorker,
        fn_constructor_args=(job,),
        batch_size=None,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(
            min_size=1,
            initial_size=pool.workers,
            max_size=pool.workers,
            # Two at once, so that an engine does not wait for the last tiles of a table to be
            # written; one more lies ready.
            max_tasks_in_flight_per_actor=1 if pool.is_careful else concurrent + 1,
            max_concurrent_calls_per_actor=concurrent,
            enable_true_multi_threading=True,
        ),
        num_cpus=pool.size.cpus,
        num_gpus=pool.size.gpus,
        max_restarts=-1,
        max_task_retries=0,
    )
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _reason(error: Exception) -> str:
    """Say what began it: Ray puts the text of the worker's error into its own, as a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith(f"{ScanError.__module__}.")]
    if ours:
        return ours[-1].partition(": ")[2]
    return lines[-1] if lines else type(error).__name__
