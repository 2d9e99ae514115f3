"""Create, read, update, patch, delete and history over HTTP."""

import gzip
import json
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio

PATIENT = {
    "resourceType": "Patient",
    "name": [{"family": "王", "given": ["小明"]}],
    "birthDate": "1990-01-01",
}
JSON = {"content-type": "application/fhir+json"}


def issue_key(answer: httpx.Response) -> str:
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    return str(outcome["issue"][0]["details"]["coding"][0]["code"])


async def created(client: httpx.AsyncClient, resource: Any = PATIENT) -> str:
    answer = await client.post(f"/{resource['resourceType']}", json=resource, headers=JSON)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_a_resource_is_created_and_read_back(serve: Any) -> None:
    async with serve() as client:
        made = await client.post("/Patient", json={**PATIENT, "id": "ignored"}, headers=JSON)
        id_ = made.json()["id"]
        assert made.status_code == 201
        assert id_ != "ignored"
        assert made.headers["etag"] == 'W/"1"'
        assert made.headers["location"] == f"{client.base_url}Patient/{id_}/_history/1"
        read = await client.get(f"/Patient/{id_}")
        assert read.status_code == 200
        assert read.headers["content-type"] == "application/fhir+json; charset=utf-8"
        assert read.headers["last-modified"] == made.headers["last-modified"]
        assert read.content == made.content
        assert read.json()["name"] == PATIENT["name"]


async def test_a_client_may_choose_the_id(serve: Any) -> None:
    async with serve() as client:
        first = await client.put("/Patient/p1", json={**PATIENT, "id": "p1"}, headers=JSON)
        again = await client.put(
            "/Patient/p1", json={**PATIENT, "id": "p1", "active": True}, headers=JSON
        )
        same = await client.put(
            "/Patient/p1", json={**PATIENT, "id": "p1", "active": True}, headers=JSON
        )
        assert [first.status_code, again.status_code, same.status_code] == [201, 200, 200]
        assert [a.headers["etag"] for a in (first, again, same)] == ['W/"1"', 'W/"2"', 'W/"2"']
        wrong = await client.put("/Patient/p2", json={**PATIENT, "id": "p1"}, headers=JSON)
        assert (wrong.status_code, issue_key(wrong)) == (400, "id-differs")
        none = await client.put("/Patient/p2", json=PATIENT, headers=JSON)
        assert (none.status_code, issue_key(none)) == (400, "id-differs")
        other = await client.put("/Patient/p1", json={"resourceType": "Basic"}, headers=JSON)
        assert (other.status_code, issue_key(other)) == (400, "type-differs")


async def test_if_match_keeps_updates_from_being_lost(serve: Any) -> None:
    async with serve() as client:
        id_ = await created(client)
        body = {**PATIENT, "id": id_, "active": True}
        stale = await client.put(
            f"/Patient/{id_}", json=body, headers={**JSON, "if-match": 'W/"7"'}
        )
        assert stale.status_code == 412
        right = await client.put(
            f"/Patient/{id_}", json=body, headers={**JSON, "if-match": 'W/"1"'}
        )
        assert right.status_code == 200
        new_only = await client.put(
            f"/Patient/{id_}", json=body, headers={**JSON, "if-none-match": "*"}
        )
        assert new_only.status_code == 412
        bad = await client.put(f"/Patient/{id_}", json=body, headers={**JSON, "if-match": "2"})
        assert (bad.status_code, issue_key(bad)) == (400, "etag")


async def test_if_match_any_wants_something_to_be_there(serve: Any) -> None:
    async with serve() as client:
        patient = {"resourceType": "Patient", "id": "p1"}
        headers = {**JSON, "if-match": "*"}
        for method in ("PUT", "DELETE"):
            refused = await client.request(method, "/Patient/p1", json=patient, headers=headers)
            assert refused.status_code == 412, method
        assert (await client.put("/Patient/p1", json=patient, headers=JSON)).status_code == 201
        changed = {**patient, "active": True}
        assert (await client.put("/Patient/p1", json=changed, headers=headers)).status_code == 200
        assert (await client.delete("/Patient/p1", headers=headers)).status_code == 204
        assert (await client.put("/Patient/p1", json=changed, headers=headers)).status_code == 412


