"""Blocking work in a thread that does not delay the end of the process."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_daemon_thread(
    work: Callable[[], Result], *, on_late: Callable[[Result], None] = lambda _: None
) -> Result:
    """Run a function in a new daemon thread; returns its result and raises its errors.

    Args:
        work: Function to run.
        on_late: Callback with the result if the caller was cancelled in the meantime.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            if error is None:
                on_late(result)  # pyright: ignore[reportArgumentType] (None is a result too)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # pyright: ignore[reportArgumentType] (None is a result too)

    def run() -> None:
        result: Result | None = None
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            return  # the loop is closed: the process is ending

    threading.Thread(target=run, name="blocking", daemon=True).start()
    return await future
