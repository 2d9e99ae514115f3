"""How often something costly may be asked for in a day, counted by what it left in the record."""

import datetime
from collections.abc import Sequence

from care.periods import day_of
from fhir_store.permits import conditions_of
from fhir_store.search.query import SearchQuery
from fhir_store.transaction import Transaction
from routes.hub import Hub


async def is_spent(
    hub: Hub,
    transaction: Transaction,
    type_: str,
    asked: Sequence[tuple[str, str]],
    *,
    date: str,
    most: int,
) -> bool:
    """Say whether a search finds `most` resources of today; `date` is its parameter of the day."""
    today = day_of(datetime.datetime.now(datetime.UTC))
    pairs = [*asked, (date, f"ge{today.isoformat()}")]
    query = SearchQuery(types=(type_,), conditions=conditions_of(type_, pairs), count=most)
    page = await hub.store.searcher.search(transaction.connection, query)
    return len(page.matches) >= most
