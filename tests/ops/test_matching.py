"""Visits, procedures and forms fulfil services by themselves: once, reopened, left to a person."""

import asyncio
import contextlib
import datetime
import json
from typing import Any

import pytest

from care.fulfilment import beyond_quota, matching
from care.fulfilment.completing import EVIDENCE_CLAIM
from care.fulfilment.items import SERVICE_ITEM
from care.fulfilment.schedule import tasks_for
from conformance.cphc import BASE
from conformance.problem import EditConflict
from conformance.resource_json import dump, parse
from fhir_store.claims import carry_out
from fhir_store.operations import Claim, Create, Delete, Update, WriteContext
from fhir_store.store import make_pool
from ops import flow_matching, laws
from ops.flow_matching import Matching

HIS = "urn:his:department"
NOW = datetime.datetime(2026, 5, 1, 9, tzinfo=datetime.timezone(datetime.timedelta(hours=8)))
CONTEXT = WriteContext(actor="test", at=NOW)
MAP = {
    "resourceType": "ConceptMap",
    "id": "his-services",
    "status": "active",
    "group": [
        {
            "source": HIS,
            "target": SERVICE_ITEM,
            "element": [
                {"code": "HTN", "target": [{"code": "bp", "equivalence": "equivalent"}]},
                {
                    "code": "CHECKUP",
                    "target": [
                        {"code": "bp", "equivalence": "wider"},
                        {"code": "ecg", "equivalence": "wider"},
                    ],
                },
            ],
        },
        {
            "source": f"{BASE}/Questionnaire",
            "target": SERVICE_ITEM,
            "element": [
                {"code": "phs3-htn", "target": [{"code": "bp", "equivalence": "equivalent"}]}
            ],
        },
    ],
}


def activity(name, quota):
    url = f"{BASE}/StructureDefinition/cphc-service-quota"
    return {
        "resourceType": "ActivityDefinition",
        "url": f"{BASE}/ActivityDefinition/{name}",
        "title": name,
        "code": {"coding": [{"system": SERVICE_ITEM, "code": name}]},
        "extension": [{"url": url, "valueInteger": quota}],
    }


def tasks_of(patient, contract="c1", **items):
    """Return the Tasks of a contract of 2026 that promises these items so many times."""
    start = datetime.datetime(2026, 1, 1, tzinfo=NOW.tzinfo)
    made = {
        "id": contract,
        "resourceType": "Contract",
        "applies": {"start": "2026-01-01", "end": "2026-12-31"},
        "subject": [{"reference": f"Patient/{patient}"}],
        "term": [{"action": [{"performer": {"reference": "CareTeam/t1"}}]}],
    }
    plan = {"action": [{"definitionCanonical": f"{BASE}/ActivityDefinition/{n}"} for n in items]}
    activities = [activity(name, quota) for name, quota in items.items()]
    return tasks_for(made, "PlanDefinition/p", plan, activities, now=start)


def encounter(id_, code="HTN", day="2026-05-01", patient="p1", status="finished"):
    return {
        "resourceType": "Encounter",
        "id": id_,
        "status": status,
        "class": {"code": "AMB"},
        "type": [{"coding": [{"system": HIS, "code": code}]}],
        "subject": {"reference": f"Patient/{patient}"},
        "period": {"start": f"{day}T08:30:00+08:00"},
    }


class World:
    def __init__(self, store):
        self.store = store
        self.matching = Matching(store=store)

    async def write(self, *resources):
        operations = [Update(resource=parse(dump(one))) for one in resources]
        return await self.store.write(operations, context=CONTEXT)

    async def settle(self):
        while await self.matching.step(NOW):
            pass

    async def tasks(self):
        """Return status and source of the Tasks with a due period, in its order."""
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute(
                "select body from resource r join rtype using (tid) where name = 'Task' and not del"
            )
            found = [json.loads(body) for (body,) in await cursor.fetchall()]
        services = [one for one in found if "restriction" in one]
        services.sort(key=lambda t: (t["restriction"]["period"]["start"], str(t["code"])))
        return [
            (
                "open" if t["status"] in ("requested", "ready") else t["status"],
                *(o["valueReference"]["reference"] for o in t.get("output", ())),
            )
            for t in services
        ]

    async def choice(self, source):
        return json.loads((await self.store.read("Task", matching.choice_id(source))).body)


@contextlib.asynccontextmanager
async def world(url, *tasks):
    async with make_pool(url, size=6) as pool:
        store = laws.lawful_store(pool)
        made = World(store)
        creates = [Create(resource=parse(dump(one)), id=one["id"]) for one in tasks]
        await store.write(creates, context=CONTEXT)
        await made.write(MAP)
        yield made


