"""Bundles put together from stored bytes, so that no resource is parsed on the way out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from fhir_store.operations import Version
from routes.render import part_of
from routes.request import Shape

_STATUS = {"POST": "201", "PUT": "200", "PATCH": "200", "DELETE": "204"}
# A PUT that makes the first version has created it.
_CREATED = "201"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link of a Bundle: self, next, previous."""

    relation: str
    url: str


def bundle(
    type_: str,
    entries: Iterable[bytes],
    *,
    links: Sequence[Link] = (),
    total: int | None = None,
    at: datetime | None = None,
) -> bytes:
    """Return a Bundle of entries that are JSON already, single ones or several with commas."""
    parts = [b'{"resourceType":"Bundle"']
    if at is not None:
        parts.append(b',"meta":{"lastUpdated":%b}' % orjson.dumps(instant(at)))
    parts.append(b',"type":"%b"' % type_.encode())
    if total is not None:
        parts.append(b',"total":%d' % total)
    if links:
        written = [{"relation": link.relation, "url": link.url} for link in links]
        parts.append(b',"link":' + orjson.dumps(written))
    inner = b",".join(entries)
    if inner:  # an array that is empty is not FHIR
        parts.append(b',"entry":[' + inner + b"]")
    parts.append(b"}")
    return b"".join(parts)


def search_entries(versions: Sequence[Version], mode: str, base: str, shape: Shape) -> list[bytes]:
    """Return the entries of a searchset for matches, or for what is included with them.

    They come as one piece, or none, so that no body is copied more often than it must be.
    """
    if not versions:
        return []
    head = '{"fullUrl":' + orjson.dumps(base).decode()[:-1]
    tail = b',"search":{"mode":"%b"}},' % mode.encode()
    pieces: list[bytes] = []
    for one in versions:
        body = part_of(one.body, shape) if shape.is_partial else one.body
        # Types and ids hold nothing that JSON would escape.
        pieces += (f'{head}/{one.type}/{one.id}","resource":'.encode(), body, tail)
    pieces[-1] = tail[:-1]
    return [b"".join(pieces)]


def outcome_entry(outcome: bytes) -> bytes:
    """Return the entry of a searchset that says something about the search."""
    return b'{"resource":%b,"search":{"mode":"outcome"}}' % outcome


def history_entry(version: Version, base: str, shape: Shape) -> bytes:
    """Return one entry of a history: what was asked, what came of it; http.html#history."""
    address = f"{version.type}/{version.id}"
    url = version.type if version.method == "POST" else address
    is_first = version.version == 1 and not version.deleted
    response = {
        "status": _CREATED if is_first else _STATUS[version.method],
        "etag": f'W/"{version.version}"',
        "lastModified": instant(version.last_updated),
    }
    entry = b'{"fullUrl":%b' % _full_url(version, base)
    if not version.deleted:
        body = part_of(version.body, shape) if shape.is_partial else version.body
        entry += b',"resource":' + body
    request = {"method": version.method, "url": url}
    return entry + b',"request":%b,"response":%b}' % (
        orjson.dumps(request),
        orjson.dumps(response),
    )


def instant(moment: datetime) -> str:
    """Return the moment as a FHIR instant in milliseconds, UTC."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _full_url(version: Version, base: str) -> bytes:
    return orjson.dumps(f"{base}/{version.type}/{version.id}")
