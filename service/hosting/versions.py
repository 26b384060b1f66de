"""What is served under each name, and what was before it: kept for a while, for a rollback.

The same for models in this process and for those in processes of their own; see
`service.hosting.local_models` and `service.pool.supervisor`.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Version = TypeVar("Version")


class Versions(Generic[Version]):
    """Use it on one event loop.

    Attributes:
        served: By name, the first one first.
        kept: By name.
    """

    def __init__(self, *, keep_s: float, retire: Callable[[Version], None]) -> None:
        """Begin with nothing.

        Args:
            keep_s: For how long the one before is kept; 0 keeps none.
            retire: Ends one that can be served no more.
        """
        self.served: dict[str, Version] = {}
        self.kept: dict[str, Version] = {}
        self._keep_s = keep_s
        self._retire = retire
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def all(self) -> list[Version]:
        """List those that are served and those that are kept."""
        return [*self.served.values(), *self.kept.values()]

    def serve(self, name: str, version: Version) -> None:
        """Serve another version; the one before is kept, and one kept before that is let go."""
        before = self.served.get(name)
        self.served[name] = version
        if before is None:
            return
        self.let_go(name)
        if not self._keep_s:
            self._retire(before)
            return
        self.kept[name] = before
        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_later(self._keep_s, self.let_go, name)

    def roll_back(self, name: str) -> None:
        """Serve what is kept, and keep what is served.

        Raises:
            KeyError: Nothing is kept under that name.
        """
        version = self.kept.pop(name)
        self.serve(name, version)

    def remove(self, name: str) -> None:
        """Retire what is served under a name, and what is kept.

        Raises:
            KeyError: Nothing is served under it.
        """
        version = self.served.pop(name)
        self.let_go(name)
        self._retire(version)

    def let_go(self, name: str) -> None:
        """Keep nothing under a name any more."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        version = self.kept.pop(name, None)
        if version is not None:
            self._retire(version)
