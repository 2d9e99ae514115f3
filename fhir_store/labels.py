"""Which profiles, tags and security labels are in use, by type."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from conformance.search_parameters import parameters_of
from fhir_store.arrays import Int4s
from fhir_store.index_rows import code_word

PARAMETERS = {"profile": "_profile", "security": "_security", "tag": "_tag"}
"""Element of Meta -> the search parameter that finds resources by it."""

# labels_in_use: what was ever written under these parameters; 0 stands for no system
LABELS_IN_USE = """
SELECT d.pid, coalesce(s.uri, ''), d.code
  FROM code_dict d LEFT JOIN sysuri s ON s.sid = d.sid AND d.sid <> 0
 WHERE d.pid = ANY(%(pids)b::int4[]) AND d.sid >= 0
 ORDER BY 2, 3, 1 LIMIT %(limit)s"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A profile (`code` is its canonical), tag or security label of some resources of a type.

    A code is as searches compare it, without case.
    """

    element: str
    type: str
    system: str
    code: str

    def is_written_as(self, label: Any) -> bool:
        """Say whether a value of the element (a canonical, a Coding) is this label."""
        if self.element == "profile":
            return bool(label == self.code)
        system, code = label.get("system", ""), code_word(label.get("code", ""))
        return (system, code) == (self.system, self.code)


async def labels_in_use(
    connection: AsyncConnection[Any], types: Iterable[str], *, limit: int
) -> list[Label]:
    """Return the labels that resources of the types have or had, `limit` at most, in order."""
    places = {
        parameters_of(type_)[code].number: (element, type_)
        for type_ in types
        for element, code in PARAMETERS.items()
    }
    values = {"pids": Int4s(places), "limit": limit}
    cursor = await connection.execute(LABELS_IN_USE.encode(), values)
    return [
        Label(element=places[pid][0], type=places[pid][1], system=system, code=code)
        for pid, system, code in await cursor.fetchall()
    ]
