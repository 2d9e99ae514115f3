"""Consents over HTTP: proxies who view, book, pay and fill in; refusals; and the broken glass."""

import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from conformance.cphc import BASE
from fhir_store.permits import conditions_of
from fhir_store.search.query import Condition
from fhir_store.store import Store, make_pool
from routes import authorize
from routes.authorize import Authorizer
from routes.bearer import ANYBODY, Caller, not_authenticated
from routes.scopes import parse_scopes

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}
SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
CALLERS = {
    "guardian": ("user/*.cruds", "RelatedPerson/guardian"),
    "doctor": ("user/*.cruds", "Practitioner/doctor"),
    "stranger": ("user/*.cruds", "Practitioner/stranger"),
}
REASON = urllib.parse.quote("昏迷，家属未到")


async def identify(authorization: str | None) -> Caller:
    name = (authorization or "").removeprefix("Bearer ")
    if name == "setup":
        return ANYBODY
    if name not in CALLERS:
        raise not_authenticated()
    scope, user = CALLERS[name]
    return Caller(subject=name, scopes=parse_scopes(scope), fhir_user=user)


def by(name: str, **more: str) -> dict[str, str]:
    return {**JSON, "authorization": f"Bearer {name}", **more}


def consent(id_: str, rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": id_,
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        "category": [{"text": "授权"}],
        "patient": {"reference": "Patient/ward"},
        "policy": [{"uri": "urn:example:policy"}],
        "provision": rule,
    }


def actor(reference: str) -> list[dict[str, Any]]:
    return [{"role": {"text": "actor"}, "reference": {"reference": reference}}]


def proxy(*scopes: str, **more: Any) -> dict[str, Any]:
    system = f"{BASE}/CodeSystem/cphc-proxy-scope"
    action = [{"coding": [{"system": system, "code": scope}]} for scope in scopes]
    permitted = {"type": "permit", "actor": actor("RelatedPerson/guardian"), "action": action}
    return consent("proxy", {**permitted, **more})


WORLD: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "centre", "name": "c"},
    {"resourceType": "Organization", "id": "elsewhere", "name": "e"},
    {
        "resourceType": "Patient",
        "id": "ward",
        "identifier": [{"system": "urn:m", "value": "W,1"}],
        "managingOrganization": {"reference": "Organization/centre"},
    },
    {"resourceType": "Patient", "id": "other"},
    {
        "resourceType": "RelatedPerson",
        "id": "guardian",
        "patient": {"reference": "Patient/ward"},
    },
    {"resourceType": "Practitioner", "id": "doctor"},
    {"resourceType": "Practitioner", "id": "stranger"},
    *(
        {
            "resourceType": "PractitionerRole",
            "id": name,
            "practitioner": {"reference": f"Practitioner/{name}"},
            "organization": {"reference": f"Organization/{organization}"},
        }
        for name, organization in (("doctor", "centre"), ("stranger", "elsewhere"))
    ),
    {
        "resourceType": "Task",
        "id": "visit",
        "status": "requested",
        "intent": "order",
        "for": {"reference": "Patient/ward"},
        "owner": {"reference": "Practitioner/doctor"},
    },
    {
        "resourceType": "Invoice",
        "id": "bill",
        "status": "issued",
        "subject": {"reference": "Patient/ward"},
    },
]
APPOINTMENT = {
    "resourceType": "Appointment",
    "id": "a1",
    "status": "proposed",
    "participant": [{"actor": {"reference": "Patient/ward"}, "status": "accepted"}],
}
ANSWERS = {
    "resourceType": "QuestionnaireResponse",
    "id": "q1",
    "status": "completed",
    "subject": {"reference": "Patient/ward"},
    "source": {"reference": "RelatedPerson/guardian"},
}
WEIGHT = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "code": {"text": "体重"},
    "subject": {"reference": "Patient/ward"},
}


async def put(client: httpx.AsyncClient, name: str, resource: dict[str, Any]) -> int:
    path = f"/{resource['resourceType']}/{resource['id']}"
    return (await client.put(path, json=resource, headers=by(name))).status_code


async def filled(client: httpx.AsyncClient, *more: dict[str, Any]) -> None:
    for resource in (*WORLD, *more):
        assert await put(client, "setup", resource) == 201


async def status_of(client: httpx.AsyncClient, name: str, path: str, **headers: str) -> int:
    return (await client.get(path, headers=by(name, **headers))).status_code


@pytest.mark.parametrize(
    ("scope", "views", "books", "pays", "fills"),
    [
        ("view", True, False, False, False),
        ("book", False, True, False, False),
        ("pay", False, False, True, False),
        ("fill", False, False, False, True),
    ],
)
async def test_a_proxy_does_what_the_consent_says_and_nothing_else(
    serve: Any, scope: str, *, views: bool, books: bool, pays: bool, fills: bool
) -> None:
    async with serve(identify=identify) as client:
        await filled(client, WEIGHT, proxy(scope))
        assert (await status_of(client, "guardian", "/Observation/o1") == 200) is views
        assert (await put(client, "guardian", APPOINTMENT) == 201) is books
        assert (await status_of(client, "guardian", "/Invoice/bill") == 200) is (pays or views)
        paid = {**WORLD[-1], "status": "balanced"}
        assert (await put(client, "guardian", paid) == 200) is pays
        assert (await put(client, "guardian", ANSWERS) == 201) is fills
        assert await put(client, "guardian", {**WEIGHT, "status": "amended"}) == 403
        wider = proxy("view", "book", "pay", "fill")
        assert await put(client, "guardian", wider) == 403, "nobody widens his own consent"


