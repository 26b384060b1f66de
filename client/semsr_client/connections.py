"""Connections that belong to one process, and on asyncio to one event loop.

A child made by fork() inherits its parent's sockets. If both wrote to one of them, each could read
answers to the other's requests. So every process opens connections of its own. It neither uses nor
closes an inherited pool, whose lock may be held by a thread that exists only in the parent.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Generic, TypeVar

import httpx2

Pool = TypeVar("Pool", httpx2.Client, httpx2.AsyncClient)

# Forks between the first process of this family and this one. A process id would not do: a
# grandchild may get that of an ancestor that has ended.
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_count_fork)


def forks() -> int:
    """Return a count that fork() raises by one in the child."""
    return _forks


class Connections(Generic[Pool]):
    """The connection pools of a client: one for each process and, on asyncio, each event loop."""

    def __init__(
        self, make: Callable[[], Pool], *, is_per_loop: bool, has_own_transport: bool
    ) -> None:
        """Store the arguments; connections are opened when they are needed.

        Args:
            make: Maker of a connection pool.
            is_per_loop: Whether each event loop has its own pool; otherwise threads share one.
            has_own_transport: Whether the pool uses a transport of the caller's, which cannot be
                made a second time.
        """
        self._make = make
        self._is_per_loop = is_per_loop
        self._has_own_transport = has_own_transport
        self._born = forks()
        # Inherited ones stay referenced, because collecting them would close them.
        self._pools: dict[tuple[int, asyncio.AbstractEventLoop | None], Pool] = {}
        self._is_closed = False

    def get(self) -> Pool:
        """Return the pool of this process and, where each event loop has one, of this loop.

        Raises:
            RuntimeError: The client is closed, no event loop is running, or a forked process would
                share the caller's transport.
        """
        self.check_open()
        owner = self._owner()
        pool = self._pools.get(owner)
        if pool is None:
            if self._has_own_transport and self._born != forks():
                raise RuntimeError(
                    "this client has a transport of its caller's, which a forked process cannot "
                    "share; make the client in the process that uses it"
                )
            for born, loop in list(self._pools):
                if born == forks() and loop is not None and loop.is_closed():
                    del self._pools[born, loop]  # a closed loop can close no connection
            # Threads may race here: one pool wins, and the other has no connection yet.
            pool = self._pools.setdefault(owner, self._make())
        return pool

    def check_open(self) -> None:
        """Reject the use of a closed client.

        Raises:
            RuntimeError: The client is closed.
        """
        if self._is_closed:
            raise RuntimeError("the client is closed; make another one")

    def close(self) -> Pool | None:
        """Reject further requests; return the pool that the caller must close, or None."""
        self._is_closed = True
        return self._pools.pop(self._owner(), None)

    def _owner(self) -> tuple[int, asyncio.AbstractEventLoop | None]:
        return forks(), asyncio.get_running_loop() if self._is_per_loop else None
