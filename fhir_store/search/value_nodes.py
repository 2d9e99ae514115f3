"""Values turned into nodes: the keys, ranges and texts that index rows have.

The dictionary of codes in use and the terminology are asked where a value stands for many codes.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import product

from conformance.index_converters import contact_value
from conformance.search_parameters import SearchParameter, resource_types
from conformance.text_folding import fold
from fhir_store.code_dictionary import CodeDictionary
from fhir_store.index_rows import STRING_LENGTH, code_word
from fhir_store.keys import (
    TEXT_SID,
    cached_key_of,
    key_of,
    resource_key,
    system_number,
    url_key,
)
from fhir_store.search import nodes as n
from fhir_store.search import query as q
from fhir_store.search import values as v
from fhir_store.search.composites import composite_node, joined
from fhir_store.search.parameter_rows import stored_parameters
from fhir_store.search.spans import date_span, number_span, quantity_span, text_of
from fhir_store.search.sql import after_prefix

Terminology = Callable[[str, str], Awaitable[Sequence[tuple[str, str]]]]
"""(relation, value) -> (system, code) pairs. Relation "in": value is a value set's address;
"below" and "above": value is `system|code`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueCompiler:
    """What turning values into keys needs: dictionary, terminology, parameters."""

    dictionary: CodeDictionary
    terminology: Terminology
    lookup: q.Lookup

    async def node_of(self, test: q.ValueTest) -> n.Node:
        """Return the node of a value test on resources of its parameters' types."""
        parts = []
        for parameter in test.parameters:
            stored = stored_parameters(parameter, self.lookup)
            parts.append(await _TESTS[parameter.type](self, test, parameter, stored))
        return n.some(*parts)

    # --- token ---------------------------------------------------------------------------------

    async def _tokens(
        self, test: q.ValueTest, parameter: SearchParameter, stored: tuple[SearchParameter, ...]
    ) -> n.Node:
        entries: list[tuple[int, int | None]] = []
        numbers = [one.number for one in stored]
        for value in test.values:
            assert isinstance(value, v.TokenValue)
            if test.modifier == "text":
                entries += await self._texts(numbers, value.code or "")
            elif test.modifier in ("in", "below", "above"):
                entries += await self._expanded(numbers, test, value)
            elif test.modifier == "of-type":
                sid = system_number(value.system) if value.system else None
                keys = (key_of(pid, "o", value.code or "", value.value) for pid in numbers)
                entries += [(key, sid) for key in keys]
            elif value.code is None:
                entries += await self._of_system(stored, value.system or "")
            else:
                entries += token_entries(stored, value.system, value.code)
        return n.Keyed(tuple(dict.fromkeys(entries))) if entries else n.NOTHING

    async def _texts(self, numbers: list[int], text: str) -> list[tuple[int, int | None]]:
        prefix = fold(text)[:STRING_LENGTH]
        found = await self.dictionary.from_prefix(numbers, TEXT_SID, prefix, after_prefix(prefix))
        return [(cached_key_of(pid, "t", word), None) for pid, _, word in found]

    async def _expanded(
        self, numbers: list[int], test: q.ValueTest, value: v.TokenValue
    ) -> list[tuple[int, int | None]]:
        asked = value.code or ""
        if test.modifier != "in":
            asked = f"{value.system or ''}|{asked}"
        pairs = await self.terminology(test.modifier, asked)
        codes = [(system_number(system), code_word(code)) for system, code in pairs]
        found = await self.dictionary.among(numbers, codes)
        return [(cached_key_of(pid, "c", code), sid) for pid, sid, code in found]

    async def _of_system(
        self, stored: tuple[SearchParameter, ...], system: str
    ) -> list[tuple[int, int | None]]:
        entries: list[tuple[int, int | None]] = []
        sid = system_number(system)
        listed = [one.number for one in stored if not one.holds_identifiers]
        for one in stored:
            if one.holds_identifiers:
                entries.append((cached_key_of(one.number, "s", system), sid))
        if listed:
            found = await self.dictionary.of_systems(listed, [sid])
            entries += [(cached_key_of(pid, "c", code), sid) for pid, _, code in found]
        return entries

    # --- reference -----------------------------------------------------------------------------

    async def _references(
        self, test: q.ValueTest, parameter: SearchParameter, stored: tuple[SearchParameter, ...]
    ) -> n.Node:
        if test.modifier == "identifier":
            return _logical(test, parameter)
        pids = [one.number for one in stored]
        targets: list[int] = []
        for value in test.values:
            assert isinstance(value, v.ReferenceValue)
            targets += reference_targets(parameter, value)
        entries = tuple(dict.fromkeys(product(targets, pids)))
        return n.Referring(entries) if entries else n.NOTHING

    # --- uri -----------------------------------------------------------------------------------

    async def _uris(
        self, test: q.ValueTest, parameter: SearchParameter, stored: tuple[SearchParameter, ...]
    ) -> n.Node:
        entries: list[tuple[int, int | None]] = []
        numbers = [one.number for one in stored]
        for value in test.values:
            assert isinstance(value, v.UriValue)
            if test.modifier == "below":
                low = value.uri
                found = await self.dictionary.from_prefix(numbers, 0, low, after_prefix(low))
                inside = (w for w in found if is_below(w[2], low))
                entries += [(cached_key_of(pid, "c", word), None) for pid, _, word in inside]
                continue
            words = uris_above(value.uri) if test.modifier == "above" else [value.uri]
            entries += [(key_of(pid, "c", word), None) for pid in numbers for word in words]
        return n.Keyed(tuple(dict.fromkeys(entries))) if entries else n.NOTHING

    # --- the ordered types -----------------------------------------------------------------------

    async def _strings(
        self, test: q.ValueTest, parameter: SearchParameter, stored: tuple[SearchParameter, ...]
    ) -> n.Node:
        kind = test.modifier or "prefix"
        texts = []
        for one, value in product(stored, test.values):
            assert isinstance(value, v.StringValue)
            texts.append(text_of(one.number, kind, value.text))
        return n.Texts(tuple(texts))

    async def _dates(
        self, test: q.ValueTest, parameter: SearchParameter, stored: tuple[SearchParameter, ...]
    ) -> n.Node:
        spans = []
        for one, value in product(stored, test.values):
            assert isinstance(value, v.DateValue)
            spans.append(date_span(cached_key_of(one.number, "d"), value))
        return n.Ranged("ix_date", tuple(spans))

    async def _numbers(
        self, test: q.ValueTest, parameter: SearchParameter, stored: tuple[SearchParameter, ...]
    ) -> n.Node:
        spans = []
        for one, value in product(stored, test.values):
            assert isinstance(value, v.NumberValue)
            spans.append(number_span(cached_key_of(one.number, "n"), value))
        return n.Ranged("ix_num", tuple(spans))

    async def _quantities(
        self, test: q.ValueTest, parameter: SearchParameter, stored: tuple[SearchParameter, ...]
    ) -> n.Node:
        spans = []
        for one, value in product(stored, test.values):
            assert isinstance(value, v.QuantityValue)
            spans.append(quantity_span(one.number, "q", value, ()))
        return n.Ranged("ix_num", tuple(spans))

    async def _positions(
        self, test: q.ValueTest, parameter: SearchParameter, stored: tuple[SearchParameter, ...]
    ) -> n.Node:
        ways: list[n.Node] = []
        for value in test.values:
            assert isinstance(value, v.NearValue)
            ways.append(
                n.Near(
                    latitude_key=cached_key_of(parameter.number, "lat"),
                    longitude_key=cached_key_of(parameter.number, "lon"),
                    latitude=value.latitude,
                    longitude=value.longitude,
                    kilometres=value.kilometres,
                )
            )
        return n.some(*ways)

    # --- composite -----------------------------------------------------------------------------

    async def _composites(
        self, test: q.ValueTest, parameter: SearchParameter, stored: tuple[SearchParameter, ...]
    ) -> n.Node:
        ways = []
        for one, value in product(stored, test.values):
            assert isinstance(value, v.CompositeValue)
            ways.append(await self._composite(one, value))
        return n.some(*joined(ways))

    async def _composite(self, parameter: SearchParameter, value: v.CompositeValue) -> n.Node:
        kinds = [component.type for component in parameter.components]
        discrete = [kind for kind in kinds if kind in ("token", "reference", "uri")]
        words = [
            await self._component_words(parameter, index, value.parts[index])
            for index in range(len(discrete))
        ]
        prefixes = list(product(*words))
        return composite_node(parameter, kinds[len(discrete) :], prefixes, value)

    async def _component_words(
        self, parameter: SearchParameter, index: int, value: v.Value
    ) -> list[str]:
        """Return the words under which a discrete component may stand in the key."""
        component = parameter.components[index]
        if isinstance(value, v.UriValue):
            return [value.uri]
        own = self.lookup(parameter.base).get(component.code)
        if isinstance(value, v.ReferenceValue):
            by = own if own is not None and own.type == "reference" else parameter
            return [str(target) for target in reference_targets(by, value)]
        assert isinstance(value, v.TokenValue)
        if value.system is not None and value.code is not None:
            return [f"{system_number(value.system)}|{code_word(value.code)}"]
        listed = [] if own is None else [p.number for p in stored_parameters(own, self.lookup)]
        if value.code is None:
            found = await self.dictionary.of_systems(listed, [system_number(value.system or "")])
        else:
            found = await self.dictionary.systems_of(listed, [code_word(value.code)])
        return list(dict.fromkeys(f"{sid}|{code}" for _, sid, code in found))


