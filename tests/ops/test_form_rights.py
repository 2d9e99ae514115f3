"""Whose answers and records the operations of forms read: those the caller may read, no others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from conformance.cphc import BASE
from conformance.forms.questionnaires import questionnaires
from fhir_store.store import Store, make_pool
from ops.http_server import serving
from routes.app import create_app
from routes.authorize import Authorizer
from routes.bearer import ANYBODY, Caller
from routes.definitions import Definitions
from routes.hub import Hub
from routes.limits import Limits
from routes.operations.forms import form_operations
from routes.operations.terminology import terminology_operations
from routes.scopes import parse_scopes

SCOPES = {"own": "patient/*.rs", "lists": "patient/Patient.rs"}
SCALE = questionnaires()["psych-gad7"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def identify(authorization: str | None) -> Caller:
    if authorization is None:
        return ANYBODY
    name = authorization.removeprefix("Bearer ")
    return Caller(subject=name, client="app", scopes=parse_scopes(SCOPES[name]), patient="mine")


@asynccontextmanager
async def client_of(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with make_pool(database_url, size=4) as pool:
        store = Store(pool)
        hub = Hub(
            store=store,
            identify=identify,
            authorize=Authorizer(store).authorize,
            note=lambda _access: None,
        )
        definitions = Definitions(store)
        more = (*form_operations(definitions), *terminology_operations(definitions))
        app = create_app(hub, operations=more)
        async with (
            serving(app, host="127.0.0.1", port=0, limits=Limits()) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/fhir", timeout=30) as client,
        ):
            for resource in WORLD:
                path = f"/{resource['resourceType']}/{resource['id']}"
                assert (await client.put(path, json=resource)).status_code == 201
            yield client


def answered(owner: str) -> dict[str, Any]:
    options = [(one["linkId"], one["answerOption"][1]) for one in SCALE["item"]
               if one["type"] == "choice"]  # fmt: skip
    return {
        "resourceType": "QuestionnaireResponse",
        "id": f"of-{owner}",
        "status": "completed",
        "questionnaire": f"{SCALE['url']}|{SCALE['version']}",
        "subject": {"reference": f"Patient/{owner}"},
        "item": [
            {"linkId": name, "answer": [{"valueCoding": option["valueCoding"]}]}
            for name, option in options
        ],
    }


def visit(owner: str, on: str, systolic: int, *more: dict[str, Any]) -> dict[str, Any]:
    pressures = [("systolic", systolic), ("diastolic", 85)]
    signs = [{"linkId": name, "answer": [{"valueInteger": value}]} for name, value in pressures]
    date = {"linkId": "visit-date", "answer": [{"valueDate": on}]}
    return {
        "resourceType": "QuestionnaireResponse",
        "id": f"visit-{owner}-{on}",
        "status": "completed",
        "questionnaire": f"{BASE}/Questionnaire/phs3-htn-followup|3.0",
        "subject": {"reference": f"Patient/{owner}"},
        "item": [date, {"linkId": "signs", "item": signs}, *more],
    }


UNSATISFIED = {"linkId": "class", "answer": [{"valueCoding": {"code": "2"}}]}
WORLD = [
    {"resourceType": "Patient", "id": "mine", "birthDate": "1990-01-01", "name": [{"text": "甲"}]},
    {"resourceType": "Patient", "id": "other", "birthDate": "1950-03-03", "name": [{"text": "乙"}]},
    answered("mine"),
    answered("other"),
    visit("mine", "2026-02-01", 150, UNSATISFIED),
    visit("other", "2026-02-01", 150, UNSATISFIED),
    {"resourceType": "ValueSet", "id": "v", "url": "urn:v", "status": "active",
     "compose": {"include": [{"system": "urn:s", "concept": [{"code": "a"}]}]}},
]  # fmt: skip


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


@pytest.mark.anyio
async def test_answers_of_others_are_not_read_by_any_operation(database_url: str) -> None:
    async with client_of(database_url) as client:
        for operation in ("$score", "$extract", "$check-answers"):
            for owner, status in (("mine", 200), ("other", 404)):
                path = f"/QuestionnaireResponse/of-{owner}/{operation}"
                answer = await client.get(path, headers=bearer("own"))
                assert answer.status_code == status, (operation, owner, answer.text)
                # The twin: who may read everything is answered.
                assert (await client.get(path)).status_code == 200
        refused = await client.get("/QuestionnaireResponse/of-mine/$score", headers=bearer("lists"))
        assert refused.status_code == 403


@pytest.mark.anyio
async def test_a_form_is_not_filled_from_the_record_of_another(database_url: str) -> None:
    async with client_of(database_url) as client:
        for asked, status in (
            ({"subject": "Patient/mine"}, 200),
            ({"subject": "Patient/other"}, 404),
            ({"subject": "Patient/mine", "previous": "QuestionnaireResponse/of-other"}, 404),
        ):
            asked = {**asked, "canonical": f"{BASE}/Questionnaire/phs3-personal-info"}
            path = "/Questionnaire/$populate"
            answer = await client.get(path, params=asked, headers=bearer("own"))
            assert answer.status_code == status, answer.text
            assert ("乙" in answer.text) is False
            assert (await client.get(path, params=asked)).status_code == 200


@pytest.mark.anyio
async def test_a_list_is_expanded_at_its_address_for_who_may_read_it(database_url: str) -> None:
    async with client_of(database_url) as client:
        path = "/ValueSet/v/$expand"
        assert (await client.get(path, headers=bearer("own"))).status_code == 200
        assert (await client.get(path, headers=bearer("lists"))).status_code == 403


def asked(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [*parts]}


def told(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {
        part["name"]: next(v for k, v in part.items() if k != "name")
        for part in answer.json()["parameter"]
    }


@pytest.mark.anyio
async def test_a_visit_is_assessed_by_the_age_and_the_visit_before(database_url: str) -> None:
    async with client_of(database_url) as client:
        path = "/QuestionnaireResponse/$assess"

        async def assessed(
            owner: str, systolic: int, *more: dict[str, Any], to: str = "", status: int = 200
        ) -> dict[str, Any]:
            response = {"name": "response", "resource": visit(owner, "2026-03-02", systolic)}
            headers = bearer(to) if to else {}
            answer = await client.post(path, json=asked(*more, response), headers=headers)
            assert answer.status_code == status, answer.text
            return told(answer) if status == 200 else answer.json()

        # 145 is above the target of a woman of 36 and below that of one of 75 years.
        assert (await assessed("mine", 145))["class"] == "2"
        assert (await assessed("other", 145))["class"] == "1"
        # Of a record that the caller may not read, the age is not known.
        assert (await assessed("other", 145, to="own"))["class"] == "2"
        age = {"name": "age", "valueInteger": 70}
        assert (await assessed("mine", 145, age))["class"] == "1"
        assert (await assessed("nobody", 145))["class"] == "2"

        before = {"reference": "QuestionnaireResponse/visit-mine-2026-02-01"}
        previous = {"name": "previous", "valueReference": before}
        assert (await assessed("mine", 145))["refer"] is False
        assert (await assessed("mine", 145, previous))["refer"] is True
        whole = {"name": "previous", "resource": visit("mine", "2026-02-01", 150, UNSATISFIED)}
        assert (await assessed("mine", 145, whole))["refer"] is True
        assert (await assessed("mine", 145, previous, to="own"))["refer"] is True
        of_other = {"reference": "QuestionnaireResponse/visit-other-2026-02-01"}
        previous = {"name": "previous", "valueReference": of_other}
        await assessed("mine", 145, previous, to="own", status=404)

        lungs = {
            **visit("mine", "2026-03-02", 120),
            "questionnaire": f"{BASE}/Questionnaire/phs3-tb-followup|3.0",
        }
        answer = told(await client.post(path, json=lungs))
        assert answer == {"programme": "tb", "urgent": False, "refer": False,
                          "nextDue": "2026-04-01"}  # fmt: skip

        stored = "/QuestionnaireResponse/visit-mine-2026-02-01/$assess"
        assert told(await client.get(stored))["refer"] is False
        by_address = {"previous": "QuestionnaireResponse/visit-mine-2026-02-01", "age": "40"}
        assert told(await client.get(stored, params=by_address))["refer"] is True
        for wrong in (
            {"age": "old"}, {"age": "-1"}, {"previous": "Patient/mine"}, {"ages": "40"},
            {"response": "QuestionnaireResponse/visit-mine-2026-02-01"},
        ):  # fmt: skip
            refused = await client.get(stored, params=wrong)
            assert refused.status_code == 400, refused.text
