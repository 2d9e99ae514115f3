"""The `cphc` package's resources, loaded at start as ordinary resources."""

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import replace

from care.effects import Resource
from care.package.publishing import is_published, pins_of_published
from conformance.cphc import BASE
from conformance.cphc.artefacts import package
from conformance.problem import Gone, NotFound
from conformance.resource_json import dump, parse
from fhir_store.operations import Update, WriteContext
from fhir_store.permits import conditions_of
from fhir_store.search.query import SearchQuery
from fhir_store.store import Store
from ops.partner_maps import partner_maps
from routes.operations.contract_writing import operation_of

MARK = "cphc-package"
_PACKAGE = "PlanDefinition"
_PAGE = 1000


async def load_package(store: Store) -> int:
    """Write the package's resources unless these very ones were written; returns how many changed.

    The code tables of partners, which the maps read, stand beside it as ConceptMaps.

    What was loaded last is noted in `Basic/cphc-package`, so that a start costs one read.
    """
    resources = [*package(), *partner_maps()]
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
    kept = await _published(store, resources)
    operations = [
        Update(resource=one)
        for one in (*resources, mark)
        if (one["resourceType"], one["id"]) not in kept
    ]
    written = await store.write(operations, context=context)
    return sum(one.changed for one in written)


async def pin_published(store: Store) -> int:
    """Claim the items of every published package; returns how many packages there are.

    Each publication does so itself; this is for those published before that, or written past it.
    """
    plans: list[Resource] = []
    conditions = conditions_of(_PACKAGE, [("status", "active,retired")])
    query = SearchQuery(types=(_PACKAGE,), conditions=conditions, count=_PAGE)
    while True:
        page = await store.search(query)
        plans += filter(is_published, (parse(version.body) for version in page.matches))
        if page.next is None:
            break
        query = replace(query, cursor=page.next)
    claims = [operation_of(claim) for plan in plans for claim in pins_of_published(plan)]
    if claims:
        context = WriteContext(actor="package", at=datetime.datetime.now(datetime.UTC))
        await store.write(claims, context=context)
    return len(plans)


async def _published(store: Store, resources: Sequence[Resource]) -> set[tuple[str, str]]:
    """Return the packages that were published here: contracts have pinned them as they are."""
    keys = [(kind, one["id"]) for one in resources if (kind := one["resourceType"]) == _PACKAGE]
    async with store.begin() as transaction:
        known = await transaction.read_current(keys)
    return {key for key, one in known.items() if is_published(one)}


async def _loaded(store: Store) -> str | None:
    try:
        version = await store.read("Basic", MARK)
    except (NotFound, Gone):
        return None
    identifiers = parse(version.body).get("identifier", [{}])
    value: str | None = identifiers[0].get("value")
    return value
