"""The states of a contract, the events that move it, and which moves are lawful.

The business state is read from what any FHIR client sees: `Contract.status`, whether somebody has
signed, and whether it is a new version of another.
"""

import enum
from collections.abc import Mapping

from care.effects import Resource, refuse
from conformance.cphc import BASE
from conformance.problem import BusinessRule

AMENDING = f"{BASE}/StructureDefinition/cphc-amends"
FIRST_REVIEW = f"{BASE}/StructureDefinition/cphc-first-review"


class State(enum.StrEnum):
    """Where a contract stands; the value is the Chinese word with its gloss."""

    APPLIED = "申请中 (applied)"
    SECOND_REVIEW = "待复审 (first review passed, second awaited)"
    SUPPLEMENT = "待补充 (to be supplemented)"
    APPROVED = "待签 (to be signed)"
    REJECTED = "拒签 (rejected)"
    SIGNED = "已签未生效 (signed, not in effect)"
    EFFECTIVE = "履约中 (in effect)"
    AMENDING = "变更中 (being amended)"
    AMENDMENT_UNPAID = "变更待付 (amendment signed, difference to be paid)"
    AMENDED = "已变更 (taken over by its contract)"
    DISPUTED = "争议 (disputed)"
    ENDED = "期满解约 (ended)"
    REVOKED = "中途解约 (revoked)"
    CANCELLED = "单方解约 (cancelled)"
    VOID = "作废 (void)"


class Event(enum.StrEnum):
    """What can happen to a contract; the value is the operation that asks for it."""

    APPROVE = "$review approve"
    ASK_SUPPLEMENT = "$review supplement"
    REJECT = "$review reject"
    RESUBMIT = "$submit-application"
    SIGN = "$sign"
    PAY = "$confirm-payment"
    START = "start"
    AMEND = "$amend"
    DELEGATE = "$delegate"
    REASSIGN = "$reassign"
    RENEW = "$renew"
    EXPIRE = "expiry"
    TERMINATE = "$terminate"
    DISPUTE = "$dispute"
    RESOLVE = "$resolve"
    VOID = "$void"


FINAL = frozenset(
    {State.REJECTED, State.AMENDED, State.ENDED, State.REVOKED, State.CANCELLED, State.VOID}
)

_REVIEW = (Event.APPROVE, Event.ASK_SUPPLEMENT, Event.REJECT)
LAWFUL: Mapping[State, frozenset[Event]] = {
    State.APPLIED: frozenset({*_REVIEW, Event.TERMINATE, Event.VOID}),
    State.SECOND_REVIEW: frozenset({*_REVIEW, Event.TERMINATE, Event.VOID}),
    State.SUPPLEMENT: frozenset({Event.RESUBMIT, Event.REJECT, Event.TERMINATE, Event.VOID}),
    State.APPROVED: frozenset({Event.SIGN, Event.REJECT, Event.TERMINATE, Event.VOID}),
    State.SIGNED: frozenset(
        {Event.PAY, Event.START, Event.EXPIRE, Event.TERMINATE, Event.VOID}
    ),
    State.EFFECTIVE: frozenset(
        {Event.AMEND, Event.DELEGATE, Event.REASSIGN, Event.RENEW, Event.EXPIRE, Event.TERMINATE,
         Event.DISPUTE, Event.VOID}
    ),
    State.AMENDING: frozenset({Event.SIGN, Event.REJECT, Event.TERMINATE, Event.VOID}),
    State.AMENDMENT_UNPAID: frozenset({Event.PAY, Event.REJECT, Event.TERMINATE, Event.VOID}),
    State.DISPUTED: frozenset({Event.RESOLVE, Event.EXPIRE, Event.TERMINATE}),
    **{state: frozenset[Event]() for state in FINAL},
}  # fmt: skip

_BY_STATUS: Mapping[str, State] = {
    "rejected": State.REJECTED,
    "executed": State.EFFECTIVE,
    "renewed": State.EFFECTIVE,
    "disputed": State.DISPUTED,
    "resolved": State.EFFECTIVE,
    "terminated": State.ENDED,
    "revoked": State.REVOKED,
    "cancelled": State.CANCELLED,
    "entered-in-error": State.VOID,
}


def state_of(contract: Resource) -> State:
    """Return the business state of a contract; a template or unknown status is refused."""
    status = str(contract.get("status", ""))
    if status == "negotiable":
        return State.AMENDING if amended_by(contract) else State.SUPPLEMENT
    if status == "offered":
        return State.SECOND_REVIEW if is_reviewed_once(contract) else State.APPLIED
    if status == "executable":
        if not contract.get("signer"):
            return State.APPROVED
        return State.AMENDMENT_UNPAID if amended_by(contract) else State.SIGNED
    if status in ("amended", "appended"):
        return State.AMENDED if amended_by(contract) else State.EFFECTIVE
    if status not in _BY_STATUS:
        raise not_an_agreement()
    return _BY_STATUS[status]


def not_an_agreement() -> BusinessRule:
    """Return the refusal of a Contract that is no agreement of a resident with a team."""
    return refuse(
        "contract-not-an-agreement",
        "The resource is no agreement of a resident with a family-doctor team",
        "该资源不是居民与家庭医生团队的签约协议",
        "Name a contract made with Contract/$submit-application.",
        "请指定由 Contract/$submit-application 产生的协议。",
        "Contract",
    )


def is_over(contract: Resource) -> bool:
    """Say whether nothing more can happen to a contract."""
    return state_of(contract) in FINAL


def is_reviewed_once(contract: Resource) -> bool:
    """Say whether an application has passed the first of its two reviews."""
    return any(one.get("url") == FIRST_REVIEW for one in contract.get("extension", ()))


def amended_by(contract: Resource) -> str | None:
    """Return the contract that this one is a new version of, as `Contract/id`."""
    for extension in contract.get("extension", ()):
        if extension.get("url") == AMENDING:
            return str(extension["valueReference"]["reference"])
    return None


def require_lawful(contract: Resource, event: Event) -> State:
    """Return the state, or refuse the event with what may happen instead."""
    state = state_of(contract)
    if event not in LAWFUL[state]:
        raise unlawful(state, event)
    return state


def unlawful(state: State, event: Event) -> BusinessRule:
    """Return the refusal of an event in a state, with the events that are lawful there."""
    possible = sorted(event.value for event in LAWFUL[state])
    if possible:
        listed = ", ".join(possible)
        return refuse(
            "contract-state",
            f"{event.value} is not possible while the contract is {state.value}",
            f"合同处于“{state.value}”，不能执行 {event.value}",
            f"Possible now: {listed}.",
            f"现在可以执行：{listed}。",
            "Contract.status",
        )
    return refuse(
        "contract-final",
        f"{event.value} is not possible: the contract is {state.value} for good",
        f"合同已{state.value}，不能再执行 {event.value}",
        "Submit a new application with Contract/$submit-application.",
        "请用 Contract/$submit-application 提交新的申请。",
        "Contract.status",
    )
