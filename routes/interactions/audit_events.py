"""The hub's own audit among the AuditEvents: behind those that clients stored, newest first.

http://hl7.org/fhir/R4/auditevent.html#search
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from conformance import resource_json
from conformance.date_ranges import range_of
from conformance.problem import Issue, NotFound
from fhir_store.audit_events import (
    ACTIONS,
    EVENT_TYPES,
    INTERACTIONS,
    OWN_ID,
    AuditQuery,
    list_events,
    read_event,
)
from fhir_store.authorization import Authorization
from fhir_store.failures import translated_failures
from fhir_store.operations import Version
from fhir_store.search.query import SearchQuery
from fhir_store.search.searcher import Page
from routes.hub import Hub
from routes.request import Request

AUDIT_EVENT = "AuditEvent"
_NEWEST = (2**62, 0)
_CURSOR = re.compile(r"audit\.([0-9]{1,19})-([0-9]{1,18})")
_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.\-]{1,64}")
_DATE = re.compile(r"(eq|ge|le|gt|lt|sa|eb)?([0-9].*)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Parameters that change the answer's shape only, and those whose elements our events never have.
_SHAPE = frozenset({"_count", "_cursor", "_format", "_pretty", "_elements", "_summary", "_total"})
_NEVER = frozenset(
    {
        *("address", "agent-name", "agent-role", "altid", "entity-role", "entity-type", "policy"),
        *("site", "source", "_lastUpdated", "_profile", "_security", "_source", "_tag"),
    }
)
Narrowing = Mapping[str, Any]


async def own_event(hub: Hub, request: Request) -> bytes | None:
    """Return the event of the hub's audit with this id; None where the caller may not see it."""
    id_ = request.address.id
    authorization = await hub.authorize(request.caller, "r", AUDIT_EVENT)
    if not OWN_ID.fullmatch(id_) or authorization.criteria_of(AUDIT_EVENT) is not None:
        return None
    with translated_failures():
        async with hub.store.pool.connection() as connection:
            try:
                return resource_json.dump(await read_event(connection, id_))
            except NotFound:
                return None


async def audit_page(hub: Hub, request: Request, query: SearchQuery, rights: Authorization) -> Page:
    """Return a page of stored AuditEvents and, where those end, of the hub's own.

    The hub's own are for callers who may see every AuditEvent.
    """
    if rights.criteria_of(AUDIT_EVENT) is not None:
        return await hub.store.search(query, authorization=rights)
    place = _CURSOR.fullmatch(query.cursor)
    page = Page(matches=())
    if place is None:
        page = await hub.store.search(query, authorization=rights)
    if page.next is not None or any(name in _NEVER for name, _ in query.pairs):
        return page
    asked = _audit_query(query, request.base)
    if asked is None:
        return replace(page, warnings=(*page.warnings, _LEFT_OUT))
    room = query.count - len(page.matches)
    after = (int(place[1]), int(place[2])) if place else _NEWEST
    if room <= 0:
        return replace(page, next=_cursor(after))
    with translated_failures():
        async with hub.store.pool.connection() as connection:
            own = await list_events(connection, replace(asked, count=room, after=after))
    matches = (*page.matches, *(_version(event) for event in own.events))
    return replace(page, matches=matches, next=None if own.next is None else _cursor(own.next))


def _cursor(place: tuple[int, int]) -> str:
    """Return the link's token; it holds no secret, so it bears no signature."""
    return f"audit.{place[0]}-{place[1]}"


def _version(event: dict[str, Any]) -> Version:
    return Version(
        type=AUDIT_EVENT,
        id=event["id"],
        version=1,
        last_updated=datetime.fromisoformat(event["recorded"]),
        body=resource_json.dump(event),
    )


def _audit_query(query: SearchQuery, base: str) -> AuditQuery | None:
    """Return what the search asks of the audit; None where the audit cannot answer it."""
    if query.count == 0 or query.total != "none" or query.summary == "count":
        return None
    given: dict[str, Any] = {}
    for name, value in query.pairs:
        if name in _SHAPE:
            continue
        read = _READERS.get(name)
        narrowing = None if read is None or "\\" in value else read(value, base)
        if narrowing is None:
            return None
        for field, wanted in narrowing.items():
            if field not in given:
                given[field] = wanted
            elif field in _TIGHTER:
                given[field] = _TIGHTER[field](given[field], wanted)
            else:
                return None
    return AuditQuery(**given)


def _date(value: str, _base: str) -> Narrowing | None:
    match = _DATE.fullmatch(value)
    try:
        first, last = range_of(match[2]) if match else (None, None)
        if match is None or first is None or last is None:
            return None
        start = _EPOCH + timedelta(microseconds=first)
        end = _EPOCH + timedelta(microseconds=last + 1)
    except (ValueError, OverflowError):
        return None
    return {
        "ge": {"since": start},
        "gt": {"since": end},
        "sa": {"since": end},
        "le": {"until": end},
        "lt": {"until": start},
        "eb": {"until": start},
    }.get(match[1] or "eq", {"since": start, "until": end})


def _agent(value: str, base: str) -> Narrowing | None:
    reference = value.removeprefix(f"{base}/")
    return {"actor": reference} if _REFERENCE.fullmatch(reference) else None


def _entity(value: str, base: str) -> Narrowing | None:
    reference = value.removeprefix(f"{base}/")
    if not _REFERENCE.fullmatch(reference):
        return None
    type_, _, id_ = reference.partition("/")
    return {"entity": (type_, id_)}


def _type(value: str, _base: str) -> Narrowing | None:
    return {} if "rest" in _codes(value, EVENT_TYPES) else {"subtypes": ()}


def _subtype(value: str, _base: str) -> Narrowing | None:
    return {"subtypes": _codes(value, INTERACTIONS)}


def _action(value: str, _base: str) -> Narrowing | None:
    letters = _codes(value, "http://hl7.org/fhir/audit-event-action")
    if "R" in letters:  # whatever is no write is a read
        return {"besides": tuple(name for name, one in ACTIONS.items() if one not in letters)}
    return {"subtypes": tuple(name for name, one in ACTIONS.items() if one in letters)}


def _outcome(value: str, _base: str) -> Narrowing | None:
    codes = _codes(value, "http://terminology.hl7.org/CodeSystem/audit-event-outcome")
    return {"outcomes": tuple(int(code) for code in codes if code in {"0", "4", "8", "12"})}


def _codes(value: str, system: str) -> tuple[str, ...]:
    """Return the codes of a token list (`code` or `system|code`) that are of this system."""
    tokens = [token.rpartition("|") for token in value.split(",")]
    return tuple(code for of, bar, code in tokens if not bar or of == system)


_READERS: Mapping[str, Callable[[str, str], Narrowing | None]] = {
    "date": _date,
    "agent": _agent,
    "entity": _entity,
    "type": _type,
    "subtype": _subtype,
    "action": _action,
    "outcome": _outcome,
}
_TIGHTER: Mapping[str, Callable[[Any, Any], Any]] = {"since": max, "until": min}
_LEFT_OUT = Issue(
    severity="information",
    code="informational",
    key="audit-left-out",
    text_en="The hub's own audit cannot be asked this way; only stored AuditEvents are shown.",
    text_zh="本系统自身的审计不支持此查询方式；仅显示已存储的 AuditEvent。",
    fix_en="Ask by date, agent, entity, action, type, subtype or outcome, once each and without "
    "modifiers, _sort or _total; the hub's own come newest first.",
    fix_zh="请用 date、agent、entity、action、type、subtype、outcome 查询（各一次，"
    "不带修饰符、_sort、_total）；本系统的审计按时间倒序返回。",
)
