"""Messages between the supervisor and its children: one JSON array each.

    child ──> supervisor       Joined (or Failed) first, then EngineReady or FrontEndState
    front end ──> supervisor   Order
    supervisor ──> front end   ModelList; an Answer to each Order

All processes come from one installation, so the messages have no version.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson
from pydantic import TypeAdapter

from service.hosting.versions import Change
from service.pool.messages import Hello


@dataclass(frozen=True)
class Joined:
    """First message on a child's connection, with the child's name."""

    process: str


@dataclass(frozen=True)
class Failed:
    """Last message of a child that ends before it was ready, with its name and the reason."""

    process: str
    reason: str


@dataclass(frozen=True)
class EngineReady:
    """An engine process is ready, with the greeting that front ends get from it."""

    hello: Hello


@dataclass(frozen=True)
class FrontEndState:
    """State of a front end, sent with every change and as a sign of life.

    Attributes:
        holds: Ids of the versions that it can serve at once.
        serves: Whether it serves every model of its last list.
    """

    holds: list[int]
    serves: bool


@dataclass(frozen=True)
class Order:
    """A change of a model, numbered by its front end.

    Attributes:
        number: Number of the order, for its answer.
        verb: Kind of change.
        model: Model name.
        bundle: Folder of the bundle to load; None loads the present one again.
    """

    number: int
    verb: Literal["load", "roll_back", "unload"]
    model: str
    bundle: Path | None = None


@dataclass(frozen=True)
class Answer:
    """Result of the order with a number: a change, or an error by its code."""

    number: int
    change: Change | None = None
    error_code: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class VersionEntry:
    """One version of a model and its engine processes.

    Attributes:
        version_id: Number of the version, used once in the life of a pool.
        model: Model name.
        bundle: Folder of its bundle.
        engines: Address and row of the arena of each engine process.
    """

    version_id: int
    model: str
    bundle: Path
    engines: list[tuple[str, int]]


@dataclass(frozen=True)
class ModelList:
    """Versions for front ends.

    Attributes:
        served: Versions to serve.
        others: Versions to hold ready: those being loaded, and those kept for a rollback.
        default: Name of the default model.
        is_started: Whether all front ends have served every model.
    """

    served: list[VersionEntry]
    others: list[VersionEntry]
    default: str
    is_started: bool


Message = Joined | Failed | EngineReady | FrontEndState | Order | Answer | ModelList
_READERS: dict[str, TypeAdapter[Message]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (Joined, Failed, EngineReady, FrontEndState, Order, Answer, ModelList)
}


def pack(message: Message) -> bytes:
    """Write a message: the name of its class, then its fields."""
    content = [type(message).__name__, message]
    return orjson.dumps(content, default=str, option=orjson.OPT_NON_STR_KEYS)


def parse(content: bytes) -> Message:
    """Read a message.

    Raises:
        ValueError: It is not a message of this version.
    """
    match orjson.loads(content):
        case [str(name), fields] if name in _READERS:
            return _READERS[name].validate_python(fields)
        case _:
            raise ValueError(
                f"the message is {content[:80]!r}; expected one of {', '.join(_READERS)}"
            )
