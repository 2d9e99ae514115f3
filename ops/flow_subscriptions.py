"""From a committed change to the numbered events of each subscriber.

The follower reads the versions in the order of their commits; the events it numbers and its own
place are one commit, so that none is lost or numbered twice. `ops/flow_notifications.py` tells.
"""

import contextlib
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from care.effects import Resource
from care.subscription import Wish, wish_of
from care.topics import TOPICS
from conformance import resource_json
from conformance.problem import BusinessRule, Issue, NotAllowed, NotFound, Problem
from fhir_store.authorization import Authorization
from fhir_store.following import note_place, take_turn
from fhir_store.operations import Patch, WriteContext
from fhir_store.permits import conditions_of, permitted_ids, within
from fhir_store.search.query import AllOf
from fhir_store.store import Store
from fhir_store.subscriptions import (
    Change,
    Event,
    Subscriber,
    add_events,
    caller_of,
    end_subscriber,
    next_changes,
    put_subscriber,
    subscribers,
    subscribers_named,
    two_versions,
)
from fhir_store.transaction import Transaction
from ops.bell import Bell
from ops.repeating import repeat
from routes.subscription_notices import Notices, caller_from

NAME = "subscriptions"
ACTOR = "qiao-subscriptions"
SUBSCRIPTION = "Subscription"
_LOOK = 2_000
_QUIET_SECONDS = 0.25
_TYPES = frozenset({SUBSCRIPTION, *(topic.type for topic in TOPICS)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionFollower:
    """Numbers the events of all subscribers; `step` does a bounded amount in one commit."""

    store: Store
    notices: Notices
    bell: Bell
    look: int = _LOOK

    async def step(self) -> int:
        """Follow what was written since the last step; returns how many audit rows were read."""
        return await self.store.at_present_rights(self._step)

    async def _step(self) -> int:
        refused: list[tuple[str, Problem]] = []
        async with self.store.begin() as transaction:
            place = await take_turn(transaction.connection, NAME)
            if place is None:
                return 0
            changes, place, looked = await next_changes(
                transaction.connection, place, look=self.look
            )
            wanted = [one for one in changes if one.type in _TYPES and not one.deleted]
            gone = [one for one in changes if one.deleted and one.type == SUBSCRIPTION]
            if wanted or gone:
                refused = await self._follow(transaction, [*wanted, *gone])
            if looked:
                await note_place(transaction.connection, NAME, place)
        for id_, problem in refused:
            await show_state(self.store, id_, "error", _words(problem))
        if looked:
            self.bell.ring()
        return looked

    async def _follow(
        self, transaction: Transaction, changes: Sequence[Change]
    ) -> list[tuple[str, Problem]]:
        """Go through the changes; a Subscription hears what comes after it in the same order."""
        connection = transaction.connection
        refused: list[tuple[str, Problem]] = []
        changes = sorted(changes, key=lambda one: (one.place.txid, one.place.rid))
        known = {one.fid: _Listener.of(one) for one in await subscribers(connection)}
        has_news = any(one.type == SUBSCRIPTION for one in changes)
        topics = {one.wish.topic.type for one in known.values()}
        wanted = [one for one in changes if has_news or one.type in topics]
        bodies = await two_versions(connection, wanted)
        for change, versions in zip(wanted, bodies, strict=True):
            before, after = (_parsed(body) for body in versions)
            if change.type == SUBSCRIPTION:
                problem = await self._take(transaction, change, after, known)
                if problem is not None:
                    refused.append((change.id, problem))
            elif after is not None:
                for listener in known.values():
                    listener.hear(change, before, after)
        for listener in known.values():
            if listener.heard:
                events = await self._permitted(transaction, listener)
                await add_events(connection, listener.subscriber.fid, events)
        return refused

    async def _take(
        self,
        transaction: Transaction,
        change: Change,
        resource: Resource | None,
        known: dict[str, "_Listener"],
    ) -> Problem | None:
        """Take a Subscription as it is asked for; our own notes on its state ask for nothing."""
        if change.actor == ACTOR:
            return None
        if change.id in known:
            known[change.id].is_off = True
        if change.deleted or resource is None or resource.get("status") == "off":
            await end_subscriber(transaction.connection, change.id)
            return None
        try:
            wish = wish_of(resource)
            caller = await caller_of(transaction.connection, change.id)
            if caller is None:
                raise BusinessRule(_NOT_OVER_HTTP)
            conditions_of(wish.topic.about, wish.filters)
        except Problem as problem:
            await end_subscriber(transaction.connection, change.id)
            return problem
        await put_subscriber(
            transaction.connection,
            change.id,
            state="requested",
            resource=_plain(resource),
            caller=caller,
            heartbeat=wish.heartbeat,
        )
        (found,) = await subscribers_named(transaction.connection, [change.id])
        heard = known[change.id].heard if change.id in known else []
        known[change.id] = _Listener(subscriber=found, wish=wish, heard=heard)
        return None

    async def _permitted(self, transaction: Transaction, listener: "_Listener") -> list[Event]:
        """Return the events that the subscriber may see and its filters let through."""
        wish, type_ = listener.wish, listener.wish.topic.about
        caller = caller_from(listener.subscriber.caller)
        try:
            rights: Authorization = await self.notices.authorize(caller, "r", type_)
            if wish.filters:
                conditions = conditions_of(type_, wish.filters)
                rights = within(rights, {type_: AllOf(conditions)})
        except (NotAllowed, Problem):
            return []
        ids = {event.id for event in listener.heard}
        searcher = self.store.searcher
        seen = await permitted_ids(transaction.connection, searcher, type_, ids, rights)
        return [event for event in listener.heard if event.id in seen]

    async def run(self) -> None:
        """Follow for ever; another process may take turns."""
        await repeat(self.step, failed="events were not numbered", rest_seconds=_QUIET_SECONDS)


@dataclass(slots=True, kw_only=True)
class _Listener:
    """A subscriber during one step, and what it heard."""

    subscriber: Subscriber
    wish: Wish
    heard: list[Event] = field(default_factory=list)
    is_off: bool = False

    @classmethod
    def of(cls, subscriber: Subscriber) -> "_Listener":
        """Return a listener that has heard nothing."""
        return cls(subscriber=subscriber, wish=wish_of(subscriber.resource))

    def hear(self, change: Change, before: Resource | None, after: Resource) -> None:
        """Note the change if it is an event of the topic."""
        topic = self.wish.topic
        if self.is_off or topic.type != change.type or not topic.happened(before, after):
            return
        type_, _, id_ = topic.focus(after).partition("/")
        version = change.version if (type_, id_) == (change.type, change.id) else None
        self.heard.append(Event(number=0, at=change.at, type=type_, id=id_, ver=version))


async def show_state(store: Store, id_: str, status: str, error: str = "") -> None:
    """Write into the Subscription how it stands, for whoever reads it."""

    def change(resource: dict[str, Any]) -> Resource:
        changed = {**resource, "status": status}
        changed.pop("error", None)
        if error:
            changed["error"] = error
        return changed

    context = WriteContext(actor=ACTOR, at=datetime.datetime.now(datetime.UTC))
    with contextlib.suppress(NotFound):
        await store.write([Patch(type=SUBSCRIPTION, id=id_, change=change)], context=context)


def _parsed(body: bytes) -> Resource | None:
    return resource_json.parse(body) if body else None


def _plain(resource: Resource) -> Mapping[str, Any]:
    plain: Mapping[str, Any] = json.loads(resource_json.dump(resource))
    return plain


def _words(problem: Problem) -> str:
    return "; ".join(f"{issue.text_en}: {issue.fix_en}" for issue in problem.issues)


_NOT_OVER_HTTP = Issue(
    code="business-rule",
    key="subscription-caller",
    text_en="Nobody's rights are known for this Subscription",
    text_zh="未知该订阅以谁的权限接收事件",
    fix_en="Write it over the FHIR REST interface.",
    fix_zh="请通过 FHIR REST 接口提交订阅。",
)
