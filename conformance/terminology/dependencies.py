"""What a translation depends on beside its code, and what it gives beside the code it leads to.

https://hl7.org/fhir/R4/conceptmap-definitions.html#ConceptMap.group.element.target.dependsOn:
"only applicable if the specified element can be resolved, and it has the specified value".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.problem import InvalidContent, Issue
from conformance.terminology.concepts import value_of


@dataclass(frozen=True, slots=True)
class Entry:
    """What a map writes of another element, in `dependsOn` or `product`: its one value."""

    element: str
    system: str | None
    value: str
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Dependency:
    """What the caller says of another element: its codings as (system, code), and its text."""

    element: str
    codings: tuple[tuple[str | None, str], ...]
    text: str | None = None

    def has(self, entry: Entry) -> bool:
        """Say whether the element has the value that a map names."""
        if entry.system is None and entry.value == self.text:
            return True
        system = (entry.system or "").partition("|")[0]
        return any(
            code == entry.value and (not system or own == system) for own, code in self.codings
        )


def entries_of(written: Iterable[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """Read `dependsOn` or `product` of R4, or of R5 (`attribute`, `value[x]`)."""
    found = []
    for one in written:
        value = value_of(one)
        coding = value if isinstance(value, Mapping) else {"code": value}
        code = coding.get("code")
        found.append(
            Entry(
                element=str(one.get("property", one.get("attribute", ""))),
                system=one.get("system", coding.get("system")),
                value=str(code).lower() if isinstance(code, bool) else str(code),
                display=one.get("display", coding.get("display")),
            )
        )
    return tuple(found)


def dependencies_of(parameters: Iterable[Mapping[str, Any]]) -> tuple[Dependency, ...]:
    """Read the parameters `dependency`; raises InvalidContent for one that is not whole."""
    return tuple(_dependency(one) for one in parameters)


def _dependency(parameter: Mapping[str, Any]) -> Dependency:
    parts = {part.get("name"): value_of(part) for part in parameter.get("part", ())}
    element = parts.get("element", parts.get("attribute"))
    value = parts.get("concept", parts.get("value"))
    if not isinstance(element, str) or value is None:
        raise InvalidContent(_NOT_WHOLE)
    if not isinstance(value, Mapping):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return Dependency(element, ((None, text),), text)
    codings = value.get("coding", [value] if "code" in value else [])
    return Dependency(
        element,
        tuple((one.get("system"), str(one["code"])) for one in codings if "code" in one),
        value.get("text"),
    )


def unmet(needed: Iterable[Entry], given: Sequence[Dependency]) -> list[str]:
    """Return the elements that do not have the value they need, or of which nothing is said."""
    return [
        entry.element
        for entry in needed
        if not any(one.element == entry.element and one.has(entry) for one in given)
    ]


def contradicts(entries: Iterable[Entry], given: Sequence[Dependency]) -> bool:
    """Say whether an element is said to have another value than one of these."""
    return any(
        one.element == entry.element and not one.has(entry) for entry in entries for one in given
    )


_NOT_WHOLE = Issue(
    code="required",
    key="dependency-parts",
    text_en="A dependency needs the parts element and concept",
    text_zh="参数 dependency 需要 element 与 concept 两部分",
    fix_en="Give the element as valueUri and its value as valueCodeableConcept.",
    fix_zh="请以 valueUri 给出 element，以 valueCodeableConcept 给出其值。",
    expression="Parameters.parameter",
)
