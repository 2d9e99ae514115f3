"""A CodeSystem as an index: concepts by code, hierarchy both ways, supplements merged in."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

PARENT_PROPERTIES = ("parent", "subsumedBy")
INACTIVE_STATUSES = ("retired", "inactive", "withdrawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """One concept; designations and properties are FHIR elements, parents and children codes.

    `is_inactive`: out of use, by `inactive` or `status`; `is_abstract`: groups others and is not
    to be chosen.
    """

    code: str
    display: str | None
    definition: str | None
    designations: tuple[Mapping[str, Any], ...]
    properties: tuple[Mapping[str, Any], ...]
    extensions: tuple[Mapping[str, Any], ...]
    parents: tuple[str, ...]
    children: tuple[str, ...]
    status: str | None = None
    is_inactive: bool = False
    is_abstract: bool = False


def value_of(element: Mapping[str, Any]) -> Any:
    """Return the `value[x]` of an element."""
    return next((value for name, value in element.items() if name.startswith("value")), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSystem:
    """A CodeSystem ready for questions; `supplements` are canonicals that were merged in."""

    resource: Mapping[str, Any]
    concepts: Mapping[str, Concept]
    folded: Mapping[str, str]
    supplements: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The canonical address."""
        return str(self.resource["url"])

    @property
    def version(self) -> str | None:
        """The business version, where there is one."""
        return self.resource.get("version")

    @property
    def is_whole(self) -> bool:
        """Say whether all its codes are here: `content` is no part, example or bare name."""
        return self.resource.get("content") in (None, "complete")

    @property
    def is_name_only(self) -> bool:
        """Say whether none of its codes are here, as with SNOMED CT."""
        return self.resource.get("content") == "not-present" and not self.concepts

    @property
    def canonical(self) -> str:
        """`url|version`, or the url alone."""
        return f"{self.url}|{self.version}" if self.version else self.url

    def find(self, code: str) -> Concept | None:
        """Return the concept; codes differ by case unless `caseSensitive` is false."""
        found = self.concepts.get(code)
        if found is None and self.folded:
            found = self.concepts.get(self.folded.get(code.casefold(), ""))
        return found

    def ancestors(self, code: str) -> Iterator[str]:
        """Yield every code above, nearest first."""
        yield from self._walk(code, up=True)

    def descendants(self, code: str) -> Iterator[str]:
        """Yield every code below."""
        yield from self._walk(code, up=False)

    def _walk(self, code: str, *, up: bool) -> Iterator[str]:
        seen = {code}
        waiting = [code]
        while waiting:
            concept = self.concepts.get(waiting.pop(0))
            for step in (concept.parents if up else concept.children) if concept else ():
                if step not in seen:
                    seen.add(step)
                    waiting.append(step)
                    yield step


def index(resource: Mapping[str, Any], supplements: Iterable[Mapping[str, Any]] = ()) -> CodeSystem:
    """Return the CodeSystem resource as an index, with what supplements add to its concepts."""
    supplements = list(supplements)
    rows = list(_rows(resource.get("concept", ()), None))
    parents = _parents_of(rows)
    children: dict[str, list[str]] = {}
    for code, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(code)
    added = {
        s["url"]: {c["code"]: c for c, _ in _rows(s.get("concept", ()), None)} for s in supplements
    }
    concepts = {}
    for element, _ in rows:
        code = element["code"]
        more = [(_canonical(s), added[s["url"]].get(code)) for s in supplements]
        concepts[code] = _concept(element, more, parents[code], children.get(code, []))
    is_folded = resource.get("caseSensitive") is False
    folded = {code.casefold(): code for code in concepts} if is_folded else {}
    return CodeSystem(
        resource=resource,
        concepts=MappingProxyType(concepts),
        folded=MappingProxyType(folded),
        supplements=tuple(_canonical(s) for s in supplements),
    )


def _rows(
    elements: Iterable[Mapping[str, Any]], parent: str | None
) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    for element in elements:
        yield element, parent
        yield from _rows(element.get("concept", ()), element["code"])


def _parents_of(rows: Iterable[tuple[Mapping[str, Any], str | None]]) -> dict[str, tuple[str, ...]]:
    parents: dict[str, tuple[str, ...]] = {}
    for element, nested_in in rows:
        named = [
            str(value_of(p))
            for p in element.get("property", ())
            if p.get("code") in PARENT_PROPERTIES
        ]
        above = [nested_in, *named] if nested_in else named
        parents[element["code"]] = tuple(dict.fromkeys(above))
    return parents


def _canonical(resource: Mapping[str, Any]) -> str:
    version = resource.get("version")
    return f"{resource['url']}|{version}" if version else str(resource["url"])


def _concept(
    element: Mapping[str, Any],
    supplements: Iterable[tuple[str, Mapping[str, Any] | None]],
    parents: tuple[str, ...],
    children: list[str],
) -> Concept:
    designations = list(element.get("designation", ()))
    properties = list(element.get("property", ()))
    extensions = list(element.get("extension", ()))
    for source, more in supplements:
        for designation in (more or {}).get("designation", ()):
            designations.append({**designation, "source": source})
        properties.extend((more or {}).get("property", ()))
        extensions.extend((more or {}).get("extension", ()))
    facts = {p.get("code"): value_of(p) for p in reversed(properties)}
    status = facts.get("status")
    return Concept(
        code=element["code"],
        display=element.get("display"),
        definition=element.get("definition"),
        designations=tuple(designations),
        properties=tuple(properties),
        extensions=tuple(extensions),
        parents=parents,
        children=tuple(children),
        status=status if isinstance(status, str) else None,
        is_inactive=facts.get("inactive") is True or status in INACTIVE_STATUSES,
        is_abstract=True in (facts.get("notSelectable"), facts.get("abstract")),
    )
