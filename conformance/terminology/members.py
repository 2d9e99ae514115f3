"""Which codes a value set holds: include and exclude, filters, imported value sets.

https://hl7.org/fhir/R4/valueset.html#compositions
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from conformance.problem import InvalidContent, Issue, NotFound, TooCostly
from conformance.terminology.concepts import CodeSystem, Concept
from conformance.terminology.library import Library

MOST_CODES = 200_000
DEEPEST_IMPORT = 16
LONGEST_PATTERN = 200

Key = tuple[str, str]


class Member(NamedTuple):
    """One code of a value set; `enumerated` is what the value set itself says of it."""

    system: str
    version: str | None
    code: str
    concept: Concept | None
    enumerated: Mapping[str, Any] = MappingProxyType({})

    @property
    def display(self) -> str | None:
        """The value set's own wording, else the code system's."""
        return self.enumerated.get("display") or (self.concept.display if self.concept else None)

    @property
    def is_inactive(self) -> bool:
        """Say whether the code system has taken the code out of use."""
        return self.concept is not None and self.concept.is_inactive


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one question reads: the library, supplements asked for, and everything it touched.

    `partial` are code systems of which only a part is here, though more codes were asked for.
    """

    library: Library
    supplements: tuple[str, ...] = ()
    systems: dict[str, CodeSystem] = field(default_factory=dict)
    imports: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    partial: set[str] = field(default_factory=set)

    def code_system(self, canonical: str) -> CodeSystem | None:
        """Find a code system and remember that it was used."""
        system = self.library.code_system(canonical, self.supplements)
        if system:
            self.systems.setdefault(system.canonical, system)
        return system


def members_of(
    value_set: Mapping[str, Any], reading: Reading, path: tuple[str, ...] = ()
) -> dict[Key, Member]:
    """Return the members in order, keyed by system and code."""
    _guard_cycle(value_set, path)
    path = (*path, value_set.get("url", ""))
    compose = value_set.get("compose")
    if compose is None:
        return dict(_from_expansion(value_set))
    found: dict[Key, Member] = {}
    for include in compose.get("include", ()):
        for key, member in _part(include, value_set, reading, path).items():
            found.setdefault(key, member)
        if len(found) > MOST_CODES:
            raise TooCostly(_too_many())
    for exclude in compose.get("exclude", ()):
        for key in _part(exclude, value_set, reading, path):
            found.pop(key, None)
    if compose.get("inactive") is False:
        found = {key: member for key, member in found.items() if not member.is_inactive}
    return found


def _guard_cycle(value_set: Mapping[str, Any], path: tuple[str, ...]) -> None:
    if len(path) > DEEPEST_IMPORT or (value_set.get("url") and value_set["url"] in path):
        circle = " → ".join((*path, value_set.get("url", "")))
        raise InvalidContent(
            Issue(
                code="processing",
                key="value-set-circle",
                text_en=f"The value sets import each other in a circle: {circle}",
                text_zh=f"值集互相循环引用：{circle}",
                fix_en="Remove one of the imports in compose.include.valueSet.",
                fix_zh="请从 compose.include.valueSet 中去掉其中一个引用。",
                expression="ValueSet.compose.include.valueSet",
            )
        )


def _from_expansion(value_set: Mapping[str, Any]) -> Iterator[tuple[Key, Member]]:
    waiting = list(value_set.get("expansion", {}).get("contains", ()))
    while waiting:
        entry = waiting.pop(0)
        waiting[:0] = entry.get("contains", ())
        if "code" in entry:
            key = (entry.get("system", ""), entry["code"])
            yield (
                key,
                Member(
                    system=key[0],
                    version=entry.get("version"),
                    code=key[1],
                    concept=None,
                    enumerated=entry,
                ),
            )


def _part(
    include: Mapping[str, Any],
    value_set: Mapping[str, Any],
    reading: Reading,
    path: tuple[str, ...],
) -> dict[Key, Member]:
    found: dict[Key, Member] | None = None
    if "system" in include:
        found = _from_system(include, reading)
    for canonical in include.get("valueSet", ()):
        imported = _imported(canonical, value_set, reading, path)
        if found is None:
            found = imported
        else:
            found = {key: member for key, member in found.items() if key in imported}
    return found or {}


