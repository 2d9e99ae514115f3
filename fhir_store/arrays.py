"""Lists that travel to PostgreSQL as binary arrays, packed in one go.

psycopg's own list dumper works item by item; a bulk write sends tens of thousands of items.
"""

import array
import struct
from collections.abc import Sequence

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format


class Int8s(list[int]):
    """A list for a parameter of type int8[]."""


class Int4s(list[int]):
    """A list for a parameter of type int4[]."""


class Float8s(list[float]):
    """A list for a parameter of type float8[]."""


class Texts(list[str | bytes | None]):
    """A list for a parameter of type text[]; bytes are UTF-8 already."""


class Byteas(list[bytes | None]):
    """A list for a parameter of type bytea[]."""


def register(connection: psycopg.AsyncConnection[object]) -> None:
    """Teach a connection to send the lists of this module."""
    for kind, dumper in (
        (Int8s, _Int8sDumper),
        (Int4s, _Int4sDumper),
        (Float8s, _Float8sDumper),
        (Texts, _TextsDumper),
        (Byteas, _ByteasDumper),
    ):
        connection.adapters.register_dumper(kind, dumper)


_header = struct.Struct(">iiIii")  # dimensions, has nulls, element type, length, lower bound
_length = struct.Struct(">i").pack
_COMMON = 1024
_LENGTHS = tuple(map(_length, range(_COMMON)))


def _pack_fixed(values: Sequence[float], typecode: str, element_oid: int) -> bytes:
    """Pack numbers of one width: each element is its length followed by its big-endian bytes."""
    count = len(values)
    if not count:
        return _header.pack(0, 0, element_oid, 0, 0)[:12]
    numbers = array.array(typecode, values)
    numbers.byteswap()
    raw, width = numbers.tobytes(), numbers.itemsize
    stride = width + 4
    packed = bytearray(stride * count)
    packed[3::stride] = bytes((width,)) * count
    for position in range(width):
        packed[4 + position :: stride] = raw[position::width]
    return _header.pack(1, 0, element_oid, count, 1) + packed


class _Int8sDumper(Dumper):
    format = Format.BINARY
    oid = 1016

    def dump(self, obj: Int8s) -> bytes:
        return _pack_fixed(obj, "q", 20)


class _Int4sDumper(Dumper):
    format = Format.BINARY
    oid = 1007

    def dump(self, obj: Int4s) -> bytes:
        return pack_int4s(obj)


class _Float8sDumper(Dumper):
    format = Format.BINARY
    oid = 1022

    def dump(self, obj: Float8s) -> bytes:
        return _pack_fixed(obj, "d", 701)


class _TextsDumper(Dumper):
    format = Format.BINARY
    oid = 1009

    def dump(self, obj: Texts) -> bytes:
        return pack_texts(obj)


class _ByteasDumper(Dumper):
    format = Format.BINARY
    oid = 1001

    def dump(self, obj: Byteas) -> bytes:
        return pack_byteas(obj)


def pack_texts(values: Sequence[str | bytes | None]) -> bytes:
    """Return the binary form of a text[]."""
    return _pack_strings(values, 25)


def pack_byteas(values: Sequence[bytes | None]) -> bytes:
    """Return the binary form of a bytea[]."""
    return _pack_strings(values, 17)


def pack_int4s(values: Sequence[int]) -> bytes:
    """Return the binary form of an int4[]."""
    return _pack_fixed(values, "i", 23)


def _pack_strings(values: Sequence[str | bytes | None], element_oid: int) -> bytes:
    if not values:
        return _header.pack(0, 0, element_oid, 0, 0)[:12]
    pieces = [_header.pack(1, int(None in values), element_oid, len(values), 1)]
    for value in values:
        if value is None:
            pieces.append(_length(-1))
        else:
            encoded = value if isinstance(value, bytes) else value.encode()
            size = len(encoded)
            pieces.append(_LENGTHS[size] if size < _COMMON else _length(size))
            pieces.append(encoded)
    return b"".join(pieces)
