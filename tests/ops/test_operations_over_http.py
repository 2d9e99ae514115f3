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
        match = next(p["part"] for p in answer.json()["parameter"] if p["name"] == "match")
        told = {part["name"]: next(v for k, v in part.items() if k != "name") for part in match}
        assert told["concept"] == {"system": WARD, "code": "gxy"}
        assert told["source"] == "urn:his:map"
        refused = await client.get("/ValueSet/icd/$expand", params={"excludeNested": "maybe"})
        assert refused.status_code == 400


WRONG: list[tuple[str, dict[str, Any], dict[str, Any]]] = [  # operation, wrong part, right part
    ("ValueSet/$expand", {"name": "valueSet", "valueString": "x"},
     {"name": "valueSet", "resource": SYSTEMS[1]}),
    ("ValueSet/$expand", {"name": "valueSet", "resource": SYSTEMS[0]},
     {"name": "valueSet", "resource": SYSTEMS[1]}),
    ("ValueSet/$expand", {"name": "url", "valueInteger": 5},
     {"name": "url", "valueUri": f"{ICD}:all"}),
    ("ValueSet/$expand", {"name": "count", "valueCoding": {"code": "1"}},
     {"name": "count", "valueInteger": 1}),
    ("ValueSet/$expand", {"name": "activeOnly", "valueInteger": 1},
     {"name": "activeOnly", "valueBoolean": True}),
    ("ValueSet/$expand", {"name": "tx-resource", "valueString": "x"},
     {"name": "tx-resource", "resource": SYSTEMS[0]}),
    ("ValueSet/$validate-code", {"name": "coding", "valueCoding": {"code": 5}},
     {"name": "coding", "valueCoding": {"system": ICD, "code": "I10"}}),
    ("CodeSystem/$lookup", {"name": "coding", "valueString": "code"},
     {"name": "coding", "valueCoding": {"system": ICD, "code": "I10"}}),
    ("CodeSystem/$validate-code", {"name": "codeableConcept", "valueString": "x"},
     {"name": "codeableConcept", "valueCodeableConcept": {"coding": [{"code": "I10"}]}}),
    ("CodeSystem/$subsumes", {"name": "codingB", "valueBoolean": True},
     {"name": "codingB", "valueCoding": {"code": "I10"}}),
    ("CodeSystem/$subsumes", {"name": "codingB", "valueCoding": {"system": WARD, "code": "I10"}},
     {"name": "codingB", "valueCoding": {"system": ICD, "code": "I10"}}),
    ("ConceptMap/$translate", {"name": "coding", "valueCoding": {"system": WARD}},
     {"name": "coding", "valueCoding": {"system": WARD, "code": "gxy"}}),
    ("ConceptMap/$translate",
     {"name": "conceptMap", "resource": {"resourceType": "ConceptMap", "group": [{}]}},
     {"name": "conceptMap", "resource": SYSTEMS[2]}),
]  # fmt: skip
BESIDE: dict[str, list[dict[str, Any]]] = {
    "ValueSet/$expand": [{"name": "url", "valueUri": f"{ICD}:all"}],
    "ValueSet/$validate-code": [{"name": "url", "valueUri": f"{ICD}:all"}],
    "CodeSystem/$lookup": [],
    "CodeSystem/$validate-code": [{"name": "url", "valueUri": ICD}],
    "CodeSystem/$subsumes": [
        {"name": "system", "valueUri": ICD}, {"name": "codeA", "valueCode": "I"},
    ],
    "ConceptMap/$translate": [
        {"name": "url", "valueUri": "urn:his:map"}, {"name": "system", "valueUri": WARD},
        {"name": "code", "valueCode": "gxy"},
    ],
}  # fmt: skip


async def test_a_parameter_of_a_wrong_kind_is_refused_with_the_right_one(
    database_url: str,
) -> None:
    async with client_of(database_url) as client:
        for resource in SYSTEMS:
            await client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
        await asyncio.sleep(LOOK_SECONDS + 0.1)
        for operation, wrong, right in WRONG:
            beside = [one for one in BESIDE[operation] if one["name"] != wrong["name"]]
            for part, status in ((wrong, 400), (right, 200)):
                asked = {"resourceType": "Parameters", "parameter": [*beside, part]}
                answer = await client.post(f"/{operation}", json=asked)
                assert answer.status_code == status, (operation, part, answer.text)
                if status == 400:
                    assert answer.json()["issue"][0]["diagnostics"], part
        # In an address every value is text, which is no Coding.
        asked = {"system": ICD, "codingA": "I", "codeB": "I10"}
        refused = await client.get("/CodeSystem/$subsumes", params=asked)
        assert refused.status_code == 400


