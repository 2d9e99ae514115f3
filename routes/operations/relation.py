"""`$request-relation`, `$confirm-relation` at a RelatedPerson: both sides confirm by telephone."""

import datetime
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from care.effects import Resource, refuse
from care.identity import relation
from care.identity.relation import CONFIRM, MOST_REQUESTS, SIDES, Wish
from care.identity.verification import ACTIVITY
from care.periods import day_of
from conformance import resource_json
from conformance.cphc.operations import definition_of
from conformance.problem import BusinessRule
from fhir_store.permits import permitted_ids
from fhir_store.site_secrets import site_secret
from fhir_store.transaction import Transaction
from routes.answer import Answer, outcome
from routes.hub import Hub
from routes.operations.contract_facts import key_of, unknown
from routes.operations.contract_parameters import Given, given_in
from routes.operations.contract_writing import operations_of
from routes.operations.daily_limits import is_spent
from routes.operations.parameters import bad_parameter
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import context_of, once

SendCode = Callable[[str, str, str], Awaitable[str | None]]
"""(telephone, code, key of the message) -> None where it may have left, else why it did not."""
_SECRET = "relation-codes"  # noqa: S105 - the name of one
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Relations:
    """The operations; `send_code` is None where no SMS is set up."""

    send_code: SendCode | None = None

    def promises(self) -> tuple[Promise, ...]:
        """Return the operations as the registry wants them."""
        rows = (("request-relation", self.request_relation), (CONFIRM, self.confirm_relation))
        return tuple(
            Promise(
                code=code,
                definition=definition_of("RelatedPerson", code),
                levels=frozenset({"instance"}),
                types=frozenset({"RelatedPerson"}),
                handler=handler,
                affects_state=True,
            )
            for code, handler in rows
        )

    async def request_relation(self, hub: Hub, request: Request) -> Answer:
        """Send each side a code; the answer is the Task that waits for them."""
        wish = _wish(given_in(hub, request))
        now = datetime.datetime.now(datetime.UTC)
        relation.require_wish(wish, day_of(now))
        if self.send_code is None:
            raise _not_set_up()
        task_id = str(uuid.uuid4())
        codes = {side: f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}d}" for side in SIDES}
        phones: dict[str, str] = {}

        async def work(transaction: Transaction) -> Answer:
            relative, resident = await _people(hub, request, transaction)
            phones.update(relation.phones_of(resident, relative))
            await _require_few(hub, transaction, request.address.id)
            task = relation.waiting(
                relative,
                wish,
                await _digests(transaction, task_id, codes),
                task_id=task_id,
                actor=context_of(request).actor,
                now=now,
            )
            operations = operations_of([task])
            (written,) = await transaction.apply(operations, context=context_of(request))
            return Answer(status=201, body=written.version.body, kind="resource")

        # The codes leave behind the commit: no connection waits for the SMS cloud.
        answer = await once(hub, request, work)
        if not phones:
            await _require_sent(hub, answer)
        for side, phone in phones.items():
            failed = await self.send_code(phone, codes[side], f"{task_id}-{side}")
            if failed is not None:
                await _note_unsent(hub, request, task_id, failed)
                raise _unsent(side, failed)
        return answer

    async def confirm_relation(self, hub: Hub, request: Request) -> Answer:
        """Take the code of one side or of both; the last one writes the Consent."""
        given = given_in(hub, request)
        key = key_of(given.text("task"), "Task", "task")
        codes = {side: code for side in SIDES if (code := given.maybe(f"{side}Code"))}
        if not codes:
            raise bad_parameter(
                "residentCode",
                "Send residentCode, relativeCode, or both.",
                "请发送 residentCode、relativeCode 或两者。",
            )

        async def work(transaction: Transaction) -> Answer:
            _, resident = await _people(hub, request, transaction)
            task = (await transaction.read_for_update([key])).get(key)
            own = f"RelatedPerson/{request.address.id}"
            if task is None or task.get("focus", {}).get("reference") != own:
                raise unknown(*key)
            found = relation.confirm(
                task,
                resident,
                await _digests(transaction, key[1], codes),
                consent_id=str(uuid.uuid4()),
                actor=context_of(request).actor,
                now=datetime.datetime.now(datetime.UTC),
            )
            operations = operations_of(found.effects)
            written = await transaction.apply(operations, context=context_of(request))
            if found.refusal is not None:
                # The try counts, so it is kept although it is refused.
                return outcome(422, found.refusal.issues)
            made = {one.version.type: one.version.body for one in written}
            return Answer(status=200, body=made.get("Consent", made["Task"]), kind="resource")

        return await once(hub, request, work)


