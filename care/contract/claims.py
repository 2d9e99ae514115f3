"""What a contract claims by its content alone, whoever writes it and however.

The steps of `care.contract` claim what they decide. A plain write, a transaction, an import or a
message makes the same claim here, so that a resident has one active contract at a time in any case.
"""

import datetime

from care.contract.states import State, state_of
from care.contract.steps import OVERLAP, SERVICE
from care.effects import Hold, LetGo, Resource
from care.periods import bounds_of
from conformance.problem import BusinessRule

ACTIVE = frozenset({State.SIGNED, State.EFFECTIVE, State.DISPUTED})
"""States in which a contract claims its term."""


def claims_of_change(before: Resource | None, after: Resource | None) -> tuple[Hold | LetGo, ...]:
    """Return what a change of a Contract claims and gives up; None is what is not there."""
    held, wanted = term_held(before), term_held(after)
    if held == wanted:
        return ()
    given_up = (LetGo(kind=SERVICE, holder=held.holder),) if held else ()
    return (*given_up, wanted) if wanted else given_up


def term_held(contract: Resource | None) -> Hold | None:
    """Return the claim of an active contract of a resident with a team, None for any other.

    A term without a readable bound is open on that side.
    """
    if contract is None or not _is_of_a_team(contract):
        return None
    try:
        is_active = state_of(contract) in ACTIVE
    except BusinessRule:  # a template
        return None
    residents = [str(one.get("reference", "")) for one in contract.get("subject", ())]
    resident = next((one for one in residents if one.startswith("Patient/")), None)
    if not is_active or resident is None:
        return None
    start, end = _bounds(contract)
    return Hold(
        kind=SERVICE,
        key=resident,
        holder=f"Contract/{contract['id']}",
        start=start,
        end=end,
        taken=OVERLAP,
    )


def _is_of_a_team(contract: Resource) -> bool:
    return any(
        str(action.get("performer", {}).get("reference", "")).startswith("CareTeam/")
        for term in contract.get("term", ())
        for action in term.get("action", ())
    )


def _bounds(contract: Resource) -> tuple[datetime.datetime | None, datetime.datetime | None]:
    """Return the instants of the term; the days are whole, as the steps read them."""
    applies = contract.get("applies", {})
    days = {name: str(applies[name])[:10] for name in ("start", "end") if name in applies}
    try:
        start, end = bounds_of(days)
    except ValueError:
        return None, None
    return (start, end) if start is None or end is None or start < end else (None, None)
