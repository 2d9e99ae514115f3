"""A service becomes due on the first day of its period, once, and never after it was done."""

import asyncio
import datetime

from care.fulfilment.items import SERVICE_ITEM
from care.fulfilment.schedule import tasks_for
from conformance.resource_json import dump, parse
from fhir_store.operations import Create, Patch, WriteContext
from fhir_store.store import Store, make_pool
from ops.flow_services_due import ServicesDue

ZONE = datetime.timezone(datetime.timedelta(hours=8))
DAY = datetime.timedelta(days=1)
START = datetime.datetime(2026, 1, 1, 12, tzinfo=ZONE)
CONTRACT = {
    "resourceType": "Contract",
    "id": "c1",
    "applies": {"start": "2026-01-01", "end": "2026-12-31"},
    "subject": [{"reference": "Patient/p1"}],
    "term": [{"action": [{"performer": {"reference": "CareTeam/t1"}}]}],
}
QUARTERLY = {
    "resourceType": "ActivityDefinition",
    "url": "urn:bp",
    "title": "bp",
    "code": {"coding": [{"system": SERVICE_ITEM, "code": "bp"}]},
    "timingTiming": {"repeat": {"frequency": 1, "period": 3, "periodUnit": "mo"}},
}


def test_services_become_due_with_their_periods(database_url):
    async def main():
        async with make_pool(database_url) as pool:
            store = Store(pool)
            tasks = tasks_for(
                CONTRACT,
                "PlanDefinition/p",
                {"action": [{"definitionCanonical": "urn:bp"}]},
                [QUARTERLY],
                now=START,
            )
            context = WriteContext(actor="test", at=START)
            creates = [Create(resource=parse(dump(one)), id=one["id"]) for one in tasks]
            await store.write(creates, context=context)
            due = ServicesDue(store=store, part=2)

            async def states():
                found = [parse((await store.read("Task", one["id"])).body) for one in tasks]
                return [one["status"] for one in found]

            async def look(at):
                while await due.look(at):
                    pass

            await look(START)
            assert await states() == ["ready", "requested", "requested", "requested"]
            cancel = Patch(
                type="Task", id=tasks[2]["id"], change=lambda t: {**t, "status": "cancelled"}
            )
            await store.write([cancel], context=context)
            last_moment = datetime.datetime(2026, 3, 31, 23, 59, tzinfo=ZONE)
            await look(last_moment)
            assert (await states())[1] == "requested"
            await look(last_moment + datetime.timedelta(minutes=2))
            assert (await states())[1] == "ready"
            await asyncio.gather(*(ServicesDue(store=store).look(START + 300 * DAY) for _ in "ab"))
            await look(START + 300 * DAY)
            assert await states() == ["ready", "ready", "cancelled", "ready"]
            versions = [
                parse((await store.read("Task", one["id"])).body)["meta"]["versionId"]
                for one in tasks
            ]
            assert versions == ["1", "2", "2", "2"]

    asyncio.run(main())
