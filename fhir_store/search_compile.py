"""Conditions turned into nodes: values become the keys that index rows have.

The dictionary of codes in use and the terminology are asked where a value stands for many codes.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from conformance.index_converters import contact_value
from conformance.r4 import tables
from conformance.search_parameters import (
    SearchParameter,
    parameters_of,
    resource_types,
    type_number,
)
from conformance.text_folding import fold
from fhir_store import search_nodes as n
from fhir_store import search_query as q
from fhir_store import search_values as v
from fhir_store.authorization import EVERYTHING, Authorization, Compartment, Criterion
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
from fhir_store.search_spans import (
    date_span,
    number_span,
    quantity_span,
    start_and_end,
    text_of,
)
from fhir_store.search_sql import after_prefix
from fhir_store.search_words import query_of

Terminology = Callable[[str, str], Awaitable[Sequence[tuple[str, str]]]]
"""(relation, value) -> (system, code) pairs. Relation "in": value is a value set's address;
"below" and "above": value is `system|code`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """What compiling needs: dictionary, terminology, parameters, the caller's rights."""

    dictionary: CodeDictionary
    terminology: Terminology
    lookup: q.Lookup
    authorization: Authorization

    async def node_of(self, condition: q.Condition, types: tuple[str, ...]) -> n.Node:
        """Return the node of a condition on resources of the types."""
        match condition:
            case q.ValueTest():
                return await self._test(condition)
            case q.MissingTest():
                return _missing(condition)
            case q.IdTest():
                keys = (resource_key(t, id_) for t in types for id_ in condition.ids)
                return n.Named(tuple(keys))
            case q.UpdatedTest():
                spans = tuple(date_span(0, value) for value in condition.values)
                return n.Updated(_tids(types), spans)
            case q.ListTest():
                return await self._list(condition, types)
            case q.FullTextTest():
                return n.Worded(condition.part, tuple(map(query_of, condition.alternatives)))
            case q.ChainTest():
                return await self._chain(condition)
            case q.HasTest():
                source = await self.allowed(condition.source, [condition.condition])
                pids = row_numbers(condition.parameter)
                return n.Pointed(tids=_tids(types), pids=pids, source=source)
            case q.AllOf():
                return n.every(*[await self.node_of(part, types) for part in condition.parts])
            case q.AnyOf():
                return n.some(*[await self.node_of(part, types) for part in condition.parts])
            case q.NotOf():
                return n.Not(await self.node_of(condition.part, types))

    async def allowed(self, type_: str, conditions: Sequence[q.Condition]) -> n.Node:
        """Return what resources of the type must pass, the caller's rights included."""
        parts = [await self.node_of(condition, (type_,)) for condition in conditions]
        right = await self.right(type_)
        if right is not None:
            parts.append(right)
        return n.every(*parts) if parts else n.Typed((type_number(type_),))

    async def right(self, type_: str) -> n.Node | None:
        """Return what the caller's rights ask of a resource of the type; None is nothing."""
        criteria = self.authorization.criteria_of(type_)
        if criteria is None:
            return None
        return n.some(*[await self._criterion(criterion, type_) for criterion in criteria])

    async def _criterion(self, criterion: Criterion, type_: str) -> n.Node:
        # The rights themselves look at everything: a care team is found by who may not see it.
        free = replace(self, authorization=EVERYTHING)
        parts = [await free.node_of(c, (type_,)) for c in criterion.conditions]
        if criterion.compartment is not None:
            parts.append(await free._compartment(criterion.compartment, type_))
        return n.every(*parts) if parts else n.Typed((type_number(type_),))

    async def _compartment(self, compartment: Compartment, type_: str) -> n.Node:
        pids = compartment_numbers(compartment.kind, type_, self.lookup)
        ways: list[n.Node] = []
        if compartment.ids:
            keys = tuple(resource_key(compartment.kind, id_) for id_ in compartment.ids)
            if pids:
                ways.append(n.Referring(tuple(product(keys, pids))))
            if type_ == compartment.kind:
                ways.append(n.Named(keys))
        if compartment.owners is not None:
            owner = await self.node_of(compartment.owners, (compartment.kind,))
            if pids:
                target = (type_number(compartment.kind), owner)
                ways.append(n.Chained(pids=pids, targets=(target,)))
            if type_ == compartment.kind:
                ways.append(owner)
        return n.some(*ways)

    async def _list(self, condition: q.ListTest, types: tuple[str, ...]) -> n.Node:
        named: q.Condition = q.IdTest(condition.ids)
        source = await self.allowed("List", [named])
        pids = row_numbers(self.lookup("List")["item"])
        return n.Pointed(tids=_tids(types), pids=pids, source=source)

    async def _chain(self, condition: q.ChainTest) -> n.Node:
        targets = []
        for type_, inner in condition.targets:
            node = await self.allowed(type_, [inner])
            if node != n.NOTHING:
                targets.append((type_number(type_), node))
        pids = tuple(pid for p in condition.parameters for pid in row_numbers(p))
        return n.Chained(pids=pids, targets=tuple(targets)) if targets else n.NOTHING

    async def _test(self, test: q.ValueTest) -> n.Node:
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
        return n.some(*_joined(ways))

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
    [Compiler, q.ValueTest, SearchParameter, tuple[SearchParameter, ...]], Awaitable[n.Node]
]
_TESTS: dict[str, _Tester] = {
    "token": Compiler._tokens,
    "string": Compiler._strings,
    "date": Compiler._dates,
    "number": Compiler._numbers,
    "quantity": Compiler._quantities,
    "reference": Compiler._references,
    "uri": Compiler._uris,
    "composite": Compiler._composites,
    "special": Compiler._positions,
}


def _tids(types: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(type_number(type_) for type_ in types)


def stored_parameters(parameter: SearchParameter, lookup: q.Lookup) -> tuple[SearchParameter, ...]:
    """Return the parameters under whose numbers the rows of this one are stored."""
    if not parameter.stored_as:
        return (parameter,)
    own = lookup(parameter.base)
    return tuple(own[code] for code in parameter.stored_as)


def row_numbers(parameter: SearchParameter) -> tuple[int, ...]:
    """Return the `pid`s of a reference parameter's rows in ix_ref."""
    if not parameter.stored_as:
        return (parameter.number,)
    own = parameters_of(parameter.base)
    return tuple(own[code].number for code in parameter.stored_as)


def compartment_numbers(kind: str, type_: str, lookup: q.Lookup) -> tuple[int, ...]:
    """Return the `pid`s by which resources of the type belong to a compartment."""
    codes = tables.load().compartments[kind].get(type_, ())
    parameters = lookup(type_)
    known = [parameters[code] for code in codes if code in parameters]
    return tuple(dict.fromkeys(pid for one in known for pid in row_numbers(one)))


def _missing(condition: q.MissingTest) -> n.Node:
    by_type = []
    for parameter in condition.parameters:
        own = parameters_of(parameter.base)
        is_joined = parameter.type == "composite" and parameter.stored_as
        stored = [own[code] for code in parameter.stored_as] if is_joined else [parameter]
        ordinals = tuple(one.ordinal for one in stored)
        by_type.append((type_number(parameter.base), ordinals))
    absent = n.Absent(tuple(by_type))
    return absent if condition.is_missing else n.Not(absent)


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


def _joined(ways: Sequence[n.Node]) -> list[n.Node]:
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
