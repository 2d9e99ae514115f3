"""A caller who may write and not read is shown nothing of what was there."""

import json
from typing import Any

import pytest

from fhir_store.operations import Claim, Release, Update
from fhir_store.store import Store, make_pool
from routes import writing
from routes.authorize import Authorizer
from routes.bearer import Caller
from routes.hub import Hub
from routes.request import Address, Request
from routes.scopes import parse_scopes
from routes.writing import apply_permitted

pytestmark = pytest.mark.anyio

SECRET = "born elsewhere"
KNOWN = {
    "resourceType": "Patient",
    "id": "p1",
    "active": True,
    "identifier": [{"system": "urn:m", "value": "1"}],
    "name": [{"text": SECRET}],
}
PATCH = [{"op": "add", "path": "/photo", "value": [{"title": "me"}]}]
AS_FHIR = {"content-type": "application/fhir+json"}
AS_PATCH = {"content-type": "application/json-patch+json"}
FIND = {**AS_FHIR, "if-none-exist": "identifier=urn:m|1"}


async def identify(authorization: str | None) -> Caller:
    """The scopes are the token."""
    scope = (authorization or "").removeprefix("Bearer ")
    patient = "p1" if scope.startswith("patient/") else None
    return Caller(subject=scope, client="t", scopes=parse_scopes(scope), patient=patient)


async def asked(client: Any, scope: str, wish: str, **headers: str) -> Any:
    sent = {"authorization": f"Bearer {scope}", **headers}
    if wish == "find":
        new = {"resourceType": "Patient", "identifier": KNOWN["identifier"]}
        return await client.post("/Patient", json=new, headers=FIND | sent)
    if wish == "patch":
        return await client.patch("/Patient/p1", json=PATCH, headers=AS_PATCH | sent)
    operation = {
        "name": "operation",
        "part": [
            {"name": "type", "valueCode": "replace"},
            {"name": "path", "valueString": "Patient.active"},
            {"name": "value", "valueBoolean": False},
        ],
    }
    entry = {
        "request": {"method": "PATCH", "url": "Patient/p1"},
        "resource": {"resourceType": "Parameters", "parameter": [operation]},
    }
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    sent["prefer"] = "return=representation"
    return await client.post("", json=bundle, headers=AS_FHIR | sent)


async def put_known(client: Any) -> None:
    sent = {**AS_FHIR, "authorization": "Bearer system/*.cruds"}
    assert (await client.put("/Patient/p1", json=KNOWN, headers=sent)).status_code == 201


@pytest.mark.parametrize(
    ("scope", "wish", "is_shown"),
    [
        ("system/Patient.c", "find", False),
        ("system/Patient.cr", "find", True),
        ("system/Patient.c system/Patient.r?active=true", "find", False),
        ("system/Patient.u", "patch", False),
        ("system/Patient.ru", "patch", True),
        ("system/*.write", "patch", False),
        ("system/Patient.u system/Patient.r?active=false", "patch", False),
        ("system/Patient.cruds?active=true", "patch", True),
        ("patient/*.write", "patch", False),
        ("patient/*.cruds", "patch", True),
        ("system/Patient.u", "transaction", False),
        ("system/Patient.ru", "transaction", True),
    ],
)
async def test_content_is_shown_to_those_who_may_read_it(
    serve: Any, scope: str, wish: str, is_shown: bool
) -> None:
    async with serve(identify=identify) as client:
        await put_known(client)
        answer = await asked(client, scope, wish)
        assert answer.status_code == 200, answer.text
        assert (SECRET in answer.text) is is_shown
        if wish != "transaction":
            assert answer.headers["etag"]
        again = await asked(client, scope, wish, **{"idempotency-key": f"{scope} {wish}"})
        assert (SECRET in again.text) is is_shown


async def test_an_outcome_is_given_as_asked(serve: Any) -> None:
    async with serve(identify=identify) as client:
        await put_known(client)
        answer = await asked(client, "system/Patient.u", "patch", prefer="return=OperationOutcome")
        assert json.loads(answer.text)["resourceType"] == "OperationOutcome"


async def test_twin_unasked_a_writer_would_be_shown_what_was_there(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> bool:
        return False

    monkeypatch.setattr(writing, "shows_unread", never)
    async with serve(identify=identify) as client:
        await put_known(client)
        for scope, wish in (("system/Patient.c", "find"), ("system/Patient.u", "patch")):
            assert SECRET in (await asked(client, scope, wish)).text


async def test_claims_among_the_writes_are_nobodys_content(database_url: str) -> None:
    """A claim has no result of its own, so results are judged beside the writes alone."""
    scopes = parse_scopes("patient/*.cruds")
    caller = Caller(subject="p1", client="t", scopes=scopes, patient="p1")
    request = Request(method="POST", address=Address(shape="type", type="Basic"), caller=caller)
    basic = {
        "resourceType": "Basic",
        "id": "b1",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p1"},
    }
    writes = [
        Claim(kind="seat", key="s1", holder="Basic/b1"),
        Update(resource=basic),
        Release(kind="seat", holder="Basic/b2"),
        Update(resource={**basic, "id": "b2"}),
    ]
    async with make_pool(database_url, size=2) as pool:
        store = Store(pool)
        hub = Hub(
            store=store,
            identify=identify,
            authorize=Authorizer(store).authorize,
            note=lambda _: None,
        )
        async with store.begin() as transaction:
            written = await apply_permitted(hub, request, transaction, writes)
        assert [one.version.id for one in written] == ["b1", "b2"]
