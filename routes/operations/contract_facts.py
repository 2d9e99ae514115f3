"""The facts of a decision on a contract, read under lock in the transaction that will write it."""

import dataclasses
import datetime
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from care.contract import content
from care.contract.signing import Payment
from care.contract.states import amended_by, not_an_agreement
from care.contract.steps import EXISTS
from care.contract.surroundings import Surroundings, members_at, stands_in_for
from care.package.content import populations_of, price_of
from care.package.population import populations_on
from care.periods import day_of
from conformance import resource_json
from conformance.problem import EditConflict, InvalidContent, Issue, NotFound
from fhir_store.search.query import parse_query
from fhir_store.search.searcher import Searcher
from fhir_store.transaction import Transaction
from fhir_store.versions import Key
from routes.operations.parameters import bad_parameter
from routes.request import Request

Resource = Mapping[str, Any]
MaySign = Callable[[Transaction, Sequence[str], datetime.datetime], Awaitable[frozenset[str]]]
"""(transaction, practitioners as `Practitioner/id`, now) -> those who may sign."""
FindPayment = Callable[[Transaction, str], Awaitable[Payment | None]]
"""(transaction, `Invoice/id`) -> the payment that settled it, None where it is open."""

RolesOf = Callable[[str], Awaitable[Sequence[Resource]]]
"""(`Practitioner/id`) -> the PractitionerRoles that count now."""
_LEVELS = 12  # deeper trees of organisations do not exist

WORK = (
    "review-contract",
    "second-review-contract",
    "sign-contract",
    "collect-payment",
    "start-contract",
    "amend-contract",
    "renew-contract",
    "complaint",
    "terminate-contract",
)
"""The Tasks that a contract has once each."""


def key_of(reference: str, type_: str, name: str) -> Key:
    """Return type and id of a reference; refuse what is none of the type."""
    kind, _, id_ = reference.partition("/")
    if kind != type_ or not id_ or "/" in id_:
        raise bad_parameter(name, f"Write {type_}/id.", f"请写成 {type_}/id。")
    return kind, id_


async def locked_contract(
    transaction: Transaction, id_: str
) -> tuple[Resource, dict[str, Resource]]:
    """Return a contract and its Tasks by code, kept from other writers until the end."""
    tasks = {("Task", content.task_id(id_, code)): code for code in WORK}
    found = await transaction.read_for_update([("Contract", id_), *tasks])
    if ("Contract", id_) not in found:
        raise unknown("Contract", id_)
    return found[("Contract", id_)], {
        code: found[key] for key, code in tasks.items() if key in found
    }


def no_resident() -> InvalidContent:
    """Return the refusal of a resident who is not known, or whom the caller may not see."""
    return bad_parameter("resident", "Name a Patient that exists.", "请指定已建档的居民。")


def require_agreement(contract: Resource) -> None:
    """Refuse a Contract that is none of ours: a template, or written by other hands."""
    try:
        content.resident_of(contract)
        content.team_of(contract)
        content.period_of(contract)
        content.prices_of(contract)
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError):
        raise not_an_agreement() from None


def unknown(type_: str, id_: str) -> NotFound:
    """Return the failure of an address without a resource."""
    return NotFound(
        Issue(
            code="not-found",
            key="not-found",
            text_en=f"{type_}/{id_} is not known",
            text_zh=f"{type_}/{id_} 不存在",
            fix_en="Check the id, or search for it.",
            fix_zh="请核对标识，或先检索。",
            expression=f"{type_}.id",
        )
    )


