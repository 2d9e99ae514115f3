"""From a request to remind to an attempt on a channel, and from its outcome to the next.

Services ask for theirs by their items (`care.fulfilment.telling`). Timers are claims: `notice` on a
CommunicationRequest that is to be looked at, `renewal-reminder` on a contract, `notice-attempt` on
a Communication under way. They are set behind the writes, so that no writer can forget them; what
is due is done in parts, each one commit.
"""

import contextlib
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from care import reminder
from care.contract import content
from care.contract.renewal import RenewalReminder, renewal_reminders
from care.contract.steps import SERVICE
from care.fulfilment.telling import NOTICE as SERVICE_NOTICE
from care.fulfilment.telling import requests_of
from care.periods import LOCAL, day_of, end_of
from care.reminder import Circumstances, QuietHours, Send, Stop, Wait
from conformance import resource_json
from conformance.problem import Problem
from fhir_store.claims import Claimed, take_begun
from fhir_store.following import Followed, take_written
from fhir_store.notice_outcomes import followed, take_outcomes
from fhir_store.operations import Claim, Operation, Release, Update, WriteContext
from fhir_store.search.query import QueryRules, parse_query
from fhir_store.store import Store
from fhir_store.transaction import Transaction
from fhir_store.versions import reference_key
from ops.repeating import repeat

