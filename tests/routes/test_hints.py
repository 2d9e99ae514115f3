"""Every refusal says how to mend the request; here each hint is taken, and the request passes."""

import gzip
import pathlib
import re
from typing import Any

import pytest

from routes.bearer import ANYBODY, Caller, not_authenticated
from routes.scopes import parse_scopes

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}
PATCH = {"content-type": "application/json-patch+json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
PATIENT = {"resourceType": "Patient", "id": "p1"}
BASE = "Patient/p1"
Call = tuple[str, str, Any, dict[str, str]]  # method, path, body, headers


def bundle(kind: str, *entries: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, **({"entry": list(entries)} if entries else {})}


def parameters(*listed: Any) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(listed)}


def get(path: str, **headers: str) -> Call:
    return "GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()}


def put(body: Any = PATIENT, path: str = "/Patient/p1", **headers: str) -> Call:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return "PUT", path, body, {**JSON, **more}


def post(path: str, body: Any, **headers: str) -> Call:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return "POST", path, body, {**JSON, **more}


def patch(body: Any) -> Call:
    return "PATCH", "/Patient/p1", body, PATCH


def about(reference: str) -> dict[str, Any]:
    return {
        "resourceType": "Basic",
        "code": {"text": "x"},
        "subject": {"reference": reference},
    }


def two_entries(kind: str) -> dict[str, Any]:
    named = "urn:uuid:0c1a7e8e-0000-4000-8000-000000000001"
    new = {"resourceType": "Patient"}
    first = {"fullUrl": named, "resource": new, "request": {"method": "POST", "url": "Patient"}}
    second = {"resource": about(named), "request": {"method": "POST", "url": "Basic"}}
    return bundle(kind, second, first)


INNER = {"request": {"method": "POST", "url": ""}, "resource": bundle("batch")}
# key -> (what is refused, the same after taking the hint)
HINTS: dict[str, tuple[Call, Call]] = {
    "address": (get("/Patient/a_b"), get("/Patient/p1")),
    "batch-reference": (post("", two_entries("batch")), post("", two_entries("transaction"))),
    "body-missing": (("PUT", "/Patient/p1", None, JSON), put()),
    "bundle-nested": (
        post("", bundle("batch", INNER)),
        post("", bundle("batch")),
    ),
    "bundle-type": (post("", bundle("collection")), post("/Bundle", bundle("collection"))),
    "compartment": (get("/Patient/p1/Organization"), get("/Patient/p1/Observation")),
    "criteria-missing": (
        ("DELETE", "/Patient", None, {}),
        ("DELETE", "/Patient?identifier=urn:x|1", None, {}),
    ),
    "entry-request": (
        post("", bundle("batch", {"resource": PATIENT})),
        post("", bundle("batch", {"request": {"method": "GET", "url": BASE}})),
    ),
    "etag": (put(if_match="1"), put(if_match='W/"1"')),
    "gzip": (
        put(b"not gzip", content_encoding="gzip"),
        put(gzip.compress(b'{"resourceType":"Patient","id":"p1"}'), content_encoding="gzip"),
    ),
    "id-differs": (put({**PATIENT, "id": "p2"}), put()),
    "idempotency-key": (put(idempotency_key=""), put(idempotency_key="k-1")),
    "idempotency-reused": (
        put({**PATIENT, "active": True}, idempotency_key="known"),
        put({**PATIENT, "active": True}, idempotency_key="new"),
    ),
    "media-type": (
        ("PUT", "/Patient/p1", PATIENT, {"content-type": "text/plain"}),
        put(),
    ),
    "method": (("DELETE", "/_history", None, {}), get("/_history")),
    "not-acceptable": (
        get("/Patient/p1", accept="application/pdf"),
        get("/Patient/p1", accept="application/fhir+json"),
    ),
    "not-allowed": (
        get("/Observation", authorization="Bearer narrow"),
        get("/Observation", authorization="Bearer wide"),
    ),
    "not-authenticated": (
        get("/Patient/p1", authorization="Bearer wrong"),
        get("/Patient/p1", authorization="Bearer wide"),
    ),
    "operation": (get("/Patient/p1/$nothing"), get("/Patient/p1/$meta")),
    "operation-parameter": (
        post("/$fhirpath", parameters()),
        post("/$fhirpath", parameters({"name": "expression", "valueString": "1"})),
    ),
    "parameter-unknown": (
        get("/Patient/p1?x=1"),
        get("/Patient/p1?x=1", prefer="handling=lenient"),
    ),
    "parameter-value": (get("/Patient/p1?_summary=short"), get("/Patient/p1?_summary=text")),
    "patch-identity": (
        patch([{"op": "replace", "path": "/id", "value": "x"}]),
        patch([{"op": "add", "path": "/active", "value": True}]),
    ),
    "patch-inapplicable": (
        patch([{"op": "remove", "path": "/photo"}]),
        patch([{"op": "add", "path": "/active", "value": True}]),
    ),
    "patch-unreadable": (
        patch([{"op": "add", "path": "active", "value": True}]),
        patch([{"op": "add", "path": "/active", "value": True}]),
    ),
    "purpose-of-use": (get("/Patient/p1", purpose_of_use="FUN"), get("/Patient/p1")),
    "query": (
        get("/Patient?" + "&".join("name=a" for _ in range(300))),
        get("/Patient?" + "&".join("name=a" for _ in range(20))),
    ),
    "reference-conditional": (
        post("/Basic", about("Patient?identifier=urn:x|1")),
        post("/Basic", about(BASE)),
    ),
    "too-long": (
        post("", bundle("batch", *({} for _ in range(1_001)))),
        post("", bundle("batch", *({} for _ in range(10)))),
    ),
    "type-differs": (
        put({"resourceType": "Basic", "id": "p1"}),
        put(),
    ),
}
# Told of in other tests (over sockets, under load), or no refusals at all.
ELSEWHERE = {
    *("idempotency-in-flight", "write-collided", "unexpected"),
    *("all-well", "created", "updated", "unchanged", "deleted", "explain"),
    *("search-value-set", "search-code-system"),  # test_search_terminology.py
    *("export", "exports", "export-interrupted"),  # tests/ops/test_export.py
    "operation-unknown-parameter",  # tests/ops/test_operation_parameters.py
    "teams-too-many",  # test_delegated_access.py
    "staff-field",  # test_own_records.py
    "subscription-contact",  # tests/requirements/test_own_tokens.py
    "meta-too-many-labels",  # needs hundreds of labels: test_operations.py
    "audit-left-out",  # a note beside an answer: test_audit_events.py
}
ROOT = pathlib.Path(__file__).resolve().parents[2]
OWN = ("routes/*.py", "routes/interactions/*.py", "conformance/patch/*.py")
OPERATIONS = ("everything", "fhirpath", "meta", "parameters", "validate")


