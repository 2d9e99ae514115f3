"""One active contract for each resident and kept packages, whoever writes: no door is open."""

import asyncio
import datetime
import json
import pathlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import psycopg
import pytest
from contracting import SIGNING, WORLD, asked, to_be_signed, world
from days import next_year, today

import ops.laws
from care.programme import TYPE
from conformance.problem import Problem
from fhir_store.operations import Update, WriteContext
from fhir_store.store import Store, make_pool
from ops.importing import import_stretches, stretches_of
from ops.laws import lawful_store
from ops.package import pin_published

DAY = datetime.timedelta(days=1)
PRICE = {**WORLD[-1]["extension"][0], "valueMoney": {"value": 1, "currency": "CNY"}}
Way = Callable[[httpx.AsyncClient, dict[str, Any]], Awaitable[httpx.Response]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def contract(
    id_: str,
    status: str = "executed",
    start: datetime.date | None = None,
    end: datetime.date | None = None,
) -> dict[str, Any]:
    performer = {"reference": "CareTeam/t1"}
    words = "http://hl7.org/fhir/contract-action-status"
    state = {"coding": [{"system": words, "code": "complete"}]}
    action = {"type": {"text": "a"}, "intent": {"text": "b"}, "status": state}
    return {
        "resourceType": "Contract",
        "id": id_,
        "status": status,
        "subject": [{"reference": "Patient/p1"}],
        "applies": {"start": str(start or today()), "end": str(end or next_year())},
        "term": [
            {
                "offer": {"topic": {"reference": "PlanDefinition/basic"}},
                "action": [{**action, "performer": performer}],
            }
        ],
    }


async def put(client: httpx.AsyncClient, one: dict[str, Any]) -> httpx.Response:
    return await client.put(f"/Contract/{one['id']}", json=one)


async def post(client: httpx.AsyncClient, one: dict[str, Any]) -> httpx.Response:
    return await client.post("/Contract", json={k: v for k, v in one.items() if k != "id"})


async def send(client: httpx.AsyncClient, one: dict[str, Any]) -> httpx.Response:
    request = {"method": "PUT", "url": f"Contract/{one['id']}"}
    entry = [{"resource": one, "request": request}]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
    return await client.post("/", json=bundle)


async def patch(client: httpx.AsyncClient, one: dict[str, Any]) -> httpx.Response:
    made = await put(client, {**one, "status": "offered"})
    assert made.status_code == 201, made.text
    kind = {"content-type": "application/json-patch+json"}
    change = [{"op": "replace", "path": "/status", "value": one["status"]}]
    return await client.patch(f"/Contract/{one['id']}", json=change, headers=kind)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    issue = answer.json()["issue"][0]
    return answer.status_code, issue["details"]["coding"][0]["code"]


def claims(database_url: str) -> list[tuple[str, str]]:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "select key, holder from claim where kind = 'family-doctor' order by holder"
        )
        return found.fetchall()


@pytest.mark.anyio
@pytest.mark.parametrize("way", [put, post, send, patch])
async def test_no_way_of_writing_gives_a_resident_a_second_active_contract(
    way: Way, database_url: str
) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        assert (await client.post("/Contract/c1/$sign", json=SIGNING)).status_code == 200
        assert claims(database_url) == [("Patient/p1", "Contract/c1")]
        second = contract("second")
        assert code_of(await way(client, second)) == (409, "contract-overlap")
        active = await client.get("/Contract?patient=Patient/p1&status=executed")
        assert [e["resource"]["id"] for e in active.json()["entry"]] == ["c1"]
        # The advice helps: when the first one is over, the same write goes in.
        reason = asked({"name": "reason", "valueCode": "02"})
        assert (await client.post("/Contract/c1/$terminate", json=reason)).status_code == 200
        assert (await put(client, second)).status_code in (200, 201)
        assert claims(database_url) == [("Patient/p1", "Contract/second")]


@pytest.mark.anyio
async def test_of_two_plain_writes_at_one_moment_exactly_one_wins(database_url: str) -> None:
    async with world(database_url) as client:
        answers = await asyncio.gather(*(put(client, contract(f"x{n}")) for n in range(6)))
        assert sorted(one.status_code for one in answers) == [201, *[409] * 5]
        assert len(claims(database_url)) == 1


@pytest.mark.anyio
async def test_a_plain_write_moves_and_ends_the_claim_as_its_content_says(
    database_url: str,
) -> None:
    async with world(database_url) as client:
        assert (await put(client, contract("a", end=today()))).status_code == 201
        following = contract("b", start=today() + DAY)
        assert (await put(client, following)).status_code == 201, "the day after is free"
        longer = contract("a", end=today() + DAY)
        assert code_of(await put(client, longer)) == (409, "contract-overlap")
        assert (await put(client, contract("b", "terminated"))).status_code == 200
        assert (await put(client, longer)).status_code == 200
        assert (await client.delete("/Contract/a")).status_code in (200, 204)
        assert claims(database_url) == []
        # What is no contract with a family-doctor team claims nothing.
        insured = {k: v for k, v in contract("i").items() if k != "term"}
        for id_ in ("i", "j"):
            assert (await put(client, {**insured, "id": id_})).status_code == 201


