"""Conditions turned into nodes, the caller's rights in every place where a resource is met."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from conformance.search_parameters import SearchParameter, parameters_of, type_number
from fhir_store.authorization import EVERYTHING, Authorization, Compartment, Criterion
from fhir_store.keys import resource_key
from fhir_store.search import nodes as n
from fhir_store.search import query as q
from fhir_store.search import values as v
from fhir_store.search.hierarchy import hierarchical_targets, related_keys
from fhir_store.search.parameter_rows import compartment_numbers, row_numbers
from fhir_store.search.spans import date_span
from fhir_store.search.value_nodes import ValueCompiler
from fhir_store.search.words import query_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """What compiling needs: how values become keys, and the caller's rights."""

    values: ValueCompiler
    authorization: Authorization

    @property
    def lookup(self) -> q.Lookup:
        """Return the parameters by type."""
        return self.values.lookup

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
                return await self._has(condition, types)
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
        found = n.some(*[await self._criterion(criterion, type_) for criterion in criteria])
        grounds = self.authorization.hangs_on
        if grounds is None or found == n.NOTHING:
            return found
        return n.every(found, n.Unmoved(grounds.generation, grounds.keys))

    async def _criterion(self, criterion: Criterion, type_: str) -> n.Node:
        # The rights themselves look at everything: a care team is found by who may not see it.
        free = replace(self, authorization=EVERYTHING)
        parts = [await free.node_of(c, (type_,)) for c in criterion.conditions]
        if criterion.compartment is not None:
            parts.append(await free._compartment(criterion.compartment, type_))
        if criterion.excluded is not None:
            parts.append(n.Typed((type_number(type_),)))
            parts.append(n.Not(await free._compartment(criterion.excluded, type_)))
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

    async def _test(self, condition: q.ValueTest) -> n.Node:
        is_reference = condition.parameters[0].type == "reference"
        if is_reference and condition.modifier in ("above", "below"):
            return n.some(*[await self._hierarchy(condition, p) for p in condition.parameters])
        return await self.values.node_of(condition)

    async def _hierarchy(self, condition: q.ValueTest, parameter: SearchParameter) -> n.Node:
        by_type: dict[str, list[int]] = {}
        for value in condition.values:
            assert isinstance(value, v.ReferenceValue)
            for type_, key in hierarchical_targets(parameter, value, self.lookup):
                by_type.setdefault(type_, []).append(key)
        keys: list[int] = []
        for type_, own in by_type.items():
            keys += await related_keys(
                self.values.dictionary,
                condition.modifier,
                type_,
                own,
                await self.right(type_),
                self.lookup,
            )
        entries = tuple(dict.fromkeys(product(keys, row_numbers(parameter))))
        return n.Referring(entries) if entries else n.NOTHING

    async def _has(self, condition: q.HasTest, types: tuple[str, ...]) -> n.Node:
        source = await self.allowed(condition.source, [condition.condition])
        pids = row_numbers(condition.parameter)
        return n.Pointed(tids=_tids(types), pids=pids, source=source)

    async def _chain(self, condition: q.ChainTest) -> n.Node:
        targets = []
        for type_, inner in condition.targets:
            node = await self.allowed(type_, [inner])
            if node != n.NOTHING:
                targets.append((type_number(type_), node))
        pids = tuple(pid for p in condition.parameters for pid in row_numbers(p))
        return n.Chained(pids=pids, targets=tuple(targets)) if targets else n.NOTHING


def _tids(types: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(type_number(type_) for type_ in types)


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
