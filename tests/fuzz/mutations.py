"""Damage that knows the structure of a file, the same for the same sample and seed in every run."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.fuzz.sample import Sample
from tests.fuzz.structure import Part, parts_of

_TELLING_BYTES = (0, 1, 2, 3, 4, 7, 8, 16, 32, 127, 128, 254, 255)
_TELLING_NUMBERS = (0, 1, 2, 3, 5, 8, 16, 19, 27, 255, 256, 32767, 65535, 2**31 - 1, 2**32 - 1)
_MOST_MUTATIONS = 3


class Mutant(NamedTuple):
    """A damaged file.

    Attributes:
        body: Its bytes.
        story: What was done to the sample, in order.
    """

    body: bytes
    story: str


def borders(sample: Sample) -> Iterator[Mutant]:
    """Yield the sample cut at each border of its structure, one byte before and one behind it.

    A JPEG is also cut there with an end marker put behind, which hides the cut.
    """
    ends = {at for part in parts_of(sample.body, sample.media_type) for at in part[:2]}
    cuts = sorted({at + step for at in ends for step in (-1, 0, 1)} & set(range(len(sample.body))))
    for cut in cuts:
        yield Mutant(sample.body[:cut], f"cut at {cut}")
        if sample.media_type == "image/jpeg":
            yield Mutant(sample.body[:cut] + b"\xff\xd9", f"cut at {cut}, EOI behind")


def parts_lost(sample: Sample) -> Iterator[Mutant]:
    """Yield the sample without each of its parts, and with each part twice."""
    for part in dict.fromkeys(parts_of(sample.body, sample.media_type)):
        chosen = sample.body[part.start : part.end]
        before, behind = sample.body[: part.start], sample.body[part.end :]
        yield Mutant(before + behind, f"without {part.start}:{part.end}")
        yield Mutant(before + chosen + chosen + behind, f"twice {part.start}:{part.end}")


def mutant(sample: Sample, seed: int, others: list[Sample]) -> Mutant:
    """Damage a sample in one to three ways.

    Args:
        sample: What is damaged.
        seed: Chooses the damage, together with the sample's name.
        others: Samples of the same type, parts of which may come in.
    """
    rng = random.Random(f"{sample.name}/{seed}")
    body, story = sample.body, []
    for _ in range(rng.choice((1, 1, 1, 2, _MOST_MUTATIONS))):
        parts = parts_of(body, sample.media_type)
        mutation = rng.choice(_MUTATIONS)
        body = mutation(rng, body, parts, rng.choice(others).body) or body
        story.append(mutation.__name__.lstrip("_"))
    if sample.media_type == "image/png" and rng.random() < 0.8:
        body = with_fitting_crcs(body)
        story.append("with_fitting_crcs")
    return Mutant(body, ", ".join(story))


def with_fitting_crcs(body: bytes) -> bytes:
    """Return a PNG whose CRCs fit, so that damage reaches what lies behind them."""
    fixed, at = bytearray(body), 8
    while at + 12 <= len(fixed):
        end = at + 8 + struct.unpack_from(">I", fixed, at)[0]
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(bytes(fixed[at + 4 : end])))
        at = end + 4
    return bytes(fixed)


def _cut(rng: random.Random, body: bytes, parts: list[Part], _: bytes) -> bytes:
    part = rng.choice(parts)
    return body[: rng.choice((part.start, part.end, rng.randint(part.start, part.end)))]


def _drop(rng: random.Random, body: bytes, parts: list[Part], _: bytes) -> bytes:
    part = rng.choice(parts)
    return body[: part.start] + body[part.end :]


def _double(rng: random.Random, body: bytes, parts: list[Part], _: bytes) -> bytes:
    part = rng.choice(parts)
    return body[: part.end] + body[part.start : part.end] + body[part.end :]


def _swap(rng: random.Random, body: bytes, parts: list[Part], _: bytes) -> bytes:
    first, second = sorted((rng.choice(parts), rng.choice(parts)))
    if first.end > second.start:
        return body
    return (
        body[: first.start]
        + body[second.start : second.end]
        + body[first.end : second.start]
        + body[first.start : first.end]
        + body[second.end :]
    )


def _set_header_byte(rng: random.Random, body: bytes, parts: list[Part], _: bytes) -> bytes:
    part = rng.choice([part for part in parts if part.is_header] or parts)
    return _with_byte(rng, body, rng.randrange(part.start, part.end))


def _set_header_number(rng: random.Random, body: bytes, parts: list[Part], _: bytes) -> bytes:
    """Write a telling number over an aligned field of 2 or 4 bytes, in either byte order."""
    part = rng.choice([part for part in parts if part.is_header] or parts)
    width = rng.choice((2, 4))
    at = part.start + width * rng.randrange(max(1, (part.end - part.start) // width))
    number = rng.choice(_TELLING_NUMBERS) % (1 << 8 * width)
    field = number.to_bytes(width, rng.choice(("little", "big")))
    return body[:at] + field + body[at + width :]


def _set_data_byte(rng: random.Random, body: bytes, parts: list[Part], _: bytes) -> bytes:
    part = rng.choice([part for part in parts if not part.is_header] or parts)
    return _with_byte(rng, body, rng.randrange(part.start, part.end))


def _set_bytes(rng: random.Random, body: bytes, _parts: list[Part], _: bytes) -> bytes:
    for _number in range(rng.randint(1, 4)):
        body = _with_byte(rng, body, rng.randrange(len(body))) if body else body
    return body


def _insert(rng: random.Random, body: bytes, parts: list[Part], _: bytes) -> bytes:
    at = rng.choice(parts).end
    return body[:at] + rng.randbytes(rng.randint(1, 9)) + body[at:]


def _append(rng: random.Random, body: bytes, _parts: list[Part], other: bytes) -> bytes:
    return body + rng.choice((bytes(7), b"\xff\xd9", rng.randbytes(5), other, other[:20]))


def _splice(rng: random.Random, body: bytes, parts: list[Part], other: bytes) -> bytes:
    """Put bytes of another file over, or between, bytes of this one."""
    start = rng.choice(parts).start
    source = rng.randrange(len(other))
    piece = other[source : source + rng.choice((4, 12, 40, 200))]
    return body[:start] + piece + body[start + rng.choice((0, len(piece))) :]


def _repack(rng: random.Random, body: bytes, _parts: list[Part], _: bytes) -> bytes:
    """Damage the inflated rows of a PNG, or their number, and deflate them again."""
    chunks = [part for part in parts_of(body, "image/png") if body[part.start + 4 :][:4] == b"IDAT"]
    if not body.startswith(b"\x89PNG") or not chunks:
        return body
    packed = b"".join(body[part.start + 8 : part.end - 4] for part in chunks)
    try:
        rows = zlib.decompress(packed)
    except zlib.error:
        return body
    cut, at = rng.randint(0, 3) * rng.randint(1, 60), rng.randrange(max(1, len(rows)))
    rows = rng.choice(
        (rows[: len(rows) - cut], rows + rng.randbytes(cut + 1), rows[:at] + rows[at + 1 :])
    )
    data = zlib.compress(rng.choice((rows, _with_byte(rng, rows, at) if at < len(rows) else rows)))
    data = rng.choice((data, data, data[:-1], data + b"\0", data[:-2] + b"\1\2"))
    chunk = struct.pack(">I", len(data)) + b"IDAT" + data
    crc = struct.pack(">I", zlib.crc32(chunk[4:]))
    return body[: chunks[0].start] + chunk + crc + body[chunks[-1].end :]


def _with_byte(rng: random.Random, body: bytes, at: int) -> bytes:
    old = body[at]
    new = rng.choice(
        (rng.choice(_TELLING_BYTES), old ^ 1 << rng.randrange(8), (old + 1) % 256, old - 1 & 255)
    )
    return body[:at] + bytes([new]) + body[at + 1 :]


_MUTATIONS: tuple[Callable[[random.Random, bytes, list[Part], bytes], bytes], ...] = (
    _cut,
    _drop,
    _double,
    _swap,
    _set_header_byte,
    _set_header_byte,
    _set_header_byte,
    _set_header_number,
    _set_header_number,
    _set_data_byte,
    _set_bytes,
    _insert,
    _append,
    _splice,
    _repack,
)
