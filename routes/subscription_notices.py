"""Notifications: a history Bundle whose first entry says how the subscription stands.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html; what is told is judged
by the subscriber's rights at the moment it is told.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from care.subscription import BACKPORT, Wish, wish_of
from conformance.problem import Gone, NotAllowed, NotFound
from fhir_store.operations import Version
from fhir_store.permits import permitted_ids
from fhir_store.store import Store
from fhir_store.subscriptions import Event, Subscriber, note_caller
from fhir_store.transaction import Transaction
from routes.bearer import Caller
from routes.hub import Authorize
from routes.scopes import Scope

FHIR_JSON = "application/fhir+json"
_STATUS_PROFILE = BACKPORT + "backport-subscription-status-r4"
_NOTICE_PROFILE = BACKPORT + "backport-subscription-notification-r4"


def caller_json(caller: Caller) -> dict[str, Any]:
    """Return a caller as it is kept; the emergency of one request is not kept with it."""
    kept = dataclasses.asdict(dataclasses.replace(caller, emergency=None))
    for scope in kept["scopes"]:
        scope["letters"] = "".join(sorted(scope["letters"]))
    return kept


def caller_from(kept: Mapping[str, Any]) -> Caller:
    """Return a caller that was kept."""
    scopes = tuple(
        Scope(
            level=one["level"],
            type=one["type"],
            letters=frozenset(one["letters"]),
            parameters=tuple((name, value) for name, value in one["parameters"]),
        )
        for one in kept["scopes"]
    )
    names = ("subject", "client", "patient", "fhir_user", "is_unrestricted")
    return Caller(scopes=scopes, **{name: kept[name] for name in names})


async def note_subscriber(transaction: Transaction, caller: Caller, id_: str) -> None:
    """Keep in the commit of a Subscription with whose rights its events are seen."""
    await note_caller(transaction.connection, id_, caller_json(caller))


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """Makes notifications; `base` is the address of the FHIR base in them."""

    store: Store
    authorize: Authorize
    base: str

    async def render(
        self,
        subscriber: Subscriber,
        kind: str,
        events: Sequence[Event] = (),
        *,
        caller: Caller | None = None,
        content: str | None = None,
        base: str | None = None,
    ) -> bytes:
        """Return the Bundle of one notification.

        `kind` is handshake, heartbeat, event-notification or query-event. `caller` is who sees it
        (the subscriber), `content` how much (as it was asked for).
        """
        wish = wish_of(subscriber.resource)
        seen = await self._seen(caller or caller_from(subscriber.caller), events)
        wanted = content or wish.content
        at = base or self.base
        parts = [
            _event_part(event, f"{event.type}/{event.id}" if event in seen else None)
            if wanted != "empty"
            else _event_part(event, None)
            for event in events
        ]
        status = status_parameters(subscriber, kind, at, parts)
        entries: list[bytes] = [
            orjson.dumps(
                {
                    "fullUrl": f"urn:uuid:{uuid.uuid4()}",
                    "resource": status,
                    "request": {
                        "method": "GET",
                        "url": f"Subscription/{subscriber.fid}/$status",
                    },
                    "response": {"status": "200"},
                }
            )
        ]
        if wanted != "empty":
            entries += [
                await self._entry(event, at, is_full=wanted == "full-resource")
                for event in events
                if event in seen
            ]
        return (
            b'{"resourceType":"Bundle","id":"%b","meta":{"profile":["%b"]},"type":"history",'
            b'"timestamp":"%b","entry":[%b]}'
            % (
                str(uuid.uuid4()).encode(),
                _NOTICE_PROFILE.encode(),
                _instant(datetime.datetime.now(datetime.UTC)).encode(),
                b",".join(entries),
            )
        )

    async def _seen(self, caller: Caller, events: Sequence[Event]) -> frozenset[Event]:
        by_type: dict[str, set[str]] = {}
        for event in events:
            by_type.setdefault(event.type, set()).add(event.id)
        permitted: set[tuple[str, str]] = set()
        for type_, ids in by_type.items():
            look = partial(self._permitted, caller, type_, ids)
            found = await self.store.at_present_rights(look, whose=caller)
            permitted |= {(type_, id_) for id_ in found}
        return frozenset(event for event in events if (event.type, event.id) in permitted)

    async def _permitted(self, caller: Caller, type_: str, ids: set[str]) -> frozenset[str]:
        try:
            rights = await self.authorize(caller, "r", type_)
        except NotAllowed:
            return frozenset()
        async with self.store.pool.connection() as connection:
            return await permitted_ids(connection, self.store.searcher, type_, ids, rights)

    async def _entry(self, event: Event, base: str, *, is_full: bool) -> bytes:
        version = await self._version(event) if is_full else None
        entry = b'{"fullUrl":%b' % orjson.dumps(f"{base}/{event.type}/{event.id}")
        if version is not None:
            entry += b',"resource":' + version.body
        first = event.ver == 1
        request = {"method": "PUT", "url": f"{event.type}/{event.id}"}
        response = {"status": "201" if first else "200"}
        return entry + b',"request":%b,"response":%b}' % (
            orjson.dumps(request),
            orjson.dumps(response),
        )

    async def _version(self, event: Event) -> Version | None:
        try:
            if event.ver is not None:
                return await self.store.vread(event.type, event.id, event.ver)
            return await self.store.read(event.type, event.id)
        except (NotFound, Gone):
            return None


def status_parameters(
    subscriber: Subscriber, kind: str, base: str, events: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return how a subscription stands, as Parameters (backport-subscription-status-r4)."""
    wish: Wish = wish_of(subscriber.resource)
    return {
        "resourceType": "Parameters",
        "meta": {"profile": [_STATUS_PROFILE]},
        "parameter": [
            {
                "name": "subscription",
                "valueReference": {"reference": f"{base}/Subscription/{subscriber.fid}"},
            },
            {"name": "topic", "valueCanonical": wish.topic.canonical},
            {"name": "status", "valueCode": subscriber.state},
            {"name": "type", "valueCode": kind},
            {
                "name": "events-since-subscription-start",
                "valueString": str(subscriber.last_number),
            },
            *events,
        ],
    }


def _event_part(event: Event, focus: str | None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"name": "event-number", "valueString": str(event.number)},
        {"name": "timestamp", "valueInstant": _instant(event.at)},
    ]
    if focus is not None:
        parts.append({"name": "focus", "valueReference": {"reference": focus}})
    return {"name": "notification-event", "part": parts}


def _instant(moment: datetime.datetime) -> str:
    text = moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