NAME = "notices"
ACTOR = "qiao-notices"
NOTICE = "notice"
ATTEMPT = "notice-attempt"
RENEWAL = "renewal-reminder"
_TYPES = ("CommunicationRequest", "Contract", "Task")
_LOOK = 4_000
_PART = 200
_QUIET_SECONDS = 0.5
_MORNING = datetime.time(9)

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """Keeps the timers and does what is due; any number of processes may.

    `channels` are those this hub sends on; a delivery that waits longer than `patience` gives way
    to the next channel.
    """

    store: Store
    channels: frozenset[str]
    quiet: QuietHours = field(default_factory=QuietHours)
    patience: datetime.timedelta = datetime.timedelta(minutes=15)

    async def run(self) -> None:
        """Look for ever."""
        await repeat(self.look, failed="notices were not looked at", rest_seconds=_QUIET_SECONDS)

    async def look(self, now: datetime.datetime | None = None) -> int:
        """Do one part of everything; returns how many things there were."""
        moment = now or datetime.datetime.now(datetime.UTC)
        done = await self.set_timers(moment)
        for part in (self.remind_of_renewal, self.send_due, self.take_outcomes):
            async with self.store.begin() as transaction:
                done += await part(transaction, moment)
        return done

    async def set_timers(self, now: datetime.datetime) -> int:
        """Set the timers of what was written since the last step."""
        async with self.store.begin() as transaction:
            found, looked = await take_written(
                transaction.connection, NAME, _TYPES, look=_LOOK, most=_PART
            )
            operations = await _requests_of_services(transaction, found, now)
            for one in found:
                if one.type == "Task":
                    continue
                kind = NOTICE if one.type == "CommunicationRequest" else RENEWAL
                own = f"{one.type}/{one.id}"
                resource = resource_json.parse(one.body) if one.body else {}
                operations.append(Release(kind=kind, holder=own))
                operations += _timer(kind, own, _due(resource, now))
            if operations:
                await transaction.apply(_in_order(operations), context=_context(now))
            return looked

    async def remind_of_renewal(self, transaction: Transaction, now: datetime.datetime) -> int:
        """Make the request of each renewal reminder whose day has come, and set the next timer."""
        due = await take_begun(transaction.connection, RENEWAL, now, _PART)
        contracts = await _read(transaction, due)
        ends = [
            (content.resident_of(one), end_of(content.period_of(one)[1]))
            for one in contracts.values()
        ]
        signed_on = await followed(transaction.connection, SERVICE, ends) if ends else frozenset()
        operations: list[Operation] = []
        for one in due:
            operations.append(Release(kind=RENEWAL, holder=one.holder))
            contract = contracts.get(one.holder)
            if contract is None or content.resident_of(contract) in signed_on:
                continue
            reminders = _reminders(contract)
            today = day_of(now)
            reached = [r for r in reminders if r.on <= today <= r.on + datetime.timedelta(days=2)]
            if reached:
                request = reminder.renewal_request(reached[-1], now)
                operations.append(_update(request))
            following = [r for r in reminders if r.on > today]
            operations += _timer(RENEWAL, one.holder, _morning(following[0]) if following else None)
        if operations:
            await transaction.apply(_in_order(operations), context=_context(now))
        return len(due)

    async def send_due(self, transaction: Transaction, now: datetime.datetime) -> int:
        """Decide each request that is due: try a channel, wait, or stop."""
        due = await take_begun(transaction.connection, NOTICE, now, _PART)
        requests = await _read(transaction, due, lock=True)
        around = await self._circumstances(transaction, requests, now)
        operations: list[Operation] = []
        for one in due:
            operations.append(Release(kind=NOTICE, holder=one.holder))
            request = requests.get(one.holder)
            if request is None:
                continue
            match reminder.decide(request, around[one.holder]):
                case Send(attempt=attempt):
                    own = f"Communication/{attempt['id']}"
                    operations.append(_update(attempt))
                    operations += _timer(ATTEMPT, own, now)
                case Wait(until=until):
                    operations += _timer(NOTICE, one.holder, until)
                case Stop() as stop:
                    if request.get("status") == "active":
                        operations.append(_update(reminder.stopped(request, stop)))
        if operations:
            await transaction.apply(_in_order(operations), context=_context(now))
        return len(due)

    async def take_outcomes(self, transaction: Transaction, now: datetime.datetime) -> int:
        """Note what became of attempts, and look at their requests again."""
        outcomes = await take_outcomes(
            transaction.connection, ATTEMPT, now=now, patience=self.patience, limit=_PART
        )
        keys = [("Communication", one.holder.partition("/")[2]) for one in outcomes]
        attempts = await transaction.read_for_update(keys) if keys else {}
        operations: list[Operation] = []
        asked: dict[str, None] = {}
        for one, key in zip(outcomes, keys, strict=True):
            operations.append(Release(kind=ATTEMPT, holder=one.holder))
            attempt = attempts.get(key)
            if attempt is None:
                continue
            status = {"accepted": "completed", "settled": "completed", "unknown": "unknown"}.get(
                one.state, "not-done"
            )
            detail = one.detail or one.state
            settled = reminder.settled_attempt(attempt, status, one.code, detail)
            request = str(attempt["basedOn"][0]["reference"])
            operations.append(_update(settled))
            asked[request] = None
        for request in asked:
            operations.append(Release(kind=NOTICE, holder=request))
            operations += _timer(NOTICE, request, now)
        if operations:
            await transaction.apply(_in_order(operations), context=_context(now))
        return len(outcomes)

    async def _circumstances(
        self, transaction: Transaction, requests: Mapping[str, Resource], now: datetime.datetime
    ) -> dict[str, Circumstances]:
        """Read what bears on the requests, all together."""
        residents = {str(one["subject"]["reference"]) for one in requests.values()}
        about = {_about(one) for one in requests.values()} - {""}
        keys = [reference_key(one) for one in residents | about]
        known = await transaction.read_current(keys) if keys else {}
        consents = await self._found(
            transaction,
            "Consent",
            [
                ("patient", ",".join(sorted(residents))),
                ("status", "active"),
                ("category", f"{reminder.CONSENT_CATEGORY}|{reminder.NOTICE}"),
            ],
            bool(residents),
        )
        attempts = await self._found(
            transaction,
            "Communication",
            [("based-on", ",".join(sorted(requests)))],
            bool(requests),
        )
        by_reference = {"/".join(key): one for key, one in known.items()}
        return {
            reference: Circumstances(
                now=now,
                resident=by_reference.get(str(request["subject"]["reference"]), {}),
                about=by_reference.get(_about(request)),
                consents=[
                    one
                    for one in consents
                    if one.get("patient", {}).get("reference") == request["subject"]["reference"]
                ],
                attempts=[
                    one
                    for one in attempts
                    if any(based.get("reference") == reference for based in one["basedOn"])
                ],
                channels=self.channels,
                quiet=self.quiet,
            )
            for reference, request in requests.items()
        }

    async def _found(
        self, transaction: Transaction, type_: str, pairs: list[tuple[str, str]], is_asked: bool
    ) -> list[Resource]:
        if not is_asked:
            return []
        found: list[Resource] = []
        cursor = ""
        rules = QueryRules(lookup=self.store.parameters.lookup)
        while True:
            asked = [*pairs, ("_count", "1000"), *([("_cursor", cursor)] if cursor else [])]
            query = parse_query(type_, asked, rules)
            page = await self.store.searcher.search(transaction.connection, query)
            found += [resource_json.parse(version.body) for version in page.matches]
            if page.next is None:
                return found
            cursor = page.next


