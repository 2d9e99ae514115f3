"""The R4 4.0.1 definitions as plain objects, read once from the tables beside this module.

`load()` reads types at once and everything else when first asked for.
"""

import functools
import gzip
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementType:
    """One type an element may have.

    `targets` are the resource types a Reference or canonical may point to ("Resource" is any),
    `profiles` names of constrained types such as SimpleQuantity.
    """

    code: str
    targets: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binding:
    """The value set of a coded element; strength is required, extensible, preferred or example."""

    strength: str
    value_set: str


@dataclass(frozen=True, slots=True)
class Constraint:
    """A FHIRPath rule; severity is error or warning."""

    key: str
    severity: str
    expression: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element of a type; `max` is None for `*`, `content` a path whose children it shares."""

    path: str
    name: str
    min: int
    max: int | None
    types: tuple[ElementType, ...]
    binding: Binding | None
    constraints: tuple[Constraint, ...]
    is_modifier: bool
    is_summary: bool
    is_choice: bool
    is_xml_attribute: bool
    content: str | None

    @property
    def is_list(self) -> bool:
        """Say whether JSON writes it as an array."""
        return self.max != 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeInfo:
    """One FHIR type.

    kind: resource, complex-type or primitive-type. `elements` in order, keyed by the path inside
    the type (`contact.name`, `value[x]`); `children` by the path of the parent ("" is the type
    itself). `regex` is the published pattern of a primitive: for reading, never to be compiled.
    """

    name: str
    kind: str
    base: str | None
    is_abstract: bool
    is_constraint: bool
    regex: str | None
    constraints: tuple[Constraint, ...]
    elements: Mapping[str, Element]
    children: Mapping[str, tuple[Element, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameterInfo:
    """A SearchParameter as published; `components` are (canonical, expression) of a composite."""

    url: str
    code: str
    type: str
    bases: tuple[str, ...]
    expression: str | None
    targets: tuple[str, ...]
    components: tuple[tuple[str, str], ...]
    modifiers: tuple[str, ...]
    comparators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything the R4 definitions say; the larger parts are read when first used."""

    types: Mapping[str, TypeInfo]
    resource_types: frozenset[str]

    @property
    def search_parameters(self) -> tuple[SearchParameterInfo, ...]:
        """All search parameters, in order of their canonical address."""
        return _search_parameters()

    @property
    def compartments(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """Compartment → type → codes of the search parameters that link it."""
        return _compartments()

    @property
    def operations(self) -> Mapping[str, Mapping[str, Any]]:
        """Canonical address → OperationDefinition without prose."""
        return _resources("operations")

    @property
    def code_systems(self) -> Mapping[str, Mapping[str, Any]]:
        """Canonical address → CodeSystem without prose; FHIR, v3 and v2 tables."""
        return _resources("code-systems")

    @property
    def value_sets(self) -> Mapping[str, Mapping[str, Any]]:
        """Canonical address → ValueSet without prose."""
        return _resources("value-sets")

    @property
    def concept_maps(self) -> Mapping[str, Mapping[str, Any]]:
        """Canonical address → ConceptMap without prose."""
        return _resources("concept-maps")

    @property
    def profiles(self) -> Mapping[str, Mapping[str, Any]]:
        """Canonical address → StructureDefinition (profiles, extensions): differential only."""
        return _resources("profiles")

    def is_kind_of(self, name: str, ancestor: str) -> bool:
        """Say whether a type is another one or derives from it."""
        current: str | None = name
        while current is not None and current != ancestor:
            info = self.types.get(current)
            current = info.base if info else None
        return current is not None


@functools.cache
def load() -> Tables:
    """Return the tables; the first call takes some tens of milliseconds."""
    content = _read("types")
    constraints = [Constraint(*rule) for rule in content["constraints"]]
    types = {name: _type_info(name, facts, constraints) for name, facts in content["types"].items()}
    resources = (n for n, t in types.items() if t.kind == "resource" and not t.is_abstract)
    return Tables(MappingProxyType(types), frozenset(resources))


def _read(name: str) -> Any:
    packed = importlib.resources.files(__package__).joinpath(f"{name}.json.gz").read_bytes()
    return orjson.loads(gzip.decompress(packed))


def _type_info(name: str, facts: Mapping[str, Any], constraints: list[Constraint]) -> TypeInfo:
    elements: dict[str, Element] = {}
    children: dict[str, list[Element]] = {}
    root = facts["elements"][0]
    for element_facts in facts["elements"][1:]:
        element = _element(element_facts, constraints)
        inner = element.path.partition(".")[2]
        elements[inner] = element
        parent = inner.rpartition(".")[0]
        children.setdefault(parent, []).append(element)
    return TypeInfo(
        name=name,
        kind=facts["kind"],
        base=facts["base"],
        is_abstract=facts.get("abstract", False),
        is_constraint=facts.get("constraint", False),
        regex=facts.get("regex"),
        constraints=tuple(constraints[number] for number in root.get("constraints", ())),
        elements=MappingProxyType(elements),
        children=MappingProxyType({parent: tuple(found) for parent, found in children.items()}),
    )


@functools.cache
def _element_type(code: str, targets: tuple[str, ...], profiles: tuple[str, ...]) -> ElementType:
    return ElementType(code=code, targets=targets, profiles=profiles)


def _element(facts: Mapping[str, Any], constraints: list[Constraint]) -> Element:
    types = []
    for code, *rest in facts.get("types", ()):
        targets = tuple(rest[0]) if rest else ()
        types.append(_element_type(code, targets, tuple(rest[1]) if len(rest) > 1 else ()))
    path = facts["path"]
    return Element(
        path=path,
        name=path.rpartition(".")[2],
        min=facts["min"],
        max=None if facts["max"] == "*" else int(facts["max"]),
        types=tuple(types),
        binding=Binding(*facts["binding"]) if "binding" in facts else None,
        constraints=tuple(constraints[number] for number in facts.get("constraints", ())),
        is_modifier=facts.get("isModifier", False),
        is_summary=facts.get("isSummary", False),
        is_choice=path.endswith("[x]"),
        is_xml_attribute=facts.get("xml") == "attribute",
        content=facts.get("content"),
    )


@functools.cache
def _search_parameters() -> tuple[SearchParameterInfo, ...]:
    return tuple(
        SearchParameterInfo(
            url=facts["url"],
            code=facts["code"],
            type=facts["type"],
            bases=tuple(facts["base"]),
            expression=facts.get("expression"),
            targets=tuple(facts.get("target", ())),
            components=tuple((url, expression) for url, expression in facts.get("component", ())),
            modifiers=tuple(facts.get("modifier", ())),
            comparators=tuple(facts.get("comparator", ())),
        )
        for facts in _read("search-parameters")
    )


@functools.cache
def _compartments() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    return MappingProxyType(
        {
            name: MappingProxyType({type_: tuple(codes) for type_, codes in members.items()})
            for name, members in _read("compartments").items()
        }
    )


@functools.cache
def _resources(name: str) -> Mapping[str, Mapping[str, Any]]:
    return MappingProxyType(_read(name))
