"""Who a clinician looks after: through the organisations they work for, and their care teams."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from care.periods import holds_at
from conformance import resource_json
from conformance.cphc import BASE
from fhir_store.permits import conditions_of
from fhir_store.search.query import AnyOf, Condition, IdTest, SearchQuery
from fhir_store.store import Store

# Deeper trees of organisations do not exist; a circle in them must end somewhere.
_LEVELS = 12
_MOST = 1_000
AFFILIATION_RIGHTS = f"{BASE}/CodeSystem/cphc-affiliation-right"


async def roles_of(store: Store, practitioner: str) -> list[dict[str, Any]]:
    """Return the PractitionerRoles of a practitioner that are active and whose period lasts."""
    conditions = conditions_of("PractitionerRole", [("practitioner", practitioner)])
    roles = await _search(store, "PractitionerRole", conditions)
    return [role for role in roles if _is_current(role)]


async def organizations_of(store: Store, roles: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Return the ids of the organisations of these roles, those below them included."""
    return await _with_those_below(store, {_target(role.get("organization")) for role in roles})


async def allied_to(store: Store, organizations: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the organisations whose residents these may see by an alliance.

    An OrganizationAffiliation grants it: active, in its period, one of these as
    `participatingOrganization`, `code` of the package's `affiliation-right` list `residents`. Those
    below its `organization` are included.
    """
    if not organizations:
        return ()
    members = ",".join(f"Organization/{id_}" for id_ in organizations)
    granted = f"{AFFILIATION_RIGHTS}|residents"
    pairs = [("participating-organization", members), ("role", granted)]
    conditions = conditions_of("OrganizationAffiliation", pairs)
    found = await _search(store, "OrganizationAffiliation", conditions)
    return await _with_those_below(
        store, {_target(one.get("organization")) for one in found if _is_current(one)}
    )


async def _with_those_below(store: Store, level: set[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for _ in range(_LEVELS):
        fresh = sorted(id_ for id_ in level if id_ and id_ not in found)
        if not fresh:
            break
        found.update(dict.fromkeys(fresh))
        parents = ",".join(f"Organization/{id_}" for id_ in fresh)
        below = conditions_of("Organization", [("partof", parents)])
        level = {one["id"] for one in await _search(store, "Organization", below)}
    return tuple(found)


async def employers_of(store: Store, roles: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Return the ids of the organisations of these roles and of those above them."""
    level = {_target(role.get("organization")) for role in roles}
    found: dict[str, None] = {}
    for _ in range(_LEVELS):
        fresh = tuple(sorted(id_ for id_ in level if id_ and id_ not in found))
        if not fresh:
            break
        found.update(dict.fromkeys(fresh))
        above = await _search(store, "Organization", [IdTest(fresh)])
        level = {_target(one.get("partOf")) for one in above}
    return tuple(found)


def patients_of(organizations: Sequence[str], teams: Sequence[Condition]) -> Condition:
    """Return the condition on patients a practitioner looks after.

    Those whose managing organisation is among `organizations`, and those of `teams`.
    """
    ways = list(teams)
    if organizations:
        named = ",".join(f"Organization/{id_}" for id_ in organizations)
        ways += conditions_of("Patient", [("organization", named)])
    return AnyOf(tuple(ways))


async def patients_passing(store: Store, condition: Condition) -> tuple[str, ...]:
    """Return the ids of the patients that pass."""
    return tuple(one["id"] for one in await _search(store, "Patient", [condition]))


def patient_named(text: str) -> Condition:
    """Return the condition on the patient named by `Patient/id` or an identifier `system|value`."""
    type_, _, id_ = text.partition("/")
    if type_ == "Patient" and "|" not in text:
        return IdTest((id_,))
    system, _, value = text.partition("|")
    token = "|".join(re.sub(r"([\\,$|])", r"\\\1", part) for part in (system, value))
    return conditions_of("Patient", [("identifier", token)])[0]


async def _search(
    store: Store, type_: str, conditions: Sequence[Condition]
) -> list[dict[str, Any]]:
    query = SearchQuery(types=(type_,), conditions=tuple(conditions), count=_MOST)
    page = await store.search(query)
    return [resource_json.parse(version.body) for version in page.matches]


def _is_current(role: dict[str, Any]) -> bool:
    return role.get("active") is not False and holds_at(role.get("period", {}), datetime.now(UTC))


def _target(reference: Any) -> str:
    text = reference.get("reference", "") if isinstance(reference, dict) else ""
    type_, _, id_ = text.partition("/")
    return id_ if type_ == "Organization" else ""
