"""Comparisons as spans over the columns lo and hi, and texts over folded strings.

http://hl7.org/fhir/R4/search.html#prefix
"""

from collections.abc import Sequence
from typing import Any

from conformance import ucum
from conformance.text_folding import fold
from fhir_store.index_rows import STRING_LENGTH
from fhir_store.keys import cached_key_of, grams_of, text_check
from fhir_store.search import nodes as n
from fhir_store.search import values as v


def text_of(number: int, kind: str, text: str, prefix: tuple[str, ...] = ()) -> n.Text:
    """Return the comparison with a string."""
    folded = fold(text)[:STRING_LENGTH]
    return n.Text(
        h=cached_key_of(number, "v", *prefix),
        kind=kind,
        folded=folded,
        check=text_check(text) if kind == "exact" else 0,
        grams=tuple(grams_of(number, folded)) if kind == "contains" else (),
    )


def date_span(h: int, value: v.DateValue) -> n.Span:
    """Return the span of a date comparison (search.html#prefix), on inclusive ranges."""
    low, high = value.low, value.high
    match value.prefix:
        case "eq":
            return n.Span(h=h, column="lo", low=low, high=high, also="{hi} <= {}", numbers=(high,))
        case "ne":
            also = "{hi} > {} OR {lo} < {}"
            return n.Span(h=h, column="lo", also=also, numbers=(high, low))
        case "gt":
            return n.Span(h=h, column="hi", low=high, is_low_open=True)
        case "lt":
            return n.Span(h=h, column="lo", high=low, is_high_open=True)
        case "ge":
            also = "{hi} > {} OR {lo} >= {}"
            return n.Span(h=h, column="hi", low=low, also=also, numbers=(high, low))
        case "le":
            also = "{lo} < {} OR {hi} <= {}"
            return n.Span(h=h, column="lo", high=high, also=also, numbers=(low, high))
        case "sa":
            return n.Span(h=h, column="lo", low=high, is_low_open=True)
        case "eb":
            return n.Span(h=h, column="hi", high=low, is_high_open=True)
        case _:
            return n.Span(h=h, column="lo", high=high, also="{hi} >= {}", numbers=(low,))


def number_span(h: int, value: v.NumberValue, factor: Any = 1) -> n.Span:
    """Return the span of a number comparison; only eq, ne and ap know a precision."""
    number, low, high = (float(end * factor) for end in (value.number, value.low, value.high))
    match value.prefix:
        case "eq":
            also = "{hi} < {}"
            return n.Span(
                h=h, column="lo", low=low, high=high, is_high_open=True, also=also, numbers=(high,)
            )
        case "ne":
            return n.Span(h=h, column="lo", also="{lo} < {} OR {hi} >= {}", numbers=(low, high))
        case "gt":
            return n.Span(h=h, column="hi", low=number, is_low_open=True)
        case "lt":
            return n.Span(h=h, column="lo", high=number, is_high_open=True)
        case "ge":
            return n.Span(h=h, column="hi", low=number)
        case "le":
            return n.Span(h=h, column="lo", high=number)
        case "sa":
            return n.Span(h=h, column="lo", low=number, is_low_open=True)
        case "eb":
            return n.Span(h=h, column="hi", high=number, is_high_open=True)
        case _:
            return n.Span(h=h, column="lo", high=high, also="{hi} >= {}", numbers=(low,))


def quantity_span(
    number: int, kind: str, value: v.QuantityValue, prefix: tuple[str, ...]
) -> n.Span:
    """Return the span of a quantity: without unit, in any comparable unit, or by its code."""
    if not value.code:
        return number_span(cached_key_of(number, kind, *prefix), value.number)
    if value.system is None:
        return number_span(cached_key_of(number, f"{kind}u", *prefix, value.code), value.number)
    if value.system == ucum.SYSTEM:
        canonical = ucum.canonical(value.code)
        if canonical is not None:
            dimension, factor = canonical
            key = cached_key_of(number, f"{kind}c", *prefix, dimension)
            return number_span(key, value.number, factor)
    key = cached_key_of(number, f"{kind}s", *prefix, value.system, value.code)
    return number_span(key, value.number)


def start_and_end(h: int, ends: Sequence[v.Value]) -> n.Span:
    """Return one span for a start and an end that one row holds as lo and hi."""
    start, end = ends
    assert isinstance(start, v.NumberValue)
    assert isinstance(end, v.NumberValue)
    first, numbers = _point_test("{lo}", start)
    second, more = _point_test("{hi}", end)
    return n.Span(h=h, column="lo", also=f"({first}) AND ({second})", numbers=(*numbers, *more))


def _point_test(column: str, value: v.NumberValue) -> tuple[str, tuple[float, ...]]:
    number, low, high = float(value.number), float(value.low), float(value.high)
    signs = {"gt": ">", "sa": ">", "lt": "<", "eb": "<", "ge": ">=", "le": "<="}
    if value.prefix in signs:
        return f"{column} {signs[value.prefix]} {{}}", (number,)
    if value.prefix == "ne":
        return f"{column} < {{}} OR {column} >= {{}}", (low, high)
    if value.prefix == "ap":
        return f"{column} >= {{}} AND {column} <= {{}}", (low, high)
    return f"{column} >= {{}} AND {column} < {{}}", (low, high)
