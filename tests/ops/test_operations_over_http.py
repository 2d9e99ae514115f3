"""Terminology and forms over HTTP, asked of a hub as it is wired."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from conformance.cphc import BASE
from conformance.forms.questionnaires import questionnaires
from ops.settings import Settings
from ops.wiring import running_hub
from routes.definitions import LOOK_SECONDS

pytestmark = pytest.mark.anyio
ICD = "urn:his:icd"
WARD = "urn:his:ward"
SYSTEMS: list[dict[str, Any]] = [
    {
        "resourceType": "CodeSystem",
        "id": "icd",
        "url": ICD,
        "status": "active",
        "content": "complete",
        "hierarchyMeaning": "is-a",
        "concept": [
            {
                "code": "I",
                "display": "循环系统疾病",
                "designation": [{"language": "en", "value": "Circulatory"}],
                "concept": [
                    {"code": "I10", "display": "高血压"},
                    {"code": "I20", "display": "心绞痛"},
                ],
            },
            {"code": "J", "display": "呼吸系统疾病"},
        ],
    },
    {
        "resourceType": "ValueSet",
        "id": "icd",
        "url": f"{ICD}:all",
        "status": "active",
        "compose": {"include": [{"system": ICD}]},
    },
    {
        "resourceType": "ConceptMap",
        "id": "own",
        "url": "urn:his:map",
        "status": "active",
        "sourceUri": f"{WARD}:all",
        "targetUri": f"{ICD}:all",
        "group": [
            {
                "source": WARD,
                "target": ICD,
                "element": [{"code": "gxy", "target": [{"code": "I10", "equivalence": "equal"}]}],
            }
        ],
    },
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def client_of(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running_hub(
            Settings(auth="off", http_port=0, mllp_port=0), database_url, roles=frozenset({"http"})
        ) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir") as client,
    ):
        yield client


def parts(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {
        part["name"]: next(v for k, v in part.items() if k != "name")
        for part in answer.json()["parameter"]
    }


async def test_each_terminology_operation_answers(database_url: str) -> None:
    async with client_of(database_url) as client:
        for resource in SYSTEMS:
            kind, id_ = resource["resourceType"], resource["id"]
            assert (await client.put(f"/{kind}/{id_}", json=resource)).status_code == 201
        await asyncio.sleep(LOOK_SECONDS + 0.1)

        async def expansion(**asked: Any) -> dict[str, Any]:
            answer = await client.get("/ValueSet/icd/$expand", params=asked)
            assert answer.status_code == 200, answer.text
            return answer.json()["expansion"]

        nested = (await expansion())["contains"]
        assert [one["code"] for one in nested] == ["I", "J"]
        assert [one["code"] for one in nested[0]["contains"]] == ["I10", "I20"]
        flat = await expansion(excludeNested="true", count=2, offset=1)
        assert [one["code"] for one in flat["contains"]] == ["I10", "I20"]
        assert (flat["total"], flat["offset"]) == (4, 1)
        found = await expansion(filter="心绞", excludeNested="true")
        assert [one["code"] for one in found["contains"]] == ["I20"]
        english = await expansion(displayLanguage="en", excludeNested="true")
        assert english["contains"][0]["display"] == "Circulatory"

        asked = {"system": ICD, "codeA": "I", "codeB": "I10"}
        compared = parts(await client.get("/CodeSystem/$subsumes", params=asked))
        assert compared["outcome"] == "subsumes"
        wrong = parts(
            await client.get("/CodeSystem/icd/$validate-code", params={"code": "X", "url": ICD})
        )
        assert wrong["result"] is False
        there = {"url": "urn:his:map", "system": WARD, "code": "gxy"}
        mapped = parts(await client.get("/ConceptMap/$translate", params=there))
        assert mapped["result"] is True
        back = {"url": "urn:his:map", "system": ICD, "code": "I10", "reverse": "true"}
        answer = await client.get("/ConceptMap/$translate", params=back)
        assert "gxy" in answer.text
        refused = await client.get("/ValueSet/icd/$expand", params={"excludeNested": "maybe"})
        assert refused.status_code == 400


async def test_a_response_is_judged_by_its_questionnaire(database_url: str) -> None:
    scale = questionnaires()["psych-gad7"]
    url = f"{BASE}/Questionnaire/psych-gad7|{scale['version']}"
    questions = [item for item in scale["item"] if item["type"] == "choice"]

    def answered(code: str) -> dict[str, Any]:
        items = []
        for question in questions:
            coding = question["answerOption"][0]["valueCoding"]
            answer = {"valueCoding": {"system": coding["system"], "code": code}}
            items.append({"linkId": question["linkId"], "answer": [answer]})
        return {
            "resourceType": "QuestionnaireResponse", "questionnaire": url,
            "status": "in-progress", "item": items,
        }  # fmt: skip

    async def worst(client: httpx.AsyncClient, response: dict[str, Any]) -> set[str]:
        answer = await client.post("/QuestionnaireResponse/$validate", json=response)
        assert answer.status_code == 200, answer.text
        return {issue["severity"] for issue in answer.json()["issue"]}

    async with client_of(database_url) as client:
        assert await worst(client, answered("1")) == {"information"}
        assert "error" in await worst(client, answered("77"))
        unknown = {**answered("1"), "questionnaire": "urn:no:form"}
        assert await worst(client, unknown) == {"warning"}
        scored = parts(await client.post("/QuestionnaireResponse/$score", json=answered("1")))
        assert (scored["form"], scored["total"]) == ("psych-gad7", len(questions))
