"""Runs Ray Data on the cluster, in a separate actor that hands the rows over.

Ray Data does not run in a process that is connected as a client (`ray://`). With a separate actor,
the process that holds the journal may also lie outside the cluster.
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

# Limit of tables that wait to be fetched; at the limit, workers wait.
_MOST_WAITING = 64


@dataclass(frozen=True)
class Pool:
    """Number and size of the workers.

    Attributes:
        workers: Number of workers.
        size: CPUs and GPUs of each.
        is_careful: Whether each worker takes one table at a time, so that a table that crashes its
            worker loses no other.
    """

    workers: int
    size: WorkerSize
    is_careful: bool


@dataclass(frozen=True)
class Progress:
    """Rows that arrived since the last call.

    Attributes:
        tables: Rows, see `tables.outcome_table`, as Arrow streams.
        is_over: Whether the execution has ended.
        error: Reason for which it ended early, or None.
    """

    tables: list[bytes] = field(default_factory=list)
    is_over: bool = False
    error: str | None = None


class Conductor:
    """One execution of Ray Data at a time."""

    def __init__(self) -> None:
        self._come: queue.Queue[bytes | Progress] = queue.Queue(_MOST_WAITING)

    def begin(self, job: WorkerJob, tables: Sequence[bytes], pool: Pool) -> None:
        """Start computing.

        Args:
            job: Description of the work.
            tables: Tiles, see `tables.tile_table`; each table is one task.
            pool: Number and size of the workers.
        """
        threading.Thread(target=self._run, args=(job, tables, pool), daemon=True).start()

    def more(self, wait_s: float) -> Progress:
        """Return the rows that have arrived, after waiting up to `wait_s` for the first."""
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
        except Exception as caught:  # any error must reach the process with the journal
            error = _reason(caught)
        self._come.put(Progress(is_over=True, error=error))


def _results(job: WorkerJob, tables: Sequence[bytes], pool: Pool) -> Iterator[Any]:
    """Yield the workers' rows as they arrive."""
    data = load_extra("ray.data", purpose="a scan over a cluster", extra="ray")
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    # A worker that ends, or whose machine is lost, loses only its own tables. Ray must not retry
    # them at once, since they might crash the next worker too; `run` retries them.
    context.max_errored_blocks = -1
    # An engine that fails to load ends the round; lost machines do not.
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
            # Two at a time, so that an engine does not wait until the last tiles of a table are
            # written; one more is queued.
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
    """Return the first cause, since Ray's error has the worker's traceback in its text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith(f"{ScanError.__module__}.")]
    if ours:
        return ours[-1].partition(": ")[2]
    return lines[-1] if lines else type(error).__name__
