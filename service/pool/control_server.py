"""The supervisor's end of the control talk: reports and orders of its children, lists for them."""

import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from service.pool.channel import Acceptor, Channel
from service.pool.children import Child
from service.pool.control import (
    Alive,
    EngineReady,
    Failed,
    Holds,
    Joined,
    LoadOrder,
    Message,
    Order,
    RollBackOrder,
    Serves,
    UnloadOrder,
    pack,
    parse,
)
from service.pool.engine_processes import EngineProcesses
from service.pool.front_end_processes import FrontEndProcesses
from service.pool.pool_versions import PoolVersions


class ControlServer:
    """Listens to every child and keeps front ends informed; create it on the event loop."""

    def __init__(
        self,
        listener: socket.socket,
        fronts: FrontEndProcesses,
        engines: EngineProcesses,
        versions: PoolVersions,
        *,
        on_started: Callable[[], None],
        keep: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """Prepare; `start` lets children in.

        Args:
            listener: Socket that children connect to.
            fronts: The front ends.
            engines: The engine processes.
            versions: Versions of the models, and what front ends hold of them.
            on_started: Callback for the first time that every front end serves every model.
            keep: Function that runs work in the background.
        """
        self._listener = listener
        self._fronts = fronts
        self._engines = engines
        self._versions = versions
        self._on_started = on_started
        self._keep = keep
        self._channels: dict[str, Channel] = {}
        # Front ends that can serve every model. The kernel deals connections out, so the pool is
        # ready when all of them are; one that is restarted later does not make the pool unready.
        self._serving: set[str] = set()

    def start(self) -> None:
        """Let children connect."""
        self._acceptor = Acceptor(self._listener, self._accept)

    def _accept(self, accepted: socket.socket) -> None:
        _Connection(self, accepted)

    def tell_fronts(self) -> None:
        """Send every connected front end what it is to serve."""
        message = pack(self._versions.model_list(is_started=self._is_started))
        for channel in self._channels.values():
            channel.send(message)

    def join(self, name: str, channel: Channel) -> None:
        """Note the name of a child; a front end is ready then and gets the list of models."""
        front = self._fronts.find(name)
        if front is None:
            return
        front.heard_s = time.monotonic()
        front.set_ready()
        self._channels[name] = channel
        self._versions.hear_held(name, ())
        channel.send(pack(self._versions.model_list(is_started=self._is_started)))

    def leave(self, name: str, channel: Channel) -> None:
        """Forget a child whose connection has ended, unless its successor has joined already."""
        if self._channels.get(name) is channel:
            del self._channels[name]
            self._versions.forget_front(name)

    def hear(self, name: str, message: Message) -> None:
        """Act on a message of a child.

        Raises:
            ValueError: A child does not send such messages.
        """
        child = self._find(name)
        if child is None:
            return  # its place is gone: the version was retired
        child.heard_s = time.monotonic()
        match message:
            case Alive():
                pass
            case Failed(reason=reason):
                child.reason = reason
            case EngineReady(hello=hello):
                if (place := self._engines.find(name)) is not None:
                    place.hello = hello
                child.set_ready()
            case Holds(version_ids=version_ids):
                self._versions.hear_held(name, version_ids)
            case Serves():
                self._note_serving(name)
            case LoadOrder() | RollBackOrder() | UnloadOrder():
                self._keep(self._answer(name, message))
            case _:
                raise ValueError(f"{name} sent a {type(message).__name__}")

    def _find(self, name: str) -> Child | None:
        place = self._engines.find(name)
        return self._fronts.find(name) if place is None else place.child

    @property
    def _is_started(self) -> bool:
        return len(self._serving) == len(self._fronts.children)

    def _note_serving(self, name: str) -> None:
        was_started = self._is_started
        self._serving.add(name)
        if self._is_started:
            self.tell_fronts()
            if not was_started:
                self._on_started()

    async def _answer(self, name: str, order: Order) -> None:
        answer = await self._versions.obey(order)
        if name in self._channels:
            self._channels[name].send(pack(answer))


class _Connection:
    """One child's connection; its first message says whose it is."""

    def __init__(self, server: ControlServer, accepted: socket.socket) -> None:
        self._server = server
        self._name = ""
        self._channel = Channel(accepted, on_message=self._receive, on_close=self._lost)

    def _receive(self, content: bytes) -> None:
        match message := parse(content):
            case Joined(process=name):
                self._name = name
                self._server.join(name, self._channel)
            case Failed(process=name):
                self._server.hear(name, message)
            case _:
                self._server.hear(self._name, message)

    def _lost(self) -> None:
        self._server.leave(self._name, self._channel)
