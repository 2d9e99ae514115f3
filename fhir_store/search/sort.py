"""`_sort`: what its keys are sorted by; http://hl7.org/fhir/R4/search.html#sort."""

from fhir_store.keys import cached_key_of
from fhir_store.search.parameter_rows import row_numbers, stored_parameters
from fhir_store.search.plan import SortColumn
from fhir_store.search.query import SortKey
from fhir_store.search.value_nodes import ValueCompiler


async def sort_column(key: SortKey, values: ValueCompiler) -> SortColumn:
    """Return a key of `_sort` in SQL terms; codes are sorted by those in use."""
    down = key.is_descending
    if key.code == "_lastUpdated":
        return SortColumn(kind="lu", is_descending=down)
    if key.code == "_id":
        return SortColumn(kind="fid", is_descending=down)
    stored = [one for p in key.parameters for one in stored_parameters(p, values.lookup)]
    kind = stored[0].type
    letter = {"date": "d", "number": "n", "quantity": "q", "string": "v"}.get(kind)
    if stored[0].holds_identifiers:
        kind, letter = "string", "k"
    if letter is not None:
        table = "number" if kind == "quantity" else kind
        hs = tuple(cached_key_of(one.number, letter) for one in stored)
        return SortColumn(kind=table, is_descending=down, hs=hs)
    if kind == "reference":
        pids = tuple(pid for p in key.parameters for pid in row_numbers(p))
        return SortColumn(kind="reference", is_descending=down, pids=pids)
    found = await values.dictionary.every_code([one.number for one in stored])
    pairs = sorted({(cached_key_of(pid, "c", code), code) for pid, _, code in found})
    hs, words = tuple(h for h, _ in pairs), tuple(word for _, word in pairs)
    return SortColumn(kind="code", is_descending=down, hs=hs, words=words)
