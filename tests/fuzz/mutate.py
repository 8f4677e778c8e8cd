"""Mutations of bytes and of plain data that a file's format does not want."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
PNG_START = b"\x89PNG\r\n\x1a\n"
_LENGTHS = (0, 1, 2, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes], most: int = 4) -> tuple[str, bytes]:
    """`data` after one to `most` mutations, and the name of the first."""
    first = ""
    for _ in range(rng.randint(1, most)):
        change = rng.choice(BYTES)
        data = change(rng, data, others)
        first = first or change.__name__
    return first, data


def flip_bits(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if found:
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def flip_early_bits(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """In the first bytes, where headers are."""
    head = flip_bits(rng, data[:64], others)
    return head + data[64:]


def truncate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A block of another file in the place of one of this."""
    other = rng.choice(others)
    start, length = rng.randint(0, len(data)), rng.choice((1, 4, 16, 200, 5000))
    there = rng.randint(0, len(other))
    return data[:start] + other[there : there + length] + data[start + rng.choice((0, length)) :]


def duplicate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start = rng.randint(0, len(data))
    block = data[start : start + rng.choice((1, 4, 12, 100, 3000))]
    return data[:start] + block * rng.choice((2, 2, 3, 20)) + data[start + len(block) :]


def zero(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, length = rng.randint(0, len(data)), rng.choice((1, 4, 16, 512))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def remove(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + data[start + rng.choice((1, 4, 16, 512)) :]


def insert_noise(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + rng.randbytes(rng.choice((1, 4, 16, 300))) + data[start:]


def length_field(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number that lies about a length, in either byte order, anywhere."""
    form = rng.choice((">H", "<H", ">I", "<I", ">Q", "<Q"))
    room = struct.calcsize(form)
    if len(data) < room:
        return data
    start = rng.randint(0, min(len(data), rng.choice((64, 1 << 30))) - room)
    value = rng.choice(_LENGTHS) & ((1 << 8 * room) - 1)
    return data[:start] + struct.pack(form, value) + data[start + room :]


def append(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data + rng.choice(others)


def png_chunk(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One chunk of a PNG with other contents and a checksum that fits; any other file as it is."""
    chunks = png_chunks(data)
    if not chunks:
        return data
    place = rng.randrange(len(chunks))
    kind, body = chunks[place]
    choice = rng.randrange(5)
    if choice == 0:
        chunks[place] = (kind, flip_bits(rng, body, others))
    elif choice == 1:
        chunks[place] = (kind, body[: rng.randint(0, len(body))])
    elif choice == 2:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[place])
    elif choice == 3:
        chunks[place] = (rng.choice((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"fdAT", b"acTL", b"iCCP")), body)
    else:
        rng.shuffle(chunks)
    return png_of(chunks)


def jpeg_segment(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A header segment of a JPEG with another kind, length or contents; any other file as it is."""
    places = [start for start in range(2, min(len(data) - 4, 4000)) if data[start] == 0xFF]
    if not data.startswith(b"\xff\xd8") or not places:
        return data
    start = rng.choice(places)
    choice = rng.randrange(3)
    if choice == 0:
        return data[: start + 1] + bytes([rng.randrange(0xC0, 0x100)]) + data[start + 2 :]
    if choice == 1:
        return data[: start + 2] + struct.pack(">H", rng.choice(_LENGTHS[:8])) + data[start + 4 :]
    length = 2 + int.from_bytes(data[start + 2 : start + 4])
    return data[:start] + data[start : start + length] * 2 + data[start + length :]


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a whole PNG, [] of anything else."""
    if not data.startswith(PNG_START):
        return []
    found, place = [], len(PNG_START)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4])
        if place + 12 + length > len(data):
            return []
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png_of(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks, with checksums that fit."""
    return PNG_START + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


BYTES: tuple[Mutation, ...] = (
    flip_bits,
    flip_early_bits,
    truncate,
    splice,
    duplicate,
    zero,
    remove,
    insert_noise,
    length_field,
    append,
    png_chunk,
    jpeg_segment,
)

TEXTS = (
    "",
    " ",
    "a" * 10_000,
    "x" * 81,
    "dog\u202egnp",
    "dog\x00",
    "a\nb",
    "\ud800",
    "\ufeffdog",
    "<b>dog</b>",
    "=1+1",
    "../../x",
    "/etc/passwd",
    "犬",
    "кошка 🐕",
    "dog\U000e0100",
    "a" + "\u0301" * 300,
    "${x}",
    "{{7*7}}",
    "null",
    "1e999",
    "\u200b",
    "http://a.org",
    "~nobody2/x",
    "%s%n",
    "'; DROP TABLE units; --",
)
NUMBERS = (
    0,
    -1,
    1,
    2**31,
    2**32,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    10**4000,
    0.5,
    -0.0,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
)


def other_value(rng: random.Random) -> Any:
    """A value of a kind that was not expected."""
    return rng.choice(
        (
            lambda: rng.choice(TEXTS),
            lambda: rng.choice(NUMBERS),
            lambda: None,
            lambda: rng.random() < 0.5,
            list,
            dict,
            lambda: [other_value(rng)],
            lambda: {rng.choice(TEXTS): other_value(rng)},
            lambda: nested(rng),
        )
    )()


def nested(rng: random.Random) -> Any:
    """Lists or objects inside each other, deeper than any schema."""
    value: Any = 0
    for _ in range(rng.choice((3, 30, 90))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def other_data(rng: random.Random, data: Any) -> Any:
    """Plain data (lists, objects, values) with one place changed."""
    if isinstance(data, dict) and data and rng.random() < 0.9:
        key = rng.choice(list(data))
        choice = rng.randrange(8)
        if choice == 0:
            return {name: value for name, value in data.items() if name != key}
        if choice == 1:
            return {**data, rng.choice(TEXTS): other_value(rng)}
        return {**data, key: other_data(rng, data[key])}
    if isinstance(data, list) and data and rng.random() < 0.9:
        place = rng.randrange(len(data))
        if rng.random() < 0.15:
            return data + data[place : place + 1]
        return [*data[:place], other_data(rng, data[place]), *data[place + 1 :]]
    return other_value(rng)
