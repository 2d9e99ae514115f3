"""ConceptMap/$translate, both ways: https://hl7.org/fhir/R4/conceptmap-operation-translate.html.

R5 maps (`relationship`) are read as their R4 equivalents.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.terminology.dependencies import (
    Dependency,
    Entry,
    contradicts,
    entries_of,
    unmet,
)
from conformance.terminology.members import canonical_of

EQUIVALENCE_OF_RELATIONSHIP = {
    "related-to": "relatedto",
    "equivalent": "equivalent",
    "source-is-narrower-than-target": "wider",
    "source-is-broader-than-target": "narrower",
    "not-related-to": "disjoint",
}
TURNED = {"wider": "narrower", "narrower": "wider", "subsumes": "specializes",
          "specializes": "subsumes"}  # fmt: skip
NO_MATCH = ("unmatched", "disjoint")
DEEPEST = 8  # maps that name each other by `unmapped`

FindMap = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One translation; `equivalence` says how the target stands to the source.

    `products` are the values of other elements that belong to it.
    """

    equivalence: str
    system: str | None
    code: str | None
    display: str | None
    source_system: str | None
    source_code: str
    origin: str
    products: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationQuestion:
    """A code to translate, and where from and to; None leaves it open.

    `dependencies` are what is known of other elements.
    """

    code: str
    system: str | None
    target_system: str | None
    source: str | None = None
    target: str | None = None
    reverse: bool = False
    dependencies: tuple[Dependency, ...] = ()


@dataclass(frozen=True, slots=True)
class Translated:
    """Every match, and what kept others away: elements not as needed, maps nobody knows."""

    matches: list[Match] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, other: "Translated") -> None:
        """Take in what another coding of the same concept was translated to."""
        self.matches.extend(other.matches)
        self.needed.extend(other.needed)
        self.missing.extend(other.missing)


def translate(
    question: TranslationQuestion,
    maps: Iterable[Mapping[str, Any]],
    find_map: FindMap = lambda _: None,
) -> Translated:
    """Return what the maps know, in their order; `find_map` finds the maps that they name."""
    found = Translated()
    for concept_map in maps:
        if _fits(concept_map, question):
            _translate_by(concept_map, question, found, find_map, ())
    return found


def _translate_by(
    concept_map: Mapping[str, Any],
    question: TranslationQuestion,
    found: Translated,
    find_map: FindMap,
    path: tuple[str, ...],
) -> None:
    path = (*path, canonical_of(concept_map))
    for group in concept_map.get("group", ()):
        if question.reverse:
            found.matches.extend(_backward(question, concept_map, group))
            continue
        found.matches.extend(_forward(question, concept_map, group, found))
        other = _other_map(question, group)
        if other is None:
            continue
        named = find_map(other)
        if named is None or len(path) >= DEEPEST or canonical_of(named) in path:
            found.missing.append(other)
        else:
            _translate_by(named, question, found, find_map, path)


def to_parameters(
    translated: Translated, *, way: str = "forth", tells_source: bool = False
) -> dict[str, Any]:
    """Return the operation's output.

    `way`: the concept answered is the target (`forth`), the source (`back`), or the target with
    the source beside it (`both`). `tells_source` adds the address of the map as R4 names it; R5
    names it `originMap`.
    """
    matches = translated.matches
    parameters: list[dict[str, Any]] = [
        {"name": "result", "valueBoolean": any(m.equivalence not in NO_MATCH for m in matches)}
    ]
    if not matches:
        parameters.append({"name": "message", "valueString": _why_nothing(translated)})
    parameters += [_match(match, way, tells_source=tells_source) for match in matches]
    return {"resourceType": "Parameters", "parameter": parameters}


def _why_nothing(translated: Translated) -> str:
    if translated.needed:
        names = ", ".join(dict.fromkeys(translated.needed))
        return (
            f"The translation depends on {names}, which is not given as dependency or has another"
            f" value than the map needs / 该转换依赖于 {names}，而 dependency 未给出其值或值不符"
        )
    if translated.missing:
        names = ", ".join(dict.fromkeys(translated.missing))
        return (
            f"For this code the map names another one that cannot be followed: {names}"
            f" / 该映射对此代码指向另一映射，但无法使用：{names}"
        )
    return "No map translates this code / 没有映射可以转换此代码"


def _match(match: Match, way: str, *, tells_source: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "equivalence", "valueCode": match.equivalence}]
    source = _without_none({"system": match.source_system, "code": match.source_code})
    if way == "back":
        parts.append({"name": "concept", "valueCoding": source})
    elif match.code is not None:
        coding = {"system": match.system, "code": match.code, "display": match.display}
        parts.append({"name": "concept", "valueCoding": _without_none(coding)})
    parts += [_product(one, is_r4=tells_source) for one in match.products]
    if way == "both":
        parts.append({"name": "source", "valueCoding": source})
    elif tells_source:
        parts.append({"name": "source", "valueUri": match.origin})
    parts.append({"name": "originMap", "valueCanonical": match.origin})
    return {"name": "match", "part": parts}