@pytest.mark.anyio
async def test_imports_keep_the_law(database_url: str, tmp_path: pathlib.Path) -> None:
    async with world(database_url) as client:
        await put(client, contract("first"))
        lines = "\n".join(json.dumps(contract(f"i{n}")) for n in range(2)).encode()
        kind = {"content-type": "application/fhir+ndjson"}
        answer = await client.post("/$import", content=lines, headers=kind)
        counts = {p["name"]: p.get("valueInteger") for p in answer.json()["parameter"]}
        assert (counts["written"], counts["refused"]) == (0, 2)
        path = tmp_path / "contracts.ndjson"
        path.write_bytes(lines)
        stretches = list(stretches_of(path))
        (outcome,) = await asyncio.to_thread(import_stretches, database_url, stretches)
        assert [one.issues[0].key for one in outcome.refused] == ["contract-overlap"] * 2
        assert claims(database_url) == [("Patient/p1", "Contract/first")]


@pytest.mark.anyio
async def test_without_the_law_the_second_one_goes_in(database_url: str) -> None:
    """The twin: a store that was given no laws lets both in."""
    async with make_pool(database_url, size=2) as pool:
        context = WriteContext(actor="t", at=datetime.datetime.now(datetime.UTC))
        store = Store(pool)
        for id_ in ("a", "b"):
            await store.write([Update(resource=contract(id_))], context=context)
    assert claims(database_url) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"title": "别的"}, "PlanDefinition.title"),
        ({"extension": [PRICE]}, "PlanDefinition.extension"),
        ({"action": [{"definitionCanonical": "urn:x|1"}]}, "PlanDefinition.action"),
        ({"status": "draft"}, "PlanDefinition"),
        (None, "PlanDefinition"),
    ],
)
async def test_a_published_package_stays_as_contracts_pinned_it(
    change: dict[str, Any] | None, where: str, database_url: str
) -> None:
    async with world(database_url) as client:
        path = "/PlanDefinition/basic"
        if change is None:
            answer = await client.delete(path)
        else:
            answer = await client.put(path, json={**WORLD[-1], **change})
        assert code_of(answer) == (422, "package-published")
        assert answer.json()["issue"][0]["expression"] == [where]
        assert (await client.get(path)).json()["meta"]["versionId"] == "1"
        # The advice: another id and a higher version, as a draft; or retire it.
        copy = {**WORLD[-1], "id": "next", "version": "2", "status": "draft"}
        assert (await client.put("/PlanDefinition/next", json=copy)).status_code == 201
        assert (await client.put("/PlanDefinition/next", json={**copy, "title": "新"})).is_success
        assert (await client.post(f"{path}/$retire-package", json=asked())).is_success
        back = await client.put(path, json=WORLD[-1])
        assert code_of(back) == (422, "package-published"), "retired is for good"


def item(id_: str, version: str = "1", **more: Any) -> dict[str, Any]:
    kind = "ActivityDefinition"
    return {"resourceType": kind, "id": id_, "url": "urn:item:bp", "version": version,
            "status": "active", "title": "测血压", **more}  # fmt: skip


def plan(id_: str, status: str = "active") -> dict[str, Any]:
    named = {"url": f"urn:package:{id_}", "version": "1", "status": status}
    return {**WORLD[-1], "id": id_, **named, "action": [{"definitionCanonical": "urn:item:bp|1"}]}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "change",
    [{"title": "别的"}, {"version": "2"}, {"url": "urn:item:x"}, {"status": "draft"}, None],
)
async def test_an_item_of_a_published_package_stays_as_contracts_pinned_it(
    change: dict[str, Any] | None, database_url: str
) -> None:
    async with world(database_url) as client:
        path = "/ActivityDefinition/bp"

        async def write(one: dict[str, Any]) -> httpx.Response:
            return await client.put(f"/{one['resourceType']}/{one['id']}", json=one)

        async def changed() -> httpx.Response:
            return await (
                client.delete(path) if change is None else write({**item("bp"), **change})
            )

        assert (await write(item("bp"))).status_code == 201
        assert (await write(plan("a", "draft"))).status_code == 201
        assert (await write({**item("bp"), "title": "血压"})).status_code == 200, (
            "not yet published"
        )
        assert (await write(item("bp"))).status_code == 200
        for one in ("a", "b"):  # two packages may name one item, by either way of publishing
            assert (await write(plan(one))).is_success
        assert code_of(await changed()) == (409, "package-item-published")
        assert (await client.get(path)).json()["meta"]["versionId"] == "3"
        assert code_of(await write(item("copy"))) == (409, "item-version-exists"), "no second one"
        # The advice: another id with a higher version, named in a new draft; the old one retires.
        assert (await write(item("bp-2", "2", title="别的"))).status_code == 201
        assert (await write({**plan("c", "draft"), "action": [
            {"definitionCanonical": "urn:item:bp|2"}]})).status_code == 201  # fmt: skip
        assert (await client.post("/PlanDefinition/c/$publish-package", json=asked())).is_success
        assert (await client.post("/PlanDefinition/a/$retire-package", json=asked())).is_success
        assert code_of(await changed()) == (409, "package-item-published"), "contracts go on"
        assert (await write(item("bp", status="retired"))).status_code == 200


