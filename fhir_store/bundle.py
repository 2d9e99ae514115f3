"""Bundles of interactions: their entries read, ordered and made operations; no database.

http://hl7.org/fhir/R4/http.html#transaction. The caller applies the operations of a transaction
with `link=True, distinct=True` and puts the results back in the place of their entries.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from conformance.problem import InvalidContent, Issue, NotSupported
from fhir_store.operations import Create, Delete, Operation, Patch, Resource, Update
from fhir_store.resource_types import TYPE_IDS

# Deletes first, then creates, updates and patches, reads last (http.html#trules).
_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
_ETAG = re.compile(r'\s*(?:W/)?"?([0-9]{1,9})"?\s*')

ChangeOf = Callable[["BundleEntry"], Callable[[dict[str, Any]], Resource]]
"""Turns a PATCH entry into the function that patches; raises InvalidContent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleEntry:
    """One entry; `url` is relative to the base, and split into `steps` and `query`."""

    position: int
    method: str
    url: str
    steps: tuple[str, ...]
    query: str
    full_url: str | None = None
    resource: Resource | None = None
    if_match: int | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_none_exist: str | None = None

    @property
    def type(self) -> str:
        """The resource type in the address, empty at system level."""
        return self.steps[0] if self.steps and self.steps[0] in TYPE_IDS else ""

    @property
    def is_write(self) -> bool:
        """Whether it is a create, update, patch or delete: no read, search or operation."""
        if self.method == "POST":
            return len(self.steps) == 1 and bool(self.type)
        return self.method in ("PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlePlan:
    """A transaction in the order of its processing.

    `operations[i]` belongs to `writes[i]`; `others` are reads, searches and named operations,
    which come after all writes.
    """

    operations: Sequence[Operation]
    writes: Sequence[BundleEntry]
    others: Sequence[BundleEntry]


def entries_of(bundle: Resource, *, base: str = "") -> list[BundleEntry]:
    """Read the entries of a batch or transaction; raises InvalidContent with the entry's place.

    `base` is the address of the FHIR base, which an entry's url may repeat.
    """
    return [
        _entry_of(position, entry, base) for position, entry in enumerate(bundle.get("entry", ()))
    ]


def plan_transaction(
    entries: Sequence[BundleEntry], *, change_of: ChangeOf, deletes_several: bool = False
) -> BundlePlan:
    """Return the operations of a transaction in the order that the specification sets."""
    _require_unique_urls(entries)
    ordered = sorted(entries, key=lambda entry: _ORDER[entry.method])
    writes = [entry for entry in ordered if entry.is_write]
    return BundlePlan(
        operations=[
            operation_of(entry, change_of=change_of, deletes_several=deletes_several)
            for entry in writes
        ],
        writes=writes,
        others=[entry for entry in ordered if not entry.is_write],
    )


def operation_of(
    entry: BundleEntry, *, change_of: ChangeOf, deletes_several: bool = False
) -> Operation:
    """Return what a write entry asks of the write door."""
    type_, id_ = entry.type, entry.steps[1] if len(entry.steps) == 2 else None
    criteria = entry.query or None
    if not type_ or len(entry.steps) > 2 or (entry.method != "POST" and not (id_ or criteria)):
        raise _bad(entry.position, "request.url", "entry-url", _BAD_URL)
    if entry.method == "DELETE":
        return Delete(
            type=type_,
            id=id_,
            criteria=criteria,
            if_match=entry.if_match,
            several=deletes_several and id_ is None,
        )
    if entry.method == "PATCH":
        return Patch(
            type=type_,
            id=id_,
            criteria=criteria,
            if_match=entry.if_match,
            change=change_of(entry),
            full_url=entry.full_url,
        )
    resource = _resource_of(entry, type_)
    if entry.method == "POST":
        return Create(resource=resource, if_none_exist=entry.if_none_exist, full_url=entry.full_url)
    if id_ is not None and resource.get("id", id_) != id_:
        raise _bad(entry.position, "resource.id", "entry-id", _OTHER_ID)
    return Update(
        resource=resource if id_ is None else {**resource, "id": id_},
        criteria=criteria,
        if_match=entry.if_match,
        must_be_new=entry.if_none_match == "*",
        full_url=entry.full_url,
    )


def _entry_of(position: int, entry: Mapping[str, Any], base: str) -> BundleEntry:
    request = entry.get("request") or {}
    method, url = request.get("method"), request.get("url")
    if method not in _ORDER:
        raise _bad(position, "request.method", "entry-method", _BAD_METHOD)
    if not isinstance(url, str):
        raise _bad(position, "request.url", "entry-url", _BAD_URL)
    if base and url.startswith(base.rstrip("/") + "/"):
        url = url[len(base.rstrip("/")) :]
    url = url.lstrip("/")
    if "://" in url.partition("?")[0]:
        raise _bad(position, "request.url", "entry-url", _BAD_URL)
    path, _, query = url.partition("?")
    return BundleEntry(
        position=position,
        method=method,
        url=url,
        steps=tuple(unquote(step) for step in path.split("/") if step),
        query=query,
        full_url=entry.get("fullUrl"),
        resource=entry.get("resource"),
        if_match=_version_of(position, request.get("ifMatch")),
        if_none_match=request.get("ifNoneMatch"),
        if_modified_since=request.get("ifModifiedSince"),
        if_none_exist=request.get("ifNoneExist"),
    )


def _version_of(position: int, etag: str | None) -> int | None:
    if etag is None:
        return None
    found = _ETAG.fullmatch(etag)
    if found is None:
        raise _bad(position, "request.ifMatch", "entry-if-match", _BAD_ETAG)
    return int(found[1])


def _resource_of(entry: BundleEntry, type_: str) -> Resource:
    if entry.resource is None or entry.resource.get("resourceType") != type_:
        raise _bad(entry.position, "resource", "entry-resource", _BAD_RESOURCE)
    return entry.resource


def _require_unique_urls(entries: Sequence[BundleEntry]) -> None:
    """Refuse two entries under one full URL (bdl-7; none of them carries another version)."""
    seen: set[str] = set()
    for entry in entries:
        if entry.full_url is not None and entry.is_write:
            if entry.full_url in seen:
                raise _bad(entry.position, "fullUrl", "entry-full-url", _SAME_URL)
            seen.add(entry.full_url)


_Texts = tuple[str, str, str, str]


def _bad(position: int, path: str, key: str, texts: _Texts) -> InvalidContent:
    text_en, text_zh, fix_en, fix_zh = texts
    return InvalidContent(
        Issue(
            code="value",
            key=key,
            text_en=text_en,
            text_zh=text_zh,
            fix_en=fix_en,
            fix_zh=fix_zh,
            expression=f"Bundle.entry[{position}].{path}",
        )
    )


def refuse_change(entry: BundleEntry) -> Callable[[dict[str, Any]], Resource]:
    """Refuse PATCH entries; a `ChangeOf` for callers that take none."""
    issue = Issue(
        code="not-supported",
        key="entry-patch",
        text_en="Patches are not taken here",
        text_zh="此处不接受 PATCH",
        fix_en="Send the whole resource by PUT.",
        fix_zh="请用 PUT 提交完整资源。",
        expression=f"Bundle.entry[{entry.position}].request.method",
    )
    raise NotSupported(issue)


_BAD_METHOD = (
    "The entry names no HTTP method that a Bundle may use",
    "条目未给出 Bundle 可用的 HTTP 方法",
    "Set request.method to GET, HEAD, POST, PUT, PATCH or DELETE.",
    "请将 request.method 设为 GET、HEAD、POST、PUT、PATCH 或 DELETE。",
)
_BAD_URL = (
    "The entry's url does not fit its method",
    "条目的 url 与其方法不符",
    "Write Type for POST, Type/id or Type?criteria for the others, relative to the base.",
    "POST 请写 Type；PUT、PATCH、DELETE 请写 Type/id 或 Type?条件，均相对于服务基址。",
)
_BAD_ETAG = (
    "ifMatch is no version of ours",
    "ifMatch 不是本服务的版本标识",
    'Send the ETag of the version you read, for example W/"3".',
    '请发送所读版本的 ETag，例如 W/"3"。',
)
_BAD_RESOURCE = (
    "The entry has no resource of the type in its url",
    "条目中没有与 url 类型相符的资源",
    "Put a resource of that type into entry.resource.",
    "请在 entry.resource 中放入该类型的资源。",
)
_OTHER_ID = (
    "The resource's id differs from the one in the entry's url",
    "资源的 id 与条目 url 中的 id 不一致",
    "Use the same id in both places.",
    "请在两处使用相同的 id。",
)
_SAME_URL = (
    "Two entries have the same fullUrl",
    "两个条目的 fullUrl 相同",
    "Give every entry a fullUrl of its own, for example urn:uuid: with a new UUID.",
    "请为每个条目使用各自的 fullUrl，例如 urn:uuid: 加新的 UUID。",
)
