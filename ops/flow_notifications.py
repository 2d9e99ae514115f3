"""Tells the rest-hooks their events: to each what comes after what it took, in order.

One notification at a time goes to a subscriber. What may not have arrived is said again under the
same number; what it refuses goes to its dead letter, and the next one follows.
"""

import asyncio
import contextlib
import datetime
import random
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg_pool import PoolTimeout

from adapters.transport.http_post import HttpPoster, HttpReply, NoReply
from care.subscription import Wish, wish_of
from conformance.problem import Problem
from fhir_store.cancellation import end_if_cancelled
from fhir_store.store import Store
from fhir_store.subscriptions import (
    Event,
    Subscriber,
    bury,
    claim_subscribers,
    events_of,
    settle_failed,
    settle_told,
)
from ops.bell import Bell
from ops.flow_subscriptions import show_state
from ops.logs import log
from routes.subscription_notices import FHIR_JSON, Notices

LOOPBACK = ("http://127.0.0.1", "http://localhost")
"""What may be called while access control is off; any port of it."""
_QUIET_SECONDS = 0.25
_AT_ONCE = 16
_LEASE = datetime.timedelta(seconds=15)  # longer than one attempt: a dead worker's is taken up then
_SEND_SECONDS = 10
_CHANCE = random.Random()  # noqa: S311 - spreads retries, guards nothing
_LONGEST_WAIT_SECONDS = 60.0
_FAILURES_TO_ERROR = 5
_BUSY = frozenset({408, 425, 429})


