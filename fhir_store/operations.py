"""What can be asked of the write door, who asks, and what comes back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct

from conformance.problem import Issue

Resource = Mapping[str, Any]
METHODS = {"c": "POST", "u": "PUT", "p": "PATCH", "d": "DELETE"}
"""What made a version (`resource.op`) -> the HTTP verb of it."""


class Version(NamedTuple):
    """One version of one resource as it is stored; `body` is final JSON, empty when deleted.

    A tuple, because a page makes tens of them.
    """

    type: str
    id: str
    version: int
    last_updated: datetime
    deleted: bool = False
    body: bytes = b""
    method: str = "PUT"  # the HTTP verb that made it, for Bundle.entry.request.method


class Written(Struct, frozen=True, kw_only=True):
    """What became of one operation; `resource` and `previous` are parsed, for the one who asks.

    `changed` is False when the content was already there: no new version, nothing to deliver.
    A conditional delete of several gives its other results in `also`; its version has id `""`
    where nothing matched.
    """

    version: Version
    created: bool = False
    changed: bool = True
    resource: Resource | None = None
    previous: Resource | None = None
    also: tuple["Written", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteContext:
    """Who writes, when and why; goes into the audit row beside every version.

    `source` names where the data came from (channel and entry); `deliveries=False` keeps imports
    and demonstration data from being sent to partners; `destinations`, where given, are the only
    partners that get it.
    """

    actor: str
    at: datetime
    trace_id: str = ""
    source: str | None = None
    deliveries: bool = True
    destinations: frozenset[str] | None = None


class Origin(Struct, frozen=True, kw_only=True):
    """Where one operation came from, when one call carries the operations of many messages.

    It stands in for `trace_id`, `source` and `destinations` of the `WriteContext`.
    """

    trace_id: str
    source: str | None = None
    destinations: frozenset[str] | None = None


class Create(Struct, frozen=True, kw_only=True):
    """Write a new resource.

    `id` is taken where the caller has already made one; `resource["id"]` is ignored, as R4 asks
    of POST. `if_none_exist` is a search query without `?`: exactly one match means nothing is
    written and the match is returned. `full_url` is what other operations of the same call may
    use as reference to this one (`urn:uuid:…`).
    """

    resource: Resource
    id: str | None = None
    if_none_exist: str | None = None
    full_url: str | None = None
    origin: Origin | None = None


ANY_VERSION = -1
"""`If-Match: *`: there must be a current version, whichever it is."""


class Update(Struct, frozen=True, kw_only=True):
    """Write the next version, or the first one under the id the client chose.

    `criteria` makes it conditional: no match creates, one match updates, more are refused.
    `if_match` is the version that must be current, or ANY_VERSION; `must_be_new` stands for
    `If-None-Match: *`.
    """

    resource: Resource
    if_match: int | None = None
    must_be_new: bool = False
    criteria: str | None = None
    full_url: str | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Write what `change` makes of the current content; it may be called again after a collision.

    `id` or `criteria` says which resource; none there is NotFound, more than one DuplicateFound.
    """

    type: str
    change: Callable[[dict[str, Any]], Resource]
    id: str | None = None
    criteria: str | None = None
    if_match: int | None = None
    full_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Leave a tombstone; deleting what is not there is no failure.

    With `criteria` every match is deleted if `several`, otherwise more than one is refused.
    """

    type: str
    id: str | None = None
    criteria: str | None = None
    if_match: int | None = None
    several: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Hold `key` of `kind` for `holder`, during `period` (None: for ever); nobody else may overlap.

    Bounds of `period` are aware, the start belongs to it and the end does not; None is open.
    `taken` is what is told where somebody else holds it.
    """

    kind: str
    key: str
    holder: str
    period: tuple[datetime | None, datetime | None] | None = None
    taken: Issue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give up everything of `kind` that `holder` holds, or one `key` of it."""

    kind: str
    holder: str
    key: str | None = None


Operation = Create | Update | Patch | Delete | Claim | Release


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRequest:
    """Operations that happen together or not at all, and who asks for them.

    With `link`, references to another operation's `full_url` and conditional references
    (`Patient?identifier=…`) become `Type/id` before anything is written. With `distinct`, two
    operations on the same resource are refused; both are the rules of a transaction Bundle.
    """

    operations: Sequence[Operation]
    context: WriteContext
    link: bool = False
    distinct: bool = False
