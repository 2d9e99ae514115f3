"""`:below` and `:above` of references: what is part of what, through as many levels as there are.

http://hl7.org/fhir/R4/search.html#recursive. A level is passed only where the caller may see the
resource that says what it is part of.
"""

from collections.abc import Sequence

from conformance.search_parameters import SearchParameter, resource_types, type_number
from fhir_store.code_dictionary import CodeDictionary
from fhir_store.keys import resource_key
from fhir_store.search import nodes as n
from fhir_store.search import values as v
from fhir_store.search.condition_parser import Lookup, parent_parameter
from fhir_store.search.parameter_rows import row_numbers
from fhir_store.search.sql import Sql, probe

# below: the keys themselves and all that is part of them
_BELOW = """
WITH RECURSIVE found(rkey) AS (
  SELECT unnest({keys})
   UNION
  SELECT r.rkey FROM found u JOIN ix_ref f ON f.tgt = u.rkey AND f.pid = ANY({pids})
    JOIN resource r ON r.rid = f.rid AND NOT r.del AND r.tid = {tid}{right})
SELECT rkey FROM found LIMIT {limit}"""
# above: the keys themselves and all that they are part of
_ABOVE = """
WITH RECURSIVE found(rkey) AS (
  SELECT unnest({keys})
   UNION
  SELECT f.tgt FROM found u
    JOIN resource r ON r.rkey = u.rkey AND NOT r.del AND r.tid = {tid}{right}
    JOIN ix_ref f ON f.rid = r.rid AND f.pid = ANY({pids}))
SELECT rkey FROM found LIMIT {limit}"""


def hierarchical_targets(
    parameter: SearchParameter, value: v.ReferenceValue, lookup: Lookup
) -> list[tuple[str, int]]:
    """Return (type, key) of what a value may name, of types whose resources are part of others."""
    if value.kind == "literal":
        return [(value.first, resource_key(value.first, value.second))]
    if value.kind != "id":
        return []
    types = [t for t in parameter.targets if t in resource_types() and parent_parameter(t, lookup)]
    return [(type_, resource_key(type_, value.second)) for type_ in types]


async def related_keys(
    dictionary: CodeDictionary,
    relation: str,
    type_: str,
    keys: Sequence[int],
    right: n.Node | None,
    lookup: Lookup,
) -> list[int]:
    """Return the keys of a type with all below or above them; TooCostly where they are too many."""
    parent = parent_parameter(type_, lookup)
    if parent is None or right == n.NOTHING:
        return list(keys)
    sql = Sql()
    statement = (_BELOW if relation == "below" else _ABOVE).format(
        keys=sql.int8s(tuple(keys)),
        pids=sql.int4s(row_numbers(parent)),
        tid=sql.int4(type_number(type_)),
        right="" if right is None else f" AND {probe(right, 'r.rid', sql)}",
        limit="%(limit)s",
    )
    return [row[0] for row in await dictionary.ask(statement, **sql.values)]
