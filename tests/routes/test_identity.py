"""$match, $merge and $unmerge over HTTP: grades, moved references, races, rights."""

import asyncio
from typing import Any

import httpx
import psycopg
import pytest

from conformance.identity_numbers import ID_CARD_SYSTEM, check_character_of_id_card
from routes import writing
from routes.bearer import ANYBODY, Caller
from routes.operations.identity import identity_operations
from routes.scopes import parse_scopes

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}


def card(serial: int) -> str:
    first = f"99900119600501{serial:03d}"
    return first + check_character_of_id_card(first)


def patient(id_: str, *numbers: tuple[str, str], **more: Any) -> dict[str, Any]:
    known = [{"system": system, "value": value} for system, value in numbers]
    return {
        "resourceType": "Patient",
        "id": id_,
        "active": True,
        **({"identifier": known} if known else {}),
        "name": [{"text": "王秀英"}],
        "gender": "female",
        "birthDate": "1960-05-01",
        **more,
    }


def weight(id_: str, subject: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"text": "体重"},
        "subject": {"reference": subject},
        **more,
    }


def asked(**values: Any) -> dict[str, Any]:
    parts = [
        {"name": name.replace("_", "-"), **value} if isinstance(value, dict) else value
        for name, value in values.items()
    ]
    return {"resourceType": "Parameters", "parameter": parts}


def merging(source: str, target: str) -> dict[str, Any]:
    return asked(
        source_patient={"valueReference": {"reference": f"Patient/{source}"}},
        target_patient={"valueReference": {"reference": f"Patient/{target}"}},
    )


async def put(client: httpx.AsyncClient, *resources: dict[str, Any]) -> None:
    for one in resources:
        answer = await client.put(f"/{one['resourceType']}/{one['id']}", json=one, headers=JSON)
        assert answer.status_code in (200, 201), answer.text


async def post(client: httpx.AsyncClient, operation: str, body: dict[str, Any]) -> httpx.Response:
    return await client.post(f"/Patient/{operation}", json=body, headers=JSON)