@dataclass(slots=True, kw_only=True)
class SubscriptionTeller:
    """Tells the rest-hooks; several processes may do the same.

    `allowed` are the beginnings of addresses that may be called; none is none.
    """

    store: Store
    notices: Notices
    bell: Bell
    allowed: Sequence[str] = ()
    first_wait_seconds: float = 0.5
    _posters: dict[str, HttpPoster] = field(default_factory=dict)

    async def run(self) -> None:
        """Tell for ever; at the end finish what is under way."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            with self.bell.hearing() as rung:
                while True:
                    end_if_cancelled()
                    rung.clear()
                    claimed = await self._claim(_AT_ONCE - len(tasks))
                    for one in claimed:
                        task = asyncio.create_task(self._surely(one))
                        tasks.add(task)
                        task.add_done_callback(tasks.discard)
                        task.add_done_callback(lambda _: rung.set())
                    if not claimed:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(rung.wait(), _QUIET_SECONDS)
        finally:
            if tasks:
                await asyncio.wait(tasks, timeout=_SEND_SECONDS)
            for poster in self._posters.values():
                await poster.close()

    async def _claim(self, room: int) -> list[Subscriber]:
        if room <= 0:
            return []
        try:
            async with self.store.pool.connection() as connection:
                return await claim_subscribers(connection, limit=room, lease=_LEASE)
        except (psycopg.Error, PoolTimeout, OSError) as away:
            log.warning("subscribers were not told", reason=type(away).__name__)
            return []

    async def _surely(self, one: Subscriber) -> None:
        try:
            await self.tell(one)
        except (psycopg.Error, PoolTimeout, OSError, Problem) as away:
            log.warning("notification put off", subscriber=one.fid, reason=type(away).__name__)

    async def tell(self, one: Subscriber) -> None:
        """Say one thing to one subscriber that was claimed, and note what came of it."""
        wish = wish_of(one.resource)
        if not is_allowed(wish.endpoint, self.allowed):
            text = "the endpoint is not among QIAO_SUBSCRIPTION_ENDPOINTS"
            await self._failed(one, text, is_error=True, wait=_LONGEST_WAIT_SECONDS)
            return
        events: list[Event] = []
        kind = "handshake"
        if one.state != "requested":
            async with self.store.pool.connection() as connection:
                events = await events_of(connection, one.fid, after=one.delivered, limit=wish.most)
            kind = "event-notification" if events else "heartbeat"
        reply = await self._post(one, wish, kind, events)
        until = events[-1].number if events else one.delivered
        if _is_taken(reply):
            await self._told(one, until)
        elif _is_refused(reply) and len(events) > 1:
            await self._one_by_one(one, wish, events)
        elif _is_refused(reply) and events:
            await self._bury(one, events, _said(reply))
            await self._told(one, until)
        else:
            is_error = one.failures + 1 >= _FAILURES_TO_ERROR
            await self._failed(one, _said(reply), is_error=is_error)

    async def _one_by_one(self, one: Subscriber, wish: Wish, events: Sequence[Event]) -> None:
        """Find out which of several events a subscriber refuses; the others it takes."""
        told, until = one.delivered, time.monotonic() + _SEND_SECONDS
        for event in events:
            if time.monotonic() > until:
                break
            reply = await self._post(one, wish, "event-notification", [event])
            if not _is_taken(reply) and not _is_refused(reply):
                break
            if _is_refused(reply):
                await self._bury(one, [event], _said(reply))
            told = event.number
        await self._told(one, told)

    async def _bury(self, one: Subscriber, events: Sequence[Event], reason: str) -> None:
        log.warning("event refused", subscriber=one.fid, reason=reason, count=len(events))
        async with self.store.pool.connection() as connection:
            await bury(connection, one.fid, [event.number for event in events], reason)

    async def _told(self, one: Subscriber, until: int) -> None:
        async with self.store.pool.connection() as connection:
            is_ours = await settle_told(connection, one, until)
        if is_ours and one.state != "active":
            await show_state(self.store, one.fid, "active")

    async def _failed(
        self, one: Subscriber, detail: str, *, is_error: bool, wait: float | None = None
    ) -> None:
        doubled = self.first_wait_seconds * 2 ** min(one.failures, 20)
        seconds = min(_LONGEST_WAIT_SECONDS, doubled if wait is None else wait)
        seconds *= _CHANCE.uniform(0.75, 1.25)
        async with self.store.pool.connection() as connection:
            is_ours = await settle_failed(
                connection,
                one,
                wait=datetime.timedelta(seconds=seconds),
                detail=detail,
                is_error=is_error,
            )
        if is_ours and is_error and one.failures + 1 in (1, _FAILURES_TO_ERROR):
            await show_state(self.store, one.fid, "error", detail)

    async def _post(
        self, one: Subscriber, wish: Wish, kind: str, events: Sequence[Event]
    ) -> HttpReply | NoReply:
        body = await self.notices.render(one, kind, events)
        poster = self._posters.get(wish.endpoint)
        if poster is None:
            poster = self._posters[wish.endpoint] = HttpPoster(
                wish.endpoint, reply_seconds=_SEND_SECONDS, connections=_AT_ONCE
            )
        seconds = min(_SEND_SECONDS, wish.timeout or _SEND_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                return await poster.post(body, {"content-type": FHIR_JSON, **dict(wish.headers)})
        except TimeoutError:
            return NoReply(reason="timeout")


def is_allowed(endpoint: str, allowed: Sequence[str]) -> bool:
    """Say whether an address begins with one that is allowed: scheme, host, port, path."""
    try:
        asked = urllib.parse.urlsplit(endpoint)
        port = asked.port
    except ValueError:
        return False
    if asked.username is not None or ".." in asked.path or not asked.hostname:
        return False
    for one in allowed:
        given = urllib.parse.urlsplit(one)
        if (asked.scheme, asked.hostname) != (given.scheme, given.hostname):
            continue
        is_any_port = one in LOOPBACK
        if (is_any_port or port == given.port) and asked.path.startswith(given.path):
            return True
    return False


def _is_taken(reply: HttpReply | NoReply) -> bool:
    return isinstance(reply, HttpReply) and 200 <= reply.status < 300


def _is_refused(reply: HttpReply | NoReply) -> bool:
    return isinstance(reply, HttpReply) and 400 <= reply.status < 500 and reply.status not in _BUSY


def _said(reply: HttpReply | NoReply) -> str:
    if isinstance(reply, NoReply):
        return f"no reply: {reply.reason}"
    return f"HTTP {reply.status}"
