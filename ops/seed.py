"""A small synthetic district for a fresh database; nothing of it is sent to anybody."""

import datetime

from conformance.problem import Gone, NotFound
from fhir_store.operations import Update, WriteContext
from fhir_store.store import Store
from ops.synthetic_district import district

SEED = 1
BATCH = 200


async def seed_district(store: Store, residents: int) -> int:
    """Write the district unless it is there already; returns how many resources were written."""
    try:
        await store.read("Organization", "district-authority")
    except (NotFound, Gone):
        pass
    else:
        return 0
    context = WriteContext(
        actor="seed", at=datetime.datetime.now(datetime.UTC), source="synthetic", deliveries=False
    )
    resources = list(district(SEED, residents))
    for first in range(0, len(resources), BATCH):
        batch = resources[first : first + BATCH]
        await store.write([Update(resource=resource) for resource in batch], context=context)
    return len(resources)
