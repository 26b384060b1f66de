"""The argument of a process that the supervisor starts; its settings are in the environment."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import TypeAdapter

from service.pool.messages import Hello


@dataclass(frozen=True)
class EngineConfig:
    """Argument of `python -m service.pool.engine`.

    Attributes:
        name: Name of the process.
        arena_fd: File descriptor of the arena.
        listener_fd: File descriptor of the socket that front ends connect to.
        supervisor: Address of the supervisor.
        row: Row of the arena with this engine's state.
        snapshot: Row of the arena with its metrics.
        model: Model name.
        bundle: Folder of its bundle.
        device: Device that the engine computes on.
        cpus: Cores that it may use, or None for all.
        predecessor: Greeting of the previous process in this place, or None. The new process takes
            over its engine, precision and measured times, and refuses another bundle.
    """

    name: str
    arena_fd: int
    listener_fd: int
    supervisor: str
    row: int
    snapshot: int
    model: str
    bundle: Path
    device: str
    cpus: list[int] | None = None
    predecessor: Hello | None = None


@dataclass(frozen=True)
class FrontEndConfig:
    """Argument of `python -m service.front_end`.

    Attributes:
        name: Name of the process.
        arena_fd: File descriptor of the arena.
        listener_fd: File descriptor of the socket that clients connect to.
        supervisor: Address of the supervisor.
        partition: Its partition of the arena.
        snapshot: Row of the arena with its metrics.
    """

    name: str
    arena_fd: int
    listener_fd: int
    supervisor: str
    partition: int
    snapshot: int


Config = TypeVar("Config", EngineConfig, FrontEndConfig)


def to_argument(config: EngineConfig | FrontEndConfig) -> str:
    """Write a configuration as one command-line argument."""
    return orjson.dumps(config, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def read_argument(kind: type[Config], argument: str) -> Config:
    """Read what `to_argument` wrote."""
    return TypeAdapter(kind).validate_json(argument)
