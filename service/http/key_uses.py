"""Log lines of accepted keys: the first use from an address, then one line an hour."""

import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

log = structlog.get_logger()

INTERVAL_S = 3600.0
"""Interval between two lines of the same key and address."""
MAX_PAIRS = 10_000
"""Number of pairs of key and address that are kept; the oldest is dropped first."""


class KeyUses:
    """Counts the uses of keys; used on the event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without uses.

        Args:
            clock: Clock in seconds.
        """
        self._clock = clock
        # Time of the next line, and uses since the last one, by client and address.
        self._pairs: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def note(self, client: str, address: str) -> None:
        """Count one use, and log it where a line is due.

        Args:
            client: Client name of the key.
            address: Address that has sent it.
        """
        pair = client, address
        now_s = self._clock()
        due_s, uses = self._pairs.get(pair, (now_s, 0))
        uses += 1
        if now_s >= due_s:
            log.info("key_accepted", client=client, address=address, uses=uses)
            due_s, uses = now_s + INTERVAL_S, 0
        self._pairs[pair] = due_s, uses
        if len(self._pairs) > MAX_PAIRS:
            self._pairs.popitem(last=False)
