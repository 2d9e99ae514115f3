"""Rights are worked out again by what touches them, and never kept beyond it."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_store import rights_changes
from fhir_store.operations import Delete, Update, WriteContext
from fhir_store.search.query import parse_query
from fhir_store.store import Store, make_pool
from routes import authorize
from routes.authorize import Authorizer
from routes.bearer import Caller
from routes.care_relations import AFFILIATION_RIGHTS
from routes.scopes import parse_scopes

pytestmark = pytest.mark.anyio

PATIENTS = 6
DOCTORS = tuple(
    Caller(subject=one, scopes=parse_scopes("user/*.rs"), fhir_user=f"Practitioner/{one}")
    for one in ("d0", "d1")
)
CONTEXT = WriteContext(actor="t", at=datetime.now(UTC), deliveries=False)
SCOPE = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}


@pytest.fixture(autouse=True)
def remembered_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but a change end what is remembered."""
    monkeypatch.setattr(authorize, "_SECONDS", 600.0)


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Store]:
    async with make_pool(database_url, size=3) as pool:
        yield Store(pool)


def to(reference: str) -> dict[str, str]:
    return {"reference": reference}


def organization(number: int, above: int | None, name: str = "x") -> dict[str, Any]:
    part = {} if above is None else {"partOf": to(f"Organization/o{above}")}
    return {"resourceType": "Organization", "id": f"o{number}", "name": name, **part}


def role(number: int, doctor: int, place: int, *, is_active: bool = True) -> dict[str, Any]:
    return {
        "resourceType": "PractitionerRole",
        "id": f"r{number}",
        "active": is_active,
        "practitioner": to(f"Practitioner/d{doctor}"),
        "organization": to(f"Organization/o{place}"),
    }


def team(number: int, patient: int, *members: str, status: str = "active") -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "id": f"t{number}",
        "status": status,
        "subject": to(f"Patient/p{patient}"),
        **({"participant": [{"member": to(one)} for one in members]} if members else {}),
    }


def alliance(number: int, place: int, partner: int) -> dict[str, Any]:
    return {
        "resourceType": "OrganizationAffiliation",
        "id": f"a{number}",
        "active": True,
        "organization": to(f"Organization/o{place}"),
        "participatingOrganization": to(f"Organization/o{partner}"),
        "code": [{"coding": [{"system": AFFILIATION_RIGHTS, "code": "residents"}]}],
    }


def consent(number: int, patient: int, kind: str, *actors: str) -> dict[str, Any]:
    named = [{"role": {"text": "x"}, "reference": to(one)} for one in actors]
    return {
        "resourceType": "Consent",
        "id": f"c{number}",
        "status": "active",
        "scope": {"coding": [SCOPE]},
        "category": [{"text": "x"}],
        "patient": to(f"Patient/p{patient}"),
        "policy": [{"uri": "urn:example:policy"}],
        "provision": {"type": kind, **({"actor": named} if named else {})},
    }


def patients() -> list[Update]:
    return [
        Update(
            resource={
                "resourceType": "Patient",
                "id": f"p{number}",
                "managingOrganization": to(f"Organization/o{number}"),
            }
        )
        for number in range(PATIENTS)
    ]


def any_change(chance: random.Random) -> Update | Delete:
    """Return a change of some resource that rights hang on, or its end."""
    number, place, patient = chance.randrange(3), chance.randrange(5), chance.randrange(PATIENTS)
    doctor = chance.randrange(2)
    members = chance.sample(["Practitioner/d0", "Practitioner/d1", "CareTeam/t0"], 2)
    actor = ["Practitioner/d0", "PractitionerRole/r1", "Organization/o1", "CareTeam/t1"]
    above = chance.choice([None, *range(place)])
    resource = chance.choice(
        [
            organization(place, above, name=str(chance.random())),
            role(number, doctor, place, is_active=chance.random() < 0.7),
            team(number, patient, *members[: chance.randrange(3)]),
            team(number, patient, *members[:1], status="inactive"),
            alliance(number, place, chance.randrange(5)),
            consent(number, patient, "permit", chance.choice(actor)),
            consent(number, patient, "deny", chance.choice(actor)),
        ]
    )
    if chance.random() < 0.2:
        return Delete(type=resource["resourceType"], id=resource["id"])
    return Update(resource=resource)