async def resource(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    found.pop("meta")
    return found


async def grades(client: httpx.AsyncClient, sought: dict[str, Any], **more: Any) -> dict[str, str]:
    body = asked(resource={"resource": sought}, **more)
    answer = await post(client, "$match", body)
    assert answer.status_code == 200, answer.text
    return {
        entry["resource"]["id"]: entry["search"]["extension"][0]["valueCode"]
        for entry in answer.json().get("entry", ())
    }


@pytest.mark.parametrize(
    "system", [ID_CARD_SYSTEM, "urn:oid:2.16.156.10011.1.19", "urn:oid:2.16.156.10011.1.2", "urn:m"]
)
async def test_a_person_is_found_by_each_number_and_by_name(serve: Any, system: str) -> None:
    number = (system, card(2))
    async with serve(operations=identity_operations()) as client:
        await put(client, patient("a", number), patient("b"))
        sought = {"resourceType": "Patient", "identifier": patient("x", number)["identifier"]}
        assert await grades(client, sought) == {"a": "certain"}
        named = patient("x", number)
        assert await grades(client, named) == {"a": "certain", "b": "possible"}
        certain = {"onlyCertainMatches": {"valueBoolean": True}}
        assert await grades(client, named, **certain) == {"a": "certain"}
        assert await grades(client, named, count={"valueInteger": 1}) == {"a": "certain"}
        foreign = {**sought, "identifier": [{"system": "urn:elsewhere", "value": card(2)}]}
        assert await grades(client, foreign) == {}
        nothing = await post(client, "$match", asked(resource={"resource": {
            "resourceType": "Patient", "gender": "female"}}))  # fmt: skip
        assert nothing.status_code == 400
        assert "identifier" in nothing.json()["issue"][0]["diagnostics"]


async def test_match_names_what_of_the_person_sought_has_no_form_of_r4(serve: Any) -> None:
    async with serve(operations=identity_operations()) as client:
        for wrong, place in (
            ({"name": ["x"]}, "name[0]"),
            ({"name": {"text": "x"}}, "name"),
            ({"name": [{"given": "x"}]}, "name[0].given"),
            ({"name": [{"text": "x"}], "birthDate": 5}, "birthDate"),
        ):
            resource = {"resourceType": "Patient", **wrong}
            answer = await client.post(
                "/Patient/$match", json=asked(resource={"resource": resource})
            )
            assert answer.status_code == 400, answer.text
            told = [one["expression"][0] for one in answer.json()["issue"]]
            assert f"Parameters.parameter[0].resource.{place}" in told


async def test_match_shows_only_what_the_caller_may_see(serve: Any) -> None:
    async def identify(authorization: str | None) -> Caller:
        if authorization is None:
            return ANYBODY
        return Caller(subject="a", scopes=parse_scopes("patient/*.rs"), patient="a")

    async with serve(operations=identity_operations(), identify=identify) as client:
        await put(client, patient("a"), patient("b"))
        assert set(await grades(client, patient("x"))) == {"a", "b"}
        client.headers["authorization"] = "Bearer a"
        assert set(await grades(client, patient("x"))) == {"a"}


async def test_a_merge_moves_everything_and_an_unmerge_puts_it_back(serve: Any) -> None:
    async with serve(operations=identity_operations()) as client:
        source, target = patient("s", ("urn:m", "1")), patient("t", ("urn:m", "2"))
        mixed = weight("o3", "Patient/s", performer=[{"reference": "Patient/t"}])
        own = weight("o4", "Patient/t")
        await put(client, source, target, weight("o1", "Patient/s"), mixed, own)
        for n in range(3):
            await put(client, weight(f"n{n}", "Patient/s"))
        preview = merging("s", "t")
        preview["parameter"].append({"name": "preview", "valueBoolean": True})
        assert (await post(client, "$merge", preview)).status_code == 200
        assert await resource(client, "/Patient/s") == source, "a preview writes nothing"
        done = await post(client, "$merge", merging("s", "t"))
        assert done.status_code == 200, done.text
        gone = await resource(client, "/Patient/s")
        assert gone["active"] is False
        assert gone["link"] == [{"other": {"reference": "Patient/t"}, "type": "replaced-by"}]
        stays = await resource(client, "/Patient/t")
        assert {"system": "urn:m", "value": "1", "use": "old"} in stays["identifier"]
        found = (await client.get("/Observation?patient=t&_count=50")).json()
        assert len(found["entry"]) == 6
        assert (await client.get("/Observation?patient=s")).json().get("entry") is None
        assert (await resource(client, "/Observation/o3"))["performer"] == mixed["performer"]
        # What changes and comes after the merge belongs to the one who stays.
        await put(client, weight("o5", "Patient/t"))
        await put(client, {**await resource(client, "/Observation/o1"), "status": "amended"})
        undone = await post(client, "$unmerge", merging("s", "t"))
        assert undone.status_code == 200, undone.text
        assert await resource(client, "/Patient/s") == source
        assert await resource(client, "/Patient/t") == target
        assert await resource(client, "/Observation/o3") == mixed
        assert await resource(client, "/Observation/o4") == own
        amended = await resource(client, "/Observation/o1")
        assert (amended["status"], amended["subject"]["reference"]) == ("amended", "Patient/s")
        assert (await resource(client, "/Observation/o5"))["subject"]["reference"] == "Patient/t"
        told = (await client.get("/Provenance?target=Patient/s")).json()["entry"]
        codes = {e["resource"]["activity"]["coding"][0]["code"] for e in told}
        assert codes == {"merge", "unmerge"}
        assert len((await client.get("/Patient/s/_history")).json()["entry"]) == 3
        again = await post(client, "$unmerge", merging("s", "t"))
        assert again.json()["issue"][0]["details"]["coding"][0]["code"] == "merge-unknown"


async def test_merging_again_moves_what_came_late_and_unmerging_puts_all_back(serve: Any) -> None:
    async with serve(operations=identity_operations()) as client:
        await put(client, patient("s"), patient("t"), weight("o1", "Patient/s"))
        await post(client, "$merge", merging("s", "t"))
        await put(client, weight("late", "Patient/s"))
        assert (await post(client, "$merge", merging("s", "t"))).status_code == 200
        assert (await resource(client, "/Observation/late"))["subject"]["reference"] == "Patient/t"
        assert (await post(client, "$unmerge", merging("s", "t"))).status_code == 200
        for id_ in ("o1", "late"):
            found = await resource(client, f"/Observation/{id_}")
            assert found["subject"]["reference"] == "Patient/s"
        assert await resource(client, "/Patient/s") == patient("s")


async def test_opposite_merges_at_once_leave_one_survivor(serve: Any) -> None:
    async with serve(operations=identity_operations()) as client:
        for turn in range(4):
            a, b = f"a{turn}", f"b{turn}"
            await put(client, patient(a), patient(b), weight(f"wa{turn}", f"Patient/{a}"))
            answers = await asyncio.gather(
                post(client, "$merge", merging(a, b)), post(client, "$merge", merging(b, a))
            )
            codes = sorted(answer.status_code for answer in answers)
            assert codes[0] == 200, [answer.text for answer in answers]
            assert codes[1] in (409, 412, 422)
            active = [(await resource(client, f"/Patient/{id_}"))["active"] for id_ in (a, b)]
            assert sorted(active) == [False, True]


async def test_a_question_about_a_crowd_is_refused_and_one_about_a_person_answered(
    serve: Any,
) -> None:
    async with serve(operations=identity_operations()) as client:
        await put(client, patient("a", ("urn:mrn", "7")))
        for count, status in ((20_000, 400), (51, 400), (50, 200)):
            numbers = [{"system": "urn:mrn", "value": str(n)} for n in range(count)]
            sought = {"resourceType": "Patient", "identifier": numbers}
            parameter = [{"name": "resource", "resource": sought}]
            asked = {"resourceType": "Parameters", "parameter": parameter}
            answer = await client.post("/Patient/$match", json=asked)
            assert answer.status_code == status, (count, answer.text[:300])
        assert [e["resource"]["id"] for e in answer.json()["entry"]] == ["a"]


async def test_refusals_name_the_remedy_and_write_nothing(serve: Any) -> None:
    async with serve(operations=identity_operations()) as client:
        first, second = (ID_CARD_SYSTEM, card(2)), (ID_CARD_SYSTEM, card(4))
        await put(client, patient("a", first), patient("b", second), patient("c"), patient("d"))
        await post(client, "$merge", merging("c", "d"))
        for source, target, key in (
            ("a", "a", "merge-itself"),
            ("a", "b", "merge-two-persons"),
            ("a", "c", "merge-target-merged"),
            ("c", "a", "merge-source-merged"),
            ("a", "never", "operation-parameter"),
        ):
            refused = await post(client, "$merge", merging(source, target))
            issue = refused.json()["issue"][0]
            assert refused.status_code in (400, 422), refused.text
            assert issue["details"]["coding"][0]["code"] == key
            assert issue["diagnostics"]
        assert await resource(client, "/Patient/a") == patient("a", first)
        assert (await client.get("/Provenance")).json().get("total") in (None, 1)


async def test_claims_move_with_the_person_and_two_of_a_kind_are_refused(
    serve: Any, database_url: str
) -> None:
    claim = (
        "INSERT INTO claim (k, kind, key, period, holder) VALUES (%s, 'family-doctor', %s, "
        "tstzrange('2026-01-01', '2027-01-01'), %s)"
    )
    held = "SELECT key, holder FROM claim ORDER BY holder"
    async with serve(operations=identity_operations()) as client:
        await put(client, patient("s"), patient("t"), patient("u"))
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(claim, (1, "Patient/s", "Contract/c1"))
            connection.execute(claim, (2, "Patient/u", "Contract/c2"))
            assert (await post(client, "$merge", merging("s", "t"))).status_code == 200
            assert connection.execute(held).fetchall()[0] == ("Patient/t", "Contract/c1")
            twice = await post(client, "$merge", merging("u", "t"))
            code = twice.json()["issue"][0]["details"]["coding"][0]["code"]
            assert (twice.status_code, code) == (409, "merge-claimed-twice")
            assert await resource(client, "/Patient/u") == patient("u")


async def test_nobody_merges_what_he_may_not_write(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def identify(authorization: str | None) -> Caller:
        if authorization is None:
            return ANYBODY
        return Caller(subject="s", scopes=parse_scopes("patient/*.cruds"), patient="s")

    async with serve(operations=identity_operations(), identify=identify) as client:
        await put(client, patient("s"), patient("t"), weight("o1", "Patient/s"))
        client.headers["authorization"] = "Bearer s"
        assert (await post(client, "$merge", merging("s", "t"))).status_code == 403
        assert (await resource(client, "/Observation/o1"))["subject"]["reference"] == "Patient/s"

        async def freely(*_: object) -> bool:
            return True

        # The twin: without the judgement the same request goes through.
        monkeypatch.setattr(writing, "may_write_freely", freely)
        assert (await post(client, "$merge", merging("s", "t"))).status_code == 200