@pytest.mark.anyio
async def test_a_package_and_its_items_come_in_any_order(database_url: str) -> None:
    """Contents are free until a package is in force; a transaction has them the wrong way round."""
    async with world(database_url) as client:
        entry = [
            {
                "resource": one,
                "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
            }
            for one in (plan("a"), item("bp"))
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
        assert (await client.post("/", json=bundle)).status_code == 200
        again = await client.put("/ActivityDefinition/bp", json=item("bp", title="别的"))
        assert code_of(again) == (409, "package-item-published")


def episode(id_: str, status: str = "active", code: str = "htn") -> dict[str, Any]:
    return {
        "resourceType": "EpisodeOfCare",
        "id": id_,
        "status": status,
        "type": [{"coding": [{"system": TYPE, "code": code}]}],
        "patient": {"reference": "Patient/p1"},
    }


@pytest.mark.anyio
async def test_a_resident_is_in_a_programme_once_whoever_writes(database_url: str) -> None:
    async with world(database_url) as client:

        async def written(one: dict[str, Any]) -> httpx.Response:
            return await client.put(f"/EpisodeOfCare/{one['id']}", json=one)

        assert (await written(episode("a"))).status_code == 201
        second = await written(episode("b"))
        assert second.status_code == 409
        assert second.json()["issue"][0]["details"]["coding"][0]["code"] == "programme-enrolled"
        assert (await client.get("/EpisodeOfCare/b")).status_code == 404
        who = {"name": "resident", "valueReference": {"reference": "Patient/p1"}}
        team = {"name": "team", "valueReference": {"reference": "CareTeam/t1"}}
        wish = asked(who, team, {"name": "programme", "valueCode": "htn"})
        step = await client.post("/EpisodeOfCare/$apply-for-programme", json=wish)
        assert step.status_code == 409, "nor by the step"
        assert (await written(episode("c", code="dm2"))).status_code == 201
        # The advice: close the one that is there.
        assert (await written(episode("a", "finished"))).status_code == 200
        assert (await written(episode("b"))).status_code == 201
        assert (await written(episode("b", "onhold"))).status_code == 200
        assert (await written(episode("a"))).status_code == 409


@pytest.mark.anyio
async def test_without_the_law_two_episodes_go_in(database_url: str) -> None:
    """The twin."""
    async with make_pool(database_url, size=2) as pool:
        context = WriteContext(actor="t", at=datetime.datetime.now(datetime.UTC))
        both = [Update(resource=episode(id_)) for id_ in "ab"]
        await Store(pool).write(both, context=context)
        with pytest.raises(Problem):
            await lawful_store(pool).write(
                [Update(resource=episode(id_)) for id_ in "cd"], context=context
            )


@pytest.mark.anyio
async def test_packages_published_before_the_law_are_pinned_at_start(database_url: str) -> None:
    async with make_pool(database_url, size=2) as pool:
        context = WriteContext(actor="t", at=datetime.datetime.now(datetime.UTC))
        old = [Update(resource=item("bp")), Update(resource=plan("a")), Update(resource=plan("b"))]
        await Store(pool).write(old, context=context)
        store = lawful_store(pool)
        changed = [Update(resource=item("bp", title="别的"))]
        await store.write(changed, context=context)  # the twin: nobody has pinned it
        for _ in range(2):  # each start
            assert await pin_published(store) == 2
        with pytest.raises(Problem) as refused:
            await store.write([Update(resource=item("bp", title="第三"))], context=context)
        assert refused.value.issues[0].key == "package-item-published"


@pytest.mark.anyio
async def test_without_the_law_an_item_changes_under_its_contracts(database_url: str) -> None:
    """The twin: a store that was given no laws writes it."""
    async with make_pool(database_url, size=2) as pool:
        context = WriteContext(actor="t", at=datetime.datetime.now(datetime.UTC))
        for store, title in ((lawful_store(pool), "测血压"), (Store(pool), "别的")):
            both = [Update(resource=item("bp", title=title)), Update(resource=plan("a"))]
            await store.write(both, context=context)
        assert b"\xe5\x88\xab" in (await store.read("ActivityDefinition", "bp")).body
        third = [Update(resource=item("bp", title="第三"))]
        with pytest.raises(Problem):
            await lawful_store(pool).write(third, context=context)


def test_every_writing_process_is_given_the_laws() -> None:
    """A store made by hand in ops would be a door without them."""
    folder = pathlib.Path(ops.laws.__file__).parent
    made = {
        path.name
        for path in folder.glob("*.py")
        if re.search(r"(?<![a-z_])Store\(", path.read_text("utf-8"))
    }
    assert made == {"laws.py"}
