"""Signing, payment and the first day: how a contract comes into effect, and how it is renewed."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from care.agreement.text import Agreement
from care.contract import content
from care.contract.application import (
    Application,
    drafted,
    require_hash,
    with_agreement,
    with_read_confirmation,
)
from care.contract.evidence import Signing, kept, require_evidence, signers_of
from care.contract.states import Event, State, amended_by, require_lawful, state_of
from care.contract.steps import (
    AMENDMENT,
    INVOICE_USED,
    PAYMENT,
    START,
    awaits_payment,
    decide,
    hold,
    hold_start,
    is_due,
    require_term,
)
from care.contract.surroundings import (
    Surroundings,
    require_alive,
    require_packages_valid,
    require_prices,
    require_signer,
    require_staff,
    require_suits,
    require_team,
)
from care.effects import Decision, Effect, Hold, LetGo, Put, Resource, refuse
from care.package.content import canonical_of, is_paid_first, total_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment that has arrived: the invoice it settled, for whom, and how much."""

    invoice: str
    resident: str
    amount: Decimal


def sign(around: Surroundings, contract: Resource, signing: Signing) -> Decision:
    """Sign by both sides; in effect at once unless payment or a later start is awaited."""
    state = require_lawful(contract, Event.SIGN)
    _require_signable(around, contract, signing)
    start, _ = content.period_of(contract)
    require_packages_valid(around, content.packages_of(contract), max(start, around.today))
    signed: dict[str, Any] = {**contract, "signer": signers_of(signing)}
    if state is State.AMENDING:
        return _sign_amendment(around, signed, signing)
    return _signed(around, signed, signing, "sign")


def sign_at_once(around: Surroundings, application: Application, signing: Signing) -> Decision:
    """Apply, review and sign in one step: a doctor beside the resident needs no first review."""
    contract = drafted(around, application)
    if content.extension_value(contract, "review-stages"):
        raise refuse(
            "review-required",
            "The package or the hub asks for two reviews, so it is not signed in one step",
            "该服务包或本平台要求两级审核，不能一步签约",
            "Apply with Contract/$submit-application, and sign after both reviews.",
            "请先用 Contract/$submit-application 提交申请，两级审核通过后签署。",
            "Contract.status",
        )
    contract, confirmation = with_read_confirmation(around, contract, application)
    contract, text = with_agreement(around, contract, application.agreement)
    _require_signable(around, contract, signing)
    contract["signer"] = signers_of(signing)
    return _signed(around, contract, signing, "sign", [*confirmation, *text], is_new=True)


def reject_taken(around: Surroundings, contract: Resource, signing: Signing) -> Decision:
    """Keep the proof of an offline signing that came too late: the resident signed elsewhere."""
    changed = content.with_status(contract, "rejected")
    changed["signer"] = signers_of(signing)
    puts, said = kept(around, changed, signing)
    words = "居民已与其他团队签约 (the resident had signed elsewhere)"
    task = content.task(around, "sign-contract", contract, "rejected", words)
    return decide(around, changed, "sign", [task], more=puts, evidence=said)


def pay(around: Surroundings, contract: Resource, payment: Payment) -> Decision:
    """Note the payment; the contract takes effect if its first day has come."""
    state = require_lawful(contract, Event.PAY)
    require_alive(around.resident)
    require_term(*content.period_of(contract), around.today)
    if not awaits_payment(contract):
        raise refuse(
            "payment-not-awaited",
            "The contract awaits no payment",
            "该协议无待支付费用",
            "Nothing is to be done; refund the payment if it was made twice.",
            "无需操作；如重复支付请退款。",
            "Contract.extension",
        )
    owed = owed_for(around, contract)
    if payment.amount != owed or payment.resident != content.resident_of(contract):
        raise refuse(
            "payment-differs",
            f"The invoice is not over CNY {owed} for this resident",
            f"账单与应付金额 {owed} 元或签约居民不一致",
            "Name the invoice of this contract (Invoice.subject, Invoice.totalNet).",
            "请指定本协议的账单（Invoice.subject、Invoice.totalNet）。",
            "Invoice.totalNet",
        )
    own = content.reference_to(contract)
    claim = Hold(kind=PAYMENT, key=payment.invoice, holder=own, taken=INVOICE_USED)
    paid = content.with_extension(contract, "effective-on-payment", "valueBoolean", False)
    task = content.task(
        around,
        "collect-payment",
        contract,
        "completed",
        more={"output": [_output("invoice", payment.invoice)]},
    )
    if state is State.AMENDMENT_UNPAID:
        return _take_over(around, paid, [claim], [task], "payment")
    if is_due(around, paid):
        return decide(
            around,
            _in_effect(paid),
            "payment",
            [task],
            more=[claim],
            begun=tuple(content.packages_of(paid)),
        )
    start = content.task(around, "start-contract", contract, "requested")
    return decide(around, paid, "payment", [task, start], more=[claim, hold_start(paid)])


