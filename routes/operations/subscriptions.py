"""`Subscription/$status`, `$events`, `$get-ws-binding-token` of the Subscriptions R5 Backport.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/operations.html
"""

import datetime
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from care.effects import refuse
from conformance.cphc.operations import definition_of
from fhir_store.failures import not_found
from fhir_store.permits import permitted_ids
from fhir_store.subscriptions import Subscriber, events_of, keep_token, subscribers_named
from routes.answer import Answer
from routes.bundle_bytes import bundle
from routes.hub import Hub
from routes.operations.contract_parameters import Given, given_in
from routes.operations.parameters import bad_parameter, parameters_answer
from routes.registry import Level
from routes.registry import Operation as Promise
from routes.request import Request
from routes.subscription_notices import Notices, status_parameters
from routes.subscription_socket import PATH

_TOKEN_LASTS = datetime.timedelta(minutes=5)
_MOST_EVENTS = 500
_MOST_SUBSCRIPTIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionOperations:
    """The operations; `notices` renders events."""

    notices: Notices

    def promises(self) -> tuple[Promise, ...]:
        """Return the operations as the registry wants them."""
        both: frozenset[Level] = frozenset({"type", "instance"})
        rows = (
            ("status", both, self.status),
            ("events", frozenset[Level]({"instance"}), self.events),
            ("get-ws-binding-token", both, self.token),
        )
        return tuple(
            Promise(
                code=code,
                definition=definition_of("Subscription", code),
                levels=levels,
                types=frozenset({"Subscription"}),
                handler=handler,
            )
            for code, levels, handler in rows
        )

    async def status(self, hub: Hub, request: Request) -> Answer:
        """Return how subscriptions stand."""
        found = await _named(hub, request, given_in(hub, request))
        entries = [
            orjson.dumps(
                {
                    "fullUrl": f"urn:uuid:{uuid.uuid4()}",
                    "resource": status_parameters(one, "query-status", request.base),
                    "search": {"mode": "match"},
                }
            )
            for one in found
        ]
        return Answer(status=200, body=bundle("searchset", entries, total=len(entries)))

    async def events(self, hub: Hub, request: Request) -> Answer:
        """Return events again, as far as the one who asks may see them."""
        given = given_in(hub, request)
        (one,) = await _named(hub, request, given)
        since, until = _number(given, "eventsSinceNumber"), _number(given, "eventsUntilNumber")
        content = given.maybe("content")
        if content not in (None, "empty", "id-only", "full-resource"):
            raise bad_parameter(
                "content", "Give empty, id-only or full-resource.", "可用 empty、id-only 等。"
            )
        async with hub.store.pool.connection() as connection:
            events = await events_of(
                connection,
                one.fid,
                after=max(0, (since or 1) - 1),
                until=until,
                limit=_MOST_EVENTS,
            )
        body = await self.notices.render(
            one, "query-event", events, caller=request.caller, content=content, base=request.base
        )
        return Answer(status=200, body=body)

    async def token(self, hub: Hub, request: Request) -> Answer:
        """Return a token that binds a WebSocket to subscriptions; it counts once, for minutes."""
        found = await _named(hub, request, given_in(hub, request))
        for one in found:
            _require_websocket(one)
        token = secrets.token_urlsafe(32)
        fids = [one.fid for one in found]
        async with hub.store.pool.connection() as connection:
            ends = await keep_token(connection, token, fids, lasts=_TOKEN_LASTS)
        parts: list[dict[str, Any]] = [
            {"name": "token", "valueString": token},
            {"name": "expiration", "valueDateTime": ends.isoformat(timespec="seconds")},
            *({"name": "subscription", "valueString": fid} for fid in fids),
            {"name": "websocket-url", "valueUrl": _socket_url(request.base)},
        ]
        return parameters_answer(parts)


def _require_websocket(one: Subscriber) -> None:
    """Refuse a token for what is told elsewhere, or to nobody any more."""
    kind = one.resource.get("channel", {}).get("type")
    if kind != "websocket":
        raise refuse(
            "subscription-channel",
            f"Subscription/{one.fid} is told by {kind}, not by WebSocket",
            f"Subscription/{one.fid} 的通知方式是 {kind}，不是 WebSocket",
            "Make a Subscription whose channel.type is websocket, or read $events of this one.",
            "请新建 channel.type 为 websocket 的订阅，或用 $events 读取本订阅的事件。",
            "Subscription.channel.type",
        )
    if one.state == "off":
        raise refuse(
            "subscription-off",
            f"Subscription/{one.fid} is off",
            f"Subscription/{one.fid} 已停用",
            "Write it again with status requested, then ask for the token.",
            "请将其 status 改为 requested 重新写入，再获取令牌。",
            "Subscription.status",
        )


def _socket_url(base: str) -> str:
    """Return the address of the WebSocket beside a FHIR base."""
    scheme, _, rest = base.partition("://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest.partition('/')[0]}{PATH}"


async def _named(hub: Hub, request: Request, given: Given) -> list[Subscriber]:
    """Return the subscribers that are meant and may be seen; NotFound for another one."""
    ids = [request.address.id] if request.address.id else given.texts("id")
    ids = [one.removeprefix("Subscription/") for text in ids for one in text.split(",")]
    if not ids or len(ids) > _MOST_SUBSCRIPTIONS:
        raise bad_parameter("id", "Name 1 to 50 Subscriptions.", "请指定 1 至 50 个订阅。")
    rights = await hub.authorize(request.caller, "r", "Subscription")
    async with hub.store.pool.connection() as connection:
        seen = await permitted_ids(connection, hub.store.searcher, "Subscription", ids, rights)
        found = await subscribers_named(connection, sorted(seen))
    missing = set(ids) - {one.fid for one in found}
    if missing:
        raise not_found("Subscription", min(missing))
    return found


def _number(given: Given, name: str) -> int | None:
    value = given.number(name)
    if value is None:
        return None
    if value != int(value) or not 0 <= value < 2**62:
        raise bad_parameter(name, "Give a whole number.", "请给出整数。")
    return int(value)
