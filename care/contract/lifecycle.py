"""The steps of a contract's life: each takes it and a command, and decides or refuses.

Every step returns the contract, its Task, the Provenance and the claims, to be written in one
commit; it never looks at the clock or the store itself.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from care.contract import content
from care.contract.states import AMENDING, Event, State, amended_by, require_lawful, state_of
from care.contract.surroundings import (
    LONGEST_YEARS,
    Surroundings,
    require_alive,
    require_packages_valid,
    require_prices,
    require_signer,
    require_team,
    start_of,
)
from care.effects import Decision, Effect, Hold, LetGo, Put, Resource, refuse

SERVICE = "family-doctor"
"""The claim that a resident has one active contract at a time."""

CANCELLED_BY = frozenset({"01", "04", "05"})
"""Reasons that are one-sided (失访, 拒绝, 改签); the others are agreed or forced: `revoked`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A wish to sign: who, with which team, which packages at which price, from when to when."""

    contract_id: str
    number: str
    resident: str
    team: str
    packages: Mapping[str, Decimal]
    start: datetime.date
    end: datetime.date
    agreement_hash: str
    mode: str = "consulting-room"
    pay_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """Both signatures: parties as references, each with its FHIR Signature."""

    resident: str
    doctor: str
    signatures: Mapping[str, Mapping[str, Any]]
    agreement_hash: str
    evidence: tuple[Mapping[str, Any], ...] = field(default=())


def submit(around: Surroundings, application: Application) -> Decision:
    """Take an application: 申请中."""
    require_alive(around.resident)
    _require_term(application.start, application.end, around.today)
    require_packages_valid(around, list(application.packages), application.start)
    require_prices(around, application.packages)
    require_team(around)
    contract: dict[str, Any] = {
        "resourceType": "Contract",
        "id": application.contract_id,
        "extension": [
            content.extension("sign-mode", "valueCode", application.mode),
            content.extension("contract-agreement-hash", "valueString", application.agreement_hash),
            content.extension("effective-on-payment", "valueBoolean", application.pay_first),
        ],
        "identifier": [{"system": "urn:qiao:contract", "value": application.number}],
        "issued": around.now.isoformat(),
        "applies": {
            "start": application.start.isoformat(),
            "end": application.end.isoformat(),
        },
        "subject": [{"reference": application.resident}],
        "term": [
            content.term(package, application.team, price)
            for package, price in application.packages.items()
        ],
    }
    contract = content.with_status(contract, "offered")
    return _decision(around, contract, "application", "review-contract", "requested")


def review(around: Surroundings, contract: Resource, verdict: str, reason: str = "") -> Decision:
    """Approve, reject, or ask for more; `verdict` is approve, supplement or reject."""
    events = {"approve": Event.APPROVE, "supplement": Event.ASK_SUPPLEMENT, "reject": Event.REJECT}
    event = events.get(verdict)
    if event is None:
        raise refuse(
            "review-verdict",
            f"{verdict!r} is no verdict",
            f"{verdict!r} 不是审核结论",
            "Give approve, supplement or reject.",
            "请给出 approve、supplement 或 reject。",
        )
    require_lawful(contract, event)
    if event is not Event.APPROVE and not reason:
        raise refuse(
            "review-reason",
            "A refusal or a request for more needs its reason",
            "拒绝或要求补充时须说明原因",
            "Give the reason in words the resident understands.",
            "请用居民能理解的话说明原因。",
        )
    if event is Event.APPROVE:
        require_alive(around.resident)
        changed = content.with_status(contract, "executable")
        return _decision(around, changed, "review", "sign-contract", "requested")
    status = "negotiable" if event is Event.ASK_SUPPLEMENT else "rejected"
    changed = content.with_status(contract, status)
    state = "on-hold" if event is Event.ASK_SUPPLEMENT else "rejected"
    return _decision(around, changed, "review", "review-contract", state, reason=reason)


def resubmit(around: Surroundings, contract: Resource, agreement_hash: str) -> Decision:
    """Take up an application again after it was supplemented."""
    require_lawful(contract, Event.RESUBMIT)
    require_alive(around.resident)
    changed = content.with_extension(
        contract, "contract-agreement-hash", "valueString", agreement_hash
    )
    changed = content.with_status(changed, "offered")
    return _decision(around, changed, "application", "review-contract", "requested")


def sign(around: Surroundings, contract: Resource, signing: Signing) -> Decision:
    """Sign by both sides; in effect at once unless payment or a later start is awaited."""
    state = require_lawful(contract, Event.SIGN)
    require_alive(around.resident)
    require_team(around)
    require_signer(around, {"resident": signing.resident, "doctor": signing.doctor})
    if signing.agreement_hash != content.extension_value(contract, "contract-agreement-hash"):
        raise refuse(
            "agreement-changed",
            "The agreement that was signed is not the one that was read",
            "签署的协议与确认阅读的协议不一致",
            "Show the agreement again, confirm it, and sign that one.",
            "请重新展示并确认协议后签署。",
            "Contract.extension",
        )
    start, _ = content.period_of(contract)
    require_packages_valid(around, content.packages_of(contract), max(start, around.today))
    signed = {**contract, "signer": [_signer(kind, signing) for kind in ("resident", "doctor")]}
    if state is State.AMENDING:
        return _sign_amendment(around, signed, signing)
    signed = content.with_status(signed, "executable")
    effects: list[Effect] = [_hold(signed)]
    if _is_due(around, signed):
        signed = content.with_status(signed, "executed")
        return _decision(
            around,
            signed,
            "sign",
            "sign-contract",
            "completed",
            more=tuple(effects),
            evidence=signing.evidence,
        )
    code = "collect-payment" if _awaits_payment(signed) else "start-contract"
    return _decision(
        around, signed, "sign", code, "requested", more=tuple(effects), evidence=signing.evidence
    )


def pay(around: Surroundings, contract: Resource) -> Decision:
    """Note the payment; the contract takes effect if its first day has come."""
    require_lawful(contract, Event.PAY)
    paid = content.with_extension(contract, "effective-on-payment", "valueBoolean", False)
    if _is_due(around, paid):
        paid = content.with_status(paid, "executed")
    return _decision(around, paid, "payment", "collect-payment", "completed")


def start(around: Surroundings, contract: Resource) -> Decision:
    """Put a signed contract into effect on its first day."""
    require_lawful(contract, Event.START)
    if not _is_due(around, contract):
        raise refuse(
            "contract-not-due",
            "The first day has not come, or the payment is open",
            "未到生效日或尚未付费",
            "Wait for the first day, or collect the payment.",
            "请等待生效日或先完成付费。",
            "Contract.applies.start",
        )
    changed = content.with_status(contract, "executed")
    return _decision(around, changed, "execute", "start-contract", "completed")


def amend(
    around: Surroundings, contract: Resource, packages: Mapping[str, Decimal], agreement_hash: str
) -> Decision:
    """Draft a new version with other packages; the old one stays in effect until it is signed."""
    require_lawful(contract, Event.AMEND)
    require_alive(around.resident)
    require_packages_valid(around, list(packages), around.today)
    require_prices(around, packages)
    team = content.team_of(contract)
    draft = {
        **{k: v for k, v in contract.items() if k not in ("signer", "meta")},
        "id": around.ids[2],
        "term": [content.term(package, team, price) for package, price in packages.items()],
    }
    draft["extension"] = [e for e in contract.get("extension", ()) if e["url"] != AMENDING]
    draft["extension"].append(
        {"url": AMENDING, "valueReference": {"reference": content.reference_to(contract)}}
    )
    draft = content.with_extension(draft, "contract-agreement-hash", "valueString", agreement_hash)
    draft = content.with_status(draft, "negotiable")
    return _decision(around, draft, "amend", "amend-contract", "requested")


def renew(
    around: Surroundings,
    contract: Resource,
    *,
    contract_id: str,
    number: str,
    end: datetime.date,
    signing: Signing,
) -> Decision:
    """Sign a following contract; the old one runs to its own end, so that there is no gap."""
    require_lawful(contract, Event.RENEW)
    require_alive(around.resident)
    require_team(around)
    require_signer(around, {"resident": signing.resident, "doctor": signing.doctor})
    _, old_end = content.period_of(contract)
    first = old_end + datetime.timedelta(days=1)
    _require_term(first, end, around.today)
    require_packages_valid(around, content.packages_of(contract), first)
    following = {
        **{k: v for k, v in contract.items() if k not in ("meta", "relevantHistory")},
        "id": contract_id,
        "identifier": [{"system": "urn:qiao:contract", "value": number}],
        "issued": around.now.isoformat(),
        "applies": {"start": first.isoformat(), "end": end.isoformat()},
        "signer": [_signer(kind, signing) for kind in ("resident", "doctor")],
        "relevantHistory": [{"reference": f"Provenance/{around.ids[1]}"}],
    }
    following = content.with_status(following, "executable", "renewed")
    return _decision(
        around,
        following,
        "renew",
        "renew-contract",
        "completed",
        more=(_hold(following),),
        evidence=signing.evidence,
    )


def expire(around: Surroundings, contract: Resource) -> Decision:
    """End a contract whose last day is over."""
    require_lawful(contract, Event.EXPIRE)
    _, end = content.period_of(contract)
    if around.today <= end:
        raise refuse(
            "contract-runs",
            "The last day of the contract is not over",
            "合同尚未到期",
            "Wait, or end it early with $terminate.",
            "请等待到期，或用 $terminate 提前解约。",
            "Contract.applies.end",
        )
    changed = _with_reason(content.with_status(contract, "terminated"), "07")
    return _decision(
        around, changed, "expire", "terminate-contract", "completed", more=(_let_go(contract),)
    )


def terminate(around: Surroundings, contract: Resource, reason: str) -> Decision:
    """End early for a reason of 解约原因; death (03) closes at once whoever asks."""
    require_lawful(contract, Event.TERMINATE)
    status = "cancelled" if reason in CANCELLED_BY else "revoked"
    changed = _with_reason(content.with_status(contract, status), reason)
    return _decision(
        around, changed, "terminate", "terminate-contract", "completed", more=(_let_go(contract),)
    )


def dispute(around: Surroundings, contract: Resource, complaint: str) -> Decision:
    """Note a complaint; services go on."""
    require_lawful(contract, Event.DISPUTE)
    changed = content.with_status(contract, "disputed")
    return _decision(around, changed, "dispute", "complaint", "requested", reason=complaint)


def resolve(around: Surroundings, contract: Resource, outcome: str) -> Decision:
    """Settle a dispute; the contract goes on."""
    require_lawful(contract, Event.RESOLVE)
    changed = content.with_status(contract, "executed", "resolved")
    return _decision(around, changed, "resolve", "complaint", "completed", reason=outcome)


def void(around: Surroundings, contract: Resource, reason: str) -> Decision:
    """Take back a contract that should never have been written."""
    require_lawful(contract, Event.VOID)
    changed = content.with_status(contract, "entered-in-error")
    return _decision(
        around,
        changed,
        "nullify",
        "void-contract",
        "completed",
        reason=reason,
        more=(_let_go(contract),),
    )


def reassign(around: Surroundings, contract: Resource, team: str) -> Decision:
    """Give the contract to another team, which must be able to serve it."""
    require_lawful(contract, Event.REASSIGN)
    require_alive(around.resident)
    require_team(around)
    terms = [
        {
            **one,
            "action": [{**action, "performer": {"reference": team}} for action in one["action"]],
        }
        for one in contract["term"]
    ]
    return _decision(around, {**contract, "term": terms}, "reassign", "reassign", "completed")


def _decision(
    around: Surroundings,
    contract: Resource,
    activity: str,
    code: str,
    task_status: str,
    *,
    reason: str = "",
    more: tuple[Effect, ...] = (),
    evidence: tuple[Mapping[str, Any], ...] = (),
) -> Decision:
    task = content.task(around, around.ids[0], code, contract, task_status, reason)
    who = content.provenance(around, around.ids[1], activity, [contract], evidence=evidence)
    return Decision(
        contract=contract,
        effects=(*more, Put(contract), task, who),
        topics=("contract-state-changed",),
    )


def _sign_amendment(around: Surroundings, signed: Resource, signing: Signing) -> Decision:
    """Let the new version take the old one's place, packages added or changed."""
    old = str(amended_by(signed))
    in_force = content.with_status(signed, "executed", "amended")
    in_force["extension"] = [e for e in in_force["extension"] if e["url"] != AMENDING]
    in_force["id"] = old.partition("/")[2]
    draft = content.with_status(signed, "entered-in-error")
    decision = _decision(
        around, in_force, "amend", "amend-contract", "completed", evidence=signing.evidence
    )
    return Decision(
        contract=in_force, effects=(*decision.effects, Put(draft)), topics=decision.topics
    )