def owed_for(around: Surroundings, contract: Resource) -> Decimal:
    """Return what is to be paid: the prices, or what a new version costs more than the old."""
    total = total_of(content.prices_of(contract))
    if amended_by(contract) is None:
        return total
    return total - total_of(content.prices_of(_amended(around)))


def start(around: Surroundings, contract: Resource) -> Decision:
    """Put a signed contract into effect on its first day."""
    require_lawful(contract, Event.START)
    require_alive(around.resident)
    _, end = content.period_of(contract)
    if not is_due(around, contract) or around.today > end:
        raise refuse(
            "contract-not-due",
            "The first day has not come, the last one is over, or the payment is open",
            "未到生效日、已过到期日或尚未付费",
            "Wait for the first day, or collect the payment ($confirm-payment).",
            "请等待生效日或先完成付费（$confirm-payment）。",
            "Contract.applies.start",
        )
    task = content.task(around, "start-contract", contract, "completed")
    return decide(
        around,
        _in_effect(contract),
        "execute",
        [task],
        more=[LetGo(kind=START, holder=content.reference_to(contract))],
        begun=tuple(content.packages_of(contract)),
    )


def renew(
    around: Surroundings,
    contract: Resource,
    *,
    contract_id: str,
    number: str,
    end: datetime.date,
    signing: Signing,
    packages: Mapping[str, Decimal] | None = None,
    agreement: Agreement | None = None,
) -> Decision:
    """Sign a following contract; the old one runs to its own end, so that there is no gap.

    `packages` are other ones than those of the old contract.
    """
    require_lawful(contract, Event.RENEW)
    require_staff(around, "$renew")
    require_alive(around.resident)
    require_team(around)
    require_signer(around, signing.resident, signing.doctor)
    require_hash(signing.agreement_hash)
    _, old_end = content.period_of(contract)
    first = old_end + datetime.timedelta(days=1)
    require_term(first, end, around.today)
    agreed = dict(packages or content.prices_of(contract))
    require_packages_valid(around, list(agreed), max(first, around.today))
    require_prices(around, agreed)
    _require_suits(around, contract, list(agreed))
    team = content.team_of(contract)
    following: dict[str, Any] = {
        **{k: v for k, v in contract.items() if k not in ("meta", "relevantHistory")},
        "id": contract_id,
        "identifier": [{"system": content.NUMBER, "value": number}],
        "issued": around.now.isoformat(),
        "applies": {"start": first.isoformat(), "end": end.isoformat()},
        "term": [
            content.term(package, team, price, canonical_of(around.packages[package]))
            for package, price in agreed.items()
        ],
        "signer": signers_of(signing),
    }
    following = content.with_extension(
        following, "contract-agreement-hash", "valueString", signing.agreement_hash
    )
    if content.extension_value(contract, "effective-on-payment") is not None:
        following = content.with_extension(following, "effective-on-payment", "valueBoolean", True)
    require_evidence(around, str(content.extension_value(contract, "sign-mode")), signing)
    old = {"reference": content.reference_to(contract)}
    following = content.with_extension(following, "renews", "valueReference", old)
    following = content.with_status(following, "executable", "renewed")
    following, text = with_agreement(around, following, agreement)
    renewed = _signed(around, following, signing, "renew", text, is_new=True)
    done = content.task(around, "renew-contract", contract, "completed")
    return Decision(
        contract=renewed.contract,
        effects=(*_with_history(renewed), done),
        topics=renewed.topics,
        begun=renewed.begun,
    )


def _with_history(decision: Decision) -> list[Effect]:
    """Let the contract name the Provenance of its renewal as its history."""
    who = next(
        one.resource
        for one in decision.effects
        if isinstance(one, Put) and one.resource["resourceType"] == "Provenance"
    )
    history = [{"reference": content.reference_to(who)}]
    own = content.reference_to(decision.contract)
    return [
        replace(one, resource={**one.resource, "relevantHistory": history})
        if isinstance(one, Put) and content.reference_to(one.resource) == own
        else one
        for one in decision.effects
    ]


def _require_signable(around: Surroundings, contract: Resource, signing: Signing) -> None:
    require_staff(around, "$sign")
    require_alive(around.resident)
    require_term(*content.period_of(contract), around.today)
    _require_suits(around, contract, content.packages_of(contract))
    require_team(around)
    require_signer(around, signing.resident, signing.doctor)
    require_evidence(around, str(content.extension_value(contract, "sign-mode")), signing)
    if signing.agreement_hash != content.extension_value(contract, "contract-agreement-hash"):
        raise refuse(
            "agreement-changed",
            "The agreement that was signed is not the one that was read",
            "签署的协议与确认阅读的协议不一致",
            "Show the agreement again, confirm it, and sign that one.",
            "请重新展示并确认协议后签署。",
            "Contract.extension",
        )


