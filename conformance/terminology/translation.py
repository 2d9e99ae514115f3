"""ConceptMap/$translate, both ways: https://hl7.org/fhir/R4/conceptmap-operation-translate.html.

R5 maps (`relationship`) are read as their R4 equivalents.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One translation; `equivalence` says how the target stands to the source."""

    equivalence: str
    system: str | None
    code: str | None
    display: str | None
    source_system: str | None
    source_code: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationQuestion:
    """A code to translate, and where from and to; None leaves it open."""

    code: str
    system: str | None
    target_system: str | None
    source: str | None = None
    target: str | None = None
    reverse: bool = False


def translate(question: TranslationQuestion, maps: Iterable[Mapping[str, Any]]) -> list[Match]:
    """Return every match that the maps know, in their order."""
    return [
        match
        for concept_map in maps
        if _fits(concept_map, question)
        for group in concept_map.get("group", ())
        for match in (_backward if question.reverse else _forward)(question, concept_map, group)
    ]


def to_parameters(
    matches: Iterable[Match], *, way: str = "forth", tells_source: bool = False
) -> dict[str, Any]:
    """Return the operation's output.

    `way`: the concept answered is the target (`forth`), the source (`back`), or the target with
    the source beside it (`both`). `tells_source` adds the address of the map as R4 names it; R5
    names it `originMap`.
    """
    matches = list(matches)
    parameters: list[dict[str, Any]] = [
        {"name": "result", "valueBoolean": any(m.equivalence not in NO_MATCH for m in matches)}
    ]
    if not matches:
        text = "No map translates this code / 没有映射可以转换此代码"
        parameters.append({"name": "message", "valueString": text})
    parameters += [_match(match, way, tells_source=tells_source) for match in matches]
    return {"resourceType": "Parameters", "parameter": parameters}


def _match(match: Match, way: str, *, tells_source: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "equivalence", "valueCode": match.equivalence}]
    source = _without_none({"system": match.source_system, "code": match.source_code})
    if way == "back":
        parts.append({"name": "concept", "valueCoding": source})
    elif match.code is not None:
        coding = {"system": match.system, "code": match.code, "display": match.display}
        parts.append({"name": "concept", "valueCoding": _without_none(coding)})
    if way == "both":
        parts.append({"name": "source", "valueCoding": source})
    elif tells_source:
        parts.append({"name": "source", "valueUri": match.origin})
    parts.append({"name": "originMap", "valueCanonical": match.origin})
    return {"name": "match", "part": parts}


def _without_none(element: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in element.items() if value is not None}


def _fits(concept_map: Mapping[str, Any], question: TranslationQuestion) -> bool:
    def scope(*names: str) -> str | None:
        return next((concept_map[name] for name in names if name in concept_map), None)

    source = scope("sourceUri", "sourceCanonical", "sourceScopeUri", "sourceScopeCanonical")
    target = scope("targetUri", "targetCanonical", "targetScopeUri", "targetScopeCanonical")
    return question.source in (None, source) and question.target in (None, target)


def _forward(
    question: TranslationQuestion, concept_map: Mapping[str, Any], group: Mapping[str, Any]
) -> Iterator[Match]:
    if question.system not in (None, group.get("source")):
        return
    if question.target_system not in (None, group.get("target")):
        return
    origin = canonical_of(concept_map)
    elements = [e for e in group.get("element", ()) if e.get("code") == question.code]
    for element in elements:
        for target in element.get("target", ()):
            yield Match(
                equivalence=_equivalence(target),
                system=group.get("target"),
                code=target.get("code"),
                display=target.get("display"),
                source_system=group.get("source"),
                source_code=question.code,
                origin=origin,
            )
    unmapped = group.get("unmapped")
    if unmapped and not elements and question.system is not None:
        yield from _unmapped(question, group, unmapped, origin)


def _unmapped(
    question: TranslationQuestion,
    group: Mapping[str, Any],
    unmapped: Mapping[str, Any],
    origin: str,
) -> Iterator[Match]:
    mode = unmapped.get("mode")
    if mode in ("fixed", "provided"):
        yield Match(
            equivalence="equivalent" if mode == "provided" else "inexact",
            system=group.get("target"),
            code=question.code if mode == "provided" else unmapped.get("code"),
            display=None if mode == "provided" else unmapped.get("display"),
            source_system=group.get("source"),
            source_code=question.code,
            origin=origin,
        )


def _backward(
    question: TranslationQuestion, concept_map: Mapping[str, Any], group: Mapping[str, Any]
) -> Iterator[Match]:
    """Read the map from right to left: the code asked for is a target, the answer a source."""
    if question.target_system not in (None, group.get("target")):
        return
    if question.system not in (None, group.get("source")):
        return
    for element in group.get("element", ()):
        for target in element.get("target", ()):
            if target.get("code") == question.code:
                equivalence = _equivalence(target)
                yield Match(
                    equivalence=TURNED.get(equivalence, equivalence),
                    system=group.get("target"),
                    code=question.code,
                    display=target.get("display"),
                    source_system=group.get("source"),
                    source_code=element["code"],
                    origin=canonical_of(concept_map),
                )


def _equivalence(target: Mapping[str, Any]) -> str:
    if "equivalence" in target:
        return str(target["equivalence"])
    return EQUIVALENCE_OF_RELATIONSHIP.get(target.get("relationship", ""), "relatedto")
