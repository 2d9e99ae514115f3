"""The steps that need nothing beside the surroundings, each from its parameters to a decision."""

import datetime
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from care.agreement.text import Agreement, Terms
from care.contract import application, changes, content, ending, signing
from care.contract.application import Application
from care.contract.death import Death
from care.contract.states import Event, require_lawful
from care.contract.surroundings import Surroundings
from care.effects import Decision, Resource
from conformance.problem import Problem, to_operation_outcome
from routes.operations.contract_parameters import Given

Step = Callable[[Given, Surroundings, Resource, Agreement | None], Decision]


def terms_of_wish(wish: Application) -> Terms:
    """Return the terms of an application."""
    edits = wish.edits or {}
    return Terms(packages=wish.packages, start=wish.start, end=wish.end, edits=edits)


def terms_of(given: Given, contract: Resource) -> Terms:
    """Return the terms of a following contract where an end is given, else of the contract."""
    packages = given.packages() if given.named("package") else content.prices_of(contract)
    start, end = content.period_of(contract)
    if given.named("end"):
        start, end = end + datetime.timedelta(days=1), given.day("end")
    return Terms(packages=packages, start=start, end=end, edits=given.edits())


def resubmit(
    given: Given, around: Surroundings, contract: Resource, agreement: Agreement | None
) -> Decision:
    """Take up an application again."""
    require_lawful(contract, Event.RESUBMIT)
    return application.resubmit(around, contract, given.text("agreementHash"), agreement)


def _amend(
    given: Given, around: Surroundings, contract: Resource, agreement: Agreement | None
) -> Decision:
    require_lawful(contract, Event.AMEND)
    return changes.amend(
        around,
        contract,
        given.packages(),
        given.text("agreementHash"),
        agreement,
        given.maybe("suitabilityOverride") or "",
    )


def reassign(
    given: Given, around: Surroundings, contract: Resource, _agreement: Agreement | None
) -> Decision:
    """Give the contract to the team that is named."""
    require_lawful(contract, Event.REASSIGN)
    return changes.reassign(around, contract, given.text("team"), given.maybe("reason") or "")


def not_given_over(id_: str, problem: Problem) -> dict[str, Any]:
    """Return the part that says why one contract of many was not reassigned."""
    parts = [
        {"name": "contract", "valueReference": {"reference": f"Contract/{id_}"}},
        {"name": "outcome", "resource": to_operation_outcome(problem.issues)},
    ]
    return {"name": "refused", "part": parts}


def _renew(
    given: Given, around: Surroundings, contract: Resource, agreement: Agreement | None
) -> Decision:
    require_lawful(contract, Event.RENEW)
    contract_id = given.maybe("contractId") or str(uuid.uuid4())
    return signing.renew(
        around,
        contract,
        contract_id=contract_id,
        number=given.maybe("number") or contract_id,
        end=given.day("end"),
        signing=given.signing(),
        packages=given.packages() if given.named("package") else None,
        agreement=agreement,
    )


def _terminate(
    given: Given, around: Surroundings, contract: Resource, _agreement: Agreement | None
) -> Decision:
    require_lawful(contract, Event.TERMINATE)
    when = given.text("deceased") if given.named("evidence") else given.maybe("deceased")
    died = Death(when=when, evidence=around.evidence) if when else None
    words = given.maybe("words") or ""
    return ending.terminate(around, contract, given.text("reason"), words, died)


STEPS: Mapping[str, Step] = {
    "review": lambda given, around, contract, _: application.review(
        around, contract, given.text("verdict"), given.maybe("reason") or ""
    ),
    "amend": _amend,
    "renew": _renew,
    "terminate": _terminate,
    "dispute": lambda given, around, contract, _: changes.dispute(
        around, contract, given.maybe("complaint") or ""
    ),
    "resolve": lambda given, around, contract, _: changes.resolve(
        around, contract, given.maybe("outcome") or ""
    ),
    "void": lambda given, around, contract, _: changes.void(
        around, contract, given.maybe("reason") or ""
    ),
}
