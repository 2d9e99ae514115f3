"""What a search asks of a resource, as parsed: tests, links, and their combinations."""

from collections.abc import Iterator
from dataclasses import dataclass

from conformance.search_parameters import SearchParameter
from fhir_store.search.values import DateValue, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueTest:
    """One parameter of each of some types against alternatives; modifier "" is none.

    Inner modifiers besides FHIR's: "equals" and "ends" of a string, from _filter.
    """

    parameters: tuple[SearchParameter, ...]
    modifier: str = ""
    values: tuple[Value, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingTest:
    """Whether the parameters have no value at all."""

    parameters: tuple[SearchParameter, ...]
    is_missing: bool


@dataclass(frozen=True, slots=True)
class IdTest:
    """`_id`."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdatedTest:
    """`_lastUpdated`: alternatives."""

    values: tuple[DateValue, ...]


@dataclass(frozen=True, slots=True)
class ListTest:
    """`_list`: members of one of these Lists."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FullTextTest:
    """`_text` (the narrative) or `_content` (everything): all words of one alternative."""

    part: str
    alternatives: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTest:
    """A reference to a resource that itself passes: per target type its own condition."""

    parameters: tuple[SearchParameter, ...]
    targets: tuple[tuple[str, "Condition"], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HasTest:
    """`_has`: a resource of `source` points here with `parameter` and itself passes."""

    source: str
    parameter: SearchParameter
    condition: "Condition"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class NotOf:
    """The part does not hold."""

    part: "Condition"


Condition = (
    ValueTest
    | MissingTest
    | IdTest
    | UpdatedTest
    | ListTest
    | FullTextTest
    | ChainTest
    | HasTest
    | AllOf
    | AnyOf
    | NotOf
)


def conditions_in(condition: Condition) -> Iterator[Condition]:
    """Yield the condition and all conditions inside it."""
    yield condition
    if isinstance(condition, AllOf | AnyOf):
        for part in condition.parts:
            yield from conditions_in(part)
    elif isinstance(condition, NotOf):
        yield from conditions_in(condition.part)
    elif isinstance(condition, ChainTest):
        for _, part in condition.targets:
            yield from conditions_in(part)
    elif isinstance(condition, HasTest):
        yield from conditions_in(condition.condition)