async def test_a_parameter_that_is_not_read_is_told_or_refused(database_url: str) -> None:
    async with client_of(database_url) as client:
        gender = "http://hl7.org/fhir/administrative-gender"
        asked = {"url": "http://hl7.org/fhir/ValueSet/administrative-gender", "fliter": "x"}
        answer = await client.get("/ValueSet/$expand", params=asked)
        said = {part["name"]: part for part in answer.json()["expansion"]["parameter"]}
        assert "fliter" in said["warning-operation-unread-parameter"]["valueString"]
        strict = {"prefer": "handling=strict"}
        refused = await client.get("/ValueSet/$expand", params=asked, headers=strict)
        assert refused.status_code == 400
        assert refused.json()["issue"][0]["code"] == "not-supported"
        asked = {"url": gender, "code": "male", "date": "2020"}
        told = parts(await client.get("/CodeSystem/$validate-code", params=asked))
        assert told["result"] is True
        assert told["issues"]["issue"][0]["severity"] == "warning"
        body = {"resourceType": "Parameters", "parameter": [
            {"name": name, "valueString": value} for name, value in asked.items()]}  # fmt: skip
        refused = await client.post("/CodeSystem/$validate-code", json=body, headers=strict)
        assert refused.status_code == 400
        del asked["date"]
        fine = await client.get("/CodeSystem/$validate-code", params=asked, headers=strict)
        assert "issues" not in parts(fine)


async def test_accept_language_chooses_the_wording_where_no_parameter_does(
    database_url: str,
) -> None:
    sex = {"system": f"{BASE}/CodeSystem/cphc-gbt-2261-1", "code": "1"}
    browser = "zh-CN,zh;q=0.9,en;q=0.8"
    async with client_of(database_url) as client:

        async def display(operation: str, language: str, **asked: str) -> Any:
            headers = {"accept-language": language} if language else {}
            answer = await client.get(operation, params=asked, headers=headers)
            if operation.endswith("$expand"):
                return answer.json()["expansion"]["contains"][1]["display"]
            return parts(answer)["display"]

        assert await display("/CodeSystem/$lookup", "", **sex) == "男性"
        assert await display("/CodeSystem/$lookup", browser, **sex) == "男性"
        assert await display("/CodeSystem/$lookup", "fr, en;q=0.5", **sex) == "male"
        assert await display("/CodeSystem/$lookup", "en", displayLanguage="zh", **sex) == "男性"
        assert await display("/CodeSystem/$lookup", ";;q=,*;q=x", **sex) == "男性"
        code = {"url": sex["system"], "code": "1"}
        assert await display("/CodeSystem/$validate-code", "en-GB", **code) == "male"
        members = {"url": f"{BASE}/ValueSet/cphc-gbt-2261-1", "excludeNested": "true"}
        assert await display("/ValueSet/$expand", "en", **members) == "male"
        assert await display("/ValueSet/$expand", browser, **members) == "男性"


async def test_what_was_stored_a_moment_ago_is_found(database_url: str) -> None:
    async with client_of(database_url) as client:
        await client.get("/ValueSet/$expand", params={"url": "urn:none"})
        for resource in SYSTEMS:
            await client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
        expanded = await client.get("/ValueSet/$expand", params={"url": f"{ICD}:all"})
        assert expanded.status_code == 200, expanded.text
        late = {**SYSTEMS[1], "id": "late", "url": "urn:late"}
        await client.put("/ValueSet/late", json=late)
        for named in ("urn:late", "ValueSet/late"):
            found = await client.get("/Observation", params={"code:in": named})
            assert found.status_code == 200, found.text
        refused = await client.get("/Observation", params={"code:in": "ValueSet/none"})
        assert refused.status_code == 400


