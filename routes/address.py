"""Read a path below the FHIR base; http.html#general."""

import functools
import re

from conformance.problem import Issue, NotFound
from conformance.r4.tables import load
from routes.request import Address

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_OPERATION = re.compile(r"\$[a-z][a-z0-9\-]{0,63}", re.IGNORECASE)


@functools.lru_cache(maxsize=4096)
def _fixed_address(path: str) -> Address | None:
    """Return the address of a path of one or no segment; those are few and asked for often."""
    if path in {"", "metadata", "_history", "_search"}:
        return Address(shape=path)
    if path[0] == "$":
        return Address(shape="$", operation=path[1:]) if _OPERATION.fullmatch(path) else None
    return Address(shape="type", type=path) if path in load().resource_types else None


def address_of(path: str) -> Address:
    """Return what the path names; raise NotFound where nothing can be."""
    segments = path.removeprefix("/").removesuffix("/").split("/")
    if len(segments) == 1:
        found = _fixed_address(segments[0]) if len(segments[0]) <= 80 else None
    elif segments[0] not in load().resource_types:
        found = None
    elif len(segments) == 2:
        found = _of_two(segments[0], segments[1])
    else:
        found = _of_more(segments[0], segments[1], segments[2:])
    if found is None:
        raise _nothing()
    return found


def _of_two(type_: str, second: str) -> Address | None:
    if second in {"_history", "_search"}:
        return Address(shape=f"type/{second}", type=type_)
    if second[:1] == "$":
        if not _OPERATION.fullmatch(second):
            return None
        return Address(shape="type/$", type=type_, operation=second[1:])
    return Address(shape="type/id", type=type_, id=second) if ID.fullmatch(second) else None


def _of_more(type_: str, id_: str, rest: list[str]) -> Address | None:
    if not ID.fullmatch(id_) or len(rest) > 3:
        return None
    third = rest[0]
    if third == "_history":
        return _of_history(type_, id_, rest)
    if third[:1] == "$" and len(rest) == 1 and _OPERATION.fullmatch(third):
        return Address(shape="type/id/$", type=type_, id=id_, operation=third[1:])
    if third == "*" or third in load().resource_types:
        if len(rest) == 1:
            return Address(shape="type/id/type", type=type_, id=id_, member=third)
        if rest[1:] == ["_search"]:
            return Address(shape="type/id/type/_search", type=type_, id=id_, member=third)
    if third == "_search" and len(rest) == 1:
        return Address(shape="type/id/type/_search", type=type_, id=id_, member="*")
    return None


def _of_history(type_: str, id_: str, rest: list[str]) -> Address | None:
    if len(rest) == 1:
        return Address(shape="type/id/_history", type=type_, id=id_)
    if not ID.fullmatch(rest[1]):
        return None
    address = Address(shape="type/id/_history/version", type=type_, id=id_, version=rest[1])
    if len(rest) == 2:
        return address
    if not _OPERATION.fullmatch(rest[2]):
        return None
    return Address(
        shape="type/id/_history/version/$",
        type=type_,
        id=id_,
        version=rest[1],
        operation=rest[2][1:],
    )


def _nothing() -> NotFound:
    return NotFound(
        Issue(
            code="not-found",
            key="address",
            text_en="There is nothing at this address.",
            text_zh="该地址下没有内容。",
            fix_en="Take an address of GET /metadata: [type]/[id], ids of A-Z a-z 0-9 - . only.",
            fix_zh="请参照 GET /metadata 给出的地址：[type]/[id]，id 只含 A-Z a-z 0-9 - .。",
            expression="http.path",
        )
    )