def run(body, url, *tasks):
    async def main():
        async with world(url, *tasks) as made:
            await body(made)

    asyncio.run(main())


OPEN = ("open",)


def test_a_visit_completes_the_service_that_is_due_on_its_day(database_url):
    async def body(w):
        await w.write(encounter("e1"))
        await w.settle()
        assert await w.tasks() == [OPEN, ("completed", "Encounter/e1"), OPEN, OPEN]

    run(body, database_url, *tasks_of("p1", bp=4))


@pytest.mark.parametrize(
    "other",
    [
        encounter("e1", code="DENTAL"),
        encounter("e1", day="2027-01-01"),
        encounter("e1", patient="p2"),
        encounter("e1", status="planned"),
        encounter("e1", status="cancelled"),
    ],
)
def test_what_is_of_another_item_day_resident_or_state_completes_nothing(database_url, other):
    async def body(w):
        await w.write(other)
        await w.settle()
        assert await w.tasks() == [OPEN] * 4

    run(body, database_url, *tasks_of("p1", bp=4))


def test_procedures_and_forms_fulfil_too(database_url):
    procedure = {
        "resourceType": "Procedure",
        "id": "x1",
        "status": "completed",
        "code": {"coding": [{"system": HIS, "code": "HTN"}]},
        "subject": {"reference": "Patient/p1"},
        "performedDateTime": "2026-02-01",
    }
    form = {
        "resourceType": "QuestionnaireResponse",
        "id": "q1",
        "status": "completed",
        "questionnaire": f"{BASE}/Questionnaire/phs3-htn|3.0",
        "subject": {"reference": "Patient/p1"},
        "authored": "2026-06-30T23:30:00+08:00",
    }

    async def body(w):
        await w.write(procedure, form)
        await w.settle()
        assert await w.tasks() == [
            ("completed", "Procedure/x1"), ("completed", "QuestionnaireResponse/q1"), OPEN, OPEN,
        ]  # fmt: skip

    run(body, database_url, *tasks_of("p1", bp=4))


def test_of_two_contracts_tasks_the_one_that_is_due_first_is_completed(database_url):
    async def body(w):
        await w.write(encounter("e1", day="2026-02-01"), encounter("e2", day="2026-02-02"))
        await w.settle()
        states = sorted(await w.tasks(), key=len)
        assert states[-2:] == [("completed", "Encounter/e1"), ("completed", "Encounter/e2")]
        assert len(states) == 5

    run(body, database_url, *tasks_of("p1", bp=4), *tasks_of("p1", "c2", bp=1))


def test_a_second_visit_in_the_period_does_not_complete_the_next_one(database_url):
    async def body(w):
        await w.write(encounter("e1"))
        await w.settle()
        await w.write(encounter("e2"), encounter("e1"))
        await w.settle()
        assert await w.tasks() == [OPEN, ("completed", "Encounter/e1"), OPEN, OPEN]

    run(body, database_url, *tasks_of("p1", bp=4))


def test_deleting_or_cancelling_the_source_reopens_the_service(database_url):
    async def body(w):
        for gone in ("delete", "cancel"):
            await w.write(encounter(gone))
            await w.settle()
            assert (await w.tasks())[1] == ("completed", f"Encounter/{gone}")
            if gone == "delete":
                await w.store.write([Delete(type="Encounter", id=gone)], context=CONTEXT)
            else:
                await w.write(encounter(gone, status="cancelled"))
            await w.settle()
            assert (await w.tasks())[1] == OPEN
        await w.write(encounter("third"))
        await w.settle()
        assert (await w.tasks())[1] == ("completed", "Encounter/third")

    run(body, database_url, *tasks_of("p1", bp=4))


def test_a_source_that_is_corrected_moves_to_the_period_of_its_new_day(database_url):
    async def body(w):
        await w.write(encounter("e1"))
        await w.settle()
        await w.write(encounter("e1", day="2026-08-01"))
        await w.settle()
        assert await w.tasks() == [OPEN, OPEN, ("completed", "Encounter/e1"), OPEN]

    run(body, database_url, *tasks_of("p1", bp=4))


def test_an_ambiguous_visit_goes_to_the_teams_worklist_and_away_with_its_source(database_url):
    async def body(w):
        await w.write(encounter("e1", code="CHECKUP"))
        await w.settle()
        assert all(state == OPEN for state in await w.tasks())
        choice = await w.choice("Encounter/e1")
        assert choice["status"] == "requested"
        assert choice["owner"] == {"reference": "CareTeam/t1"}
        assert len(choice["input"]) == 2
        await w.store.write([Delete(type="Encounter", id="e1")], context=CONTEXT)
        await w.settle()
        assert (await w.choice("Encounter/e1"))["status"] == "cancelled"

    run(body, database_url, *tasks_of("p1", bp=1, ecg=1))


