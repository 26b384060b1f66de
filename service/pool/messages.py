"""Messages between front ends and engine processes; pixels stay in the slots of the arena.

    front end -> engine: SUBMIT tiles of one request, CANCEL tiles
    engine -> front end: HELLO once it serves, RESULT of tiles, ERROR of tiles

The engine answers every submitted slot exactly once, by RESULT or ERROR, and may write it until
then. Both ends come from the same installation, so there is one version, which HELLO states.
"""

import enum
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from bundle_format.bundle import FLAGS, Precision
from service.ground.errors import DeadlineExceeded, EngineFailed, NotReady, QueueFull, ServiceError
from service.ground.priority import Priority

FORMAT_VERSION = 2

_SUBMIT = struct.Struct("<BBBBIId")
_RESULT_HEAD = struct.Struct("<BxxxI")
_RESULT = struct.Struct(f"<IIff{len(FLAGS)}f")
_ERROR = struct.Struct("<BBxxId")

_PRIORITIES: list[Priority] = list(Priority)
_ERRORS: list[type[ServiceError]] = [EngineFailed, NotReady, QueueFull, DeadlineExceeded]
_CANCELLED = 255


class Kind(enum.IntEnum):
    """First byte of a message."""

    HELLO = 1
    SUBMIT = 2
    CANCEL = 3
    RESULT = 4
    ERROR = 5


@dataclass(frozen=True)
class Hello:
    """Greeting of an engine process.

    Attributes:
        model: Name of the model.
        version: Version of its bundle.
        digest: Digest of its bundle.
        engine: Name of the engine.
        precision: Execution precision.
        batch_s: Seconds by batch size.
    """

    model: str
    version: str
    digest: str
    engine: str
    precision: Precision
    batch_s: dict[int, float]


@dataclass(frozen=True)
class Submission:
    """Tiles of one request.

    Attributes:
        slots: Slots that hold them.
        shape: (H, W) of each.
        priority: Class of the tiles.
        deadline_s: `time.monotonic()` of their deadline, or None.
        is_retry: Whether the tiles were submitted before, to an engine process that has died.
        bits: Bits of the answers, 8 or 16.
    """

    slots: Sequence[int]
    shape: tuple[int, int]
    priority: Priority
    deadline_s: float | None
    is_retry: bool
    bits: int = 8


@dataclass(frozen=True, slots=True)
class SlotResult:
    """Result of a tile, whose answer is in its slot.

    Attributes:
        slot: Slot index.
        batch_size: Tiles in its batch.
        queue_s: Seconds in the queue.
        infer_s: Seconds of its batch on the engine.
        flags: (K,) float32, see `bundle_format.bundle.FLAGS`.
    """

    slot: int
    batch_size: int
    queue_s: float
    infer_s: float
    flags: npt.NDArray[np.float32]


def kind_of(message: bytes) -> Kind:
    """Return the kind of a message.

    Raises:
        ValueError: The kind is unknown.
    """
    return Kind(message[0])


def pack_hello(hello: Hello) -> bytes:
    """Write a HELLO."""
    batch_s = {str(size): seconds for size, seconds in hello.batch_s.items()}
    fields = {"format_version": FORMAT_VERSION, **hello.__dict__, "batch_s": batch_s}
    return bytes([Kind.HELLO]) + orjson.dumps(fields)


def parse_hello(message: bytes) -> Hello:
    """Read a HELLO.

    Raises:
        ValueError: It has another version.
    """
    fields = orjson.loads(message[1:])
    version = fields.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise ValueError(f"an engine process speaks version {version}; expected {FORMAT_VERSION}")
    fields["batch_s"] = {int(size): seconds for size, seconds in fields["batch_s"].items()}
    return Hello(**fields)


def pack_submission(submission: Submission) -> bytes:
    """Write a SUBMIT."""
    deadline_s = math.inf if submission.deadline_s is None else submission.deadline_s
    head = _SUBMIT.pack(
        Kind.SUBMIT,
        _PRIORITIES.index(submission.priority),
        submission.is_retry,
        submission.bits,
        *submission.shape,
        deadline_s,
    )
    return head + _pack_slots(submission.slots)


def parse_submission(message: bytes) -> Submission:
    """Read a SUBMIT."""
    fields: tuple[int, int, int, int, int, int, float] = _SUBMIT.unpack_from(message)
    _, priority, is_retry, bits, height, width, deadline_s = fields
    return Submission(
        slots=_parse_slots(message[_SUBMIT.size :]),
        shape=(height, width),
        priority=_PRIORITIES[priority],
        deadline_s=None if math.isinf(deadline_s) else deadline_s,
        is_retry=bool(is_retry),
        bits=bits,
    )


def pack_cancel(slots: Sequence[int]) -> bytes:
    """Write a CANCEL."""
    return bytes([Kind.CANCEL, 0, 0, 0]) + _pack_slots(slots)


def parse_cancel(message: bytes) -> Sequence[int]:
    """Read a CANCEL."""
    return _parse_slots(message[4:])


def pack_results(results: Sequence[SlotResult]) -> bytes:
    """Write a RESULT."""
    parts = [_RESULT_HEAD.pack(Kind.RESULT, len(results))]
    parts += [
        _RESULT.pack(result.slot, result.batch_size, result.queue_s, result.infer_s, *result.flags)
        for result in results
    ]
    return b"".join(parts)


def parse_results(message: bytes) -> list[SlotResult]:
    """Read a RESULT."""
    results: list[SlotResult] = []
    for fields in _RESULT.iter_unpack(message[_RESULT_HEAD.size :]):
        slot, batch_size, queue_s, infer_s, *flags = fields
        results.append(SlotResult(slot, batch_size, queue_s, infer_s, np.array(flags, np.float32)))
    return results


def pack_error(slots: Sequence[int], error: ServiceError | None) -> bytes:
    """Write an ERROR; the error None confirms that the tiles were withdrawn."""
    code, retry_after_s, text = _CANCELLED, math.nan, b""
    if error is not None:
        code = next((i for i, kind in enumerate(_ERRORS) if type(error) is kind), 0)
        text = error.detail.encode()
        retry_after_s = math.nan if error.retry_after_s is None else error.retry_after_s
    return _ERROR.pack(Kind.ERROR, code, len(slots), retry_after_s) + _pack_slots(slots) + text


def parse_error(message: bytes) -> tuple[Sequence[int], ServiceError | None]:
    """Read an ERROR; its error is None if the tiles were withdrawn."""
    fields: tuple[int, int, int, float] = _ERROR.unpack_from(message)
    _, code, count, retry_after_s = fields
    slots_end = _ERROR.size + 4 * count
    slots = _parse_slots(message[_ERROR.size : slots_end])
    if code == _CANCELLED:
        return slots, None
    retry = None if math.isnan(retry_after_s) else retry_after_s
    return slots, _ERRORS[code](message[slots_end:].decode(), retry_after_s=retry)


def _pack_slots(slots: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(slots)}I", *slots)


def _parse_slots(content: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(content) // 4}I", content)
