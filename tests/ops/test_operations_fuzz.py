"""Hostile parameters against the operations of terminology, forms and care: no answer is a 5xx.

Every run is the same: what is sent follows from the seed alone.
"""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from contracting import SIGNING, application, signature, to_be_signed, world

from conformance.cphc import BASE
from conformance.cphc.operations import Given, operation_rows
from conformance.forms.questionnaires import questionnaires
from conformance.terminology import operations
from ops.settings import Settings
from ops.wiring import running_hub

pytestmark = pytest.mark.anyio
ICD = "urn:his:icd"
SYSTEMS: list[dict[str, Any]] = [
    {"resourceType": "CodeSystem", "id": "icd", "url": ICD, "status": "active",
     "content": "complete", "hierarchyMeaning": "is-a", "concept": [
         {"code": "I", "display": "循环系统疾病", "concept": [{"code": "I10"}, {"code": "I20"}]}]},
    {"resourceType": "ValueSet", "id": "icd", "url": f"{ICD}:all", "status": "active",
     "compose": {"include": [{"system": ICD}]}},
    {"resourceType": "ConceptMap", "id": "own", "url": "urn:his:map", "status": "active",
     "group": [{"source": ICD, "target": "urn:x", "element": [
         {"code": "I10", "target": [{"code": "x", "equivalence": "equal"}]}]}]},
]  # fmt: skip
SEED = 20_261_121
QUICK, LONG = 250, 6_000
Json = dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def nested_concepts(depth: int) -> Json:
    inner: Json = {"code": "end"}
    for level in range(depth):
        inner = {"code": f"c{level}", "concept": [inner]}
    return {"resourceType": "CodeSystem", "url": "urn:deep", "status": "active",
            "content": "complete", "concept": [inner]}  # fmt: skip


def value_set(*includes: Json, url: str = "urn:own") -> Json:
    return {"resourceType": "ValueSet", "url": url, "status": "active",
            "compose": {"include": list(includes)}}  # fmt: skip


def filtered(operator: str, value: str) -> Json:
    rule = {"property": "code", "op": operator, "value": value}
    return value_set({"system": ICD, "filter": [rule]})


RESOURCES: list[Any] = [
    *SYSTEMS,
    value_set({"valueSet": ["urn:own"]}),  # itself
    value_set({"system": "urn:nobody"}),
    value_set({"system": ICD, "concept": [{"code": "I10"}] * 300}),
    value_set({"system": ICD}, {"valueSet": [f"{ICD}:all"]}),
    filtered("regex", "(a+)+$"),
    filtered("regex", "("),
    filtered("is-a", "\u0661"),
    filtered("in", ",,,"),
    nested_concepts(20),
    nested_concepts(70),
    {"resourceType": "ConceptMap", "url": "urn:m", "status": "active", "group": [{"element": []}]},
    {"resourceType": "Patient"},
    {"resourceType": "Nothing"},
    {},
]
TEXTS: list[Any] = [
    *("", " ", "a", "I10", "I", ICD, f"{ICD}|9", f"{ICD}:all", "urn:own", "urn:deep", "|", "||"),
    *(
        "true",
        "false",
        "-1",
        "0",
        "99999999999",
        "1e9",
        "\u0663",
        "\x00",
        "\ufffe",
        "%00",
        "x" * 5_000,
    ),
    *("zh", "zh-CN, en;q=0.5", ";q=", ",,,", "*", "q" * 300, "' OR 1=1 --", "<a>", "../..", "#a"),
    *("Patient/p", "Patient/", "Questionnaire/none", f"{BASE}/Questionnaire/phs3-htn-followup"),
    *(f"{BASE}/Questionnaire/phs3-htn-followup|3.0", f"{BASE}/CodeSystem/cphc-gbt-2261-1"),
    "http://hl7.org/fhir/ValueSet/administrative-gender",
]
KINDS = ("String", "Uri", "Code", "Canonical", "Boolean", "Integer", "Coding", "CodeableConcept",
         "Reference", "DateTime", "Decimal")  # fmt: skip
ODD: list[Any] = [None, True, 0, -1, 10**12, 1.5, [], {}, [[]], {"code": None}, {"coding": [{}]}]
FORM_NAMES = ("questionnaire", "canonical", "questionnaireRef", "subject", "previous", "resource")
TERMINOLOGY = [f"{type_}/${name}" for type_, name in operations.OPERATIONS]
FORMS = ["Questionnaire/$populate", *(f"QuestionnaireResponse/${name}" for name in
         ("extract", "score", "assess", "check-answers", "validate"))]  # fmt: skip
NAMES = [
    *sorted(set().union(*operations.PARAMETERS.values())),
    *(*FORM_NAMES, "date", "context", "force-system-version", "dependency", "x", "", "\x00"),
    "n" * 200,
]


