"""The demonstration data of a fresh database; nothing of it is sent to anybody."""

import datetime

from care.periods import day_of
from conformance.problem import Gone, NotFound
from fhir_store.operations import Update, WriteContext
from fhir_store.store import Store
from ops.demo.data import write_demo_data

MARK = {"resourceType": "Basic", "id": "demo-data", "code": {"text": "qiao demo-data"}}


async def seed_district(store: Store, residents: int) -> int:
    """Write the data unless they are there to their end; returns how many resources there are.

    The mark comes last, so that an interrupted start goes on with the next one.
    """
    try:
        await store.read("Basic", "demo-data")
    except (NotFound, Gone):
        pass
    else:
        return 0
    now = datetime.datetime.now(datetime.UTC)
    written = await write_demo_data(store, residents, today=day_of(now))
    context = WriteContext(actor="demo-data", at=now, source="synthetic", deliveries=False)
    await store.write([Update(resource=MARK)], context=context)
    return written
