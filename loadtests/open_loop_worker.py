"""The process that sends an open-loop load: one thread, epoll, raw sockets.

`python -m loadtests.open_loop_worker` reads a plan from stdin and writes outcomes to stdout, both
JSON. A request is due at a time that was fixed beforehand. If no connection is free by then, or
this process is late, the request waits. That wait counts, because latency begins when the request
was due (no coordinated omission).
"""

import base64
import gc
import heapq
import itertools
import json
import select
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from loadtests import arrivals
from loadtests.exchange import RECEIVE_BYTES, Exchange

_READ = select.EPOLLIN
_BOTH = select.EPOLLIN | select.EPOLLOUT
_REFUSALS = {429, 503}
# The server may close a connection that was idle for longer just when it is used again.
_MAX_IDLE_S = 2.0
_LOOK_FOR_OVERDUE_S = 0.1
_DEFAULT_RETRY_MS = 100.0


@dataclass(frozen=True)
class _Due:
    """A request: its stream, its number in it, and the time when it is due."""

    stream: int
    number: int
    due_s: float


class Sender:
    """Sends this worker's share of the streams of a plan; see `loadtests.open_loop`."""

    def __init__(self, plan: dict[str, Any], worker: int) -> None:
        self._address: tuple[str, int] = tuple(plan["address"])
        self._streams: list[dict[str, Any]] = plan["streams"]
        self._requests = [base64.b64decode(stream["request"]) for stream in self._streams]
        self._max_connections = max(1, plan["connections"] // plan["workers"])
        self._timeout_s: float = plan["timeout_s"]
        self._start_s: float = plan["start_s"]
        self._end_s = self._start_s + plan["seconds"]
        self._give_up_s = self._end_s + plan["grace_s"]
        self._stride: int = plan["workers"]

        self._order = itertools.count()
        self._due: list[tuple[float, int, _Due]] = []
        self._next_number: dict[int, itertools.count[int]] = {}
        for index, stream in enumerate(self._streams):
            self._plan_stream(index, stream, worker, plan["seconds"])

        self._epoll = select.epoll()
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._idle: dict[int, Exchange] = {}
        self._under_way: dict[int, tuple[Exchange, _Due]] = {}
        # Answered, but the request is not yet out: the server refused it by its head.
        self._leftover: dict[int, Exchange] = {}
        self._waiting: deque[_Due] = deque()
        self._look_again_s = 0.0
        self.outcomes: list[tuple[int, int, float, float, float, int, str, float | None]] = []

    def _plan_stream(self, index: int, stream: dict[str, Any], worker: int, seconds: float) -> None:
        if stream["concurrency"]:
            numbers = itertools.count(worker, self._stride)
            self._next_number[index] = numbers
            for _ in range(worker, stream["concurrency"], self._stride):
                self._push(_Due(index, next(numbers), self._start_s))
            return
        rate = stream["rate_per_s"]
        if stream["arrivals"] == "poisson":
            times = arrivals.poisson(rate, seconds, seed=stream["seed"])
        else:
            times = arrivals.constant(rate, seconds)
        for number in range(worker, len(times), self._stride):
            self._push(_Due(index, number, self._start_s + times[number]))

    def _push(self, due: _Due) -> None:
        heapq.heappush(self._due, (due.due_s, next(self._order), due))

    def run(self) -> None:
        """Send until every request has its outcome, or the grace time after the end is over."""
        while self._due or self._waiting or self._under_way:
            now_s = time.monotonic()
            if now_s >= self._give_up_s:
                break
            while self._due and self._due[0][0] <= now_s:
                self._waiting.append(heapq.heappop(self._due)[2])
            self._start_waiting(now_s)
            for descriptor, events in self._wait(now_s):
                self._serve(descriptor, events)
            if now_s >= self._look_again_s:
                self._give_up_overdue(now_s)
                self._look_again_s = now_s + _LOOK_FOR_OVERDUE_S
        now_s = time.monotonic()
        for exchange, due in self._under_way.values():
            self._record(due, exchange, now_s, "unanswered")
        for due in [*self._waiting, *(entry[2] for entry in self._due)]:
            self.outcomes.append(
                (due.stream, due.number, due.due_s, now_s, now_s, 0, "not sent", None)
            )

    def _wait(self, now_s: float) -> list[tuple[int, int]]:
        """Wait for sockets, at most until the next request is due.

        `epoll` itself counts in milliseconds, `select` on the epoll in microseconds.
        """
        wait_s = min(self._due[0][0] - now_s if self._due else 1.0, _LOOK_FOR_OVERDUE_S)
        events = self._epoll.poll(0)
        if not events and wait_s > 0 and select.select([self._epoll], [], [], wait_s)[0]:
            events = self._epoll.poll(0)
        return events

    # --- requests ---

    def _start_waiting(self, now_s: float) -> None:
        while self._waiting:
            exchange = self._free_exchange(now_s)
            if exchange is None:
                return
            due = self._waiting.popleft()
            try:
                exchange.begin(self._requests[due.stream])
            except OSError:
                self._finish_broken(exchange, due)
                continue
            descriptor = exchange.socket.fileno()
            self._under_way[descriptor] = (exchange, due)
            self._epoll.modify(descriptor, _READ if exchange.is_sent else _BOTH)

    def _free_exchange(self, now_s: float) -> Exchange | None:
        while self._idle:
            descriptor, exchange = self._idle.popitem()
            if now_s - exchange.idle_since_s <= _MAX_IDLE_S:
                return exchange
            self._idle[descriptor] = exchange
            for idle in list(self._idle.values()):
                self._close(idle)
        if len(self._under_way) + len(self._leftover) >= self._max_connections:
            return None
        exchange = Exchange(self._address)
        self._epoll.register(exchange.socket.fileno(), _BOTH)
        return exchange

    def _serve(self, descriptor: int, events: int) -> None:
        exchange, due = self._under_way.get(descriptor, (self._leftover.get(descriptor), None))
        if exchange is None:
            idle = self._idle.get(descriptor)
            if idle is not None:  # nothing is expected there: the server closes it
                self._close(idle)
            return
        try:
            if events & select.EPOLLOUT:
                exchange.send()
            if due is not None and events & ~select.EPOLLOUT:
                exchange.receive(self._buffer)
        except OSError:
            if due is None:
                self._close(exchange)
            else:
                self._finish_broken(exchange, due)
            return
        if due is not None and exchange.is_answered:
            self._finish(exchange, due)
        elif exchange.is_sent and events & select.EPOLLOUT:
            self._epoll.modify(descriptor, _READ)
        if exchange.is_sent and self._leftover.pop(descriptor, None) is not None:
            self._release(exchange)

    def _finish(self, exchange: Exchange, due: _Due) -> None:
        now_s = time.monotonic()
        expected = self._streams[due.stream]["expected_bytes"]
        is_wrong = exchange.status == 200 and exchange.length != expected
        retry_after_ms = self._record(due, exchange, now_s, "wrong length" if is_wrong else "")
        descriptor = exchange.socket.fileno()
        del self._under_way[descriptor]
        exchange.idle_since_s = now_s
        if exchange.is_sent:
            self._release(exchange)
        else:
            self._leftover[descriptor] = exchange
        if due.stream in self._next_number:
            self._go_on(due, exchange.status, retry_after_ms, now_s)

    def _finish_broken(self, exchange: Exchange, due: _Due) -> None:
        now_s = time.monotonic()
        self._record(due, exchange, now_s, "broken")
        self._close(exchange)
        if due.stream in self._next_number:
            self._go_on(due, 0, None, now_s)

    def _go_on(self, due: _Due, status: int, retry_after_ms: float | None, now_s: float) -> None:
        """Continue a saturating stream: schedule a refused request again, or else the next one."""
        if status in _REFUSALS:
            wait_ms = _DEFAULT_RETRY_MS if retry_after_ms is None else retry_after_ms
            self._push(_Due(due.stream, due.number, now_s + wait_ms / 1e3))
        elif now_s < self._end_s:
            self._push(_Due(due.stream, next(self._next_number[due.stream]), now_s))

    def _record(self, due: _Due, exchange: Exchange, now_s: float, failure: str) -> float | None:
        retry_after_ms = exchange.retry_after_ms() if exchange.status in _REFUSALS else None
        self.outcomes.append(
            (
                due.stream,
                due.number,
                due.due_s,
                exchange.sent_s,
                now_s,
                exchange.status,
                failure,
                retry_after_ms,
            )
        )
        return retry_after_ms

    def _give_up_overdue(self, now_s: float) -> None:
        overdue = [
            (exchange, due)
            for exchange, due in self._under_way.values()
            if now_s - exchange.sent_s > self._timeout_s
        ]
        for exchange, due in overdue:
            self._record(due, exchange, now_s, "unanswered")
            self._close(exchange)
            if due.stream in self._next_number:
                self._go_on(due, 0, None, now_s)

    # --- connections ---

    def _release(self, exchange: Exchange) -> None:
        if exchange.closes:
            self._close(exchange)
            return
        descriptor = exchange.socket.fileno()
        self._epoll.modify(descriptor, _READ)
        self._idle[descriptor] = exchange

    def _close(self, exchange: Exchange) -> None:
        descriptor = exchange.socket.fileno()
        for group in (self._idle, self._under_way, self._leftover):
            group.pop(descriptor, None)
        exchange.socket.close()


def _main() -> None:
    job = json.load(sys.stdin)
    sender = Sender(job["plan"], job["worker"])
    # Nothing here makes cycles, and a collection would delay what is due.
    gc.disable()
    began_s = time.process_time()
    sender.run()
    cpu_s = time.process_time() - began_s
    json.dump({"outcomes": sender.outcomes, "cpu_s": cpu_s}, sys.stdout)


if __name__ == "__main__":
    _main()