class Attacker:
    """Makes requests, each the next of one endless row that the seed determines."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def value(self) -> Any:
        choice = self.chance.random()
        if choice < 0.6:
            return self.chance.choice(TEXTS)
        if choice < 0.8:
            return copy.deepcopy(self.chance.choice(ODD))
        coding = {"system": self.chance.choice(TEXTS), "code": self.chance.choice(TEXTS)}
        return self.chance.choice([coding, {"coding": [coding]}, {"reference": coding["code"]}])

    def part(self) -> Json:
        name = self.chance.choice(NAMES)
        if self.chance.random() < 0.35:
            return {"name": name, "resource": copy.deepcopy(self.chance.choice(RESOURCES))}
        return {"name": name, f"value{self.chance.choice(KINDS)}": self.value()}

    def parameters(self) -> Json:
        parts = [self.part() for _ in range(self.chance.randrange(6))]
        return {"resourceType": "Parameters", "parameter": parts}

    def response(self) -> Json:
        """Return answers to one of the forms, with a few things spoilt."""
        form = self.chance.choice(list(questionnaires().values()))
        answered: Json = {
            "resourceType": "QuestionnaireResponse",
            "status": self.chance.choice(["completed", "in-progress", "x"]),
            "questionnaire": f"{form['url']}|{form['version']}",
            "subject": {"reference": "Patient/p"},
            "authored": self.chance.choice(["2026-03-01", "2026-03", "x", "9999-12-31"]),
            "item": [self.answer(item) for item in form["item"] if self.chance.random() < 0.7],
        }
        answered = copy.deepcopy(answered)  # the forms themselves stay whole
        for _ in range(self.chance.choice([0, 0, 1, 2])):
            spoil(answered, self.chance, self.value())
        return answered

    def answer(self, item: Json) -> Json:
        answered: Json = {"linkId": item["linkId"]}
        if "item" in item:
            answered["item"] = [self.answer(one) for one in item["item"]]
        if item["type"] == "group":
            return answered
        options = item.get("answerOption", [])
        if options and self.chance.random() < 0.8:
            answered["answer"] = [{"valueCoding": self.chance.choice(options).get("valueCoding")}]
        else:
            usual = {"integer": 3, "decimal": 1.5, "date": "2026-03-01", "string": "a"}
            value = usual.get(item["type"], "a") if self.chance.random() < 0.8 else self.value()
            kind = item["type"].capitalize() if item["type"] in usual else "String"
            answered["answer"] = [{f"value{kind}": value}]
        return answered

    def body(self, path: str) -> Any:
        choice = self.chance.random()
        if choice < 0.05:
            return self.chance.choice(RESOURCES)
        if path in FORMS and choice < 0.8:
            response = self.response()
            return response if choice < 0.4 else {
                "resourceType": "Parameters",
                "parameter": [
                    {"name": "resource", "resource": response},
                    *([self.part()] if choice < 0.5 else []),
                ],
            }  # fmt: skip
        return self.parameters()

    async def send(self, client: httpx.AsyncClient) -> httpx.Response:
        path = self.chance.choice([*TERMINOLOGY, *FORMS])
        headers = {"accept-language": self.chance.choice(["zh", "en;q=x", ",;", "*", "a" * 2_000])}
        if self.chance.random() < 0.5:
            headers["prefer"] = self.chance.choice(["handling=strict", "handling=lenient", "x=,"])
        if path in TERMINOLOGY and self.chance.random() < 0.4:
            pairs = [(self.chance.choice(NAMES), str(self.value())) for _ in range(3)]
            return await client.get(f"/{path}", params=pairs, headers=headers)
        body = json.dumps(self.body(path))
        headers["content-type"] = "application/fhir+json"
        return await client.post(f"/{path}", content=body, headers=headers)


def spoil(resource: Json, chance: random.Random, value: Any) -> None:
    """Put a value where it does not belong, anywhere in the resource."""
    place: Any = resource
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.8:
            place = place[key]
            continue
        place[key] = value
        return


def judge(answer: httpx.Response) -> None:
    """Fail on a 5xx, and on a refusal that is not told as an OperationOutcome with a text."""
    sent = (answer.request.method, str(answer.request.url)[:300], answer.request.content[:3_000])
    assert answer.status_code < 500, (sent, answer.text)
    if answer.status_code >= 400:
        told = answer.json()
        assert told["resourceType"] == "OperationOutcome", (sent, answer.text)
        assert all(issue["details"]["text"] for issue in told["issue"]), (sent, answer.text)


async def attack(database_url: str, rounds: int, seed: int) -> dict[int, int]:
    """Send that many requests and return how many were answered with each status."""
    statuses: dict[int, int] = {}
    attacker = Attacker(seed)
    settings = Settings(auth="off", http_port=0, mllp_port=0)
    async with (
        running_hub(settings, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir") as client,
    ):
        for resource in (*SYSTEMS, {"resourceType": "Patient", "id": "p"}):
            await client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
        for _ in range(rounds):
            answer = await attacker.send(client)
            judge(answer)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    return statuses


async def test_hostile_parameters_are_answered_or_refused_by_name(database_url: str) -> None:
    statuses = await attack(database_url, QUICK, SEED)
    assert statuses[400] > QUICK // 5  # it does reach the checks,
    assert statuses[200] > QUICK // 20  # and what stands behind them


CARE = [(row, level) for row in operation_rows() if row.given for level in row.levels if row.types]
USUAL: dict[str, Any] = {
    "Reference": {"reference": "Patient/p1"},
    "Signature": signature("Patient/p1"),
    "Attachment": {"contentType": "image/png", "data": "iVBORw0KGgo="},
    "Identifier": {"system": "urn:oid:2.16.156.10011.1.3", "value": "999001196005010019"},
    "Patient": {"resourceType": "Patient", "name": [{"text": "王秀英"}], "birthDate": "1960-05-01"},
    "date": "2026-11-21",
    "dateTime": "2026-11-21T10:00:00+08:00",
    "boolean": True,
    "integer": 3,
    "decimal": 30.5,
    "id": "c1",
}
PLACES = ["Patient/p1", "Practitioner/d1", "CareTeam/t1", "PlanDefinition/basic", "Contract/c1",
          "Organization/o1", "Task/c1-sign-contract"]  # fmt: skip


class CareAttacker(Attacker):
    """Asks for steps of care, about things that are there, with parameters that may be spoilt."""

    def parts_of(self, given: Given) -> list[Json]:
        parts: list[Json] = []
        for one in given.values():
            if self.chance.random() < (0.1 if one.least else 0.5):
                continue
            if one.parts is not None:
                parts.append({"name": one.name, "part": self.parts_of(one.parts)})
                continue
            value = copy.deepcopy(USUAL.get(one.type, self.chance.choice(TEXTS)))
            if one.type == "Reference":
                value = {"reference": self.chance.choice([*PLACES, *PLACES, "x", "Patient/", ""])}
            if isinstance(value, dict) and self.chance.random() < 0.15:
                spoil(value, self.chance, self.value())
            elif self.chance.random() < 0.15:
                value = self.value()
            kind = one.type[:1].upper() + one.type[1:]
            field = "resource" if one.type == "Patient" else f"value{kind}"
            parts.append({"name": one.name, field: value})
        return parts

    async def send(self, client: httpx.AsyncClient) -> httpx.Response:
        row, level = self.chance.choice(CARE)
        type_ = self.chance.choice(row.types)
        here = [one for one in PLACES if one.startswith(f"{type_}/")] or [f"{type_}/none"]
        place = self.chance.choice(here) if level == "instance" else type_
        given = row.given_at(level)
        assert given is not None
        known = {"terminate": [], "void": []}.get(row.code)
        parts = self.parts_of(given) if known is None else [self.part()]
        body = {"resourceType": "Parameters", "parameter": parts}
        if row.code == "sign" and self.chance.random() < 0.5:
            signed = SIGNING if level == "instance" else application(f"f{self.chance.random()}"[:9])
            body = copy.deepcopy(signed)
            spoil(body["parameter"], self.chance, self.value())
        return await client.post(
            f"/{place}/${row.code}",
            content=json.dumps(body),
            headers={"content-type": "application/fhir+json"},
        )


async def attack_care(database_url: str, rounds: int, seed: int) -> dict[int, int]:
    """Send that many steps and return how many were answered with each status."""
    statuses: dict[int, int] = {}
    attacker = CareAttacker(seed)
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        for _ in range(rounds):
            answer = await attacker.send(client)
            judge(answer)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    return statuses


async def test_hostile_steps_of_care_are_answered_or_refused_by_name(database_url: str) -> None:
    statuses = await attack_care(database_url, QUICK, SEED + 2)
    assert statuses[400] > QUICK // 5
    assert sum(n for code, n in statuses.items() if code != 400) > QUICK // 10


@pytest.mark.slow
@pytest.mark.timeout(1_200)
async def test_hostile_steps_of_care_for_long(database_url: str) -> None:
    assert (await attack_care(database_url, LONG, SEED + 3))[400] > LONG // 5


@pytest.mark.slow
@pytest.mark.timeout(1_200)
async def test_hostile_parameters_for_long(database_url: str) -> None:
    statuses = await attack(database_url, LONG, SEED + 1)
    assert statuses[200] > LONG // 20


async def test_a_fault_of_ours_would_be_found(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Json:
        raise KeyError("a fault")

    faulty: dict[tuple[str, str], Callable[..., Json]] = dict.fromkeys(
        operations.OPERATIONS, broken
    )
    monkeypatch.setattr("routes.operations.terminology.OPERATIONS", faulty)
    with pytest.raises(AssertionError, match="500 < 500"):
        await attack(database_url, QUICK, SEED)
