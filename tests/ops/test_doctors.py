"""Doctors and teams over HTTP: review before signing, the insurance's list, invitations."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from contracting import APPROVE, application, asked, signing

from ops.settings import Settings
from ops.wiring import running_hub

pytestmark = pytest.mark.anyio

CODE = "D440300000001"
WORLD: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "authority", "name": "卫生健康局"},
    {
        "resourceType": "Organization",
        "id": "centre",
        "name": "社区卫生服务中心",
        "partOf": {"reference": "Organization/authority"},
    },
    {
        "resourceType": "Patient",
        "id": "p1",
        "name": [{"text": "王秀英"}],
        "birthDate": "1960-05-01",
    },
    *(
        {
            "resourceType": "Practitioner",
            "id": id_,
            "active": True,
            "name": [{"text": name}],
            "qualification": [{"code": {"text": "全科医师"}}],
        }
        for id_, name in (("d1", "李医生"), ("d2", "张医生"))
    ),
    {"resourceType": "Practitioner", "id": "student", "name": [{"text": "学生"}]},
    {"resourceType": "PlanDefinition", "id": "basic", "status": "active", "title": "基础包"},
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    chosen = Settings(auth="off", http_port=0, mllp_port=0)
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=30) as client,
    ):
        for one in WORLD:
            made = await client.put(f"/{one['resourceType']}/{one['id']}", json=one)
            assert made.status_code == 201, made.text
        yield client


def text(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "valueString": value}


async def post(client: httpx.AsyncClient, path: str, *parts: dict[str, Any]) -> httpx.Response:
    return await client.post(path, json=asked(*parts))


async def register(client: httpx.AsyncClient, doctor: str, code: str = CODE) -> None:
    given = (text("organization", "Organization/centre"), text("insuranceDoctorCode", code))
    made = await post(client, f"/Practitioner/{doctor}/$register-family-doctor", *given)
    assert made.status_code == 200, made.text


async def decide(
    client: httpx.AsyncClient, doctor: str, verdict: str, reason: str = ""
) -> httpx.Response:
    parts = [text("verdict", verdict), *([text("reason", reason)] if reason else [])]
    return await post(client, f"/Practitioner/{doctor}/$review-family-doctor", *parts)


async def open_team(client: httpx.AsyncClient) -> httpx.Response:
    return await post(
        client,
        "/CareTeam/$activate-family-doctor",
        text("id", "t1"),
        text("leader", "Practitioner/d1"),
        text("organization", "Organization/centre"),
        text("name", "桥南团队"),
        text("serviceArea", "440303"),
    )


async def sign(client: httpx.AsyncClient, contract: str) -> httpx.Response:
    made = await client.post("/Contract/$submit-application", json=application(contract, 0))
    if made.status_code != 201:
        return made
    await client.post(f"/Contract/{contract}/$review", json=APPROVE)
    return await client.post(f"/Contract/{contract}/$sign", json=signing())


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])


async def test_only_a_reviewed_doctor_leads_and_signs(client: httpx.AsyncClient) -> None:
    assert code_of(await open_team(client)) == "leader-not-qualified"
    await register(client, "d1")
    assert code_of(await open_team(client)) == "leader-not-qualified", "an application is no right"
    task = (await client.get("/Task/d1-registration")).json()
    assert task["status"] == "requested"
    approved = await decide(client, "d1", "approve")
    assert approved.json()["active"] is True
    assert (await client.get("/Task/d1-registration")).json()["status"] == "completed"
    team = await open_team(client)
    assert team.status_code == 201, team.text
    signed = await sign(client, "c1")
    assert signed.json()["status"] == "executed", signed.text


async def test_a_suspended_doctor_signs_no_more_until_resumed(client: httpx.AsyncClient) -> None:
    await register(client, "d1")
    await decide(client, "d1", "approve")
    await open_team(client)
    assert code_of(await decide(client, "d1", "suspend")) == "review-reason"
    await decide(client, "d1", "suspend", "执业证过期")
    assert code_of(await sign(client, "c1")) == "team-not-qualified"
    await decide(client, "d1", "resume")
    assert (await sign(client, "c2")).json()["status"] == "executed"
    told = (await client.get("/Provenance?target=PractitionerRole/d1-family-doctor")).json()
    codes = [e["resource"]["activity"]["coding"][0]["code"] for e in told["entry"]]
    assert sorted(codes) == ["approve", "register", "resume", "suspend"]


@pytest.mark.parametrize(
    ("before", "verdict", "expected"),
    [
        ([], "approve", "registration-state"),
        ([], "resume", "registration-state"),
        (["approve"], "approve", "registration-state"),
        (["approve"], "reject", "registration-state"),
        (["approve"], "nonsense", "registration-state"),
        (["reject"], "approve", "registration-state"),
    ],
)
async def test_unlawful_moves_are_refused_with_what_is_possible(
    client: httpx.AsyncClient, before: list[str], verdict: str, expected: str
) -> None:
    if before:
        await register(client, "d1")
    for one in before:
        assert (await decide(client, "d1", one, "理由")).status_code == 200
    refused = await decide(client, "d1", verdict, "理由")
    assert (refused.status_code, code_of(refused)) == (422, expected)
    assert "Possible now" in refused.json()["issue"][0]["diagnostics"]


async def test_nobody_without_a_qualification_or_with_a_wrong_code_applies(
    client: httpx.AsyncClient,
) -> None:
    organization = text("organization", "Organization/centre")
    path = "/Practitioner/{}/$register-family-doctor"
    assert code_of(await post(client, path.format("student"), organization)) == (
        "doctor-without-qualification"
    )
    wrong = text("insuranceDoctorCode", "440300")
    assert code_of(await post(client, path.format("d1"), organization, wrong)) == (
        "insurance-doctor-code"
    )
    assert (await post(client, path.format("never"), organization)).status_code == 404
    nowhere = await post(client, path.format("d1"), text("organization", "Organization/never"))
    assert nowhere.status_code == 400
    assert (await client.get("/PractitionerRole")).json().get("entry") is None


async def test_of_two_who_register_at_once_one_wins(client: httpx.AsyncClient) -> None:
    given = asked(text("organization", "Organization/centre"))
    path = "/Practitioner/d1/$register-family-doctor"
    answers = await asyncio.gather(*(client.post(path, json=given) for _ in range(5)))
    assert [a.status_code for a in answers].count(200) == 1
    versions = (await client.get("/PractitionerRole/d1-family-doctor/_history")).json()
    assert len(versions["entry"]) == 1


def listed(*doctors: tuple[str, str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": "doctor",
            "part": [text("code", code), text("name", name), text("state", state)],
        }
        for code, name, state in doctors
    ]


async def test_who_is_off_the_insurance_list_loses_the_right_to_sign(
    client: httpx.AsyncClient,
) -> None:
    other = "D440300000002"
    for doctor, code in (("d1", CODE), ("d2", other)):
        await register(client, doctor, code)
        await decide(client, doctor, "approve")
    path = "/Practitioner/$reconcile-insurance-doctors"
    same = listed((CODE, "李医生", "active"), (other, "张医生", "active"))
    counts = {p["name"]: p.get("valueInteger") for p in
              (await post(client, path, *same)).json()["parameter"]}  # fmt: skip
    assert counts == {"listed": 2, "registered": 2}
    list_ = listed((CODE, "李医生", "suspended"), ("D440300000009", "陌生", "active"))
    dry = await post(client, path, *list_)
    kinds = {
        part["part"][0]["valueCode"]
        for part in dry.json()["parameter"]
        if part["name"] == "difference"
    }
    assert kinds == {"suspended-there", "removed-there", "not-registered"}
    role = "/PractitionerRole/{}-family-doctor"
    assert (await client.get(role.format("d1"))).json()["active"] is True, "only told so far"
    await post(client, path, *list_, {"name": "apply", "valueBoolean": True})
    for doctor in ("d1", "d2"):
        assert (await client.get(role.format(doctor))).json()["active"] is False
    assert code_of(await open_team(client)) == "leader-not-qualified"
    empty = await post(client, path, {"name": "apply", "valueBoolean": True})
    assert empty.status_code == 400, "an empty list would suspend everybody"


async def test_a_doctor_joins_by_accepting_and_not_before(client: httpx.AsyncClient) -> None:
    await register(client, "d1")
    await decide(client, "d1", "approve")
    await open_team(client)
    invited = (
        text("doctor", "Practitioner/d2"), text("role", "nurse"), text("taskId", "i1")
    )  # fmt: skip
    assert (await post(client, "/CareTeam/t1/$invite", *invited)).status_code == 201

    async def members() -> list[str]:
        team = (await client.get("/CareTeam/t1")).json()
        return [one["member"]["reference"] for one in team["participant"]]

    assert await members() == ["Practitioner/d1"]
    taken = await post(client, "/CareTeam/t1/$invite", *invited[:2], text("taskId", "i1"))
    assert (taken.status_code, code_of(taken)) == (400, "operation-parameter")
    yes = {"name": "accept", "valueBoolean": True}
    path = "/CareTeam/t1/$answer-invitation"
    answers = await asyncio.gather(
        *(post(client, path, text("task", "Task/i1"), yes) for _ in range(3))
    )
    assert sorted(a.status_code for a in answers) == [200, 422, 422]
    assert await members() == ["Practitioner/d1", "Practitioner/d2"]
    assert (await client.get("/Task/i1")).json()["status"] == "completed"
    again = await post(client, "/CareTeam/t1/$invite", text("doctor", "Practitioner/d2"))
    assert code_of(again) == "invite-member"
    found = (await client.get("/CareTeam?participant=Practitioner/d2")).json()
    assert [e["resource"]["id"] for e in found["entry"]] == ["t1"]


async def test_levels_of_verification_need_evidence_or_a_reason(client: httpx.AsyncClient) -> None:
    path = "/Patient/p1/$verify"
    assert code_of(await post(client, path, text("level", "3"))) == "verification-evidence"
    proof = {
        "resourceType": "DocumentReference",
        "id": "proof",
        "status": "current",
        "content": [{"attachment": {"title": "人脸比对结果"}}],
    }
    await client.put("/DocumentReference/proof", json=proof)
    seen = await post(client, path, text("level", "3"), text("evidence", "DocumentReference/proof"))
    assert seen.json()["extension"][0]["valueCode"] == "3"
    unknown = text("evidence", "DocumentReference/none")
    named = (await post(client, path, text("level", "3"), unknown)).json()["issue"][0]
    assert "'evidence'" in named["expression"][0], "the parameter is named, not the type"
    assert code_of(await post(client, path, text("level", "1"))) == "verification-lowered"
    assert code_of(await post(client, path, text("level", "9"))) == "verification-level"
    lowered = await post(client, path, text("level", "1"), text("reason", "照片不符"))
    assert lowered.json()["extension"][0]["valueCode"] == "1"
    told = (await client.get("/Provenance?target=Patient/p1")).json()["entry"]
    assert len(told) == 2


async def test_a_team_is_not_opened_over_another(client: httpx.AsyncClient) -> None:
    await register(client, "d1")
    await decide(client, "d1", "approve")
    await open_team(client)
    before = (await client.get("/CareTeam/t1")).json()
    over = (text("leader", "Practitioner/d1"), text("organization", before["managingOrganization"]
            [0]["reference"]), text("name", "另一团队"))  # fmt: skip
    taken = await post(client, "/CareTeam/$activate-family-doctor", text("id", "t1"), *over)
    assert (taken.status_code, code_of(taken)) == (400, "operation-parameter")
    assert (await client.get("/CareTeam/t1")).json() == before
    free = await post(client, "/CareTeam/$activate-family-doctor", text("id", "t2"), *over)
    assert free.status_code == 201, free.text
