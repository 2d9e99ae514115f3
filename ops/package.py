"""The `cphc` package's resources, loaded at start as ordinary resources."""

import datetime
from collections.abc import Iterator
from typing import Any

from conformance.cphc.code_systems import code_systems, value_sets
from conformance.forms.questionnaires import option_value_sets, questionnaires
from fhir_store.operations import Update, WriteContext
from fhir_store.store import Store


def package() -> Iterator[dict[str, Any]]:
    """Yield every resource of the package."""
    yield from code_systems()
    yield from value_sets()
    yield from option_value_sets()
    yield from questionnaires().values()


async def load_package(store: Store) -> int:
    """Write the package's resources; what is there already stays. Returns how many changed."""
    context = WriteContext(
        actor="package",
        at=datetime.datetime.now(datetime.UTC),
        source="cn.cphc.core",
        deliveries=False,
    )
    written = await store.write([Update(resource=r) for r in package()], context=context)
    return sum(one.changed for one in written)