def _signer(kind: str, signing: Signing) -> dict[str, Any]:
    party = signing.resident if kind == "resident" else signing.doctor
    system = "http://terminology.hl7.org/CodeSystem/contractsignertypecodes"
    return {
        "type": {"system": system, "code": "CONSENTER" if kind == "resident" else "HPROV"},
        "party": {"reference": party},
        "signature": [dict(signing.signatures[kind])],
    }


def _require_term(start: datetime.date, end: datetime.date, today: datetime.date) -> None:
    longest = start.replace(year=start.year + LONGEST_YEARS, day=min(start.day, 28))
    if end < start or end > longest or end < today:
        raise refuse(
            "contract-term",
            f"The term must end on or after its start and today, and last {LONGEST_YEARS} years at "
            "most",
            f"协议期限应不早于开始日和今天结束，且不超过 {LONGEST_YEARS} 年",
            "Correct applies.start and applies.end.",
            "请更正协议起止日期。",
            "Contract.applies",
        )


def _is_due(around: Surroundings, contract: Resource) -> bool:
    begin, _ = content.period_of(contract)
    return begin <= around.today and not _awaits_payment(contract)


def _awaits_payment(contract: Resource) -> bool:
    return content.extension_value(contract, "effective-on-payment") is True


def _hold(contract: Resource) -> Hold:
    begin, end = content.period_of(contract)
    return Hold(
        kind=SERVICE,
        key=content.resident_of(contract),
        holder=content.reference_to(contract),
        start=start_of(begin),
        end=start_of(end + datetime.timedelta(days=1)),
    )


def _let_go(contract: Resource) -> LetGo:
    return LetGo(kind=SERVICE, holder=content.reference_to(contract))


def _with_reason(contract: Resource, reason: str) -> dict[str, Any]:
    return content.with_extension(contract, "termination-reason", "valueCode", reason)


__all__ = ["Application", "Signing", "state_of"]
