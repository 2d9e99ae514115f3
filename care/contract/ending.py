"""The ends of a contract, and what ends with it: open services, and messages not yet sent."""

from collections.abc import Iterable, Iterator

from care.contract import content, death
from care.contract.death import Death
from care.contract.states import Event, is_over, require_lawful
from care.contract.steps import decide, let_go
from care.contract.surroundings import Surroundings, require_staff
from care.effects import Decision, Effect, Put, Resource, refuse
from conformance.cphc import BASE

CANCELLED_BY = frozenset({"01", "04", "05"})
"""Reasons that are one-sided (失访, 拒绝, 改签); the others are agreed or forced: `revoked`."""
REASONS = frozenset({"01", "02", "03", "04", "05", "06", "08", "09", "99"})
"""Reasons of an early end; 07 (期满) is for the end of the term alone."""
DEATH = "03"
AT_OWN_REQUEST = "04"
OPEN = frozenset({"draft", "requested", "received", "ready", "in-progress", "on-hold"})
"""Task states in which something is still to be done."""
_TERMINATED = {
    "coding": [{"system": f"{BASE}/CodeSystem/cphc-task-business-status", "code": "terminated"}]
}


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
    return _ended(around, contract, "terminated", "07", "expire")


def terminate(
    around: Surroundings,
    contract: Resource,
    reason: str,
    words: str = "",
    died: Death | None = None,
) -> Decision:
    """End early for a reason of 解约原因; death (03) closes at once and stops all messages.

    `died` puts a death on record that is not there yet.
    """
    require_lawful(contract, Event.TERMINATE)
    if reason not in REASONS:
        raise refuse(
            "termination-reason",
            "The reason is no code of 解约原因 for an early end",
            "解约原因代码无效",
            f"Give one of {', '.join(sorted(REASONS))} (CodeSystem cphc-contract-termination-"
            "reason).",
            f"请给出 {'、'.join(sorted(REASONS))} 之一（解约原因代码表）。",
            "Contract.extension",
        )
    if reason != AT_OWN_REQUEST:
        require_staff(around, "$terminate for this reason")
    more: tuple[Effect, ...] = ()
    if reason == DEATH:
        more = death.recorded(around, died)
    else:
        death.refuse_for_others(died)
    status = "cancelled" if reason in CANCELLED_BY else "revoked"
    return _ended(around, contract, status, reason, "terminate", words, more)


def _ended(
    around: Surroundings,
    contract: Resource,
    status: str,
    reason: str,
    activity: str,
    words: str = "",
    more: tuple[Effect, ...] = (),
) -> Decision:
    changed = content.with_status(contract, status)
    changed = content.with_extension(changed, "termination-reason", "valueCode", reason)
    task = content.task(around, "terminate-contract", contract, "completed", words or reason)
    return decide(
        around,
        changed,
        activity,
        [task],
        more=(*let_go(contract), *more),
        ended=tuple(content.packages_of(contract)),
        reason=reason,
        closes_messages=reason == DEATH,
    )


def cancelled_tasks(decision: Decision, tasks: Iterable[Resource]) -> Iterator[Put]:
    """Yield the open Tasks of a contract that end with it, or with the packages that ended.

    Tasks that the decision writes itself are left to it. While the contract goes on, only Tasks
    whose `groupIdentifier` names a package that ended (`contract id/package id`) do.
    """
    own = _written(decision)
    id_ = decision.contract["id"]
    ended = {f"{id_}/{package.partition('/')[2]}" for package in decision.ended}
    goes_on = not is_over(decision.contract)
    for task in tasks:
        stays = goes_on and task.get("groupIdentifier", {}).get("value") not in ended
        if task.get("status") in OPEN and content.reference_to(task) not in own and not stays:
            yield Put(
                {
                    **{k: v for k, v in task.items() if k != "meta"},
                    "status": "cancelled",
                    "statusReason": {"text": decision.reason or "变更 (amended)"},
                    "businessStatus": _TERMINATED,
                }
            )


def handed_over_tasks(decision: Decision, tasks: Iterable[Resource]) -> Iterator[Put]:
    """Yield the open Tasks of a reassigned contract with their new team as owner."""
    own = _written(decision)
    for task in tasks:
        if task.get("status") in OPEN and content.reference_to(task) not in own:
            changed = {k: v for k, v in task.items() if k != "meta"}
            yield Put({**changed, "owner": {"reference": decision.new_team}})


def stopped_messages(messages: Iterable[Resource]) -> Iterator[Put]:
    """Yield what was still to be said, revoked: nothing is sent to the dead or for an ended term.

    https://hl7.org/fhir/R4/valueset-request-status.html
    """
    for message in messages:
        if message.get("status") in ("draft", "active", "on-hold"):
            changed = {k: v for k, v in message.items() if k != "meta"}
            yield Put({**changed, "status": "revoked"})


def _written(decision: Decision) -> frozenset[str]:
    return frozenset(
        content.reference_to(effect.resource)
        for effect in decision.effects
        if isinstance(effect, Put)
    )