def _product(entry: Entry, *, is_r4: bool) -> dict[str, Any]:
    names = ("element", "concept") if is_r4 else ("attribute", "value")
    value = {"system": entry.system, "code": entry.value, "display": entry.display}
    return {
        "name": "product",
        "part": [
            {"name": names[0], "valueUri": entry.element},
            {"name": names[1], "valueCoding": _without_none(value)},
        ],
    }


def _without_none(element: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in element.items() if value is not None}


def _fits(concept_map: Mapping[str, Any], question: TranslationQuestion) -> bool:
    def scope(*names: str) -> str | None:
        return next((concept_map[name] for name in names if name in concept_map), None)

    source = scope("sourceUri", "sourceCanonical", "sourceScopeUri", "sourceScopeCanonical")
    target = scope("targetUri", "targetCanonical", "targetScopeUri", "targetScopeCanonical")
    return question.source in (None, source) and question.target in (None, target)


def _forward(
    question: TranslationQuestion,
    concept_map: Mapping[str, Any],
    group: Mapping[str, Any],
    found: Translated,
) -> Iterator[Match]:
    if not _is_of_systems(question, group):
        return
    elements = _elements(question, group)
    for element in elements:
        for target in element.get("target", ()):
            needed = unmet(entries_of(target.get("dependsOn", ())), question.dependencies)
            if needed:
                found.needed.extend(needed)
                continue
            yield Match(
                equivalence=_equivalence(target),
                system=group.get("target"),
                code=target.get("code"),
                display=target.get("display"),
                source_system=group.get("source"),
                source_code=question.code,
                origin=canonical_of(concept_map),
                products=entries_of(target.get("product", ())),
            )
    unmapped = group.get("unmapped")
    if unmapped and not elements and question.system is not None:
        yield from _unmapped(question, group, unmapped, canonical_of(concept_map))


def _is_of_systems(question: TranslationQuestion, group: Mapping[str, Any]) -> bool:
    return question.system in (None, group.get("source")) and question.target_system in (
        None,
        group.get("target"),
    )


def _elements(question: TranslationQuestion, group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in group.get("element", ()) if one.get("code") == question.code]


def _other_map(question: TranslationQuestion, group: Mapping[str, Any]) -> str | None:
    """Return the map that a group names for a code of its source that it does not have itself."""
    unmapped = group.get("unmapped", {})
    if unmapped.get("mode") != "other-map" or question.system is None:
        return None
    if not _is_of_systems(question, group) or _elements(question, group):
        return None
    url = unmapped.get("url", unmapped.get("otherMap"))
    return url if isinstance(url, str) else None


def _unmapped(
    question: TranslationQuestion,
    group: Mapping[str, Any],
    unmapped: Mapping[str, Any],
    origin: str,
) -> Iterator[Match]:
    mode = unmapped.get("mode")
    is_same = mode in ("provided", "use-source-code")
    if mode == "fixed" or is_same:
        yield Match(
            equivalence="equivalent" if is_same else "inexact",
            system=group.get("target"),
            code=question.code if is_same else unmapped.get("code"),
            display=None if is_same else unmapped.get("display"),
            source_system=group.get("source"),
            source_code=question.code,
            origin=origin,
        )


def _backward(
    question: TranslationQuestion, concept_map: Mapping[str, Any], group: Mapping[str, Any]
) -> Iterator[Match]:
    """Read the map from right to left: the code asked for is a target, the answer a source.

    All codes that might be meant are answered; what a translation depends on and what it gives
    beside its code change places.
    """
    if not _is_of_systems(question, group):
        return
    for element in group.get("element", ()):
        for target in element.get("target", ()):
            needed = entries_of(target.get("dependsOn", ()))
            others = (*needed, *entries_of(target.get("product", ())))
            is_meant = target.get("code") == question.code
            if is_meant and not contradicts(others, question.dependencies):
                equivalence = _equivalence(target)
                yield Match(
                    equivalence=TURNED.get(equivalence, equivalence),
                    system=group.get("target"),
                    code=question.code,
                    display=target.get("display"),
                    source_system=group.get("source"),
                    source_code=element["code"],
                    origin=canonical_of(concept_map),
                    products=needed,
                )


def _equivalence(target: Mapping[str, Any]) -> str:
    if "equivalence" in target:
        return str(target["equivalence"])
    return EQUIVALENCE_OF_RELATIONSHIP.get(target.get("relationship", ""), "relatedto")
