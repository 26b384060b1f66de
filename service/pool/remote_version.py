"""A front end's view of one version of a model: its engine processes and its serving."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from bundle_format.bundle import Bundle, BundleError, load_bundle
from service.hosting.serving import Serving, ServingFactory
from service.pool.control import VersionEntry
from service.pool.engine_link import EngineLink
from service.pool.messages import Hello
from service.pool.remote_runner import RemoteRunner
from service.pool.slots import Slots
from service.settings import Settings


class RemoteVersion:
    """One version; create and use it on the front end's event loop.

    Attributes:
        entry: Version in the supervisor's list.
        runner: Runner of its tiles; None before an engine process has greeted.
        serving: Serving of the version; None before an engine process has greeted.
        task: Task of `run`, which `close` cancels.
    """

    def __init__(
        self,
        entry: VersionEntry,
        settings: Settings,
        slots: Slots,
        factory: ServingFactory,
        *,
        on_held: Callable[[], None],
        on_engine: Callable[[], None],
    ) -> None:
        """Begin to connect.

        Args:
            entry: The version and the addresses of its engine processes.
            settings: The service's settings.
            slots: This front end's slots.
            factory: Factory of servings.
            on_held: Callback for the moment when this front end is ready to serve the version.
            on_engine: Callback for each engine process that is ready.
        """
        self.entry = entry
        self.runner: RemoteRunner | None = None
        self.serving: Serving | None = None
        self.task: asyncio.Task[None] | None = None
        self._settings = settings
        self._slots = slots
        self._factory = factory
        self._on_held = on_held
        self._on_engine = on_engine
        self._greeted: asyncio.Queue[tuple[EngineLink, Hello]] = asyncio.Queue()
        self._links = [
            EngineLink(
                address,
                row,
                slots.arena,
                on_hello=lambda link, hello: self._greeted.put_nowait((link, hello)),
            )
            for address, row in entry.engines
        ]

    async def run(self) -> None:
        """Use each engine process once its greeting arrives, until `close`.

        Raises:
            BundleError: The bundle cannot be used, or differs from the engine's.
        """
        while True:
            link, hello = await self._greeted.get()
            if self.runner is None:
                bundle = await asyncio.to_thread(_load_same, self.entry.bundle, hello.digest)
                self.runner = self._put_together(bundle, hello)
                self._on_held()
            if link.is_up:
                self.runner.add(link)
            self._on_engine()

    async def close(self, timeout_s: float) -> None:
        """Disconnect from the engine processes once no request uses them.

        Args:
            timeout_s: Time limit for the requests.
        """
        if self.task is not None:
            self.task.cancel()
        if self.runner is not None and self.serving is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.serving.upscaler.users.wait_gone()
                    await self.runner.drain(timeout_s)
            self.runner.close()
        for link in self._links:
            link.close()

    def _put_together(self, bundle: Bundle, hello: Hello) -> RemoteRunner:
        runner = RemoteRunner(
            self._slots,
            model=self.entry.model,
            scale=bundle.manifest.scale,
            max_queue=self._settings.max_queue,
            online_budget_s=self._settings.online_budget_ms / 1e3,
        )
        self.serving = self._factory.make(
            self.entry.model,
            bundle,
            engine=hello.engine,
            precision=hello.precision,
            runner=runner,
        )
        return runner


def _load_same(path: Path, digest: str) -> Bundle:
    """Load the bundle that an engine process serves.

    Raises:
        BundleError: The bundle cannot be used, or has been replaced in the meantime.
    """
    bundle = load_bundle(path)
    if bundle.digest != digest:
        raise BundleError(
            f"{path} is not what the engine process serves: its digest is {bundle.digest[:12]}, "
            f"the engine's {digest[:12]}"
        )
    return bundle
