"""Messages between the supervisor and its children: one JSON array each.

    child ──> supervisor       Joined first, or Failed instead; engines: EngineReady
    front end ──> supervisor   Alive, Holds, Serves; LoadOrder, RollBackOrder, UnloadOrder
    supervisor ──> front end   ModelList; an Answer to each order

All processes come from one installation, so the messages have no version.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from service.hosting.versions import Change
from service.pool.messages import Hello


@dataclass(frozen=True)
class Joined:
    """First message on a child's connection.

    Attributes:
        process: Name of the child.
    """

    process: str


@dataclass(frozen=True)
class Failed:
    """A child ends before it was ready.

    Attributes:
        process: Name of the child.
        reason: Reason for people.
    """

    process: str
    reason: str


@dataclass(frozen=True)
class EngineReady:
    """An engine process has loaded and proven its model.

    Attributes:
        hello: Greeting that front ends get from it.
    """

    hello: Hello


@dataclass(frozen=True)
class Alive:
    """A front end's event loop runs."""


@dataclass(frozen=True)
class Holds:
    """Versions that a front end can serve at once.

    Attributes:
        version_ids: Ids of the versions.
    """

    version_ids: list[int]


@dataclass(frozen=True)
class Serves:
    """A front end can serve every model of its last list."""


@dataclass(frozen=True)
class LoadOrder:
    """Load another version of a model.

    Attributes:
        request: Number of the order, for its answer.
        model: Model name.
        bundle: Folder of the bundle; None loads the present one again.
    """

    request: int
    model: str
    bundle: Path | None


@dataclass(frozen=True)
class RollBackOrder:
    """Serve the kept version of a model again.

    Attributes:
        request: Number of the order, for its answer.
        model: Model name.
    """

    request: int
    model: str


@dataclass(frozen=True)
class UnloadOrder:
    """Stop serving a model.

    Attributes:
        request: Number of the order, for its answer.
        model: Model name.
    """

    request: int
    model: str


@dataclass(frozen=True)
class EngineAddress:
    """Where one engine process is.

    Attributes:
        address: Address that front ends connect to.
        row: Row of the arena with its state.
    """

    address: str
    row: int


@dataclass(frozen=True)
class VersionEntry:
    """One version of a model and its engine processes.

    Attributes:
        version_id: Number of the version, used once in the life of a pool.
        model: Model name.
        bundle: Folder of its bundle.
        engines: Its engine processes.
    """

    version_id: int
    model: str
    bundle: Path
    engines: list[EngineAddress]


@dataclass(frozen=True)
class ModelList:
    """What front ends are to serve.

    Attributes:
        served: Versions to serve.
        others: Versions to hold ready: those being loaded, and those kept for a rollback.
        default: Name of the default model.
        is_started: Whether all front ends can serve.
    """

    served: list[VersionEntry]
    others: list[VersionEntry]
    default: str
    is_started: bool


@dataclass(frozen=True)
class Answer:
    """Result of an order.

    Attributes:
        request: Number of the order.
        change: Result of a load or a rollback.
        error_code: `ServiceError.code` of the refusal, or None.
        detail: Detail of the refusal.
    """

    request: int
    change: Change | None = None
    error_code: str | None = None
    detail: str = ""


Order = LoadOrder | RollBackOrder | UnloadOrder
Message = Joined | Failed | EngineReady | Alive | Holds | Serves | Order | ModelList | Answer

_KINDS: tuple[type[Message], ...] = (
    Joined, Failed, EngineReady, Alive, Holds, Serves, LoadOrder, RollBackOrder, UnloadOrder,
    ModelList, Answer,
)  # fmt: skip
_READERS: dict[str, TypeAdapter[Message]] = {kind.__name__: TypeAdapter(kind) for kind in _KINDS}


def pack(message: Message) -> bytes:
    """Write a message: the name of its class, then its fields."""
    content = [type(message).__name__, message]
    return orjson.dumps(content, default=str, option=orjson.OPT_NON_STR_KEYS)


def parse(content: bytes) -> Message:
    """Read a message.

    Raises:
        ValueError: It is not a message of this version.
    """
    name, fields = _read_pair(orjson.loads(content))
    if name not in _READERS:
        raise ValueError(f"the message is a {name!r}; expected one of {', '.join(_READERS)}")
    return _READERS[name].validate_python(fields)


def _read_pair(content: Any) -> tuple[str, Any]:  # noqa: ANN401 (JSON of any shape)
    match content:
        case [str(name), fields]:
            return name, fields
        case _:
            raise ValueError(f"the message is {str(content)[:80]!r}; expected a name and fields")