async def _read(
    transaction: Transaction, due: Sequence[Claimed], *, lock: bool = False
) -> dict[str, Resource]:
    keys = [reference_key(one.holder) for one in due]
    if not keys:
        return {}
    found = await (transaction.read_for_update(keys) if lock else transaction.read_current(keys))
    return {"/".join(key): one for key, one in found.items()}


async def _requests_of_services(
    transaction: Transaction, found: Sequence[Followed], now: datetime.datetime
) -> list[Operation]:
    """Return the requests that services ask for by themselves and that were never made."""
    wanted: dict[tuple[str, str], Resource] = {}
    for one in found:
        if one.type == "Task" and SERVICE_NOTICE.encode() in one.body:
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):  # by others
                for request in requests_of(resource_json.parse(one.body), now):
                    wanted["CommunicationRequest", request["id"]] = request
    known = await transaction.read_current(list(wanted)) if wanted else {}
    return [_update(request) for key, request in wanted.items() if key not in known]


def _due(resource: Resource, now: datetime.datetime) -> datetime.datetime | None:
    """Return when something written is to be looked at; None for never."""
    if not resource or "id" not in resource:
        return None
    if resource["resourceType"] == "CommunicationRequest":
        return reminder.due_at(resource)
    following = [one for one in _reminders(resource) if one.on >= day_of(now)]
    return _morning(following[0]) if following else None


def _reminders(contract: Resource) -> tuple[RenewalReminder, ...]:
    """Return the reminders of a contract; none for a template or one that is written by half."""
    try:
        return renewal_reminders(contract)
    except (Problem, KeyError, IndexError, ValueError, TypeError):
        return ()


def _morning(one: RenewalReminder) -> datetime.datetime:
    return datetime.datetime.combine(one.on, _MORNING, LOCAL)


def _about(request: Resource) -> str:
    for one in request.get("about", ()):
        reference = str(one.get("reference", ""))
        if reference.startswith(("Task/", "Contract/")):
            return reference
    return ""


def _timer(kind: str, holder: str, at: datetime.datetime | None) -> list[Operation]:
    if at is None:
        return []
    return [Claim(kind=kind, key=holder, holder=holder, period=(at, None))]


def _in_order(operations: Sequence[Operation]) -> list[Operation]:
    """Put what is given up first: what stands together is given up and claimed in one statement."""
    return sorted(operations, key=lambda one: not isinstance(one, Release))


def _update(resource: Resource) -> Update:
    return Update(resource=resource_json.parse(resource_json.dump(resource)))


def _context(now: datetime.datetime) -> WriteContext:
    return WriteContext(actor=ACTOR, at=now, source=NAME)
