"""Hostile and broken input over real HTTP: refused with words, in bounded time, never a 5xx."""

import json
from typing import Any

import httpx
import pytest

from fhir_store.operations import Version
from fhir_store.store import Store, make_pool
from routes.limits import Limits

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}


def patient(**members: str) -> bytes:
    """Return a Patient whose members are raw JSON text."""
    inner = "".join(f',"{name}":{text}' for name, text in members.items())
    return ('{"resourceType":"Patient"' + inner + "}").encode()


def nested(depth: int) -> bytes:
    opening, closing = b'{"extension":[', b"]}"
    return (
        b'{"resourceType":"Patient","extension":['
        + opening * depth
        + b'{"url":"a","valueString":"b"}'
        + closing * depth
        + b"]}"
    )


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"<html>",
    "half": b'{"resourceType":"Patient"',
    "trailing": b'{"resourceType":"Patient"} x',
    "array": b"[]",
    "null": b"null",
    "text": b'"Patient"',
    "no type": b"{}",
    "type is number": b'{"resourceType":1}',
    "unknown type": b'{"resourceType":"Person2"}',
    "5000 deep": nested(5_000),
    "65 deep": nested(65),
    "array 100000 deep": b"[" * 100_000,
    "5000 digits": patient(multipleBirthInteger="9" * 5_000),
    "exponent": patient(multipleBirthInteger="1e999999999"),
    "NaN": patient(multipleBirthInteger="NaN"),
    "Infinity": patient(multipleBirthInteger="-Infinity"),
    "duplicate member": patient(gender='"male"')[:-1] + b',"gender":"female"}',
    "lone surrogate": patient(language='"\\ud800"'),
    "NUL": patient(language='"a\\u0000b"'),
    "raw control": b'{"resourceType":"Patient","language":"a\x01b"}',
    "not UTF-8": b'{"resourceType":"Patient","language":"\xff"}',
    "GB18030": '{"resourceType":"Patient","language":"中"}'.encode("gb18030"),
    "UTF-16": '{"resourceType":"Patient"}'.encode("utf-16"),
    "unknown element": patient(nickname='"x"'),
    "wrong case": patient(Gender='"male"'),
    "wrong cardinality": patient(gender='["male"]'),
    "empty array": patient(name="[]"),
    "empty object": patient(maritalStatus="{}"),
    "empty string": patient(gender='""'),
    "null value": patient(gender="null"),
    "bad date": patient(birthDate='"1990-13-01"'),
    "bad code": patient(gender='"unclear"'),
    "bad id": patient(id='"a b"'),
    "two choices": patient(deceasedBoolean="true", deceasedDateTime='"2020"'),
    "script": patient(
        text='{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">'
        '<script>alert(1)</script></div>"}'
    ),
    "handler": patient(
        text='{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">'
        '<b onclick=\\"x()\\">a</b></div>"}'
    ),
    "slow base64": patient(
        photo='[{"data":"' + "A" * 100_001 + '!"}]',
    ),
}


def require_outcome(answer: httpx.Response) -> dict[str, Any]:
    assert 400 <= answer.status_code < 500, answer.text[:300]
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    for issue in outcome["issue"]:
        assert issue["details"]["coding"][0]["code"]
        assert issue.get("diagnostics"), issue
    assert "Traceback" not in answer.text
    assert '.py"' not in answer.text
    return outcome


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body_is_refused_with_words(serve: Any, name: str) -> None:
    async with serve() as client:
        for method, path in (("POST", "/Patient"), ("PUT", "/Patient/p1")):
            answer = await client.request(method, path, content=BODIES[name], headers=JSON)
            require_outcome(answer)
        assert (await client.get("/Patient/p1")).status_code == 404


async def test_a_body_over_the_limit_is_refused_by_its_length_and_by_its_bytes(serve: Any) -> None:
    async with serve(limits=Limits(body_bytes=10_000)) as client:
        large = patient(language='"' + "a" * 20_000 + '"')
        declared = await client.post("/Patient", content=large, headers=JSON)
        assert declared.status_code == 413
        require_outcome(declared)

        async def chunks() -> Any:
            for start in range(0, len(large), 1_000):
                yield large[start : start + 1_000]

        streamed = await client.post("/Patient", content=chunks(), headers=JSON)
        assert streamed.status_code == 413
        require_outcome(streamed)


async def test_two_hundred_megabytes_are_turned_away(serve: Any) -> None:
    async with serve() as client:

        async def flood() -> Any:
            for _ in range(200):
                yield b" " * 1_000_000

        try:
            answer = await client.post("/Patient", content=flood(), headers=JSON)
            assert answer.status_code == 413
        except httpx.TransportError:
            pass  # the connection was cut, which is an answer too
        assert (await client.get("/metadata")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/Patient/" + "a" * 65,
        "/Patient/a%00b",
        "/Patient/..%2f..%2fetc",
        "/Patient/%ff",
        "/Patient/1/_history/0",
        "/Patient/1/_history/99999999999999999999",
        "/Patient/1/_history/%D9%A3",
        "/Patient/1/_history/-1",
        "/patient/1",
        "//Patient",
        "/Patient/1/$" + "a" * 100,
        "/_history?_count=" + "9" * 400,
        "/_history?_page=AAAA",
        "/_history?_page=" + "A" * 4_000,
        "/_history?_since=9999-12-31T23:59:59.999999999-14:00x",
        "/_history?%ff=1",
        "/_history?_count=%00",
        "/_history?" + "&".join(f"a{n}=1" for n in range(300)),
        "/_history?a=" + "b" * 20_000,
        "/metadata?mode=x",
    ],
)
async def test_a_bad_address_is_refused_with_words(serve: Any, path: str) -> None:
    async with serve() as client:
        # The whole address: a client reads a path with two slashes as the name of a host.
        require_outcome(await client.get(f"{str(client.base_url).rstrip('/')}{path}"))


@pytest.mark.parametrize(
    "headers",
    [
        {"if-match": "x" * 5_000},
        {"if-match": 'W/"99999999999999999999"'},
        {"content-type": "application/fhir+json; charset=utf-7"},
        {"content-type": "\x01"},
        {"content-type": ""},
        {"content-encoding": "br"},
        {"content-encoding": "gzip"},
        {"accept": "application/pdf"},
        {"prefer": "return=" + "x" * 3_000},
        {"if-none-exist": "nonsense=1"},
        {"if-none-exist": "identifier:wrong=1"},
    ],
)
async def test_bad_headers_never_break_it(serve: Any, headers: dict[str, str]) -> None:
    async with serve() as client:
        body = json.dumps({"resourceType": "Patient", "id": "p1"})
        method = "POST" if "if-none-exist" in headers else "PUT"
        path = "/Patient" if method == "POST" else "/Patient/p1"
        answer = await client.request(method, path, content=body, headers={**JSON, **headers})
        assert answer.status_code < 500


async def test_a_fault_of_ours_tells_nothing(
    serve: Any, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Store):
        async def read(self, type_: str, id_: str) -> Version:
            raise RuntimeError("secret 110101199003071234")

    async with serve(store=Broken(make_pool(database_url))) as client:
        answer = await client.get("/Patient/1")
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert "110101" not in caplog.text
        assert answer.headers["x-request-id"] in caplog.text
        assert "RuntimeError" in caplog.text