async def identify(authorization: str | None) -> Caller:
    if authorization == "Bearer narrow":
        return Caller(subject="n", scopes=parse_scopes("system/Patient.rs"))
    if authorization in {None, "Bearer wide"}:
        return ANYBODY
    raise not_authenticated()


async def asked(client: Any, call: Call) -> Any:
    method, path, body, headers = call
    content = {"content": body} if isinstance(body, bytes | None) else {"json": body}
    return await client.request(method, path, headers=headers, **content)


@pytest.mark.parametrize("key", HINTS)
async def test_the_hint_mends_the_request(serve: Any, key: str) -> None:
    async with serve(identify=identify) as client:
        await asked(client, put(idempotency_key="known"))
        bad, good = HINTS[key]
        refused = await asked(client, bad)
        text = refused.text
        assert f'"code":"{key}"' in text, text
        outcome = refused.json()
        if outcome["resourceType"] == "Bundle":
            outcome = outcome["entry"][0]["response"]["outcome"]
        issue = outcome["issue"][0]
        english, _, chinese = issue["diagnostics"].partition(" / ")
        assert english, "says in English what to do"
        assert re.search("[\u4e00-\u9fff]", chinese), "and in Chinese"
        assert re.search("[\u4e00-\u9fff]", issue["details"]["text"])
        mended = await asked(client, good)
        assert mended.status_code < 300, mended.text


def test_every_refusal_of_the_routes_has_its_hint_tested() -> None:
    files = [file for pattern in OWN for file in ROOT.glob(pattern)]
    files += [ROOT / f"routes/operations/{name}.py" for name in OPERATIONS]
    files.append(ROOT / "fhir_store/idempotency.py")
    found = {key for file in files for key in re.findall(r'\bkey="([a-z-]+)"', file.read_text())}
    assert found - set(HINTS) - ELSEWHERE == set()
