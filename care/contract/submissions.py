"""Which step of its life a contract has just taken, told from the two versions alone.

The codes are those of the CodeSystem `cphc-contract-activity`; which of them are owed to a partner
is the partner's table.
"""

from care.contract import content
from care.contract.states import State, amended_by, state_of
from care.effects import Resource
from conformance.problem import BusinessRule

_ENDS = {
    State.ENDED: "expire",
    State.REVOKED: "terminate",
    State.CANCELLED: "terminate",
    State.VOID: "nullify",
    State.DISPUTED: "dispute",
}
_REVIEWED = frozenset({State.SUPPLEMENT, State.APPROVED, State.REJECTED})
_SIGNED = frozenset({State.SIGNED, State.EFFECTIVE})


def step_of(previous: Resource | None, contract: Resource) -> str | None:
    """Return the step that lies between two versions; None where it is none.

    A drafted new version is none: the step is its signing, which changes the contract itself.
    """
    try:
        state = state_of(contract)
        before = None if previous is None else state_of(previous)
    except BusinessRule:  # a template
        return None
    if amended_by(contract) is not None:
        return None
    if previous is None or before is None:
        return _first_step(contract, state)
    if state in _ENDS and before is not state:
        return _ENDS[state]
    if state is State.APPLIED:
        return "application" if before is not State.APPLIED else None
    if state in _REVIEWED:
        return "review" if before is not state else None
    if state not in _SIGNED:
        return None
    if before not in _SIGNED and before is not State.DISPUTED:
        return "sign"
    return _step_in_effect(previous, before, contract, state)


def _first_step(contract: Resource, state: State) -> str | None:
    if state is State.APPLIED:
        return "application"
    if state not in _SIGNED:
        return None
    return "renew" if content.legal_state_of(contract) == "renewed" else "sign"


def _step_in_effect(
    previous: Resource, before: State, contract: Resource, state: State
) -> str | None:
    if before is State.DISPUTED:
        return "resolve"
    if before is State.SIGNED:
        return "execute" if state is State.EFFECTIVE else "payment" if _is_paid(contract) else None
    if content.team_of(previous) != content.team_of(contract):
        return "reassign"
    if any(previous.get(name) != contract.get(name) for name in ("term", "signer")):
        return "amend"
    return None


def _is_paid(contract: Resource) -> bool:
    return content.extension_value(contract, "effective-on-payment") is False
