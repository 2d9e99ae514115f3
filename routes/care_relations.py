"""Who a clinician looks after: through the organisations they work for, and their care teams."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from conformance import resource_json
from fhir_store.permits import conditions_of
from fhir_store.search_query import AllOf, AnyOf, Condition, HasTest, SearchQuery
from fhir_store.store import Store

# Deeper trees of organisations do not exist; a circle in them must end somewhere.
_LEVELS = 12
_MOST = 1_000


async def organizations_of(store: Store, practitioner: str) -> tuple[str, ...]:
    """Return the ids of the organisations a practitioner works for, those below them included.

    A PractitionerRole counts while it is active and its period lasts.
    """
    conditions = conditions_of("PractitionerRole", [("practitioner", practitioner)])
    roles = await _search(store, "PractitionerRole", conditions)
    level = {_target(role.get("organization")) for role in roles if _is_current(role)}
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


def patients_of(practitioner: str, organizations: Sequence[str]) -> Condition:
    """Return the condition on patients a practitioner looks after.

    Those whose managing organisation is among `organizations`, and those with an active care
    team in which the practitioner takes part.
    """
    ways: list[Condition] = [_care_team(practitioner)]
    if organizations:
        named = ",".join(f"Organization/{id_}" for id_ in organizations)
        ways += conditions_of("Patient", [("organization", named)])
    return AnyOf(tuple(ways))


def _care_team(practitioner: str) -> Condition:
    (has,) = conditions_of("Patient", [("_has:CareTeam:patient:participant", practitioner)])
    assert isinstance(has, HasTest)
    active = conditions_of("CareTeam", [("status", "active")])
    return HasTest(
        source=has.source,
        parameter=has.parameter,
        condition=AllOf((has.condition, *active)),
    )


def related_patients(person: str) -> Condition:
    """Return the condition on patients a RelatedPerson is related to."""
    id_ = person.partition("/")[2]
    return conditions_of("Patient", [("_has:RelatedPerson:patient:_id", id_)])[0]


async def _search(
    store: Store, type_: str, conditions: Sequence[Condition]
) -> list[dict[str, Any]]:
    query = SearchQuery(types=(type_,), conditions=tuple(conditions), count=_MOST)
    page = await store.search(query)
    return [resource_json.parse(version.body) for version in page.matches]


def _is_current(role: dict[str, Any]) -> bool:
    if role.get("active") is False:
        return False
    today = datetime.now(UTC).date().isoformat()
    period = role.get("period", {})
    start, end = period.get("start", ""), period.get("end", "9999")
    return bool(start[:10] <= today and (end[:10] >= today or today.startswith(end)))


def _target(reference: Any) -> str:
    text = reference.get("reference", "") if isinstance(reference, dict) else ""
    type_, _, id_ = text.partition("/")
    return id_ if type_ == "Organization" else ""