def test_two_services_that_end_on_the_same_day_are_left_to_a_person(database_url):
    async def body(w):
        await w.write(encounter("e1"))
        await w.settle()
        assert await w.tasks() == [OPEN, OPEN]
        assert (await w.choice("Encounter/e1"))["status"] == "requested"

    run(body, database_url, *tasks_of("p1", bp=1), *tasks_of("p1", "c2", bp=1))


def test_one_source_that_cannot_be_matched_stops_no_other(database_url, monkeypatch):
    real = matching.match

    def failing(source, items, tasks):
        if source.reference == "Encounter/bad":
            raise KeyError("bad")
        return real(source, items, tasks)

    monkeypatch.setattr(matching, "match", failing)

    async def body(w):
        await w.write(encounter("bad", day="2026-02-01"), encounter("good"))
        await w.settle()
        assert (await w.tasks())[:2] == [OPEN, ("completed", "Encounter/good")]

    run(body, database_url, *tasks_of("p1", bp=4))


async def _rewind(store):
    async with store.pool.connection() as connection:
        await connection.execute(
            "update search_progress set txid = 0, rid = 0 where name = 'service-matching'"
        )


@pytest.mark.parametrize("is_protected", [True, False])
def test_a_visit_that_is_followed_again_completes_nothing_more(
    database_url, monkeypatch, is_protected
):
    """The claim on a source keeps it from a second Task; without it a replay does harm."""
    real = matching.fulfilled
    if not is_protected:

        async def nobody(*_):
            return {}

        monkeypatch.setattr(flow_matching, "holders_of", nobody)
        monkeypatch.setattr(matching, "fulfilled", lambda s, t: real(s, t)[1:])

    async def body(w):
        await w.write(encounter("e1", day="2026-02-01"))
        await w.settle()
        await _rewind(w.store)
        await w.settle()
        done = [state for state in await w.tasks() if state != OPEN]
        assert len(done) == (1 if is_protected else 2)

    run(body, database_url, *tasks_of("p1", bp=4), *tasks_of("p1", "c2", bp=1))


@pytest.mark.parametrize("is_one_commit", [True, False])
def test_a_follower_killed_between_forgets_nothing(database_url, monkeypatch, is_one_commit):
    """Place and work are one commit; a place that is kept before its work loses the visit."""

    async def killed(*_args, **_options):
        raise asyncio.CancelledError

    async def left_undone(*_args, **_options):
        return None

    async def body(w):
        await w.write(encounter("e1"))
        with monkeypatch.context() as patch, contextlib.suppress(asyncio.CancelledError):
            patch.setattr(Matching, "_settle_all", killed if is_one_commit else left_undone)
            await w.matching.step(NOW)
        await w.settle()
        assert (("completed", "Encounter/e1") in await w.tasks()) is is_one_commit

    run(body, database_url, *tasks_of("p1", bp=4))


def test_two_followers_at_once_complete_each_service_once(database_url):
    async def body(w):
        visits = [encounter(f"e{n}", patient=f"p{n}") for n in range(40)]
        other = Matching(store=w.store, most=7)
        await asyncio.gather(
            *(w.write(one) for one in visits),
            *(follower.step(NOW) for follower in (w.matching, other) for _ in range(10)),
        )
        await w.settle()
        done = [state for state in await w.tasks() if state[0] == "completed"]
        assert len(done) == len({source for _, source in done}) == 40

    tasks = [task for n in range(40) for task in tasks_of(f"p{n}", f"c{n}", bp=4)]
    run(body, database_url, *tasks)


@pytest.mark.parametrize(
    ("holder", "stays"), [("ChargeItem/extra", True), ("Task/elsewhere", False)]
)
def test_a_visit_that_was_charged_stays_charged_and_fulfils_nothing(
    database_url: str, holder: str, stays: bool
) -> None:
    claim = Claim(kind=EVIDENCE_CLAIM, key="Encounter/e1", holder=holder)

    async def body(world):
        async with world.store.begin() as transaction:
            await carry_out(transaction.connection, [claim])
        await world.write(encounter("e1"))
        await world.settle()
        async with world.store.pool.connection() as connection:
            holders = await flow_matching.holders_of(connection, EVIDENCE_CLAIM, ["Encounter/e1"])
        assert (holders == {"Encounter/e1": holder}) is stays
        assert (await world.tasks() == [("open",)]) is stays

    run(body, database_url, *tasks_of("p1", bp=1))