async def test_conditions_that_ask_for_nothing_touch_nothing(serve: Any) -> None:
    """With one Patient in the store a condition without criteria would mean exactly that one."""
    async with serve() as client:
        await client.put("/Patient/p1", json={"resourceType": "Patient", "id": "p1"}, headers=JSON)
        for query in ("_count=1", "_sort=name", "identifier=", "_total=none&_include=*"):
            deleted = await client.delete(f"/Patient?{query}")
            assert deleted.status_code == 400, query
            headers = {**JSON, "if-none-exist": query}
            made = await client.post("/Patient", json={"resourceType": "Patient"}, headers=headers)
            assert made.status_code == 400, query
        assert (await client.delete("/Patient?active=true&identifier=")).status_code == 400
        lenient = {"prefer": "handling=lenient"}
        refused = await client.delete("/Patient?nonsense=1", headers=lenient)
        assert refused.status_code == 400
        assert "lenient" not in refused.json()["issue"][0]["diagnostics"]
        assert (await client.get("/Patient/p1")).status_code == 200


async def test_a_conditional_read_saves_the_body(serve: Any) -> None:
    async with serve() as client:
        id_ = await created(client)
        read = await client.get(f"/Patient/{id_}")
        for name, value in (
            ("if-none-match", read.headers["etag"]),
            ("if-modified-since", read.headers["last-modified"]),
        ):
            answer = await client.get(f"/Patient/{id_}", headers={name: value})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == 'W/"1"'
        head = await client.head(f"/Patient/{id_}")
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == read.headers["content-length"]


async def test_deleted_is_gone_and_never_there_is_not_found(serve: Any) -> None:
    async with serve() as client:
        id_ = await created(client)
        assert (await client.delete(f"/Patient/{id_}")).status_code == 204
        assert (await client.delete(f"/Patient/{id_}")).status_code == 204
        assert (await client.delete("/Patient/never")).status_code == 204
        gone = await client.get(f"/Patient/{id_}")
        assert gone.status_code == 410
        assert issue_key(gone) == "deleted"
        old = await client.get(f"/Patient/{id_}/_history/1")
        assert old.json()["name"] == PATIENT["name"]
        assert (await client.get(f"/Patient/{id_}/_history/2")).status_code == 410
        never = await client.get("/Patient/never")
        assert (never.status_code, issue_key(never)) == (404, "not-found")
        revived = await client.put(f"/Patient/{id_}", json={**PATIENT, "id": id_}, headers=JSON)
        assert revived.status_code == 201
        assert revived.headers["etag"] == 'W/"3"'


async def test_prefer_says_what_comes_back(serve: Any) -> None:
    async with serve() as client:
        minimal = await client.post(
            "/Patient", json=PATIENT, headers={**JSON, "prefer": "return=minimal"}
        )
        assert (minimal.status_code, minimal.content) == (201, b"")
        assert minimal.headers["location"]
        outcome = await client.post(
            "/Patient", json=PATIENT, headers={**JSON, "prefer": "return=OperationOutcome"}
        )
        assert issue_key(outcome) == "created"


async def test_history_is_paged_newest_first_at_three_levels(serve: Any) -> None:
    async with serve() as client:
        id_ = await created(client)
        for number in range(4):
            body = {**PATIENT, "id": id_, "multipleBirthInteger": number}
            await client.put(f"/Patient/{id_}", json=body, headers=JSON)
        await client.delete(f"/Patient/{id_}")
        for start in (f"/Patient/{id_}/_history", "/Patient/_history", "/_history"):
            versions: list[str] = []
            url: str | None = f"{start}?_count=2"
            while url:
                page = (await client.get(url)).json()
                assert page["type"] == "history"
                versions += [entry["response"]["etag"] for entry in page["entry"]]
                links = {link["relation"]: link["url"] for link in page["link"]}
                url = links.get("next")
            assert versions == [f'W/"{number}"' for number in (6, 5, 4, 3, 2, 1)]
        page = (await client.get(f"/Patient/{id_}/_history")).json()
        newest, oldest = page["entry"][0], page["entry"][-1]
        assert newest["request"] == {"method": "DELETE", "url": f"Patient/{id_}"}
        assert "resource" not in newest
        assert oldest["request"] == {"method": "POST", "url": "Patient"}
        assert oldest["response"]["status"] == "201"
        assert oldest["fullUrl"] == f"{client.base_url}Patient/{id_}"


