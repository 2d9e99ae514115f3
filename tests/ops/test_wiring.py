"""The wired hub over HTTP: terminology, forms, the package, health and metrics."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from conformance.cphc import BASE
from conformance.problem import InvalidContent
from ops.settings import Settings, read_settings
from ops.wiring import running_hub

ETHNIC = f"{BASE}/CodeSystem/cphc-gbt-3304"
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "name": [{"text": "王秀英", "family": "王"}],
    "gender": "female",
    "birthDate": "1990-03-07",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def client_of(database_url: str, **settings: object) -> AsyncIterator[httpx.AsyncClient]:
    chosen = Settings(auth="off", http_port=0, mllp_port=0, **settings)
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}") as client,
    ):
        yield client


def parts(answer: httpx.Response) -> dict[str, object]:
    assert answer.status_code == 200, answer.text
    return {
        part["name"]: next(v for k, v in part.items() if k != "name")
        for part in answer.json()["parameter"]
    }


@pytest.mark.anyio
async def test_codes_are_looked_up_expanded_and_checked(database_url: str) -> None:
    async with client_of(database_url) as client:
        looked = await client.get(f"/fhir/CodeSystem/$lookup?system={ETHNIC}&code=05")
        assert parts(looked)["display"] == "维吾尔族"
        url = f"{BASE}/ValueSet/cphc-gbt-3304"
        page = await client.get(f"/fhir/ValueSet/$expand?url={url}&count=3&offset=1")
        codes = [c["code"] for c in page.json()["expansion"]["contains"]]
        assert codes == ["02", "03", "04"]
        by_id = await client.get("/fhir/ValueSet/cphc-gbt-3304/$validate-code?code=57")
        assert parts(by_id)["result"] is False
        wrong = await client.get(f"/fhir/ValueSet/$expand?url={url}&count=many")
        assert wrong.status_code == 400
        unknown = await client.get("/fhir/ValueSet/$expand?url=urn:none")
        assert unknown.status_code == 404
        assert unknown.json()["resourceType"] == "OperationOutcome"


@pytest.mark.anyio
async def test_a_code_system_counts_as_soon_as_it_is_written(database_url: str) -> None:
    own = {
        "resourceType": "CodeSystem",
        "url": "urn:his:ward",
        "status": "active",
        "content": "complete",
        "concept": [{"code": "W1", "display": "内科"}],
    }
    async with client_of(database_url) as client:
        made = await client.post("/fhir/CodeSystem", json=own)
        assert made.status_code == 201
        looked = await client.get("/fhir/CodeSystem/$lookup?system=urn:his:ward&code=W1")
        if looked.status_code == 404:  # within the second that an answer may be stale
            import asyncio

            await asyncio.sleep(1.1)
            looked = await client.get("/fhir/CodeSystem/$lookup?system=urn:his:ward&code=W1")
        assert parts(looked)["display"] == "内科"


@pytest.mark.anyio
async def test_the_package_is_there_as_ordinary_resources(fresh_database_url: str) -> None:
    async with client_of(fresh_database_url) as client:
        form = await client.get("/fhir/Questionnaire/phs3-htn-followup")
        assert form.json()["title"] == "高血压患者随访服务记录表"
    async with client_of(fresh_database_url) as client:
        again = await client.get("/fhir/Questionnaire/phs3-htn-followup")
        assert again.json()["meta"]["versionId"] == "1"


@pytest.mark.anyio
async def test_a_form_is_filled_checked_judged_and_read_out(database_url: str) -> None:
    async with client_of(database_url) as client:
        assert (await client.put("/fhir/Patient/p1", json=PATIENT)).status_code == 201
        asked = {
            "resourceType": "Parameters",
            "parameter": [{"name": "subject", "valueReference": {"reference": "Patient/p1"}}],
        }
        begun = await client.post("/fhir/Questionnaire/phs3-personal-info/$populate", json=asked)
        answers = {item["linkId"]: item["answer"][0] for item in begun.json()["item"]}
        assert answers["name"] == {"valueString": "王秀英"}
        checked = await client.post("/fhir/QuestionnaireResponse/$check-answers", json=begun.json())
        assert checked.json()["issue"][0]["severity"] == "information"
        visit = {
            "resourceType": "QuestionnaireResponse",
            "questionnaire": f"{BASE}/Questionnaire/phs3-htn-followup|3.0",
            "status": "in-progress",
            "subject": {"reference": "Patient/p1"},
            "item": [
                {"linkId": "visit-date", "answer": [{"valueDate": "2026-03-02"}]},
                {
                    "linkId": "signs",
                    "item": [
                        {"linkId": "systolic", "answer": [{"valueInteger": 182}]},
                        {"linkId": "diastolic", "answer": [{"valueInteger": 95}]},
                    ],
                },
            ],
        }
        judged = parts(await client.post("/fhir/QuestionnaireResponse/$assess", json=visit))
        assert (judged["refer"], judged["nextDue"]) == (True, "2026-03-16")
        read = await client.post("/fhir/QuestionnaireResponse/$extract", json=visit)
        types = {entry["resource"]["resourceType"] for entry in read.json()["entry"]}
        assert types == {"Observation", "EpisodeOfCare"}
        no_scale = await client.post("/fhir/QuestionnaireResponse/$score", json=visit)
        assert no_scale.status_code == 400


@pytest.mark.anyio
async def test_health_and_metrics_answer(database_url: str) -> None:
    async with client_of(database_url) as client:
        assert (await client.get("/health/live")).json() == {"status": "up"}
        ready = (await client.get("/health/ready")).json()
        assert ready == {"status": "up", "parts": {"database": True}}
        assert "qiao_" in (await client.get("/metrics")).text


@pytest.mark.anyio
async def test_http_answers_are_counted_by_interaction_and_class_of_status(
    database_url: str,
) -> None:
    async with client_of(database_url) as client:
        await client.put("/fhir/Patient/p1", json=PATIENT)
        for _ in range(2):
            await client.get("/fhir/Patient/p1")
        await client.get("/fhir/Patient/nobody")
        await client.get("/fhir/Nothing/Nobody/none/at/all")
        text = (await client.get("/metrics")).text
    answers = [line for line in text.splitlines() if line.startswith("qiao_http_answers_total")]
    assert sorted(answers) == [
        'qiao_http_answers_total{interaction="read",status="2xx"} 2.0',
        'qiao_http_answers_total{interaction="read",status="4xx"} 1.0',
        'qiao_http_answers_total{interaction="unknown",status="4xx"} 1.0',
        'qiao_http_answers_total{interaction="update",status="2xx"} 1.0',
    ]
    assert 'qiao_http_seconds_count{interaction="read"} 3.0' in text


@pytest.mark.anyio
async def test_without_an_issuer_nobody_comes_in_but_the_description(database_url: str) -> None:
    chosen = Settings(auth="on", http_port=0, mllp_port=0)
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}") as client,
    ):
        assert (await client.get("/fhir/metadata")).status_code == 200
        refused = await client.get("/fhir/Patient/p1")
        assert refused.status_code == 401
        assert refused.json()["issue"][0]["code"] == "login"


CLAIM = f"{BASE}/StructureDefinition/cphc-patient"


@pytest.mark.anyio
async def test_a_resource_is_judged_against_a_profile_of_the_package(database_url: str) -> None:
    async with client_of(database_url) as client:
        asked = {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "resource", "resource": {"resourceType": "Patient", "gender": "male"}},
                {"name": "profile", "valueUri": CLAIM},
            ],
        }
        judged = await client.post("/fhir/Patient/$validate", json=asked)
        issues = judged.json()["issue"]
        missing = [i["details"]["text"] for i in issues if i["severity"] == "error"]
        assert any("name" in text for text in missing)
        assert any("birthDate" in text for text in missing)


@pytest.mark.anyio
@pytest.mark.parametrize(("policy", "status"), [("enforce", 400), ("warn", 201), ("off", 201)])
async def test_what_a_claimed_profile_means_to_a_write_is_a_setting(
    database_url: str, policy: str, status: int
) -> None:
    async with client_of(database_url, claimed_profiles=policy) as client:
        claiming = {"resourceType": "Patient", "meta": {"profile": [CLAIM]}, "gender": "male"}
        written = await client.post("/fhir/Patient", json=claiming)
        assert written.status_code == status, written.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (None, None, 200),
        ("s" * 16, "s" * 16, 200),
        ("s" * 16, "t" * 16, 400),
        ("s" * 16, None, 400),
    ],
)
async def test_a_page_link_is_followed_by_every_process_that_shares_the_secret(
    database_url: str, first: str | None, second: str | None, status: int
) -> None:
    async with (
        client_of(database_url, page_secret=first) as one,
        client_of(database_url, page_secret=second) as other,
    ):
        page = (await one.get("/fhir/ValueSet?_count=1")).json()
        link = next(link["url"] for link in page["link"] if link["relation"] == "next")
        path = link[link.index("/fhir/") :]
        assert (await one.get(path)).status_code == 200
        assert (await other.get(path)).status_code == status


def test_a_short_page_secret_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QIAO_PAGE_SECRET", "short")
    with pytest.raises(InvalidContent) as refusal:
        read_settings()
    assert "QIAO_PAGE_SECRET" in refusal.value.issues[0].text_en


LOADED = """
import asyncio, sys
from ops.settings import Settings
from ops.wiring import running_hub

async def run():
    chosen = Settings(auth="off", http_port=0, mllp_port=0)
    async with running_hub(chosen, sys.argv[1], roles=frozenset({sys.argv[2]})):
        print("pypinyin" in sys.modules)

asyncio.run(run())
"""


@pytest.mark.parametrize(("role", "is_loaded"), [("http", "True"), ("mllp", "False")])
def test_the_dictionary_of_names_is_loaded_before_the_http_port_opens(
    database_url: str, role: str, is_loaded: str
) -> None:
    command = [sys.executable, "-c", LOADED, database_url, role]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert is_loaded in done.stdout.splitlines()  # among lines of the log
