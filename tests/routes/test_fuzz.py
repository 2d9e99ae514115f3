"""Random requests over real HTTP: no answer is a 5xx, every refusal is an OperationOutcome."""

import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance import resource_xml

RESOURCES: list[dict[str, Any]] = [
    {
        "resourceType": "Patient",
        "id": "p1",
        "name": [{"family": "王", "given": ["小", "明"], "period": {"start": "2001"}}],
        "birthDate": "1990-01-01",
        "_birthDate": {"extension": [{"url": "urn:x", "valueDateTime": "1990-01-01T10:00:00Z"}]},
        "contact": [{"gender": "male", "telecom": [{"system": "phone", "value": "1"}]}],
        "multipleBirthInteger": 2,
        "text": {
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml">a<b>c</b></div>',
        },
    },
    {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
        "subject": {"reference": "Patient/p1"},
        "valueQuantity": {"value": 1.10, "unit": "mm", "system": "http://unitsofmeasure.org"},
        "component": [{"code": {"text": "a"}, "valueRange": {"low": {"value": 1}}}],
    },
    {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {"request": {"method": "GET", "url": "Patient?name=a"}},
            {
                "fullUrl": "urn:uuid:1",
                "resource": {"resourceType": "Basic", "code": {"text": "a"}},
                "request": {"method": "POST", "url": "Basic", "ifNoneExist": "code=a"},
            },
        ],
    },
    {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "expression", "valueString": "name.given"},
            {"name": "resource", "resource": {"resourceType": "Patient"}},
        ],
    },
]
TRAPS: list[Any] = [
    *(None, True, 0, -1, 10**30, 1e308, "", " ", "a" * 3_000, "\ud800", "\x00", "\uffff", "٣"),
    *("2020-13-45", "Patient/1", "urn:uuid:1", "<script>", "' OR 1=1 --", "%00", "../../x"),
    *([], {}, [[]], [None], {"": 1}, {"resourceType": "Patient"}, {"reference": "#"}),
]
NAMES = ["extension", "id", "meta", "contained", "resourceType", "value", "_id", "x", "text", ""]
WORDS = st.sampled_from(
    [
        *("name", "_id", "_sort", "_include", "_has:Observation:patient:code", "birthdate", "a.b"),
        *(
            "identifier",
            "_filter",
            "_count",
            "_elements",
            "_lastUpdated",
            "code:in",
            ":",
            "_cursor",
        ),
        *("subject:Patient.name", "value-quantity", "_total", "_summary", "_type", "_list", "near"),
    ]
)
VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            *("a|b|c|d", "|", "\\", "\\\\,", "ge2020", "eq", "9" * 400, "1e400", "NaN", "ap-1"),
            *("http://x|", "*", "Observation:patient:Patient", "name eq a or", "((", "-_id,-"),
        ]
    ),
)


@pytest.fixture
def client(hub_url: str) -> Iterator[httpx.Client]:
    """A client that blocks, since Hypothesis is not asynchronous."""
    with httpx.Client(base_url=hub_url, timeout=30) as made:
        yield made


def require_sane(answer: httpx.Response) -> None:
    assert answer.status_code < 500, (answer.status_code, answer.text[:500])
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        is_xml = answer.content.startswith(b"<")  # asked for with _format or Accept
        outcome = resource_xml.parse(answer.content) if is_xml else answer.json()
        assert outcome["resourceType"] == "OperationOutcome"
        assert outcome["issue"]
        assert "Traceback" not in answer.text


def places(node: Any) -> list[tuple[Any, Any]]:
    """Return every (holder, key) in a document."""
    if isinstance(node, dict):
        keys: list[Any] = list(node)
    elif isinstance(node, list):
        keys = list(range(len(node)))
    else:
        return []
    found = [(node, key) for key in keys]
    for key in keys:
        found += places(node[key])
    return found


def mutated(seed: int) -> tuple[str, bytes]:
    """Return a type and a body: an example with a few places made wrong, or its bytes cut."""
    chance = random.Random(seed)
    document = json.loads(json.dumps(chance.choice(RESOURCES)))
    type_ = document["resourceType"]
    for _ in range(chance.randint(1, 4)):
        every = places(document)
        if not every:
            break
        holder, key = chance.choice(every)
        change = chance.randrange(4)
        if change == 0:
            holder[key] = json.loads(json.dumps(chance.choice(TRAPS)))
        elif change == 1 and isinstance(holder, dict):
            holder[chance.choice(NAMES)] = holder.pop(key)
        elif change == 2 and isinstance(holder, list):
            holder.extend([holder[key]] * chance.randint(1, 3))
        else:
            del holder[key]
    body = json.dumps(document).encode()
    if chance.random() < 0.1:
        cut = chance.randrange(len(body) + 1)
        body = body[:cut] + bytes([chance.randrange(256)]) + body[cut + chance.randrange(3) :]
    return type_, body


PATHS = {
    "Patient": ("POST", "/Patient"),
    "Observation": ("PUT", "/Observation/o1"),
    "Bundle": ("POST", ""),
    "Parameters": ("POST", "/$fhirpath"),
}
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=8_000)


def check_body(client: httpx.Client, seed: int) -> None:
    type_, body = mutated(seed)
    method, path = PATHS[type_]
    headers = {"content-type": "application/fhir+json"}
    require_sane(client.request(method, path, content=body, headers=headers))
    require_sane(client.post(f"/{type_}/$validate", content=body, headers=headers))
    patch = {"content-type": "application/json-patch+json"}
    require_sane(client.patch("/Patient/p1", content=body, headers=patch))
    xml = {"content-type": "application/fhir+xml"}
    require_sane(client.post("/Patient", content=body, headers=xml))


def check_query(client: httpx.Client, pairs: list[tuple[str, str]]) -> None:
    for path in ("/Patient", "/Observation", "/", "/Patient/p1/Observation", "/_history"):
        require_sane(client.get(path, params=pairs))
    require_sane(client.post("/Patient/_search", data=dict(pairs)))


PAIRS = st.lists(st.tuples(st.one_of(WORDS, st.text(max_size=12)), VALUES), max_size=4)
SEEDS = st.integers(0, 2**32)


@QUICK
@given(seed=SEEDS)
def test_wrong_bodies_are_refused_in_order(client: httpx.Client, seed: int) -> None:
    check_body(client, seed)


@QUICK
@given(pairs=PAIRS)
def test_wrong_queries_are_refused_in_order(
    client: httpx.Client, pairs: list[tuple[str, str]]
) -> None:
    check_query(client, pairs)


@pytest.mark.slow
@LONG
@given(seed=SEEDS)
def test_many_wrong_bodies_are_refused_in_order(client: httpx.Client, seed: int) -> None:
    check_body(client, seed)


@pytest.mark.slow
@LONG
@given(pairs=PAIRS)
def test_many_wrong_queries_are_refused_in_order(
    client: httpx.Client, pairs: list[tuple[str, str]]
) -> None:
    check_query(client, pairs)


@pytest.mark.slow
def test_schemathesis_finds_no_fault(client: httpx.Client) -> None:
    root = str(client.base_url).removesuffix("/fhir/")
    document = httpx.get(f"{root}/openapi.json", timeout=60).json()
    kept = ("/fhir/Patient", "/fhir/Observation", "/fhir/_", "/fhir/$", "/fhir/metadata", "/fhir")
    document["paths"] = {
        path: item
        for path, item in document["paths"].items()
        if path == "/fhir" or path.startswith(kept[:-1])
    }
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(QUICK, max_examples=40)
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            require_sane(case.call(base_url=root))

        ask()