_Tester = Callable[
    [ValueCompiler, q.ValueTest, SearchParameter, tuple[SearchParameter, ...]], Awaitable[n.Node]
]
_TESTS: dict[str, _Tester] = {
    "token": ValueCompiler._tokens,
    "string": ValueCompiler._strings,
    "date": ValueCompiler._dates,
    "number": ValueCompiler._numbers,
    "quantity": ValueCompiler._quantities,
    "reference": ValueCompiler._references,
    "uri": ValueCompiler._uris,
    "composite": ValueCompiler._composites,
    "special": ValueCompiler._positions,
}


def token_entries(
    stored: Sequence[SearchParameter], system: str | None, code: str
) -> list[tuple[int, int | None]]:
    """Return the (h, sid) of `code`, `system|code` or `|code` under each parameter."""
    entries: list[tuple[int, int | None]] = []
    for one in stored:
        words = {code if one.holds_identifiers else code_word(code)}
        if _holds_contacts(one):
            words.add(code_word(contact_value(code)))
        sids: list[int | None] = [None if system is None else system_number(system)]
        if system == "":  # a bare code's system is implied, not written
            sids += [system_number(implied) for implied in one.systems]
        entries += [(key_of(one.number, "c", word), sid) for word in words for sid in sids]
    return entries


