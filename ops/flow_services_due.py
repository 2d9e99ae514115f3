"""Services become due on the first day of their period: their Tasks say so, subscribers hear it.

The place in the order of beginnings moves in the commit of the Tasks: each is opened once, whoever
looks and however long the hub was off.
"""

import datetime
from dataclasses import dataclass

from care.fulfilment.completing import is_service_task
from care.fulfilment.schedule import opened
from conformance import resource_json
from fhir_store.following import note_place, take_turn
from fhir_store.operations import Operation, Update, WriteContext
from fhir_store.service_tasks import periods_begun
from fhir_store.store import Store
from ops.repeating import repeat

NAME = "services-due"
ACTOR = "qiao-calendar"
_PART = 500
_LOOK_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesDue:
    """Opens what has begun; any number of processes may."""

    store: Store
    part: int = _PART

    async def look(self, now: datetime.datetime | None = None) -> int:
        """Open one part in one commit; returns how many beginnings were looked at."""
        moment = now or datetime.datetime.now(datetime.UTC)
        async with self.store.begin() as transaction:
            place = await take_turn(transaction.connection, NAME)
            if place is None:
                return 0
            ids, place = await periods_begun(transaction.connection, place, moment, limit=self.part)
            if not ids:
                return 0
            found = await transaction.read_for_update([("Task", one) for one in ids])
            operations: list[Operation] = [
                Update(resource=resource_json.parse(resource_json.dump(opened(task))))
                for task in found.values()
                if task.get("status") == "requested" and is_service_task(task)
            ]
            if operations:
                context = WriteContext(actor=ACTOR, at=moment, source=NAME)
                await transaction.apply(operations, context=context)
            await note_place(transaction.connection, NAME, place)
            return len(ids)

    async def run(self) -> None:
        """Look for ever."""
        await repeat(self.look, failed="services were not opened", rest_seconds=_LOOK_SECONDS)
