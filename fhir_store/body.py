"""Turns a resource into the bytes that are stored and served, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from conformance.resource_json import decimal_of, dump
from fhir_store.digests import content_digest

# What is stored has been checked on its way in, so reading it needs no second check.
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=decimal_of).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A resource cut where its version goes in; `key` is equal for equal content.

    `meta` is the rest of meta without its braces, `rest` everything after meta, likewise.
    """

    type: str
    meta: bytes
    rest: bytes
    key: int
    source: str | None

    def to_body(self, id_: str, version: int, last_updated: datetime, source: str | None) -> bytes:
        """Return the final JSON bytes of one version; `source` fills meta.source if absent."""
        meta = self.meta
        if self.source is None and source is not None:
            meta = meta + b',"source":' + msgspec.json.encode(source)
        return (
            b'{"resourceType":"%b","id":"%b","meta":{"versionId":"%d","lastUpdated":"%b"%b}%b}'
            % (
                self.type.encode(),
                id_.encode(),
                version,
                to_instant(last_updated).encode(),
                meta,
                self.rest,
            )
        )


def content_of(resource: Mapping[str, Any]) -> Content:
    """Cut a resource into the parts that do not depend on its version; id is left out."""
    meta = dict(resource.get("meta") or {})
    meta.pop("versionId", None)
    meta.pop("lastUpdated", None)
    source = meta.get("source")
    rest = {
        name: value
        for name, value in resource.items()
        if name not in ("resourceType", "id", "meta")
    }
    meta_bytes, rest_bytes = _inside(meta), _inside(rest)
    return Content(
        type=resource["resourceType"],
        meta=meta_bytes,
        rest=rest_bytes,
        key=content_digest(meta_bytes + b"\n" + rest_bytes),
        source=source,
    )


def to_resource(body: str | bytes) -> dict[str, Any]:
    """Parse a stored body; decimals keep their digits."""
    return _decode(body)


@lru_cache(maxsize=256)  # all that is written together has one moment
def to_instant(moment: datetime) -> str:
    """Return a FHIR instant in UTC with milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + (
        f"{moment.microsecond // 1000:03d}Z"
    )


def to_milliseconds(moment: datetime) -> datetime:
    """Return the moment as it is stored and served: UTC, cut to milliseconds."""
    utc = moment.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _inside(element: Mapping[str, Any]) -> bytes:
    """Return the members of an object with a leading comma and without braces."""
    if not element:
        return b""
    return b"," + dump(element)[1:-1]
