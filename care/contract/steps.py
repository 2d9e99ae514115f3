"""What all steps share: how a decision is put together, and the claims of a contract."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from care.contract import content
from care.contract.surroundings import LONGEST_YEARS, Surroundings
from care.effects import Decision, Effect, Hold, LetGo, Put, Resource, refuse
from care.periods import end_of, start_of
from conformance.problem import Issue

SERVICE = "family-doctor"
"""The claim that a resident has one active contract at a time; it ends with the term."""
START = "contract-start"
"""The claim of a signed contract on the day from which it can take effect."""
AMENDMENT = "contract-amendment"
"""The claim that a contract has one new version at a time."""
PAYMENT = "contract-payment"
"""The claim that an invoice pays for one contract."""

OVERLAP = Issue(
    code="conflict",
    key="contract-overlap",
    text_en="The resident has another contract in this term; nothing was written",
    text_zh="该居民在此期间已有其他签约协议，本次未写入任何内容",
    fix_en="End the other one first ($terminate), or begin the day after it ends ($renew).",
    fix_zh="请先解除原协议（$terminate），或从其到期次日开始（$renew）。",
    expression="Contract.applies",
)
EXISTS = Issue(
    code="conflict",
    key="contract-exists",
    text_en="A contract with this contractId is there; nothing was written",
    text_zh="该 contractId 的协议已存在，本次未写入任何内容",
    fix_en="Take another contractId. A repeat carries the Idempotency-Key of the first request; a "
    "supplemented application goes to Contract/[id]/$submit-application.",
    fix_zh="请改用新的 contractId；重发请带首次请求的 Idempotency-Key；"
    "补充后的申请请提交到 Contract/[id]/$submit-application。",
    expression="Parameters.parameter.where(name = 'contractId')",
)
VERSION_OPEN = Issue(
    code="conflict",
    key="contract-claim-taken",
    text_en="A new version of the contract is open already",
    text_zh="该协议已有待签的变更",
    fix_en="Sign or reject the open version.",
    fix_zh="请先签署或驳回原变更。",
    expression="Contract.id",
)
INVOICE_USED = Issue(
    code="conflict",
    key="contract-claim-taken",
    text_en="The invoice paid another contract",
    text_zh="该账单已用于其他协议",
    fix_en="Name the invoice of this contract.",
    fix_zh="请指定本协议的账单。",
    expression="Invoice",
)


def decide(
    around: Surroundings,
    contract: Resource,
    activity: str,
    tasks: Sequence[Put],
    *,
    more: Sequence[Effect] = (),
    evidence: Mapping[str, Any] | None = None,
    is_new: bool = False,
    **facts: Any,
) -> Decision:
    """Return the decision on a contract with its Tasks and who did it.

    `is_new` says that the contract begins here and stands for no other of its id.
    """
    who = content.provenance(around, activity, [contract], more=evidence)
    return Decision(
        contract=contract,
        effects=(*more, Put(contract, is_new=is_new), *tasks, who),
        topics=("contract-state-changed",),
        **facts,
    )


def hold(contract: Resource) -> Hold:
    """Return the claim of the term, to local midnight after its last day."""
    begin, end = content.period_of(contract)
    return Hold(
        kind=SERVICE,
        key=content.resident_of(contract),
        holder=content.reference_to(contract),
        start=start_of(begin),
        end=end_of(end),
        taken=OVERLAP,
    )


def hold_start(contract: Resource) -> Hold:
    """Return the claim by which the contract is found on its first day."""
    own = content.reference_to(contract)
    begin, _ = content.period_of(contract)
    return Hold(kind=START, key=own, holder=own, start=start_of(begin), end=None)


def let_go(contract: Resource) -> tuple[LetGo, ...]:
    """Return the end of all claims of a contract on its resident."""
    own = content.reference_to(contract)
    return tuple(LetGo(kind=kind, holder=own) for kind in (SERVICE, START, AMENDMENT))


def is_due(around: Surroundings, contract: Resource) -> bool:
    """Say whether the contract can be in effect today: its first day has come, and it is paid."""
    begin, _ = content.period_of(contract)
    return begin <= around.today and not awaits_payment(contract)


def awaits_payment(contract: Resource) -> bool:
    """Say whether the contract takes effect only after a payment that has not come."""
    return content.extension_value(contract, "effective-on-payment") is True


def require_term(start: datetime.date, end: datetime.date, today: datetime.date) -> None:
    """Refuse a term that is over, runs backwards or is too long."""
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


def require_reason(reason: str, en: str, zh: str) -> None:
    """Refuse a step that needs its reason in words."""
    if not reason.strip():
        raise refuse(
            "reason-missing",
            f"{en} needs its reason",
            f"{zh}须说明原因",
            "Give the reason in words the resident understands.",
            "请用居民能理解的话说明原因。",
        )
