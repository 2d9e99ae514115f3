"""What residents and relatives may change of their own record by plain writes."""

from typing import Any

import pytest

from routes import writing
from routes.bearer import Caller, parse_scopes

pytestmark = pytest.mark.anyio

RESIDENT = Caller(subject="p", client="app", scopes=parse_scopes("patient/*.cruds"), patient="p1")
STAFF = Caller(subject="s", client="test", scopes=parse_scopes("system/*.cruds"))
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:m", "value": "1"}],
    "name": [{"text": "演示甲"}, {"use": "nickname", "text": "小甲"}],
    "gender": "female",
    "birthDate": "1990-03-07",
}
CONTRACT = {
    "resourceType": "Contract",
    "id": "c1",
    "status": "executable",
    "subject": [{"reference": "Patient/p1"}],
}
TASK = {
    "resourceType": "Task",
    "id": "t1",
    "status": "requested",
    "intent": "order",
    "for": {"reference": "Patient/p1"},
    "basedOn": [{"reference": "Contract/c1"}],
}
OWN = ({"telecom": [{"system": "phone", "value": "13900000001"}]},
       {"photo": [{"title": "me"}]},
       {"name": [{"text": "演示甲"}, {"use": "nickname", "text": "阿甲"}]})  # fmt: skip
VERIFIED = {"url": "https://fhir.qiao.example/cphc/StructureDefinition/cphc-verification-level"}
FOR_STAFF = (
    ({"deceasedBoolean": True}, "Patient.deceasedBoolean"),
    ({"birthDate": "1950-01-01"}, "Patient.birthDate"),
    ({"identifier": [{"system": "urn:m", "value": "2"}]}, "Patient.identifier"),
    ({"name": [{"text": "演示乙"}]}, "Patient.name"),
    ({"extension": [{**VERIFIED, "valueCode": "3"}]}, "Patient.extension"),
)


async def identify(authorization: str | None) -> Caller:
    return RESIDENT if authorization == "Bearer resident" else STAFF


def headers(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {who}", "content-type": "application/fhir+json"}


async def put(client: Any, who: str, resource: dict[str, Any]) -> Any:
    path = f"/{resource['resourceType']}/{resource['id']}"
    return await client.put(path, json=resource, headers=headers(who))


async def filled(client: Any) -> None:
    for one in (PATIENT, CONTRACT, TASK):
        assert (await put(client, "staff", one)).status_code == 201


async def test_contact_photo_and_nickname_are_ones_own_and_identity_is_not(serve: Any) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        known = dict(PATIENT)
        for change in OWN:
            known = {**known, **change}
            assert (await put(client, "resident", known)).status_code == 200
        for change, place in FOR_STAFF:
            answer = await put(client, "resident", {**known, **change})
            assert answer.status_code == 403
            assert answer.json()["issue"][0]["expression"] == [place]
            assert (await put(client, "staff", {**known, **change})).status_code == 200
            await put(client, "staff", known)
        gone = await client.delete("/Patient/p1", headers=headers("resident"))
        assert gone.status_code == 403


@pytest.mark.parametrize("resource", [CONTRACT, TASK])
async def test_contracts_and_their_tasks_are_changed_by_steps_only(
    serve: Any, resource: dict[str, Any]
) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        path = f"/{resource['resourceType']}/{resource['id']}"
        assert (await client.get(path, headers=headers("resident"))).status_code == 200
        same = {**resource, "language": "zh"}
        answer = await put(client, "resident", same)
        assert answer.status_code == 403
        fresh = {**same, "id": "new"}
        assert (await put(client, "resident", fresh)).status_code == 403
        assert (await client.delete(path, headers=headers("resident"))).status_code == 403
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [{"resource": same, "request": {"method": "PUT", "url": path[1:]}}],
        }
        answer = await client.post("/", json=bundle, headers=headers("resident"))
        assert answer.status_code == 403
        assert (await client.get(path, headers=headers("staff"))).json()["meta"]["versionId"] == "1"


async def test_without_the_judgement_a_resident_dies_by_the_own_hand(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "is_lay", lambda _caller: False)
    async with serve(identify=identify) as client:
        await filled(client)
        changed = {**PATIENT, "deceasedBoolean": True}
        assert (await put(client, "resident", changed)).status_code == 200


async def test_what_belongs_to_nobody_is_not_written_by_residents(serve: Any) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        plan = {"resourceType": "PlanDefinition", "id": "x", "status": "draft"}
        assert (await put(client, "resident", plan)).status_code == 403