async def surroundings(
    request: Request,
    transaction: Transaction,
    *,
    resident: str,
    team: str,
    packages: Sequence[str],
    contract: Resource | None = None,
    tasks: Mapping[str, Resource] | None = None,
    relative: str | None = None,
    locks_team: bool = False,
    may_sign: MaySign,
    searcher: Searcher,
    begins: str = "",
    evidence: str | None = None,
) -> Surroundings:
    """Read the facts of a decision; the resident is kept from other writers until the end.

    `begins` is the id of a contract that is to be made: EditConflict where it is taken.
    """
    key = key_of(resident, "Patient", "resident")
    team_key = key_of(team, "CareTeam", "team")
    plan_keys = [key_of(package, "PlanDefinition", "package") for package in packages]
    others = [*([] if locks_team else [team_key]), *plan_keys]
    if relative and relative.startswith("RelatedPerson/"):
        others.append(key_of(relative, "RelatedPerson", "residentParty"))
    if evidence:
        others.append(key_of(evidence, "DocumentReference", "evidence"))
    if begins:
        others.append(("Contract", begins))
    keys = [key, team_key] if locks_team else [key]
    known = await transaction.read_together(keys, others)
    if key not in known:
        raise no_resident()
    if contract is None and team_key not in known:
        raise bad_parameter("team", "Name a CareTeam that exists.", "请指定已有的团队。")
    if ("Contract", begins) in known:
        raise EditConflict(EXISTS)
    old = amended_by(contract) if contract else None
    predecessor: Mapping[Key, Resource] = {}
    if old is not None:
        predecessor = await transaction.read_for_update([key_of(old, "Contract", "contract")])
    found_team = known.get(team_key, {})
    now = datetime.datetime.now(datetime.UTC)
    doctors = [m for m in members_at(found_team, now) if m.startswith("Practitioner/")]
    plans = {"/".join(k): plan for k, plan in known.items() if k[0] == "PlanDefinition"}
    populations = frozenset[str]()
    if any(map(populations_of, plans.values())):
        populations = await populations_in(searcher, transaction, known[key], now)
    actor = request.caller.fhir_user or request.caller.subject
    return Surroundings(
        now=now,
        actor=actor,
        resident=known[key],
        packages=plans,
        team=found_team,
        qualified=await may_sign(transaction, doctors, now) if doctors else frozenset(),
        prices={reference: price_of(plan) for reference, plan in plans.items()},
        new_id=new_id,
        tasks=tasks or {},
        relative=next((one for k, one in known.items() if k[0] == "RelatedPerson"), None),
        predecessor=next(iter(predecessor.values()), None),
        acting_for=stands_in_for(found_team, actor, now),
        evidence=next((one for k, one in known.items() if k[0] == "DocumentReference"), None),
        populations=populations,
    )


async def populations_in(
    searcher: Searcher, transaction: Transaction, resident: Resource, now: datetime.datetime
) -> frozenset[str]:
    """Return the key populations of a resident today, by the record as this transaction sees it."""
    patient = f"Patient/{resident.get('id')}"
    found: dict[str, list[Resource]] = {}
    for type_ in ("Condition", "EpisodeOfCare"):
        query = parse_query(type_, [("patient", patient), ("_count", "1000")])
        page = await searcher.search(transaction.connection, query)
        found[type_] = [resource_json.parse(version.body) for version in page.matches]
    known = populations_on(resident, found["Condition"], found["EpisodeOfCare"], day_of(now))
    return frozenset(known)


async def with_authority(
    around: Surroundings, transaction: Transaction, roles_of: RolesOf
) -> Surroundings:
    """Return the surroundings with who stands above the team, and whether the actor does.

    `roles_of` reads the PractitionerRoles of an actor that count now.
    """
    above: list[str] = []
    reference = around.team.get("managingOrganization", [{}])[0].get("reference", "")
    for _ in range(_LEVELS):
        key = ("Organization", reference.partition("/")[2])
        here = (await transaction.read_current([key])).get(key, {}) if key[1] else {}
        reference = here.get("partOf", {}).get("reference", "")
        if not reference or reference in above:
            break
        above.append(reference)
    roles = await roles_of(around.actor) if around.actor.startswith("Practitioner/") else []
    places = {one.get("organization", {}).get("reference") for one in roles}
    return dataclasses.replace(
        around, authority=above[0] if above else None, stands_above=bool(places & set(above))
    )


def new_id() -> str:
    """Return an id for a new resource."""
    return str(uuid.uuid4())


async def may_sign_by_record(
    transaction: Transaction, practitioners: Sequence[str], _now: datetime.datetime
) -> frozenset[str]:
    """Return who is active and has a qualification, by the Practitioner alone."""
    keys = [("Practitioner", reference.partition("/")[2]) for reference in practitioners]
    found = await transaction.read_current(keys)
    return frozenset(
        "/".join(key)
        for key, one in found.items()
        if one.get("active") is not False and one.get("qualification")
    )


async def settled_invoice(transaction: Transaction, reference: str) -> Payment | None:
    """Return the payment of an Invoice that is `balanced`, None for any other."""
    key = key_of(reference, "Invoice", "invoice")
    found = (await transaction.read_for_update([key])).get(key)
    if found is None or found.get("status") != "balanced":
        return None
    total = found.get("totalNet") or found.get("totalGross") or {}
    return Payment(
        invoice=reference,
        resident=str(found.get("subject", {}).get("reference", "")),
        amount=Decimal(str(total.get("value", 0))),
    )