async def test_a_form_is_begun_for_whom_and_from_what_is_given(database_url: str) -> None:
    form = questionnaires()["phs3-newborn-visit"]
    child = {"resourceType": "Patient", "name": [{"text": "张小宝"}], "birthDate": "2026-01-02"}
    other = {
        "resourceType": "Questionnaire", "status": "draft",
        "item": [
            {"linkId": "birth-date", "type": "integer"}, {"linkId": "name", "type": "display"},
        ],
    }  # fmt: skip

    async with client_of(database_url) as client:

        async def begun(*parts: dict[str, Any]) -> httpx.Response:
            asked = {"resourceType": "Parameters", "parameter": parts}
            return await client.post("/Questionnaire/$populate", json=asked)

        subject = {"name": "subject", "resource": child}
        for wrong in (
            {"name": "local", "valueBoolean": True},
            {"name": "questionnaire", "valueInteger": 5},
            {"name": "questionnaire", "resource": child},
            {"name": "questionnaire", "resource": {**other, "item": [{}]}},
            {"name": "questionnaireRef", "valueReference": {"reference": "Patient/1"}},
        ):
            assert (await begun(subject, wrong)).status_code == 400, wrong
        answer = await begun(subject, {"name": "questionnaire", "resource": other})
        assert answer.json() == {"resourceType": "QuestionnaireResponse", "status": "in-progress"}
        for right in (
            {"name": "questionnaire", "resource": form},
            {"name": "canonical", "valueUri": form["url"]},
        ):
            items = (await begun(subject, right)).json()["item"]
            assert {"linkId": "birth-date", "answer": [{"valueDate": "2026-01-02"}]} in items
        await client.put("/Questionnaire/own", json={**form, "id": "own", "url": "urn:own"})
        reference = {"reference": "Questionnaire/own"}
        answer = await begun(subject, {"name": "questionnaireRef", "valueReference": reference})
        assert answer.json()["questionnaire"] == f"urn:own|{form['version']}"
        wrong_response = {"resourceType": "QuestionnaireResponse", "questionnaire": 5, "item": 5}
        for operation in ("$score", "$extract", "$assess", "$check-answers"):
            answer = await client.post(f"/QuestionnaireResponse/{operation}", json=wrong_response)
            assert answer.status_code == 400, operation
            sound = {"resourceType": "QuestionnaireResponse", "status": "completed"}
            once = {"name": "response", "resource": sound}
            for parts in ([once, once], [once, {**once, "name": "resource"}], [subject]):
                asked = {"resourceType": "Parameters", "parameter": parts}
                answer = await client.post(f"/QuestionnaireResponse/{operation}", json=asked)
                assert answer.status_code == 400, (operation, parts)
                assert "parameter" in answer.json()["issue"][0]["details"]["coding"][0]["code"]


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
        inside = {
            **answered("1"), "questionnaire": "#own",
            "contained": [{**scale, "id": "own", "name": "Own"}],
        }  # fmt: skip
        for operation in ("$validate", "$check-answers"):
            answer = await client.post(f"/QuestionnaireResponse/{operation}", json=inside)
            assert answer.json()["issue"][0]["severity"] == "information", answer.text
        lenient = {"prefer": "handling=lenient"}
        for wrong, at_ease in (({"profiles": "urn:x"}, 200), ({"profile": ""}, 400)):
            asked = {"params": wrong, "json": answered("1")}
            answer = await client.post("/QuestionnaireResponse/$validate", **asked)
            assert answer.status_code == 400, answer.text
            answer = await client.post("/QuestionnaireResponse/$validate", headers=lenient, **asked)
            assert answer.status_code == at_ease, answer.text
        twice = [("url", "urn:a"), ("url", "urn:b")]
        answer = await client.get("/ValueSet/$expand", params=twice)
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["expression"] == [
            "Parameters.parameter.where(name = 'url')"
        ]
        several = [("url", "http://hl7.org/fhir/ValueSet/administrative-gender"),
                   ("designation", "zh"), ("designation", "en")]  # fmt: skip
        assert (await client.get("/ValueSet/$expand", params=several)).status_code == 200
        unknown = {**answered("1"), "questionnaire": "urn:no:form"}
        assert await worst(client, unknown) == {"warning"}
        scored = parts(await client.post("/QuestionnaireResponse/$score", json=answered("1")))
        assert (scored["form"], scored["total"]) == ("psych-gad7", len(questions))


async def test_what_changes_nothing_is_asked_by_get_too(database_url: str) -> None:
    scale = questionnaires()["psych-gad7"]
    items = [
        {
            "linkId": one["linkId"],
            "answer": [{"valueCoding": one["answerOption"][1]["valueCoding"]}],
        }
        for one in scale["item"]
        if one["type"] == "choice"
    ]
    response = {
        "resourceType": "QuestionnaireResponse", "id": "r", "status": "completed", "item": items,
        "questionnaire": f"{scale['url']}|{scale['version']}",
        "subject": {"reference": "Patient/p"},
    }  # fmt: skip
    async with client_of(database_url) as client:
        for resource in ({"resourceType": "Patient", "id": "p", "gender": "male"}, response):
            kind, id_ = resource["resourceType"], resource["id"]
            assert (await client.put(f"/{kind}/{id_}", json=resource)).status_code == 201
        scored = parts(await client.get("/QuestionnaireResponse/r/$score"))
        assert scored["total"] == len(items)
        for operation in ("$extract", "$check-answers"):
            answer = await client.get(f"/QuestionnaireResponse/r/{operation}")
            assert answer.status_code == 200, answer.text
        form = "/Questionnaire/phs3-personal-info/$populate"
        begun = await client.get(form, params={"subject": "Patient/p"})
        assert begun.json()["questionnaire"].startswith(f"{BASE}/Questionnaire/phs3-personal-info")
        refused = await client.get("/QuestionnaireResponse/$score")
        assert refused.status_code == 400
        assert (await client.get("/QuestionnaireResponse/r/$assess")).status_code == 400