def charge_item(status: str = "billable", source: str = "Encounter/e1") -> dict[str, Any]:
    return {
        "resourceType": "ChargeItem",
        "id": "x1",
        "status": status,
        "code": {"text": "测血压"},
        "subject": {"reference": "Patient/p1"},
        "performer": [{"actor": {"reference": "CareTeam/t1"}}],
        "supportingInformation": [{"reference": "Contract/c1"}, {"reference": source}],
    }


async def holder_of(world: World, source: str) -> str | None:
    async with world.store.pool.connection() as connection:
        return (await flow_matching.holders_of(connection, EVIDENCE_CLAIM, [source])).get(source)


async def stored(world: World, type_: str, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await world.store.read(type_, id_)).body)
    return found


@pytest.mark.parametrize(
    "after",
    [None, encounter("e1", status="cancelled"), encounter("e1", patient="p2")],
    ids=["deleted", "cancelled", "of another"],
)
def test_a_charge_is_taken_back_when_its_visit_is_gone(
    database_url: str, after: dict[str, Any] | None
) -> None:
    async def body(world: World) -> None:
        await world.write(encounter("e1", code="DENTAL"), charge_item())
        await world.settle()
        assert await holder_of(world, "Encounter/e1") == "ChargeItem/x1"
        if after is None:
            await world.store.write([Delete(type="Encounter", id="e1")], context=CONTEXT)
        else:
            await world.write(after)
        await world.settle()
        charged = await stored(world, "ChargeItem", "x1")
        assert charged["status"] == "entered-in-error"
        assert "gone" in charged["note"][0]["text"]
        held = await holder_of(world, "Encounter/e1")
        # What is another resident's now is matched as theirs.
        assert (held or "").startswith("Task/" if after and after["status"] == "finished" else "")
        assert held != "ChargeItem/x1"

    run(body, database_url, *tasks_of("p2", "c2", bp=4))


def test_a_visit_that_is_only_corrected_stays_charged(database_url: str) -> None:
    """The twin: a charge is not taken back for any change of its visit."""

    async def body(world: World) -> None:
        await world.write(encounter("e1", code="DENTAL"), charge_item())
        await world.settle()
        await world.write(encounter("e1", code="HTN", status="in-progress"))
        await world.settle()
        assert (await stored(world, "ChargeItem", "x1"))["status"] == "billable"
        assert await holder_of(world, "Encounter/e1") == "ChargeItem/x1"
        assert (await world.tasks())[1] == OPEN

    run(body, database_url, *tasks_of("p1", bp=4))


def test_what_was_billed_is_left_to_the_team_once(database_url: str) -> None:
    async def body(world: World) -> None:
        await world.write(encounter("e1", code="DENTAL"), charge_item("billed"))
        await world.settle()
        await world.write(encounter("e1", status="cancelled"))
        await world.settle()
        assert (await stored(world, "ChargeItem", "x1"))["status"] == "billed"
        id_ = beyond_quota.review_id("ChargeItem/x1")
        task = await stored(world, "Task", id_)
        assert (task["owner"]["reference"], task["status"]) == ("CareTeam/t1", "requested")
        await world.write({**task, "status": "completed"})
        await world.write(encounter("e1", status="entered-in-error"))
        await world.settle()
        assert (await stored(world, "Task", id_))["status"] == "completed"

    run(body, database_url, *tasks_of("p1", bp=1))


def test_a_charge_that_was_an_error_sets_its_visit_free_to_fulfil(database_url: str) -> None:
    async def body(world: World) -> None:
        await world.write(charge_item())
        await world.write(encounter("e1"))
        await world.settle()
        assert (await world.tasks())[1] == OPEN
        await world.write(charge_item("entered-in-error"))
        await world.settle()
        assert (await world.tasks())[1] == ("completed", "Encounter/e1")
        with pytest.raises(EditConflict):  # nor can it be charged again by writing it back
            await world.write(charge_item())

    run(body, database_url, *tasks_of("p1", bp=4))


def test_without_the_law_a_charge_claims_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: a store that does not keep the law lets a charged visit fulfil a service."""
    monkeypatch.setattr(laws, "LAWS", {})

    async def body(world: World) -> None:
        await world.write(charge_item(), encounter("e1"))
        await world.settle()
        assert (await world.tasks())[1] == ("completed", "Encounter/e1")

    run(body, database_url, *tasks_of("p1", bp=4))
