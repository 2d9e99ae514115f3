"""When a resident and a team are reminded that a contract ends: never extended in silence."""

import datetime
from dataclasses import dataclass

from care.contract import content
from care.contract.states import State, state_of
from care.effects import Resource

DAYS_BEFORE = (30, 7, 0)
"""T-30, T-7 and the last day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalReminder:
    """One reminder: whom it is for, on which local day, how many days are left."""

    contract: str
    resident: str
    team: str
    on: datetime.date
    days_left: int


def renewal_reminders(contract: Resource) -> tuple[RenewalReminder, ...]:
    """Return the reminders of a contract in effect; none for one that is not."""
    if state_of(contract) is not State.EFFECTIVE:
        return ()
    _, end = content.period_of(contract)
    return tuple(
        RenewalReminder(
            contract=content.reference_to(contract),
            resident=content.resident_of(contract),
            team=content.team_of(contract),
            on=end - datetime.timedelta(days=days),
            days_left=days,
        )
        for days in DAYS_BEFORE
    )