def _imported(
    canonical: str, value_set: Mapping[str, Any], reading: Reading, path: tuple[str, ...]
) -> dict[Key, Member]:
    if canonical.startswith("#"):
        contained = value_set.get("contained", ())
        inner = next((r for r in contained if r.get("id") == canonical[1:]), None)
    else:
        inner = reading.library.find("ValueSet", canonical)
    if inner is None:
        raise NotFound(value_set_not_found(canonical))
    if not canonical.startswith("#"):
        reading.imports.setdefault(canonical_of(inner), inner)
    return members_of(inner, reading, path)


def canonical_of(resource: Mapping[str, Any]) -> str:
    """Return `url|version`, or the url alone."""
    version = resource.get("version")
    return f"{resource.get('url', '')}|{version}" if version else str(resource.get("url", ""))


def value_set_not_found(canonical: str) -> Issue:
    """Say that a value set is not known."""
    return Issue(
        code="not-found",
        key="value-set-not-found",
        text_en=f"The value set {canonical} is not known",
        text_zh=f"找不到值集 {canonical}",
        fix_en="Create the ValueSet first, or correct its canonical address.",
        fix_zh="请先创建该值集，或更正其规范地址。",
    )


def code_system_not_found(canonical: str) -> Issue:
    """Say that a code system is not known."""
    return Issue(
        code="not-found",
        key="code-system-not-found",
        text_en=f"The code system {canonical} is not known, so its codes cannot be listed",
        text_zh=f"找不到代码系统 {canonical}，无法列出其代码",
        fix_en="Create the CodeSystem first, or correct its canonical address.",
        fix_zh="请先创建该代码系统，或更正其规范地址。",
    )


def code_system_not_here(canonical: str) -> Issue:
    """Say that a code system is known by name only."""
    return Issue(
        code="not-found",
        key="code-system-content",
        text_en=f"The codes of {canonical} are not here, only its name: they cannot be listed",
        text_zh=f"此处只有代码系统 {canonical} 的名称，没有其代码，无法列出",
        fix_en="Store the CodeSystem with its concepts first, or list the codes in the ValueSet.",
        fix_zh="请先存储带有 concept 的该代码系统，或在值集中逐一列出代码。",
    )


def _from_system(include: Mapping[str, Any], reading: Reading) -> dict[Key, Member]:
    url, version = include["system"], include.get("version")
    system = reading.code_system(f"{url}|{version}" if version else url)
    if "concept" in include:
        return dict(_enumerated(include, url, version, system))
    if system is None:
        raise NotFound(code_system_not_found(f"{url}|{version}" if version else url))
    if system.is_name_only:
        raise NotFound(code_system_not_here(url))
    if not system.is_whole:
        reading.partial.add(url)
    chosen: Iterable[Concept] = system.concepts.values()
    for condition in include.get("filter", ()):
        keep = _filter(condition, system)
        chosen = [concept for concept in chosen if keep(concept)]
    of_system = system.version
    return {
        (url, concept.code): Member(url, of_system, concept.code, concept) for concept in chosen
    }


def _enumerated(
    include: Mapping[str, Any], url: str, version: str | None, system: CodeSystem | None
) -> Iterator[tuple[Key, Member]]:
    for element in include["concept"]:
        concept = system.find(element["code"]) if system else None
        if system and concept is None and system.resource.get("content") == "complete":
            continue  # the code system is whole and has no such code
        code = concept.code if concept else element["code"]
        yield (
            (url, code),
            Member(
                system=url,
                version=system.version if system else version,
                code=code,
                concept=concept,
                enumerated=element,
            ),
        )


