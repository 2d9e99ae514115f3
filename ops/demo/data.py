"""Demonstration data: districts, doctors, teams, families, illnesses, contracts, two years of care.

Nobody in it exists (region 999001), nothing of it is delivered, and Provenances name every
resource of it. The same seed and day give the same data, so that writing it again changes nothing.
"""

import datetime
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from care.contract.surroundings import ADULT_YEARS, age_of
from care.effects import Hold, Resource
from care.periods import start_of
from conformance import resource_json
from conformance.cphc import BASE
from conformance.identity_numbers import ID_CARD_SYSTEM
from fhir_store.operations import Claim, Operation, Release, Update, WriteContext
from fhir_store.store import Store
from ops.demo.synthetic_contracts import STATES, Author, Parties, packages
from ops.demo.synthetic_district import RESIDENTS_PER_TEAM, district

SEED = 1
BATCH = 400
FAMILY = 4  # residents that follow each other live together
_NAMES = uuid.UUID("0c1f0e1c-5b0e-4b64-8a8e-7a3b7a009990")
_TREATED = 8  # of so many adults one has hypertension

OnProgress = Callable[[int, int], Awaitable[None]]
Written = tuple[list[Resource], list[Hold]]


def demo_data(seed: int, residents: int, today: datetime.date) -> Iterator[Written]:
    """Yield resources and claims, family by family, what is referred to first."""
    now = start_of(today)
    definitions = packages()
    plans = {
        f"PlanDefinition/{one['id']}": one
        for one in definitions
        if one["resourceType"] == "PlanDefinition"
    }
    items = [one for one in definitions if one["resourceType"] == "ActivityDefinition"]
    people: list[Resource] = []
    around: list[Resource] = []
    for one in district(seed, residents):
        (people if one["resourceType"] == "Patient" else around).append(one)
    teams = {one["id"]: one for one in around if one["resourceType"] == "CareTeam"}
    yield [*around, *definitions], []
    for first in range(0, len(people), FAMILY):
        members = people[first : first + FAMILY]
        team = teams[f"team-{first // RESIDENTS_PER_TEAM + 1}"]
        doctor = team["participant"][0]["member"]["reference"]
        relatives = {one["patient"]["reference"]: one for one in _guardians(members, today)}
        found: list[Resource] = [*members, *relatives.values()]
        found += [_household(first // FAMILY + 1, members)]
        found += [_proxy(one) for one in relatives.values()]
        holds: list[Hold] = []
        for number, member in enumerate(members, start=first):
            is_ill = _is_ill(number, member, today)
            if is_ill:
                found.append(_illness(member))
            parties = Parties(
                resident=member,
                relative=relatives.get(f"Patient/{member['id']}"),
                team=team,
                doctor=doctor,
                is_hypertensive=is_ill,
            )
            life = Author(parties, plans, items, now).life(STATES[number % len(STATES)])
            found += life.resources.values()
            holds += life.claims.values()
        yield found, holds


async def write_demo_data(
    store: Store, residents: int, *, today: datetime.date, on_progress: OnProgress | None = None
) -> int:
    """Write it all; returns how many resources there are, the Provenances among them."""
    now = start_of(today)
    context = WriteContext(
        actor="demo-data",
        at=datetime.datetime.now(datetime.UTC),
        source="synthetic",
        deliveries=False,
    )
    resources: list[Resource] = []
    holds: list[Hold] = []
    written = done = 0
    for found, held in demo_data(SEED, residents, today):
        resources += found
        holds += held
        done += sum(one["resourceType"] == "Patient" for one in found)
        if len(resources) >= BATCH:
            written += await _write(store, context, resources, holds, now)
            resources, holds = [], []
            if on_progress is not None:
                await on_progress(done, residents)
    if resources:
        written += await _write(store, context, resources, holds, now)
    return written


async def _write(
    store: Store,
    context: WriteContext,
    resources: Sequence[Resource],
    holds: Sequence[Hold],
    now: datetime.datetime,
) -> int:
    operations: list[Operation] = []
    for hold in holds:
        operations.append(Release(kind=hold.kind, holder=hold.holder))
        operations.append(
            Claim(kind=hold.kind, key=hold.key, holder=hold.holder, period=(hold.start, hold.end))
        )
    marked = [*resources, _mark(resources, now)]
    operations += [Update(resource=resource_json.parse(resource_json.dump(one))) for one in marked]
    await store.write(operations, context=context)
    return len(marked)


def _mark(resources: Sequence[Resource], now: datetime.datetime) -> dict[str, Any]:
    """Return the Provenance that marks a batch as made up."""
    targets = [f"{one['resourceType']}/{one['id']}" for one in resources]
    return {
        "resourceType": "Provenance",
        "id": str(uuid.uuid5(_NAMES, targets[0])),
        "target": [{"reference": one} for one in targets],
        "recorded": now.isoformat(),
        "activity": {
            "coding": [{"system": f"{BASE}/CodeSystem/cphc-identity-activity", "code": "demo"}]
        },
        "agent": [{"who": {"display": "qiao demo-data"}}],
    }


def _guardians(members: Sequence[Resource], today: datetime.date) -> Iterator[dict[str, Any]]:
    """Yield for each child of a family the first adult of it as guardian."""
    adult = next((one for one in members if (age_of(one, today) or 0) >= ADULT_YEARS), None)
    for one in members:
        age = age_of(one, today)
        if adult is None or age is None or age >= ADULT_YEARS:
            continue
        relation = {"system": f"{BASE}/CodeSystem/cphc-gbt-4761", "code": "5", "display": "父母"}
        card = next(i for i in adult["identifier"] if i["system"] == ID_CARD_SYSTEM)
        yield {
            "resourceType": "RelatedPerson",
            "id": f"guardian-of-{one['id']}",
            "identifier": [card],
            "active": True,
            "patient": {"reference": f"Patient/{one['id']}"},
            "relationship": [{"coding": [relation]}],
            "name": adult["name"],
            "birthDate": adult["birthDate"],
        }


def _proxy(guardian: Resource) -> dict[str, Any]:
    """Return the Consent by which a guardian sees the child's record, books and pays."""
    scopes = "http://terminology.hl7.org/CodeSystem/consentscope"
    actions = f"{BASE}/CodeSystem/cphc-proxy-scope"
    return {
        "resourceType": "Consent",
        "id": f"proxy-{guardian['id']}",
        "status": "active",
        "scope": {"coding": [{"system": scopes, "code": "patient-privacy"}]},
        "category": [{"text": "监护人代办 (proxy of a guardian)"}],
        "patient": guardian["patient"],
        "policy": [{"uri": f"{BASE}/policy/guardian"}],
        "provision": {
            "type": "permit",
            "actor": [
                {
                    "role": {"text": "监护人 (guardian)"},
                    "reference": {"reference": f"RelatedPerson/{guardian['id']}"},
                }
            ],
            "action": [
                {"coding": [{"system": actions, "code": code}]} for code in ("view", "book", "pay")
            ],
        },
    }


def _household(number: int, members: Sequence[Resource]) -> dict[str, Any]:
    return {
        "resourceType": "Group",
        "id": f"household-{number}",
        "type": "person",
        "actual": True,
        "name": f"家庭{number}",
        "member": [{"entity": {"reference": f"Patient/{one['id']}"}} for one in members],
    }


def _is_ill(number: int, member: Resource, today: datetime.date) -> bool:
    age = age_of(member, today)
    return age is not None and age >= 40 and number % _TREATED < 2


def _illness(member: Resource) -> dict[str, Any]:
    clinical = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    return {
        "resourceType": "Condition",
        "id": f"hypertension-{member['id']}",
        "clinicalStatus": {"coding": [{"system": clinical, "code": "active"}]},
        "code": {
            "coding": [
                {
                    "system": "http://hl7.org/fhir/sid/icd-10",
                    "code": "I10",
                    "display": "原发性高血压",
                }
            ],
            "text": "高血压",
        },
        "subject": {"reference": f"Patient/{member['id']}"},
    }