async def test_history_knows_since_and_at_and_nothing_else(serve: Any) -> None:
    async with serve() as client:
        id_ = await created(client)
        path = f"/Patient/{id_}/_history"
        later = (await client.get(path, params={"_since": "2100-01-01T00:00:00Z"})).json()
        assert "entry" not in later
        then = (await client.get(path, params={"_at": "2001"})).json()
        assert "entry" not in then
        for query in ("_since=yesterday", "_count=many", "name=x", "_at=2001-13", "_page=zz"):
            answer = await client.get(f"{path}?{query}")
            assert answer.status_code == 400, query
        lenient = await client.get(f"{path}?name=x", headers={"prefer": "handling=lenient"})
        assert lenient.status_code == 200
        assert (await client.get("/Patient/never/_history")).status_code == 404


async def test_history_takes_any_date_and_no_empty_page(serve: Any) -> None:
    async with serve() as client:
        await client.put("/Patient/p1", json={"resourceType": "Patient", "id": "p1"}, headers=JSON)
        for query, found in (
            ("_since=0001-01-01", 1),
            ("_since=9999-12-31", 0),
            ("_at=9999-12-31T23:59:59Z", 1),
            ("_at=0001-01-01", 0),
            ("_count=1", 1),
        ):
            page = await client.get(f"/Patient/p1/_history?{query}")
            assert page.status_code == 200, page.text
            assert len(page.json().get("entry", ())) == found, query
        assert (await client.get("/Patient/p1/_history?_count=0")).status_code == 400


async def test_summary_elements_and_pretty_shape_the_answer(serve: Any) -> None:
    async with serve() as client:
        id_ = await created(client, {**PATIENT, "maritalStatus": {"text": "已婚"}})
        part = (await client.get(f"/Patient/{id_}?_elements=birthDate")).json()
        assert set(part) == {"resourceType", "id", "meta", "birthDate"}
        assert part["meta"]["tag"][0]["code"] == "SUBSETTED"
        summary = (await client.get(f"/Patient/{id_}?_summary=true")).json()
        assert "maritalStatus" not in summary
        assert summary["name"] == PATIENT["name"]
        pretty = await client.get(f"/Patient/{id_}?_pretty=true")
        assert pretty.text.startswith('{\n  "resourceType"')
        for query in ("_elements=nonsense", "_summary=short", "_summary=text&_elements=name"):
            wrong = await client.get(f"/Patient/{id_}?{query}")
            assert (wrong.status_code, issue_key(wrong)) == (400, "parameter-value")


async def test_bodies_travel_compressed_in_both_directions(serve: Any) -> None:
    async with serve() as client:
        large = {**PATIENT, "name": [{"text": f"name {n}"} for n in range(200)]}
        packed = gzip.compress(json.dumps(large).encode())
        made = await client.post(
            "/Patient", content=packed, headers={**JSON, "content-encoding": "gzip"}
        )
        assert made.status_code == 201
        assert made.headers["content-encoding"] == "gzip"
        assert len(made.json()["name"]) == 200
        broken = await client.post(
            "/Patient", content=packed[:-20], headers={**JSON, "content-encoding": "gzip"}
        )
        assert (broken.status_code, issue_key(broken)) == (400, "gzip")
        more = packed + gzip.compress(b"{}")
        broken = await client.post(
            "/Patient", content=more, headers={**JSON, "content-encoding": "gzip"}
        )
        assert (broken.status_code, issue_key(broken)) == (400, "gzip")
        for asked in ("gzip;q=0", "gzip; q=0.0, *", "identity", "br, *;q=0", "x-gzip;q=bad"):
            plain = await client.get(made.headers["location"], headers={"accept-encoding": asked})
            assert "content-encoding" not in plain.headers, asked
        for asked in ("GZIP", "br;q=1, gzip;q=0.1", "*", "x-gzip"):
            short = await client.get(made.headers["location"], headers={"accept-encoding": asked})
            assert short.headers["content-encoding"] == "gzip", asked
        bomb = gzip.compress(b" " * 50_000_000)
        refused = await client.post(
            "/Patient", content=bomb, headers={**JSON, "content-encoding": "gzip"}
        )
        assert (refused.status_code, issue_key(refused)) == (413, "too-long")