def _filter(condition: Mapping[str, Any], system: CodeSystem) -> Callable[[Concept], bool]:
    """Return the test that `ValueSet.compose.include.filter` asks for."""
    name, operator, value = condition["property"], condition["op"], condition["value"]
    if name in ("concept", "code", "parent", "child") and operator in _HIERARCHY:
        return _HIERARCHY[operator](system, value)
    if operator == "=":
        return lambda concept: value in _texts(concept, name)
    if operator == "regex":
        pattern = _pattern(value)
        return lambda concept: any(pattern.fullmatch(text) for text in _texts(concept, name))
    if operator in ("in", "not-in"):
        values = {part.strip() for part in value.split(",")}
        wanted = operator == "in"
        return lambda concept: any(text in values for text in _texts(concept, name)) == wanted
    if operator == "exists":
        wanted = value == "true"
        return lambda concept: bool(_texts(concept, name)) == wanted
    raise InvalidContent(
        Issue(
            code="not-supported",
            key="value-set-filter",
            text_en=f"The filter {name} {operator} cannot be evaluated",
            text_zh=f"无法执行过滤条件 {name} {operator}",
            fix_en="Use is-a, descendent-of, is-not-a, generalizes, child-of, =, in, not-in, "
            "exists or regex.",
            fix_zh="请使用 is-a、descendent-of、is-not-a、generalizes、child-of、=、in、not-in、"
            "exists 或 regex。",
            expression="ValueSet.compose.include.filter.op",
        )
    )


_HIERARCHY: Mapping[str, Callable[[CodeSystem, str], Callable[[Concept], bool]]] = {
    "is-a": lambda system, value: _one_of({value, *system.descendants(value)}),
    "descendent-of": lambda system, value: _one_of(set(system.descendants(value))),
    "is-not-a": lambda system, value: _none_of({value, *system.descendants(value)}),
    "generalizes": lambda system, value: _one_of({value, *system.ancestors(value)}),
    "child-of": lambda system, value: _one_of(
        {code for code, concept in system.concepts.items() if value in concept.parents}
    ),
}


def _one_of(codes: set[str]) -> Callable[[Concept], bool]:
    return lambda concept: concept.code in codes


def _none_of(codes: set[str]) -> Callable[[Concept], bool]:
    return lambda concept: concept.code not in codes


def _texts(concept: Concept, name: str) -> list[str]:
    """Return the values of a property as text; code, display and definition count as such."""
    if name in ("concept", "code"):
        return [concept.code]
    if name == "display":
        return [concept.display] if concept.display else []
    if name == "definition":
        return [concept.definition] if concept.definition else []
    if name == "parent":
        return list(concept.parents)
    if name == "child":
        return list(concept.children)
    values = (_text(p) for p in concept.properties if p.get("code") == name)
    return [text for text in values if text is not None]


def _text(element: Mapping[str, Any]) -> str | None:
    for name, value in element.items():
        if name == "valueBoolean":
            return "true" if value else "false"
        if name == "valueCoding":
            return str(value.get("code"))
        if name.startswith("value"):
            return str(value)
    return None


_RISKY = re.compile(r"[*+}]\)?[*+{]|\([^)]*[*+|][^)]*\)[*+{]|\\[1-9]")


def _pattern(text: str) -> re.Pattern[str]:
    """Compile a filter's pattern, unless it could run for ever."""
    try:
        if len(text) <= LONGEST_PATTERN and not _RISKY.search(text):
            return re.compile(text)
    except re.error:
        pass
    raise InvalidContent(
        Issue(
            code="invalid",
            key="value-set-regex",
            text_en="The regex of the filter is not a pattern, or could take unbounded time",
            text_zh="过滤条件中的正则表达式无效，或可能无限耗时",
            fix_en="Use a short pattern without repeated groups or back references.",
            fix_zh="请使用简短的、不含重复分组和反向引用的正则表达式。",
            expression="ValueSet.compose.include.filter.value",
        )
    )


def _too_many() -> Issue:
    return Issue(
        code="too-costly",
        key="value-set-too-large",
        text_en=f"The value set has more than {MOST_CODES} codes",
        text_zh=f"值集的代码超过 {MOST_CODES} 个",
        fix_en="Narrow it with a filter, or ask $validate-code for single codes.",
        fix_zh="请用过滤条件缩小范围，或用 $validate-code 检查单个代码。",
    )
