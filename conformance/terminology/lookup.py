"""CodeSystem/$lookup and $subsumes.

https://hl7.org/fhir/R4/codesystem-operation-lookup.html
https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

from collections.abc import Iterable, Mapping
from typing import Any

from conformance.problem import Issue, NotFound
from conformance.terminology.concepts import CodeSystem, Concept
from conformance.terminology.languages import wording
from conformance.terminology.members import code_system_not_here


def look_up(
    system: CodeSystem, code: str, *, properties: Iterable[str] = (), language: str | None = None
) -> dict[str, Any]:
    """Return all that is known of a code; `properties` names those wanted, `*` all of them."""
    concept = require_concept(system, code)
    wanted = set(properties)
    parameters: list[dict[str, Any]] = [
        {"name": "name", "valueString": system.resource.get("name", system.url)},
        {"name": "display", "valueString": _display(system, concept, language)},
        {"name": "code", "valueCode": concept.code},
        {"name": "system", "valueUri": system.url},
        {"name": "abstract", "valueBoolean": concept.is_abstract},
    ]
    if system.version:
        parameters.append({"name": "version", "valueString": system.version})
    if concept.definition:
        parameters.append({"name": "definition", "valueString": concept.definition})
    parameters += [_designation(d) for d in (*_preferred(system, concept), *concept.designations)]
    parameters += _properties(system, concept, wanted)
    parameters += [
        {"name": "used-supplement", "valueCanonical": canonical} for canonical in system.supplements
    ]
    return {"resourceType": "Parameters", "parameter": parameters}


def subsumes(system: CodeSystem, code_a: str, code_b: str) -> dict[str, Any]:
    """Return how code A stands to code B: equivalent, subsumes, subsumed-by or not-subsumed."""
    a, b = require_concept(system, code_a).code, require_concept(system, code_b).code
    if a == b:
        outcome = "equivalent"
    elif a in system.ancestors(b):
        outcome = "subsumes"
    else:
        outcome = "subsumed-by" if b in system.ancestors(a) else "not-subsumed"
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "outcome", "valueCode": outcome}],
    }


def require_concept(system: CodeSystem, code: str) -> Concept:
    """Return the concept, or raise NotFound."""
    concept = system.find(code)
    if concept is None and system.is_name_only:
        raise NotFound(code_system_not_here(system.url))
    if concept is None:
        raise NotFound(
            Issue(
                code="not-found",
                key="code-not-found",
                text_en=f"The code system {system.canonical} has no code '{code}'",
                text_zh=f"代码系统 {system.canonical} 中没有代码“{code}”",
                fix_en="Check the code, or list the codes with ValueSet/$expand.",
                fix_zh="请核对代码，或用 ValueSet/$expand 列出全部代码。",
            )
        )
    return concept


def _display(system: CodeSystem, concept: Concept, language: str | None) -> str:
    own = system.resource.get("language")
    return wording(concept.display, own, concept.designations, language) or concept.code


def _preferred(system: CodeSystem, concept: Concept) -> Iterable[dict[str, Any]]:
    """Give the display itself as a designation where the code system says its language."""
    if "language" in system.resource and concept.display:
        use = {
            "system": "http://terminology.hl7.org/CodeSystem/hl7TermMaintInfra",
            "code": "preferredForLanguage",
        }
        yield {"language": system.resource["language"], "use": use, "value": concept.display}


def _designation(designation: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {
        "language": "valueCode", "use": "valueCoding", "value": "valueString",
        "source": "valueCanonical",
    }  # fmt: skip
    parts = [
        {"name": name, kind: designation[name]}
        for name, kind in kinds.items()
        if name in designation
    ]
    return {"name": "designation", "part": parts}


def _properties(system: CodeSystem, concept: Concept, wanted: set[str]) -> Iterable[dict[str, Any]]:
    every = "*" in wanted
    yield _property("inactive", "valueBoolean", concept.is_inactive)
    for name, codes in (("parent", concept.parents), ("child", concept.children)):
        if every or name in wanted:
            for code in codes:
                other = system.concepts.get(code)
                yield _property(name, "valueCode", code, other.display if other else None)
    for element in concept.properties:
        if element["code"] != "inactive" and (every or element["code"] in wanted):
            kind, value = next(item for item in element.items() if item[0].startswith("value"))
            yield _property(element["code"], kind, value)


def _property(code: str, kind: str, value: Any, text: str | None = None) -> dict[str, Any]:
    parts = [{"name": "code", "valueCode": code}, {"name": "value", kind: value}]
    if text:
        parts.append({"name": "description", "valueString": text})
    return {"name": "property", "part": parts}
