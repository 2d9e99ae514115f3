"""The rows a resource has in the search index, computed without the database.

`rows_of` gives the rows of the tables ix_token, ix_ref, ix_date, ix_num, ix_str and ix_gram without
their `rid`, which the writer adds, and what the dictionaries have to know beforehand.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import cache, lru_cache, partial
from itertools import islice, product
from typing import Any, NamedTuple

from conformance import ucum
from conformance.date_ranges import DEFAULT_ZONE
from conformance.index_converters import Context
from conformance.index_values import IndexValues, compile_walk, stored_walk_of
from conformance.search_parameters import SearchParameter, parameters_of
from conformance.text_folding import fold
from fhir_store.index_parts import (
    Sink,
    add_part,
    empty_sink,
    place_of,
    recall,
    remember,
)
from fhir_store.keys import (
    LONGEST_REMEMBERED,
    TEXT_SID,
    cached_key_of,
    grams_of,
    identifier_key,
    key_of,
    resource_key,
    system_number,
    text_check,
    url_key,
)

STRING_LENGTH = 500  # folded characters kept for string search; a B-tree row holds 2,700 bytes
MOST_COMBINATIONS = 1_000  # of the codes of one instance of a composite; no real one has as many
OPEN = float("inf")


class IndexRows(NamedTuple):
    """The index rows of one version, without order: the write door puts all it writes in one.

    tokens (h, sid); references (tgt, pid); dates (h, lo, hi) in µs UTC; numbers (h, lo, hi);
    strings (h, v, x) where x is a check of the unfolded text; grams: of each text its pairs of
    characters as the machine's 32-bit integers; present: ordinals for `pset`; codes (pid, sid,
    code, display) for code_dict; systems (sid, uri) for sysuri.
    """

    tokens: AbstractSet[tuple[int, int]]
    references: AbstractSet[tuple[int, int]]
    dates: AbstractSet[tuple[int, int, int]]
    numbers: AbstractSet[tuple[int, float, float]]
    strings: AbstractSet[tuple[int, str, int]]
    grams: AbstractSet[bytes]
    present: AbstractSet[int]
    codes: AbstractSet[tuple[int, int, str, str]]
    systems: AbstractSet[tuple[int, str]]


Emit = Callable[[list[Any], Sink], None]
StringRow = tuple[tuple[int, str, int], bytes]
UnitKeys = tuple[tuple[int, ...], tuple[int, Decimal] | None]
DictionaryRow = tuple[tuple[int, int], tuple[int, int, str]]


def rows_of(
    resource: Mapping[str, Any],
    *,
    custom: Sequence[SearchParameter] = (),
    zone: str = DEFAULT_ZONE,
    base_url: str = "",
) -> IndexRows:
    """Return the index rows of a resource.

    `custom` are further search parameters of its type, `zone` reads dates without a zone,
    references below `base_url` count as our own.
    """
    type_ = str(resource.get("resourceType"))
    walk, emitters = stored_walk_of(type_), _emitters_of(type_, tuple(custom))
    context = Context(resource=resource, zone=zone, base_url=base_url)
    is_usual = zone == DEFAULT_ZONE and not base_url
    sink, present = empty_sink(), list[int]()
    members = walk.root.children
    for name, value in resource.items():
        if name not in members:
            continue
        place = place_of(type_, name, value) if is_usual else None
        if place is None:
            _emit(walk.of_member(name, value, context), emitters, sink, present)
            continue
        part = recall(place)
        if part is None:
            rows, ordinals = empty_sink(), list[int]()
            _emit(walk.of_member(name, value, context), emitters, rows, ordinals)
            part = remember(place, rows, ordinals)
        add_part(part, sink, present)
    if walk.specials:
        _emit(walk.of_whole(context), emitters, sink, present)
    if custom:
        _emit(compile_walk(tuple(custom)).run(context), emitters, sink, present)
    return IndexRows(
        tokens=sink.tokens,
        references=sink.references,
        dates=sink.dates,
        numbers=sink.numbers,
        strings=sink.strings,
        grams=sink.grams,
        present=set(present),
        codes={(*place, display) for place, display in sink.codes.items()},
        systems={(system_number(uri), uri) for uri in sink.systems},
    )


def _emit(
    values: IndexValues, emitters: Mapping[str, tuple[int, Emit]], sink: Sink, present: list[int]
) -> None:
    for code, found in values.items():
        ordinal, emit = emitters[code]
        present.append(ordinal)
        if found:
            emit(found, sink)


@cache
def _emitters_of(type_: str, custom: tuple[SearchParameter, ...]) -> Mapping[str, tuple[int, Emit]]:
    try:
        parameters = dict(parameters_of(type_))
    except KeyError:
        parameters = {}
    parameters.update((parameter.code, parameter) for parameter in custom)
    return {code: (p.ordinal, _emitter(p)) for code, p in parameters.items()}


def _emitter(parameter: SearchParameter) -> Emit:
    emitters: dict[str, Callable[[SearchParameter, list[Any], Sink], None]] = {
        "token": _identifiers if parameter.holds_identifiers else _tokens,
        "string": _strings,
        "date": _dates,
        "number": _numbers,
        "quantity": _quantities,
        "reference": _references,
        "uri": _uris,
        "composite": _composites,
        "special": _positions,
    }
    return partial(emitters[parameter.type], parameter)


# --- the words both sides use --------------------------------------------------------------------


def code_word(code: str) -> str:
    """Return a code as compared: without case (search.html#token: "not case sensitive")."""
    return code.casefold()


def open_low(number: Any) -> float:
    """Return a lower end as stored; an absent one is open."""
    return -OPEN if number is None else float(number)


def open_high(number: Any) -> float:
    """Return an upper end as stored; an absent one is open."""
    return OPEN if number is None else float(number)


def unit_keys(
    number: int, kind: str, value: tuple[Any, Any, str, str, str], prefix: tuple[str, ...] = ()
) -> list[tuple[int, float, float]]:
    """Return the (h, lo, hi) rows of a quantity: without unit, by unit, and made comparable."""
    low, high, system, code, unit = value
    bottom, top = open_low(low), open_high(high)
    is_short = sum(map(len, (system, code, unit, *prefix))) <= LONGEST_REMEMBERED
    keys_of = _remembered_unit_keys if is_short else _unit_keys
    keys, scaled = keys_of(number, kind, system, code, unit, prefix)
    rows = [(key, bottom, top) for key in keys]
    if scaled is not None:
        key, factor = scaled
        low, high = (None if end is None else end * factor for end in (low, high))
        rows.append((key, open_low(low), open_high(high)))
    return rows


@lru_cache(maxsize=16384)
def _remembered_unit_keys(
    number: int, kind: str, system: str, code: str, unit: str, prefix: tuple[str, ...]
) -> UnitKeys:
    return _unit_keys(number, kind, system, code, unit, prefix)


def _unit_keys(
    number: int, kind: str, system: str, code: str, unit: str, prefix: tuple[str, ...]
) -> UnitKeys:
    """Return the keys of a quantity as it stands, and the key and factor of its canonical unit."""
    keys = [cached_key_of(number, kind, *prefix)]
    keys += [cached_key_of(number, f"{kind}u", *prefix, word) for word in {code, unit} if word]
    canonical = ucum.canonical(code) if system == ucum.SYSTEM and code else None
    if canonical is not None:
        dimension, factor = canonical
        return tuple(keys), (cached_key_of(number, f"{kind}c", *prefix, dimension), factor)
    if system and code:
        keys.append(cached_key_of(number, f"{kind}s", *prefix, system, code))
    return tuple(keys), None


def string_row(number: int, text: str, prefix: tuple[str, ...] = ()) -> StringRow:
    """Return the (h, v, x) of a string, and its grams."""
    if len(text) + sum(map(len, prefix)) > LONGEST_REMEMBERED:
        return _string_row(number, text, prefix)
    return _remembered_string_row(number, text, prefix)


@lru_cache(maxsize=65536)
def _remembered_string_row(number: int, text: str, prefix: tuple[str, ...]) -> StringRow:
    return _string_row(number, text, prefix)


def _string_row(number: int, text: str, prefix: tuple[str, ...]) -> StringRow:
    folded = fold(text)[:STRING_LENGTH]
    row = cached_key_of(number, "v", *prefix), folded, text_check(text)
    return row, grams_of(number, folded).tobytes()


# --- rows by parameter type ----------------------------------------------------------------------


def _tokens(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    number = parameter.number
    for system, code, text, _ in found:
        if code is not None:
            is_short = len(code) <= LONGEST_REMEMBERED >= len(system)
            row, place = (_remembered_code_row if is_short else _code_row)(number, system, code)
            sink.tokens.add(row)
            if place not in sink.codes:
                sink.codes[place] = text
            if system:
                sink.systems.add(system)
        if text:
            _text(number, text, sink)


@lru_cache(maxsize=65536)  # codes and their texts come again and again
def _remembered_code_row(number: int, system: str, code: str) -> DictionaryRow:
    return _code_row(number, system, code)


def _code_row(number: int, system: str, code: str) -> DictionaryRow:
    """Return the (h, sid) of a code and its place in code_dict."""
    word, sid = code_word(code), system_number(system)
    return (cached_key_of(number, "c", word), sid), (number, sid, word)


def _text(number: int, text: str, sink: Sink) -> None:
    is_short = len(text) <= LONGEST_REMEMBERED
    row, place = (_remembered_text_row if is_short else _text_row)(number, text)
    sink.tokens.add(row)
    sink.codes[place] = ""


@lru_cache(maxsize=65536)
def _remembered_text_row(number: int, text: str) -> DictionaryRow:
    return _text_row(number, text)


def _text_row(number: int, text: str) -> DictionaryRow:
    """Return the (h, sid) of a text and its place in code_dict."""
    folded = fold(text)[:STRING_LENGTH]
    return (cached_key_of(number, "t", folded), 0), (number, TEXT_SID, folded)


def _identifiers(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    number = parameter.number
    for system, value, text, types in found:
        sid = system_number(system)
        if system:
            sink.tokens.add((cached_key_of(number, "s", system), sid))
            sink.systems.add(system)
        if isinstance(value, str):
            sink.tokens.add((identifier_key(number, value), sid))
            sink.strings.add((cached_key_of(number, "k"), value[:STRING_LENGTH], 0))
            for type_system, type_code in types:
                key = key_of(number, "o", type_code, value)
                sink.tokens.add((key, system_number(type_system)))
                if type_system:
                    sink.systems.add(type_system)
        if text:
            _text(number, text, sink)


def _strings(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    _add_strings(parameter.number, found, (), sink)


def _add_strings(number: int, texts: list[str], prefix: tuple[str, ...], sink: Sink) -> None:
    for text in texts:
        row, grams = string_row(number, text, prefix)
        sink.strings.add(row)
        if grams:
            sink.grams.add(grams)


def _dates(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    key = cached_key_of(parameter.number, "d")
    sink.dates.update((key, low, high) for low, high in found)


def _numbers(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    key = cached_key_of(parameter.number, "n")
    sink.numbers.update((key, open_low(low), open_high(high)) for low, high in found)


def _quantities(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    for value in found:
        sink.numbers.update(unit_keys(parameter.number, "q", value))


def _references(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    number = parameter.number
    for kind, first, second in found:
        if kind == "identifier":
            sink.tokens.add((key_of(number, "i", second), system_number(first)))
            if first:
                sink.systems.add(first)
        elif not parameter.stored_as:
            sink.references.add((target_of(kind, first, second), number))


def target_of(kind: str, first: str, second: str) -> int:
    """Return the `tgt` of a reference value."""
    return resource_key(first, second) if kind == "literal" else url_key(first)


def _uris(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    number = parameter.number
    for uri in found:
        sink.tokens.add((cached_key_of(number, "c", uri), 0))
        sink.codes[(number, 0, uri)] = ""


def _positions(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    for latitude, longitude in found:
        for kind, degrees in (("lat", latitude), ("lon", longitude)):
            sink.numbers.add((cached_key_of(parameter.number, kind), degrees, degrees))


def _composites(parameter: SearchParameter, found: list[Any], sink: Sink) -> None:
    kinds = [component.type for component in parameter.components]
    discrete = [kind for kind in kinds if kind in ("token", "reference", "uri")]
    payload = kinds[len(discrete) :]
    for instance in found:
        words = [
            [component_word(kind, value) for value in values]
            for kind, values in zip(discrete, instance, strict=False)
        ]
        combinations = product(*([w for w in group if w] for group in words))
        for prefix in islice(combinations, MOST_COMBINATIONS):
            _payload(parameter.number, prefix, payload, instance[len(discrete) :], sink)


def component_word(kind: str, value: Any) -> str:
    """Return a discrete component as it enters a composite's key; empty if it has no code."""
    if kind == "token":
        system, code, _, _ = value
        return "" if code is None else f"{system_number(system)}|{code_word(code)}"
    if kind == "reference":
        return str(target_of(*value)) if value[0] != "identifier" else ""
    return str(value)


def _payload(
    number: int, prefix: tuple[str, ...], kinds: list[str], values: Sequence[Any], sink: Sink
) -> None:
    """Add the rows of one combination: the last components are compared, not matched."""
    if not kinds:
        sink.tokens.add((key_of(number, "x", *prefix), 0))
    elif kinds == ["quantity"]:
        for value in values[0]:
            sink.numbers.update(unit_keys(number, "xq", value, prefix))
    elif kinds == ["date"]:
        key = cached_key_of(number, "xd", *prefix)
        sink.dates.update((key, low, high) for low, high in values[0])
    elif kinds == ["string"]:
        _add_strings(number, values[0], prefix, sink)
    elif kinds == ["number", "number"]:  # a start and an end: one row holds both
        key = cached_key_of(number, "xn", *prefix)
        for (low, _), (_, high) in product(*values):
            sink.numbers.add((key, open_low(low), open_high(high)))