def _holds_contacts(parameter: SearchParameter) -> bool:
    return any(place.datatype == "ContactPoint" for place in parameter.places or ())


def reference_targets(parameter: SearchParameter, value: v.ReferenceValue) -> list[int]:
    """Return the `tgt` keys a value stands for; a bare id may be of each allowed type."""
    targets = parameter.targets
    if not targets or "Resource" in targets:
        targets = resource_types()
    if value.kind == "id":
        own = [resource_key(type_, value.second) for type_ in targets]
        return [*own, url_key(value.second)]
    if value.kind == "literal":
        is_limited = bool(parameter.stored_as) and value.first not in targets
        return [] if is_limited else [resource_key(value.first, value.second)]
    is_other = bool(parameter.stored_as) and value.second not in ("", *targets)
    return [] if is_other else [url_key(value.first)]


def _logical(test: q.ValueTest, parameter: SearchParameter) -> n.Node:
    entries: list[tuple[int, int | None]] = []
    for value in test.values:
        assert isinstance(value, v.TokenValue)
        sid = None if value.system is None else system_number(value.system)
        entries.append((key_of(parameter.number, "i", value.code or ""), sid))
    return n.Keyed(tuple(dict.fromkeys(entries)))


def is_below(uri: str, base: str) -> bool:
    """Say whether a uri is the base or lies below it, by whole path segments."""
    return uri == base or uri.startswith(base if base.endswith(("/", ":")) else base + "/")


def uris_above(uri: str) -> list[str]:
    """Return the uri and all that it lies below."""
    cuts = [index for index, character in enumerate(uri) if character == "/"]
    with_slash = [uri[: cut + 1] for cut in cuts]
    return list(dict.fromkeys([uri, *(uri[:cut] for cut in cuts if cut), *with_slash]))