async def test_a_proxy_ends_with_its_period_and_reads_nothing_without(serve: Any) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    period = {"start": "2020-01-01", "end": ends.isoformat()}
    async with serve(identify=identify) as client:
        await filled(client)
        assert await status_of(client, "guardian", "/Patient/ward") == 404
        assert await status_of(client, "guardian", "/RelatedPerson/guardian") == 200
    async with serve(identify=identify) as client:
        await put(client, "setup", proxy("view", period=period))
        assert await status_of(client, "guardian", "/Patient/ward") == 200
        assert await status_of(client, "guardian", "/Patient/other") == 404
    async with serve(identify=identify) as client:
        over = {**period, "end": (datetime.now(UTC) - timedelta(seconds=2)).isoformat()}
        await put(client, "setup", proxy("view", period=over))
        assert await status_of(client, "guardian", "/Patient/ward") == 404


async def test_a_refused_doctor_sees_neither_record_nor_tasks(serve: Any) -> None:
    refusal = consent("no", {"type": "deny", "actor": actor("Practitioner/doctor")})
    async with serve(identify=identify) as client:
        await filled(client, WEIGHT)
        for path in ("/Patient/ward", "/Task/visit", "/Observation/o1"):
            assert await status_of(client, "doctor", path) == 200
    async with serve(identify=identify) as client:
        await put(client, "setup", refusal)
        for path in ("/Patient/ward", "/Task/visit", "/Observation/o1"):
            assert await status_of(client, "doctor", path) == 404
        assert await put(client, "doctor", {**WEIGHT, "status": "amended"}) == 403


@pytest.mark.parametrize("most", [1000, 1])
async def test_a_refusal_without_actors_is_for_everybody(
    serve: Any, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Named in the SQL or, beyond a number of them, found by it: the same is hidden."""
    monkeypatch.setattr("routes.consents.MOST_REFUSALS", most)
    refusals = [consent(f"no-{number}", {"type": "deny"}) for number in range(3)]
    async with serve(identify=identify) as client:
        await filled(client, *refusals)
        assert await status_of(client, "doctor", "/Patient/ward") == 404
        assert await status_of(client, "doctor", "/Task/visit") == 404
        found = await client.get("/Patient?_total=accurate", headers=by("doctor"))
        assert found.json()["total"] == 0


async def test_without_the_refusals_and_the_consents_they_would_see(
    serve: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the tests above: what they forbid is forbidden by these two functions."""
    refusal = consent("no", {"type": "deny", "actor": actor("Practitioner/doctor")})
    async with make_pool(database_url, size=2) as pool:
        careless = Authorizer(Store(pool))

        async def nobody(*_: object, **__: object) -> None:
            return None

        monkeypatch.setattr(careless, "_denied", nobody)
        monkeypatch.setattr(authorize, "wards_of", _related)
        async with serve(identify=identify, authorize=careless.authorize) as client:
            await filled(client, refusal)
            assert await status_of(client, "doctor", "/Patient/ward") == 200
            assert await status_of(client, "guardian", "/Patient/ward") == 200


def _related(person: str, _proxy: str) -> Condition:
    id_ = person.partition("/")[2]
    return conditions_of("Patient", [("_has:RelatedPerson:patient:_id", id_)])[0]


@pytest.mark.parametrize("named", ["Patient/ward", "urn:m|W%2C1"])
async def test_the_glass_breaks_for_one_patient_and_is_kept_before_the_answer(
    serve: Any, database_url: str, named: str
) -> None:
    claim = {"purpose-of-use": "BTG", "purpose-patient": named, "purpose-reason": REASON}
    async with serve(identify=identify) as client:
        await filled(client, WEIGHT)
        assert await status_of(client, "stranger", "/Patient/ward") == 404
        assert await status_of(client, "stranger", "/Patient/ward", **claim) == 200
        assert await status_of(client, "stranger", "/Observation/o1", **claim) == 200
        assert await status_of(client, "stranger", "/Patient/other", **claim) == 404
        written = await client.put(
            "/Observation/o1", json={**WEIGHT, "status": "amended"}, headers=by("stranger", **claim)
        )
        assert written.status_code in (403, 404), "an emergency reads, it does not write"
        with psycopg.connect(database_url) as connection:
            rows = connection.execute(
                "SELECT actor, outcome, detail FROM audit WHERE action = 'break-glass'"
            ).fetchall()
        assert len(rows) == 4
        assert {row[:2] for row in rows} == {("Practitioner/stranger", 0)}
        assert all(row[2].endswith("昏迷，家属未到") for row in rows)
        events = await client.get("/AuditEvent?subtype=break-glass", headers=by("setup"))
        event = events.json()["entry"][0]["resource"]
        assert event["purposeOfEvent"][0]["coding"][0]["code"] == "BTG"


@pytest.mark.parametrize(
    ("who", "headers", "status"),
    [
        ("guardian", {}, 403),
        ("stranger", {"purpose-of-use": "FUN"}, 400),
        ("stranger", {"purpose-reason": "x"}, 400),
        ("stranger", {"purpose-reason": "%ff%ff%ff%ff%ff%ff"}, 400),
        ("stranger", {"purpose-patient": "Observation/o1"}, 400),
        ("stranger", {"purpose-patient": "Patient/never"}, 404),
    ],
)
async def test_a_claim_that_is_no_emergency_opens_nothing(
    serve: Any, database_url: str, who: str, headers: dict[str, str], status: int
) -> None:
    claim = {
        "purpose-of-use": "BTG",
        "purpose-patient": "Patient/ward",
        "purpose-reason": REASON,
        **headers,
    }
    async with serve(identify=identify) as client:
        await filled(client)
        answer = await client.get("/Patient/ward", headers=by(who, **claim))
        assert answer.status_code == status, answer.text
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT outcome FROM audit WHERE action = 'break-glass'"
        ).fetchall()
    assert rows == ([] if status == 400 else [(4 if status == 403 else 0,)])
