"""The list of scans in both databases: who has which, what is wanted, what was asked twice."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.ground.errors import ScanConflict, UnknownScan, UnsuitableScan
from service.ground.pause_windows import PauseWindows
from service.scan_jobs.database import (
    Database,
    DatabaseError,
    PostgresDatabase,
    SqliteDatabase,
    UnusableDatabaseError,
)
from service.scan_jobs.job import Ended, Job, Progress, State
from service.scan_jobs.scan_info import describe
from service.scan_jobs.store import JobStore
from service.scans.rows import Counts
from tests.postgres import PostgresServer, running_postgres

LEASE_S = 60.0
# A lease, or a rest, whose end lies in the past: nobody has to wait for it, however slow he is.
OVER_S = -1.0
PROGRESS = Progress(counts=Counts(10, 4, 1), tiles_per_s=2.5, failures=[("a", "bad")])


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of these tests; they skip where none can be started."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def connect(request, tmp_path: Path) -> Iterator[Callable[[], JobStore]]:
    """Open one more connection to the same, empty list, as another process would."""
    opened: list[JobStore] = []
    make: Callable[[], Database] = lambda: SqliteDatabase(tmp_path / "scans.sqlite")  # noqa: E731
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").new_database()
        make = lambda: PostgresDatabase(url)  # noqa: E731

    def open_one() -> JobStore:
        opened.append(JobStore(make()))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(connect: Callable[[], JobStore]) -> JobStore:
    """An empty list."""
    return connect()


def add(store: JobStore, job_id: str, **changes: Any) -> Job:
    """Add a scan."""
    given: dict[str, Any] = {
        "name": "lot 7",
        "client": "line",
        "body": {"source": f"/in/{job_id}"},
        "source": f"/in/{job_id}",
        "sink": f"/out/{job_id}",
        "finish_by_s": None,
        "idempotency_key": None,
        **changes,
    }
    return store.add(job_id, **given)[0]


def test_a_scan_is_kept_as_it_was_asked_for(connect):
    """Another process reads the same."""
    job = add(connect(), "a", finish_by_s=1234.5, body={"source": "ä", "options": {"x": None}})
    assert job == connect().get("a")
    assert (State.QUEUED, 1234.5, "ä", 1) == (
        job.state, job.finish_by_s, job.body["source"], job.version,
    )  # fmt: skip
    assert abs(job.created_s - time.time()) < 60
    with pytest.raises(UnknownScan):
        connect().get("b")


def test_the_same_key_gives_the_same_scan_once(store):
    """With the same body; another body is an error, and another key another scan."""
    first = store.add(
        "a", name="", client="", body={"source": "s"}, source="s", sink="t", finish_by_s=None,
        idempotency_key="k",
    )  # fmt: skip
    again = store.add(
        "b", name="", client="", body={"source": "s"}, source="s", sink="t", finish_by_s=None,
        idempotency_key="k",
    )  # fmt: skip
    assert ((first[0], True), (first[0], False)) == (first, again)
    with pytest.raises(UnsuitableScan, match="another body"):
        add(store, "c", idempotency_key="k")
    assert "d" == add(store, "d", idempotency_key="l").id


def test_one_active_scan_a_sink(store):
    """A second one has to wait until the first has ended; so has one that is resumed."""
    add(store, "a", sink="t")
    with pytest.raises(ScanConflict, match="the scan a writes into the same sink"):
        add(store, "b", sink="t")
    assert store.claim("me", lease_s=LEASE_S)
    store.release("a", "me", Ended(State.FAILED, PROGRESS, detail="x"))
    add(store, "b", sink="t")
    with pytest.raises(ScanConflict, match="the scan b writes into the same sink"):
        store.resume("a")


def test_many_processes_share_scans_without_sharing_one(connect):
    """Twelve at once take eight scans: each is taken once."""
    store = connect()
    for number in range(8):
        add(store, f"job{number}")
    taken: list[str] = []
    stores = [connect() for _ in range(12)]
    barrier = threading.Barrier(len(stores))

    def take(mine: JobStore, owner: str) -> None:
        barrier.wait()
        job = mine.claim(owner, lease_s=60)
        if job is not None:
            taken.append(job.id)

    threads = [
        threading.Thread(target=take, args=(mine, str(number)))
        for number, mine in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # In PostgreSQL two that want the same one may both come away with another's; nobody shares.
    while (job := store.claim("last", lease_s=60)) is not None:
        taken.append(job.id)
    assert [f"job{number}" for number in range(8)] == sorted(taken)


def test_what_is_wanted_first_is_taken_first(store):
    """By the time it is wanted, those without one last, in the order of asking."""
    add(store, "none1")
    add(store, "late", finish_by_s=2e9)
    add(store, "none2")
    add(store, "soon", finish_by_s=1.9e9)
    taken = [store.claim("me", lease_s=60) for _ in range(4)]
    assert ["soon", "late", "none1", "none2"] == [job.id for job in taken if job is not None]
    assert store.claim("me", lease_s=60) is None


def test_a_lease_that_is_not_renewed_is_anybodys(connect):
    """It is put back; the former owner is told, and can change nothing any more."""
    first, second = connect(), connect()
    add(first, "a")
    assert first.claim("one", lease_s=LEASE_S)
    assert second.claim("two", lease_s=LEASE_S) is None
    assert [] == second.settle_left_behind()
    assert first.beat("a", "one", Progress(), lease_s=OVER_S)
    assert first.get("a").is_left
    assert [] == first.settle_left_behind(but="a")
    assert [("a", State.QUEUED)] == second.settle_left_behind()
    assert not first.get("a").is_left
    taken = second.claim("two", lease_s=LEASE_S)
    assert taken is not None
    assert taken.id == "a"
    assert first.beat("a", "one", PROGRESS, lease_s=60) is None
    assert not first.release("a", "one", Ended(State.DONE, PROGRESS))
    assert State.RUNNING == second.get("a").state


def test_a_scan_that_ends_its_process_rests(store):
    """Not after a first death, nor where tiles were recorded in between; then longer each time."""
    add(store, "a")

    def die(progress: Progress | None = None) -> None:
        assert store.claim("dead", lease_s=60)
        before = store.get("a").progress
        store.beat("a", "dead", progress or before, lease_s=OVER_S)
        assert [("a", State.QUEUED)] == store.settle_left_behind()

    die()
    die(PROGRESS)
    die()
    assert store.claim("me", lease_s=60) is None
    job = store.get("a")
    assert (2, True) == (job.progress.setbacks, "2 runs in a row" in job.detail)
    assert job.retry_at_s is not None
    assert 0 < job.retry_at_s - time.time() <= 31
    assert State.QUEUED == store.resume("a").state
    assert store.claim("me", lease_s=60)


def test_a_scan_that_nobody_runs_does_not_claim_to_be_run(store):
    """Also where nobody can put it back, as with a full disk."""
    add(store, "a", body={"source": "/in/a", "sink": "/out/a", "options": {}})
    store.claim("dead", lease_s=60)
    assert "" == describe(store.get("a"), PauseWindows(), time.time()).detail
    store.beat("a", "dead", PROGRESS, lease_s=OVER_S)
    assert "has died" in describe(store.get("a"), PauseWindows(), time.time()).detail


def test_a_heartbeat_keeps_a_scan_and_tells_how_far_it_is(connect):
    """As long as it beats nobody else gets it; the version grows only with news."""
    first, second = connect(), connect()
    add(first, "a")
    claimed = first.claim("one", lease_s=OVER_S)
    assert claimed is not None
    for _ in range(5):
        assert first.beat("a", "one", PROGRESS, lease_s=LEASE_S)
        assert [] == second.settle_left_behind()
        assert second.claim("two", lease_s=LEASE_S) is None
        assert first.beat("a", "one", PROGRESS, lease_s=OVER_S)
    assert PROGRESS == second.get("a").progress
    assert claimed.version + 1 == second.get("a").version


def test_pause_and_resume_reach_the_owner(connect):
    """A waiting scan is paused at once; of a running one the owner hears with its heartbeat."""
    client, owner = connect(), connect()
    add(client, "a")
    assert State.PAUSED == client.pause("a").state
    assert owner.claim("me", lease_s=60) is None
    assert State.QUEUED == client.resume("a").state
    assert owner.claim("me", lease_s=60)
    assert State.RUNNING == client.pause("a").state
    told = owner.beat("a", "me", PROGRESS, lease_s=60)
    assert told is not None
    assert told.wanted == "pause"
    owner.release("a", "me", Ended(State.PAUSED, PROGRESS))
    assert (State.PAUSED, None) == (client.get("a").state, client.get("a").wanted)


@pytest.mark.parametrize(
    ("change", "state"), [("resume", State.QUEUED), ("cancel", State.CANCELLED)]
)
def test_what_was_wanted_last_counts(store, change, state):
    """Also where the owner has heard of a pause only, and stops for that."""
    add(store, "a")
    store.claim("me", lease_s=60)
    store.pause("a")
    told = store.beat("a", "me", PROGRESS, lease_s=60)
    assert (told is not None, told and told.wanted) == (True, "pause")
    getattr(store, change)("a")
    assert state == store.release("a", "me", Ended(State.PAUSED, PROGRESS))
    job = store.get("a")
    assert (state, state is State.CANCELLED) == (job.state, job.ended_s is not None)


def test_texts_that_a_database_cannot_hold_are_no_fault_of_it(store):
    """A NUL in what a client sends; the list answers as to anything that it does not know."""
    assert add(store, "a", name="lot\0 7").name.startswith("lot")
    with pytest.raises(UnknownScan):
        store.get("a\0")
    assert "a" == store.listing(limit=1)[0].id


def test_cancel_is_final_and_not_undone_by_a_pause(store):
    """Whatever is asked for afterwards, and however its owner leaves it."""
    add(store, "a")
    store.claim("me", lease_s=60)
    store.cancel("a")
    store.pause("a")
    store.resume("a")
    told = store.beat("a", "me", PROGRESS, lease_s=60)
    assert told is not None
    assert told.wanted == "cancel"
    store.release("a", "me", Ended(State.QUEUED, PROGRESS))
    job = store.get("a")
    assert State.CANCELLED == job.state
    assert job.ended_s is not None
    for change in (store.pause, store.resume, store.cancel):
        with pytest.raises(ScanConflict, match="is cancelled"):
            change("a")


def test_what_was_wanted_of_a_dead_owner_is_done(store):
    """A scan whose owner died before it paused is paused, not run by somebody else."""
    for job_id in "abc":
        add(store, job_id)
    for _ in range(3):
        assert store.claim("dead", lease_s=LEASE_S)
    store.pause("a")
    store.cancel("b")
    for job_id in "abc":
        assert store.beat(job_id, "dead", PROGRESS, lease_s=OVER_S)
    settled = {"a": State.PAUSED, "b": State.CANCELLED, "c": State.QUEUED}
    assert settled == dict(store.settle_left_behind())
    assert settled == {job_id: store.get(job_id).state for job_id in "abc"}
    assert store.get("b").ended_s is not None
    assert "c" == getattr(store.claim("me", lease_s=LEASE_S), "id", None)


def test_a_scan_that_was_set_back_rests(store):
    """It is not taken before its time, and its reason is kept."""
    for job_id, rest_s in (("a", 60.0), ("b", OVER_S)):
        add(store, job_id)
        store.claim("me", lease_s=60)
        store.release(
            job_id, "me", Ended(State.QUEUED, PROGRESS, detail="no space", retry_in_s=rest_s)
        )
    assert "no space" == store.get("a").detail
    taken = [store.claim("me", lease_s=60) for _ in range(2)]
    assert ["b", None] == [job and job.id for job in taken]


def test_the_listing_is_bounded_and_goes_on_where_it_ended(store):
    """The newest first; by state; older ones than a given one."""
    for number in range(5):
        add(store, f"job{number}")
    store.cancel("job4")
    assert ["job4", "job3"] == [job.id for job in store.listing(limit=2)]
    older = store.listing(limit=2, before="job3")
    assert ["job2", "job1"] == [job.id for job in older]
    waiting = store.listing(limit=9, states=[State.QUEUED])
    assert ["job3", "job2", "job1", "job0"] == [job.id for job in waiting]
    assert {State.QUEUED: 4, State.CANCELLED: 1} == store.counts()


def test_only_what_has_ended_is_forgotten(store):
    """At once when asked, else after its time."""
    add(store, "a")
    assert not store.forget("a")
    assert [] == store.forget_old(-1.0)
    store.cancel("a")
    assert [] == store.forget_old(60.0)
    assert ["a"] == store.forget_old(-1.0)
    add(store, "b")
    store.cancel("b")
    assert store.forget("b")
    assert {} == store.counts()


def test_a_list_of_another_format_is_refused(connect, tmp_path, request):
    """A newer service's list is not written to."""
    store = connect()
    add(store, "a")
    store._table.run("UPDATE scan_format SET version = 2")
    with pytest.raises(UnusableDatabaseError, match="format 2; expected 1"):
        connect().get("a")