async def test_conditional_create_finds_what_is_there(serve: Any) -> None:
    async with serve() as client:
        person = {**PATIENT, "identifier": [{"system": "urn:x", "value": "1"}]}
        headers = {**JSON, "if-none-exist": "identifier=urn:x|1"}
        first = await client.post("/Patient", json=person, headers=headers)
        second = await client.post("/Patient", json=person, headers=headers)
        assert [first.status_code, second.status_code] == [201, 200]
        assert second.json()["id"] == first.json()["id"]
        updated = await client.put(
            "/Patient?identifier=urn:x|1", json={**person, "active": True}, headers=JSON
        )
        assert updated.json()["id"] == first.json()["id"]
        assert updated.headers["etag"] == 'W/"2"'
        deleted = await client.delete("/Patient?identifier=urn:x|1")
        assert deleted.status_code == 204
        assert (await client.delete("/Patient?identifier=urn:x|1")).status_code == 204
        assert (await client.delete("/Patient")).status_code == 400


async def test_json_patch_changes_a_part(serve: Any) -> None:
    async with serve() as client:
        id_ = await created(client)
        headers = {"content-type": "application/json-patch+json"}
        change = [{"op": "replace", "path": "/birthDate", "value": "1991-02-03"}]
        answer = await client.patch(f"/Patient/{id_}", json=change, headers=headers)
        assert answer.json()["birthDate"] == "1991-02-03"
        stale = await client.patch(
            f"/Patient/{id_}", json=change, headers={**headers, "if-match": 'W/"1"'}
        )
        assert stale.status_code == 412
        wrong = [{"op": "remove", "path": "/photo"}]
        refused = await client.patch(f"/Patient/{id_}", json=wrong, headers=headers)
        assert (refused.status_code, issue_key(refused)) == (422, "patch-inapplicable")
        other = await client.patch(
            f"/Patient/{id_}",
            json=[{"op": "replace", "path": "/id", "value": "x"}],
            headers=headers,
        )
        assert (other.status_code, issue_key(other)) == (422, "patch-identity")
        unknown = await client.patch(
            f"/Patient/{id_}", json=change, headers={"content-type": "text/plain"}
        )
        assert unknown.status_code == 415
        never = await client.patch("/Patient/never", json=change, headers=headers)
        assert never.status_code == 404


async def test_addresses_and_methods_that_do_not_exist_are_said(serve: Any) -> None:
    async with serve() as client:
        for path in ("/Nothing", "/Patient/a_b", "/Patient/1/2/3/4/5", "/Patient/1/$nothing"):
            answer = await client.get(path)
            assert answer.status_code == 404, path
            assert answer.json()["resourceType"] == "OperationOutcome"
        wrong = await client.put("/_history", json={}, headers=JSON)
        assert wrong.status_code == 405
        assert wrong.headers["allow"] == "GET, HEAD"
        unknown = await client.get("/Patient/1?name=x")
        assert (unknown.status_code, issue_key(unknown)) == (400, "parameter-unknown")


async def test_a_request_keeps_its_id(serve: Any) -> None:
    async with serve() as client:
        answer = await client.get("/Patient/1", headers={"x-request-id": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1"
        forged = await client.get("/Patient/1", headers={"x-request-id": "a b\tc"})
        assert forged.headers["x-request-id"] != "a b\tc"