async def seen(store: Store, judge: Authorizer, caller: Caller) -> list[str]:
    """Return the patients that a caller finds."""

    async def look() -> list[str]:
        rights = await judge.authorize(caller, "s", "Patient")
        page = await store.search(parse_query("Patient", []), authorization=rights)
        return sorted(one.id for one in page.matches)

    return await store.at_present_rights(look, whose=caller)


async def first_difference(store: Store, *, changes: int, seed: int) -> tuple[int, set[str]]:
    """Return at which of some random changes a right was kept (0: none), and all that was seen."""
    chance, met = random.Random(seed), set[str]()
    remembering = Authorizer(store)
    await store.write(patients(), context=CONTEXT)
    for number in range(1, changes + 1):
        await store.write([any_change(chance)], context=CONTEXT)
        for caller in DOCTORS:
            found = await seen(store, remembering, caller)
            met.update(found)
            if found != await seen(store, Authorizer(store), caller):
                return number, met
    return 0, met


async def test_what_is_remembered_is_what_would_be_worked_out(database_url: str) -> None:
    async with opened(database_url) as store:
        different, met = await first_difference(store, changes=80, seed=7)
    assert different == 0
    assert len(met) == PATIENTS


@pytest.mark.parametrize("forgotten", ["Practitioner", "Organization", "CareTeam"])
async def test_twin_without_a_kind_of_grounds_a_right_would_be_kept(
    database_url: str, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    usual = authorize.grounds_of

    async def without(pool: Any, keys: Any, known: Any) -> Any:
        kept = [one for one in keys if one.partition("/")[0] != forgotten]
        return await usual(pool, kept, known)

    monkeypatch.setattr(authorize, "grounds_of", without)
    async with opened(database_url) as store:
        different, _ = await first_difference(store, changes=400, seed=7)
    assert different > 0


OTHERS = (
    organization(4, None, "renamed"),
    organization(3, 4, "moved"),
    role(2, 1, 4),
    team(2, 5, "Practitioner/d1"),
    alliance(2, 4, 3),
    consent(2, 5, "permit", "RelatedPerson/k"),
)


async def worked_out_for_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often the rights of d0 are worked out again while others' change."""
    counted = 0
    usual = Authorizer._rights

    async def counting(self: Authorizer, caller: Caller, letter: str) -> Any:
        nonlocal counted
        counted += 1
        return await usual(self, caller, letter)

    monkeypatch.setattr(Authorizer, "_rights", counting)
    own = [organization(0, None), organization(1, 0), role(0, 0, 0), team(0, 3, "Practitioner/d0")]
    await store.write([*patients(), *(Update(resource=one) for one in own)], context=CONTEXT)
    judge = Authorizer(store)
    assert await seen(store, judge, DOCTORS[0]) == ["p0", "p1", "p3"]
    for other in OTHERS:
        await store.write([Update(resource=other)], context=CONTEXT)
        assert await seen(store, judge, DOCTORS[0]) == ["p0", "p1", "p3"]
    again = counted - 1
    refusal = consent(0, 3, "deny", "Practitioner/d0")
    await store.write([Update(resource=refusal)], context=CONTEXT)
    assert await seen(store, judge, DOCTORS[0]) == ["p0", "p1"]
    return again


async def test_others_changes_leave_rights_as_they_are(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(database_url) as store:
        assert await worked_out_for_others(store, monkeypatch) == 0


async def test_twin_rights_on_too_much_to_be_named_are_worked_out_each_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rights_changes, "_MOST_KEYS", 0)
    async with opened(database_url) as store:
        assert await worked_out_for_others(store, monkeypatch) == len(OTHERS)


async def test_a_commit_of_very_many_touches_everybody(database_url: str) -> None:
    async with opened(database_url) as store:
        many = [Update(resource=organization(100 + n, None)) for n in range(300)]
        await store.write(many, context=CONTEXT)
        await store.write([Update(resource=organization(4, 3))], context=CONTEXT)
        async with store.pool.connection() as connection:
            cursor = await connection.execute("SELECT touches FROM rights_change ORDER BY id")
            rows = [sorted(touches) for (touches,) in await cursor.fetchall()]
    assert rows == [["*"], ["Organization/o3", "Organization/o4"]]