def _require_suits(around: Surroundings, contract: Resource, packages: list[str]) -> None:
    override = content.extension_value(contract, "suitability-override")
    require_suits(around, packages, str(override or ""))


def _signed(
    around: Surroundings,
    signed: dict[str, Any],
    signing: Signing,
    activity: str,
    more: list[Put] | None = None,
    *,
    is_new: bool = False,
) -> Decision:
    """Claim the term; in effect, or waiting for its payment or its first day."""
    puts, said = kept(around, signed, signing)
    effects: list[Effect] = [hold(signed), *(more or ()), *puts]
    done = content.task(around, "sign-contract", signed, "completed")
    if is_due(around, signed):
        return decide(
            around,
            _in_effect(signed),
            activity,
            [done],
            more=effects,
            evidence=said,
            is_new=is_new,
            begun=tuple(content.packages_of(signed)),
        )
    signed = content.with_status(signed, "executable", _legal(signed, "executable"))
    if awaits_payment(signed):
        waiting = content.task(around, "collect-payment", signed, "requested")
    else:
        waiting = content.task(around, "start-contract", signed, "requested")
        effects.append(hold_start(signed))
    return decide(
        around, signed, activity, [done, waiting], more=effects, evidence=said, is_new=is_new
    )


def _sign_amendment(around: Surroundings, signed: dict[str, Any], signing: Signing) -> Decision:
    """Let the new version take its contract's place, once what it costs more is paid."""
    old = _amended(around)
    puts, said = kept(around, old, signing)
    is_prepaid = content.extension_value(old, "effective-on-payment") is not None or any(
        is_paid_first(around.packages.get(one, {})) for one in content.packages_of(signed)
    )
    if not is_prepaid or owed_for(around, signed) <= 0:
        return _take_over(around, signed, puts, [], "amend", said)
    unpaid = content.with_extension(signed, "effective-on-payment", "valueBoolean", True)
    unpaid = content.with_status(unpaid, "executable")
    tasks = [
        content.task(around, "amend-contract", signed, "in-progress"),
        content.task(around, "collect-payment", signed, "requested"),
    ]
    return decide(around, unpaid, "sign", tasks, more=puts, evidence=said)


def _amended(around: Surroundings) -> Resource:
    """Return the contract that a new version belongs to, which must be in effect."""
    old = around.predecessor
    if old is None or state_of(old) is not State.EFFECTIVE:
        raise refuse(
            "contract-amended-ended",
            "The contract that this version belongs to is not in effect",
            "所变更的协议已不在履约中",
            "Reject this version ($review reject); submit a new application if still wanted.",
            "请驳回本次变更（$review reject）；如仍需签约请提交新申请。",
            "Contract.status",
        )
    return old


def _take_over(
    around: Surroundings,
    signed: Resource,
    more: Sequence[Effect],
    tasks: Sequence[Put],
    activity: str,
    said: Mapping[str, Any] | None = None,
) -> Decision:
    """Let the new version take its contract's place, packages added or changed."""
    old = _amended(around)
    before, after = content.packages_of(old), content.packages_of(signed)
    legal = "appended" if set(before) <= set(after) else "amended"
    in_force = {
        **{k: v for k, v in old.items() if k != "meta"},
        "term": content.with_team(signed, content.team_of(old))["term"],
        "signer": signed["signer"],
    }
    for name in ("legal", "instantiatesCanonical"):
        in_force.pop(name, None)
        if name in signed:
            in_force[name] = signed[name]
    digest = content.extension_value(signed, "contract-agreement-hash")
    in_force = content.with_extension(in_force, "contract-agreement-hash", "valueString", digest)
    in_force = content.with_status(in_force, "executed", legal)
    draft = content.with_status(signed, "amended", legal)
    done = content.task(around, "amend-contract", signed, "completed")
    free = LetGo(kind=AMENDMENT, holder=content.reference_to(signed))
    return decide(
        around,
        in_force,
        activity,
        [*tasks, done, Put(draft)],
        more=[free, *more],
        evidence=said,
        begun=tuple(one for one in after if one not in before),
        ended=tuple(one for one in before if one not in after),
    )


def _in_effect(contract: Resource) -> dict[str, Any]:
    return content.with_status(contract, "executed", _legal(contract, "executed"))


def _legal(contract: Resource, otherwise: str) -> str:
    """Return the legal state: a renewed contract stays one whatever its status."""
    return "renewed" if content.legal_state_of(contract) == "renewed" else otherwise


def _output(name: str, reference: str) -> dict[str, Any]:
    return {"type": {"text": name}, "valueReference": {"reference": reference}}