def test_a_database_that_comes_back_is_used_again(postgres):
    """The connection is lost; the next question makes a new one."""
    url = postgres.new_database()
    store = JobStore(PostgresDatabase(url))
    add(store, "a")
    postgres.end_connections(url)
    with pytest.raises(DatabaseError, match="PostgreSQL"):
        store.get("a")
    assert "a" == store.get("a").id
    store.close()


def test_a_folder_that_cannot_be_written_is_told_as_such(tmp_path):
    """The service goes on without scans and says why."""
    (tmp_path / "file").write_bytes(b"")
    store = JobStore(SqliteDatabase(tmp_path / "file" / "scans.sqlite"))
    with pytest.raises(DatabaseError, match=r"scans\.sqlite"):
        store.counts()


def test_a_damaged_list_is_told_from_one_that_does_not_answer(tmp_path):
    """No file of SQLite, or a page of it overwritten: the reason is there without the path."""
    path = tmp_path / "scans.sqlite"
    path.write_bytes(b"no list of scans " * 1000)
    with pytest.raises(UnusableDatabaseError, match=r"scans\.sqlite: it is damaged") as caught:
        JobStore(SqliteDatabase(path)).counts()
    assert "it is damaged (file is not a database)" == caught.value.reason

    path.unlink()
    store = JobStore(SqliteDatabase(path))
    add(store, "a")
    store.close()
    with path.open("r+b") as file:
        file.seek(100)  # behind the head of the file: the root of the table of tables
        file.write(b"\xff" * 3000)
    with pytest.raises(UnusableDatabaseError, match="malformed"):
        JobStore(SqliteDatabase(path)).counts()
