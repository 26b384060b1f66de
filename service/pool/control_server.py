"""The supervisor's end of `control`: receives reports and orders, sends lists and answers."""

import socket
import time
from collections.abc import Callable, Sequence

from service.pool.channel import Acceptor, Channel
from service.pool.children import Child
from service.pool.control import (
    EngineReady,
    Failed,
    FrontEndState,
    Joined,
    Message,
    Order,
    pack,
    parse,
)
from service.pool.engine_processes import EngineProcesses
from service.pool.pool_versions import PoolVersions
from service.pool.processes import Background


class ControlServer:
    """Listens to every child and keeps front ends informed; create it on the event loop."""

    def __init__(
        self,
        listener: socket.socket,
        fronts: Sequence[Child],
        engines: EngineProcesses,
        versions: PoolVersions,
        *,
        on_started: Callable[[], None],
        background: Background,
    ) -> None:
        """Prepare; `start` lets children connect.

        Args:
            listener: Socket that children connect to.
            fronts: Places of the front ends.
            engines: Engine processes.
            versions: Versions of the models, and what front ends hold of them.
            on_started: Callback for the moment when every front end first serves every model.
            background: Tasks of the supervisor.
        """
        self._listener = listener
        self._fronts = {front.name: front for front in fronts}
        self._engines = engines
        self._versions = versions
        self._on_started = on_started
        self._background = background
        self._channels: dict[str, Channel] = {}
        # Front ends that serve every model. The kernel deals connections out, so the pool is ready
        # when all of them do; one that is restarted later does not make the pool unready.
        self._serving: set[str] = set()

    def start(self) -> None:
        """Let children connect."""
        self._acceptor = Acceptor(self._listener, self._accept)

    def tell_fronts(self) -> None:
        """Send the list of models to every connected front end."""
        is_started = len(self._serving) == len(self._fronts)
        message = pack(self._versions.model_list(is_started=is_started))
        for channel in self._channels.values():
            channel.send(message)

    def _accept(self, accepted: socket.socket) -> None:
        name = ""

        def receive(content: bytes) -> None:
            nonlocal name
            message = parse(content)
            if isinstance(message, Joined | Failed):
                name = message.process
            if name in self._fronts and isinstance(message, Joined):
                self._channels[name] = channel
            self._hear(name, message)

        def lost() -> None:
            if self._channels.get(name) is channel:
                del self._channels[name]
                self._versions.forget_front(name)

        channel = Channel(accepted, on_message=receive, on_close=lost)

    def _hear(self, name: str, message: Message) -> None:
        """Act on a message of a child.

        Raises:
            ValueError: The message is of a kind that children do not send.
        """
        place = self._engines.find(name)
        child = self._fronts.get(name) if place is None else place.child
        if child is None:
            return  # its place is gone: the version was retired
        child.heard_s = time.monotonic()
        match message:
            case Joined():
                if place is None:
                    child.set_ready()
                    self._versions.hear_held(name, ())
                    self.tell_fronts()
            case Failed(reason=reason):
                child.reason = reason
            case EngineReady(hello=hello):
                if place is not None:
                    place.hello = hello
                child.set_ready()
            case FrontEndState(holds=holds, serves=serves):
                self._versions.hear_held(name, holds)
                if serves and name not in self._serving:
                    self._note_serving(name)
            case Order():
                self._background.run(self._answer(name, message))
            case _:
                raise ValueError(f"{name} sent a {type(message).__name__}")

    def _note_serving(self, name: str) -> None:
        self._serving.add(name)
        if len(self._serving) == len(self._fronts):
            self.tell_fronts()
            self._on_started()

    async def _answer(self, name: str, order: Order) -> None:
        answer = await self._versions.obey(order)
        if name in self._channels:
            self._channels[name].send(pack(answer))
