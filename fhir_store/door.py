"""What all transactions of one store share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from fhir_store import statements
from fhir_store.changes import Index
from fhir_store.conditional import Match
from fhir_store.flush import Dictionaries
from fhir_store.index_rows import rows_of
from fhir_store.operations import Claim, Release, Written
from fhir_store.outbox import Delivery

ChooseDestinations = Callable[[Written], Sequence[Delivery]]
_BLOCK = 64  # the increment of rid_seq


Judge = Callable[[Written], Sequence[Claim | Release]]
"""What a change claims or gives up by its content; raises a Problem where it may not be."""
NO_LAWS: Mapping[str, Judge] = {}


def choose_none(_: Written) -> Sequence[Delivery]:
    """Owe nobody anything."""
    return ()


@dataclass(slots=True, kw_only=True)
class Door:
    """Wiring's choices and this process's caches; one per store."""

    choose_destinations: ChooseDestinations = choose_none
    match: Match | None = None
    index: Index = rows_of
    laws: Mapping[str, Judge] = field(default_factory=lambda: NO_LAWS)
    known: Dictionaries = field(default_factory=Dictionaries)
    numbers: list[int] = field(default_factory=list)

    async def take_numbers(self, connection: AsyncConnection[Any], count: int) -> Iterator[int]:
        """Reserve resource numbers: ascending, never used twice, gaps allowed."""
        while len(self.numbers) < count:
            blocks = (count - len(self.numbers) + _BLOCK - 1) // _BLOCK
            cursor = await connection.execute(statements.TAKE_NUMBERS, {"blocks": blocks})
            for (first,) in await cursor.fetchall():
                self.numbers.extend(range(first, first + _BLOCK))
        taken, self.numbers[:count] = self.numbers[:count], []
        return iter(taken)
