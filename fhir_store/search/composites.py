"""Composites as nodes: the discrete parts stand in the key, the last part is compared."""

from collections.abc import Sequence

from conformance.search_parameters import SearchParameter
from fhir_store.keys import cached_key_of, key_of
from fhir_store.search import nodes as n
from fhir_store.search import values as v
from fhir_store.search.spans import date_span, quantity_span, start_and_end, text_of


def composite_node(
    parameter: SearchParameter,
    payload: list[str],
    prefixes: list[tuple[str, ...]],
    value: v.CompositeValue,
) -> n.Node:
    """Return the node of a composite: its discrete parts are in the key, the last is compared."""
    number = parameter.number
    if not prefixes:
        return n.NOTHING
    if not payload:
        return n.Keyed(tuple((key_of(number, "x", *prefix), None) for prefix in prefixes))
    last = value.parts[len(value.parts) - len(payload)]
    spans: list[n.Span] = []
    for prefix in prefixes:
        if isinstance(last, v.StringValue):
            continue
        if isinstance(last, v.DateValue):
            spans.append(date_span(cached_key_of(number, "xd", *prefix), last))
        elif isinstance(last, v.QuantityValue):
            spans.append(quantity_span(number, "xq", last, prefix))
        else:
            spans.append(start_and_end(cached_key_of(number, "xn", *prefix), value.parts[-2:]))
    if isinstance(last, v.StringValue):
        texts = (text_of(number, "prefix", last.text, prefix) for prefix in prefixes)
        return n.Texts(tuple(texts))
    table = "ix_date" if isinstance(last, v.DateValue) else "ix_num"
    return n.Ranged(table, tuple(spans))


def joined(ways: Sequence[n.Node]) -> list[n.Node]:
    """Join nodes of one kind into one node with more alternatives."""
    keyed = [e for way in ways if isinstance(way, n.Keyed) for e in way.entries]
    texts = [t for way in ways if isinstance(way, n.Texts) for t in way.texts]
    found: list[n.Node] = []
    if keyed:
        found.append(n.Keyed(tuple(dict.fromkeys(keyed))))
    if texts:
        found.append(n.Texts(tuple(texts)))
    for table in ("ix_date", "ix_num"):
        ranged = [w for w in ways if isinstance(w, n.Ranged) and w.table == table]
        spans = tuple(s for way in ranged for s in way.spans)
        if spans:
            found.append(n.Ranged(table, spans))
    return found
