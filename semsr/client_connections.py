"""Connections that belong to one process, and on asyncio to one event loop; see `semsr.client`.

A child made by fork() inherits its parent's sockets. If both wrote to one of them, each would read
answers to the other's questions. So every process opens connections of its own; what it inherited
it neither uses nor closes, since a lock of the inherited pool may be held by a thread that exists
in the parent only.
"""

import asyncio
import os
from collections.abc import Callable

import httpx2

# Forks between the first process of this family and this one. A process id would not do: a
# grandchild may get that of an ancestor that has ended.
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_count_fork)


def forks() -> int:
    """Return a number that every child made by fork() sees raised."""
    return _forks


class ProcessConnections:
    """The connections of a `Client`; threads may share them, processes get their own."""

    def __init__(self, make: Callable[[], httpx2.Client], *, is_given: bool) -> None:
        """Prepare; connections are opened when they are needed.

        Args:
            make: Makes a connection pool.
            is_given: Whether the pool stands on a transport of the caller's, which cannot be made
                a second time.
        """
        self._make = make
        self._is_given = is_given
        self._born = forks()
        # By `forks()`; inherited ones stay referenced, because collecting them would close them.
        self._pools: dict[int, httpx2.Client] = {}
        self._is_closed = False

    def get(self) -> httpx2.Client:
        """Return this process's connections.

        Raises:
            RuntimeError: The client is closed, or it would share the caller's transport with the
                process that it was made in.
        """
        self.check_open()
        pool = self._pools.get(forks())
        if pool is None:
            _check_transport(is_given=self._is_given, born=self._born)
            # Threads may race here: one pool wins, and the other has no connection yet.
            pool = self._pools.setdefault(forks(), self._make())
        return pool

    def check_open(self) -> None:
        """Refuse a client that is closed.

        Raises:
            RuntimeError: It is.
        """
        if self._is_closed:
            raise RuntimeError("the client is closed; make another one")

    def close(self) -> None:
        """Close this process's connections and refuse further requests."""
        self._is_closed = True
        pool = self._pools.pop(forks(), None)
        if pool is not None:
            pool.close()


class LoopConnections:
    """The connections of an `AsyncClient`: each process and each event loop has its own."""

    def __init__(self, make: Callable[[], httpx2.AsyncClient], *, is_given: bool) -> None:
        """Prepare; see `ProcessConnections`."""
        self._make = make
        self._is_given = is_given
        self._born = forks()
        self._pools: dict[tuple[int, asyncio.AbstractEventLoop], httpx2.AsyncClient] = {}
        self._is_closed = False

    def get(self) -> httpx2.AsyncClient:
        """Return the connections of this process and the running loop.

        Raises:
            RuntimeError: See `ProcessConnections.get`; or no event loop is running.
        """
        self.check_open()
        key = (forks(), asyncio.get_running_loop())
        pool = self._pools.get(key)
        if pool is None:
            _check_transport(is_given=self._is_given, born=self._born)
            for old in [old for old in self._pools if old[0] == key[0] and old[1].is_closed()]:
                del self._pools[old]  # nothing can be closed any more where the loop is
            pool = self._pools[key] = self._make()
        return pool

    def check_open(self) -> None:
        """See `ProcessConnections.check_open`."""
        if self._is_closed:
            raise RuntimeError("the client is closed; make another one")

    async def close(self) -> None:
        """Close the running loop's connections and refuse further requests."""
        self._is_closed = True
        pool = self._pools.pop((forks(), asyncio.get_running_loop()), None)
        if pool is not None:
            await pool.aclose()


def _check_transport(*, is_given: bool, born: int) -> None:
    """Refuse a transport that two processes would share.

    Raises:
        RuntimeError: The caller gave it, and this process was forked since.
    """
    if is_given and born != forks():
        raise RuntimeError(
            "this client has a transport of its caller's, which a forked process cannot share; "
            "make the client in the process that uses it"
        )
