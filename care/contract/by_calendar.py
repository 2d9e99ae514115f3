"""What the calendar does to a contract: its first day has come, or its last one is over."""

from care.contract import ending, signing
from care.contract.states import State, is_over, state_of
from care.contract.steps import SERVICE, START
from care.contract.surroundings import Surroundings, is_deceased
from care.effects import Decision, LetGo, Resource
from conformance.problem import Problem


def expire(around: Surroundings, contract: Resource) -> Decision:
    """End a contract whose last day is over."""
    return ending.expire(around, contract)


def begin(around: Surroundings, contract: Resource) -> Decision | None:
    """Begin a contract whose first day has come, end that of the dead; None for any other."""
    if state_of(contract) is not State.SIGNED:
        return None
    if is_deceased(around.resident):
        return ending.terminate(around, contract, ending.DEATH)
    return signing.start(around, contract)


def is_settled(contract: Resource | None) -> bool:
    """Say whether the calendar has nothing more to do for a contract, None if it is not there."""
    try:
        return contract is None or is_over(contract)
    except Problem:  # a template
        return True


def given_up(holder: str) -> tuple[LetGo, LetGo]:
    """Return what a settled contract (`Contract/id`) still claims in the calendar."""
    return LetGo(kind=SERVICE, holder=holder), LetGo(kind=START, holder=holder)
