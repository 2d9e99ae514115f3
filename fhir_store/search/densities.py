"""How much some conditions match, remembered for a minute: only ever a hint for plans."""

import time
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from fhir_store.search import nodes as n
from fhir_store.search.links import FRUITFUL
from fhir_store.search.page import density_statement
from fhir_store.search.sets import is_gatherable
from fhir_store.search.sql import Sql

Connection = AsyncConnection[Any]
RARE = 300  # a key with so few resources drives, whatever else is asked
_REMEMBER = 60.0  # seconds a density is believed


class Densities:
    """What one process knows of the keys it was asked for lately."""

    def __init__(self, limit: int = 20_000) -> None:
        self._known: dict[n.Node, tuple[float, int]] = {}
        self._fruitful: dict[n.Node, tuple[float, bool]] = {}
        self._limit = limit

    async def counts(self, connection: Connection, parts: Sequence[n.Node]) -> dict[n.Node, int]:
        """Return how many match each candidate; what a rare key makes needless is not counted."""
        candidates = [part for part in parts if is_gatherable(part)]
        keys = [part for part in candidates if isinstance(part, n.Keyed | n.Referring | n.Named)]
        counts = await self._counts_of(connection, keys)
        if min(counts.values(), default=RARE + 1) > RARE:
            rest = [part for part in candidates if part not in counts]
            counts.update(await self._counts_of(connection, rest))
        return counts

    def is_fruitful(self, node: n.Node) -> bool | None:
        """Say whether reading a node from its own end soon fills a page; None is unknown."""
        found = self._fruitful.get(node)
        return found[1] if found and found[0] > time.monotonic() else None

    def learn(self, node: n.Node, met: int) -> None:
        """Remember what a look at a node came to, which met so many resources and left others.

        The first sources of a link may lead to few; what contains a text is met as it is found.
        """
        if len(self._fruitful) >= self._limit:
            self._fruitful.clear()
        is_link = isinstance(node, n.Chained | n.Pointed)
        verdict = not is_link or met >= FRUITFUL
        self._fruitful[node] = (time.monotonic() + _REMEMBER, verdict)

    async def _counts_of(
        self, connection: Connection, nodes: Sequence[n.Node]
    ) -> dict[n.Node, int]:
        counts: dict[n.Node, int] = {}
        unknown: list[n.Node] = []
        for node in nodes:
            known = self._get(node)
            if known is None:
                unknown.append(node)
            else:
                counts[node] = known
        if unknown:
            sql = Sql(is_sampling=True)
            statement = density_statement(unknown, sql)
            cursor = await connection.execute(statement.encode(), sql.values)
            rows = await cursor.fetchall()
            for node, count in zip(unknown, rows[0], strict=True):
                counts[node] = count
                self._learn_count(node, count)
        return counts

    def _get(self, node: n.Node) -> int | None:
        found = self._known.get(node)
        return found[1] if found and found[0] > time.monotonic() else None

    def _learn_count(self, node: n.Node, count: int) -> None:
        """Remember a count that is worth remembering: of many, or of one code."""
        if count > RARE or (isinstance(node, n.Keyed) and len(node.entries) == 1):
            if len(self._known) >= self._limit:
                self._known.clear()
            self._known[node] = (time.monotonic() + _REMEMBER, count)
