"""The `cphc` package's resources, loaded at start as ordinary resources."""

import datetime
import hashlib

from conformance.cphc import BASE
from conformance.cphc.artefacts import package
from conformance.problem import Gone, NotFound
from conformance.resource_json import dump, parse
from fhir_store.operations import Update, WriteContext
from fhir_store.store import Store

MARK = "cphc-package"


async def load_package(store: Store) -> int:
    """Write the package's resources unless these very ones were written; returns how many changed.

    What was loaded last is noted in `Basic/cphc-package`, so that a start costs one read.
    """
    resources = list(package())
    digest = hashlib.sha256(b"\n".join(dump(resource) for resource in resources)).hexdigest()
    if await _loaded(store) == digest:
        return 0
    context = WriteContext(
        actor="package",
        at=datetime.datetime.now(datetime.UTC),
        source="cn.cphc.core",
        deliveries=False,
    )
    mark = {
        "resourceType": "Basic",
        "id": MARK,
        "identifier": [{"system": f"{BASE}/package-digest", "value": digest}],
        "code": {"text": "cn.cphc.core"},
    }
    operations = [Update(resource=resource) for resource in (*resources, mark)]
    written = await store.write(operations, context=context)
    return sum(one.changed for one in written)


async def _loaded(store: Store) -> str | None:
    try:
        version = await store.read("Basic", MARK)
    except (NotFound, Gone):
        return None
    identifiers = parse(version.body).get("identifier", [{}])
    value: str | None = identifiers[0].get("value")
    return value