def _wish(given: Given) -> Wish:
    until = given.day("until") if given.named("until") else None
    return Wish(scopes=tuple(dict.fromkeys(given.texts("scope"))), until=until)


async def _people(
    hub: Hub, request: Request, transaction: Transaction
) -> tuple[Resource, Resource]:
    """Return the relative, kept from other writers, and the resident.

    Who may change the relation may ask, and the relative. A hidden one looks as if there were none.
    """
    key = ("RelatedPerson", request.address.id)
    relative = (await transaction.read_for_update([key])).get(key)
    is_own = request.caller.fhir_user == "/".join(key)
    if not is_own:
        rights = await hub.authorize(request.caller, "u", key[0])
        searcher = hub.store.searcher
        if rights.criteria_of(key[0]) is not None and not await permitted_ids(
            transaction.connection, searcher, key[0], [key[1]], rights
        ):
            raise unknown(*key)
    if relative is None:
        raise unknown(*key)
    patient = key_of(str(relative.get("patient", {}).get("reference", "")), "Patient", "patient")
    resident = (await transaction.read_current([patient])).get(patient)
    if resident is None:
        raise unknown(*patient)
    return relative, resident


async def _digests(transaction: Transaction, task_id: str, codes: dict[str, str]) -> dict[str, str]:
    """Return what is kept of codes: without the secret, a million guesses would find each."""
    secret = await site_secret(transaction.connection, _SECRET)
    return {
        side: hmac.new(secret, f"{task_id} {side} {code}".encode(), hashlib.sha256).hexdigest()
        for side, code in codes.items()
    }


async def _require_few(hub: Hub, transaction: Transaction, relative: str) -> None:
    asked = [("focus", f"RelatedPerson/{relative}"), ("code", f"{ACTIVITY}|{CONFIRM}")]
    if await is_spent(hub, transaction, "Task", asked, date="authored-on", most=MOST_REQUESTS):
        raise refuse(
            "relation-often",
            f"Codes were sent {MOST_REQUESTS} times today for this relative",
            f"该家属今日已获取验证码 {MOST_REQUESTS} 次",
            "Try again tomorrow, or record the Consent with the team in person.",
            "请明日再试，或由团队现场登记授权。",
        )


async def _require_sent(hub: Hub, answer: Answer) -> None:
    """Refuse a repeat of a request whose messages did not leave: its answer was kept before."""
    key = ("Task", str(resource_json.parse(answer.body)["id"]))
    async with hub.store.begin() as transaction:
        task = (await transaction.read_current([key])).get(key, {})
    if task.get("status") == "failed" and "output" not in task:
        raise _unsent("relative", str(task.get("statusReason", {}).get("text", "")))


async def _note_unsent(hub: Hub, request: Request, task_id: str, reason: str) -> None:
    key = ("Task", task_id)
    async with hub.store.begin() as transaction:
        task = (await transaction.read_for_update([key]))[key]
        operations = operations_of([relation.unsent(task, reason)])
        await transaction.apply(operations, context=context_of(request))


def _unsent(side: str, reason: str) -> BusinessRule:
    return refuse(
        "relation-unsent",
        f"The message to the {side} did not leave ({reason})",
        f"验证码短信未能发出（{reason}）",
        "Check the telephone number on record and ask again in some minutes.",
        "请核对档案中的手机号，数分钟后重试。",
        "Patient.telecom" if side == "resident" else "RelatedPerson.telecom",
    )


def _not_set_up() -> BusinessRule:
    return refuse(
        "relation-off",
        "No SMS is set up, so no codes can be sent",
        "未配置短信服务，无法发送验证码",
        "Set QIAO_SMS_URL and its keys, or record the Consent with the team in person.",
        "请配置 QIAO_SMS_URL 及密钥，或由团队现场登记授权。",
    )
