"""The 64-bit keys of index rows: what a search seeks and a write stores must come from here.

A key is BLAKE2b over the parameter's number, the kind of key and the value; references have keys
of their own, without a parameter. Signed, to fit PostgreSQL's int8.
"""

from array import array
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from zlib import crc32

TEXT_SID = -1  # in code_dict: the row is a text, not a code
_SEPARATOR = "\x1f"


def key_of(number: int, kind: str, *parts: str) -> int:
    """Return the key of a value of a search parameter.

    `number` is `SearchParameter.number`; `kind` keeps different uses of one value apart.
    """
    text = _SEPARATOR.join((f"{number}{kind}", *parts))
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


# Whoever sends values must not be able to fill the memory with what is remembered of them.
LONGEST_REMEMBERED = 200  # characters


def cached_key_of(number: int, kind: str, *parts: str) -> int:
    """Return `key_of`, remembered: for codes, units and whole parameters, not for identifiers."""
    is_long = sum(map(len, parts)) > LONGEST_REMEMBERED
    return key_of(number, kind, *parts) if is_long else _remembered_key(number, kind, *parts)


@lru_cache(maxsize=65536)
def _remembered_key(number: int, kind: str, *parts: str) -> int:
    return key_of(number, kind, *parts)


def identifier_key(number: int, value: str) -> int:
    """Return the key of an identifier's value: one write looks it up, and has it in its rows."""
    is_long = len(value) > LONGEST_REMEMBERED
    return key_of(number, "c", value) if is_long else _recent_identifier_key(number, value)


@lru_cache(maxsize=4096)
def _recent_identifier_key(number: int, value: str) -> int:
    return key_of(number, "c", value)


def resource_key(type_: str, id_: str) -> int:
    """Return what references to `Type/id` point at (`resource.rkey`, `ix_ref.tgt`)."""
    if len(id_) > LONGEST_REMEMBERED:
        return key_of(0, "r", type_, id_)
    return _remembered_resource_key(type_, id_)


@lru_cache(maxsize=65536)  # a record's resources all refer to the same patient and visits
def _remembered_resource_key(type_: str, id_: str) -> int:
    return key_of(0, "r", type_, id_)


def url_key(url: str) -> int:
    """Return the target of an absolute or canonical reference."""
    return key_of(0, "u", url)


def system_number(uri: str) -> int:
    """Return `sid` for a code or identifier system: 0 for none, else 31 bits of its hash.

    No dictionary is asked, so writers need no lookup; `sysuri` keeps the way back.
    """
    if not uri:
        return 0
    return _remembered_system(uri) if len(uri) <= LONGEST_REMEMBERED else _system_of(uri)


@lru_cache(maxsize=16384)
def _remembered_system(uri: str) -> int:
    return _system_of(uri)


def _system_of(uri: str) -> int:
    digest = blake2b(uri.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return (int.from_bytes(digest, "big") & 0x7FFFFFFF) or 1


def text_check(text: str) -> int:
    """Return 32 bits of the text as written: tells `:exact` matches from folded ones."""
    return crc32(text.encode("utf-8", "surrogatepass")) - 0x80000000


def grams_of(number: int, text: str) -> "array[int]":
    """Return the hashed pairs of characters of a folded text, and each non-ASCII one alone.

    Signed 32-bit, mixed with the parameter's number, in ascending order.
    """
    seed = number * 0xC2B2AE35
    codes = [ord(character) for character in text]
    grams = {
        (seed + first * 0x9E3779B1 + second * 0x85EBCA6B) & 0xFFFFFFFF
        for first, second in pairwise(codes)
    }
    grams.update((seed + code * 0x9E3779B1) & 0xFFFFFFFF for code in codes if code > 127)
    return array("i", sorted(gram - 0x80000000 for gram in grams))
