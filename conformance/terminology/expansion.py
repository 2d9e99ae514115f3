"""ValueSet/$expand: https://hl7.org/fhir/R4/valueset-operation-expand.html.

What only R5 has a place for (properties of the codes) is carried in the cross-version extensions.
"""

import datetime
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.terminology.concepts import value_of
from conformance.terminology.languages import wording
from conformance.terminology.library import Library
from conformance.terminology.members import Key, Member, Reading, canonical_of, members_of

_R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ValueSet.expansion"
PROPERTY_EXTENSION = f"{_R5}.property"
CONTAINS_PROPERTY_EXTENSION = f"{_R5}.contains.property"
STANDARDS_STATUS = "http://hl7.org/fhir/StructureDefinition/structuredefinition-standards-status"
SUPPLEMENT_EXTENSION = "http://hl7.org/fhir/StructureDefinition/valueset-supplement"
_FHIR = "http://hl7.org/fhir/StructureDefinition/"
_CONCEPT_PROPERTIES = "http://hl7.org/fhir/concept-properties#"

_RENDERING = {f"{_FHIR}{name}" for name in ("rendering-style", "rendering-xhtml")}
_KEPT_EXTENSIONS = _RENDERING | {
    STANDARDS_STATUS,
    f"{_FHIR}valueset-deprecated",
    f"{_FHIR}valueset-concept-definition",
}
"""Extensions that travel with a code: what the value set says, and how to show the concept."""
_KEPT_ON_DESIGNATION = {f"{_FHIR}coding-sctdescid", STANDARDS_STATUS}

_PROPERTY_OF_EXTENSION = {
    f"{_FHIR}codesystem-conceptOrder": "order",
    f"{_FHIR}valueset-conceptOrder": "order",
    f"{_FHIR}codesystem-label": "label",
    f"{_FHIR}valueset-label": "label",
    f"{_FHIR}itemWeight": "weight",
    f"{_FHIR}ordinalValue": "weight",
    STANDARDS_STATUS: "status",
}
_PROPERTY_URIS = {
    "order": f"{_CONCEPT_PROPERTIES}order",
    "label": f"{_CONCEPT_PROPERTIES}label",
    "weight": f"{_CONCEPT_PROPERTIES}itemWeight",
    "definition": f"{_CONCEPT_PROPERTIES}definition",
    "status": f"{_CONCEPT_PROPERTIES}status",
}
_HEADER = (
    "resourceType", "id", "meta", "language", "contained", "extension", "url", "identifier",
    "version", "name", "title", "status", "experimental", "date", "publisher",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandOptions:
    """The parameters of $expand, named as the operation names them in Python's spelling."""

    filter: str | None = None
    offset: int | None = None
    count: int | None = None
    active_only: bool | None = None
    exclude_nested: bool | None = None
    include_designations: bool | None = None
    include_definition: bool | None = None
    display_language: str | None = None
    properties: tuple[str, ...] = ()
    supplements: tuple[str, ...] = ()
    designations: tuple[str, ...] = ()
    excluded_systems: tuple[str, ...] = ()
    identifier: Callable[[], str] = lambda: f"urn:uuid:{uuid.uuid4()}"


def expand(
    value_set: Mapping[str, Any],
    library: Library,
    options: ExpandOptions,
    *,
    now: datetime.datetime,
) -> dict[str, Any]:
    """Return the value set with its expansion; raises NotFound, InvalidContent, TooCostly."""
    reading = Reading(library=library, supplements=_supplements(value_set, library, options))
    members = list(members_of(value_set, reading).values())
    if options.excluded_systems:
        members = [member for member in members if not _is_excluded(member, options, reading)]
    if options.active_only:
        members = [member for member in members if not member.is_inactive]
    if options.filter:
        words = options.filter.casefold().split()
        members = [member for member in members if _is_hit(member, words)]
    page = members[options.offset or 0 :]
    page = page if options.count is None else page[: options.count]
    spoken = {s.url: s.resource.get("language") for s in reading.systems.values()}
    shown = {(m.system, m.code): _contains(m, options, spoken.get(m.system)) for m in page}
    is_nested = not options.exclude_nested and len(page) == len(members)
    top = _nest(page, shown, value_set) if is_nested else list(shown.values())
    expansion: dict[str, Any] = {
        "identifier": options.identifier(),
        "timestamp": now.isoformat(timespec="seconds"),
        "total": len(members),
        "parameter": _echo(options, value_set, reading),
    }
    if options.offset is not None:
        expansion["offset"] = options.offset
    declared = _declared_properties(shown.values(), reading, options)
    if reading.partial:
        declared.insert(0, {"url": f"{_FHIR}valueset-unclosed", "valueBoolean": True})
    if declared:
        expansion["extension"] = declared
    if top:
        expansion["contains"] = top
    if not expansion["parameter"]:
        del expansion["parameter"]
    names = (*_HEADER, "compose") if options.include_definition else _HEADER
    header = {name: value_set[name] for name in names if name in value_set}
    kept = [e for e in header.pop("extension", ()) if e.get("url") != STANDARDS_STATUS]
    if kept:
        header["extension"] = kept
    return {"resourceType": "ValueSet", **header, "expansion": expansion}


def _supplements(
    value_set: Mapping[str, Any], library: Library, options: ExpandOptions
) -> tuple[str, ...]:
    """Return what the value set itself and the caller ask to merge in; raises NotFound."""
    own = [
        str(value_of(extension))
        for extension in value_set.get("extension", ())
        if extension.get("url") == SUPPLEMENT_EXTENSION
    ]
    return library.require_supplements(dict.fromkeys([*own, *options.supplements]))


def _is_excluded(member: Member, options: ExpandOptions, reading: Reading) -> bool:
    versions = {s.url: s.canonical for s in reading.systems.values()}
    named = {member.system, versions.get(member.system)}
    return any(one in named for one in options.excluded_systems)


def _is_hit(member: Member, words: Iterable[str]) -> bool:
    texts = [member.code, member.display or ""]
    if member.concept:
        texts += [str(d.get("value", "")) for d in member.concept.designations]
    folded = [text.casefold() for text in texts]
    return all(any(word in text for text in folded) for word in words)


def _contains(member: Member, options: ExpandOptions, language: str | None) -> dict[str, Any]:
    concept = member.concept
    entry: dict[str, Any] = {}
    has_more = member.enumerated or (concept and (concept.extensions or concept.properties))
    if has_more or "definition" in options.properties:
        extensions = _kept_extensions(member) + _properties(member, options)
        if extensions:
            entry["extension"] = extensions
    entry["system"] = member.system
    if concept and concept.is_abstract:
        entry["abstract"] = True
    if member.is_inactive:
        entry["inactive"] = True
    entry["code"] = member.code
    display = _display(member, options, language)
    if display:
        entry["display"] = display
    if options.include_designations and (designations := _wanted_designations(member, options)):
        entry["designation"] = designations
    return entry


def _display(member: Member, options: ExpandOptions, language: str | None) -> str | None:
    """Return the wording in the language asked for, where one stands; else the usual one."""
    if not options.display_language:
        return member.display
    return wording(member.display, language, _designations(member), options.display_language)


def _designations(member: Member) -> list[dict[str, Any]]:
    of_concept = member.concept.designations if member.concept else ()
    return [_designation(d) for d in (*member.enumerated.get("designation", ()), *of_concept)]


def _wanted_designations(member: Member, options: ExpandOptions) -> list[dict[str, Any]]:
    """Return the designations, or of them those that `designation` names: a language or a use."""
    found = _designations(member)
    if not options.designations:
        return found
    return [one for one in found if any(_is_named(one, name) for name in options.designations)]


def _is_named(designation: Mapping[str, Any], name: str) -> bool:
    system, _, code = name.rpartition("|")
    if (
        system in ("", "urn:ietf:bcp:47")
        and designation.get("language", "").lower() == code.lower()
    ):
        return True
    use = designation.get("use", {})
    return bool(system) and (use.get("system"), use.get("code")) == (system, code)


def _designation(designation: Mapping[str, Any]) -> dict[str, Any]:
    known = [e for e in designation.get("extension", ()) if e.get("url") in _KEPT_ON_DESIGNATION]
    own = {k: v for k, v in designation.items() if k not in ("extension", "source")}
    return {"extension": known, **own} if known else own


def _kept_extensions(member: Member) -> list[Any]:
    of_concept = member.concept.extensions if member.concept else ()
    kept: dict[str, Any] = {}
    for extension in member.enumerated.get("extension", ()):
        if extension.get("url") in _KEPT_EXTENSIONS:
            kept.setdefault(extension["url"], extension)
    for extension in of_concept:
        if extension.get("url") in _RENDERING:
            kept.setdefault(extension["url"], extension)
    return list(kept.values())


def _properties(member: Member, options: ExpandOptions) -> list[dict[str, Any]]:
    """Return what is known of a code beside its display, as extensions."""
    found: dict[str, list[tuple[str, Any]]] = {}
    own = [e for e in member.enumerated.get("extension", ()) if e.get("url") != STANDARDS_STATUS]
    of_concept = member.concept.extensions if member.concept else ()
    for extension in (*own, *of_concept):
        code = _PROPERTY_OF_EXTENSION.get(extension.get("url", ""))
        if code and code not in found:
            name, value = next(item for item in extension.items() if item[0].startswith("value"))
            found[code] = [("valueDecimal" if name == "valueInteger" else name, value)]
    if member.concept:
        if "definition" in options.properties and member.concept.definition:
            found.setdefault("definition", [("valueString", member.concept.definition)])
        for element in member.concept.properties:
            code = element["code"]
            if code in options.properties or code == "status":
                value = next(item for item in element.items() if item[0].startswith("value"))
                found.setdefault(code, []).append(value)
    return [
        {
            "url": CONTAINS_PROPERTY_EXTENSION,
            "extension": [{"url": "code", "valueCode": code}, {"url": "value", kind: value}],
        }
        for code, values in found.items()
        for kind, value in values
    ]


def _declared_properties(
    shown: Iterable[Mapping[str, Any]], reading: Reading, options: ExpandOptions
) -> list[dict[str, Any]]:
    used = {
        extension["extension"][0]["valueCode"]
        for entry in shown
        for extension in entry.get("extension", ())
        if extension["url"] == CONTAINS_PROPERTY_EXTENSION
    }
    uris = dict(_PROPERTY_URIS)
    for system in reading.systems.values():
        resources = [system.resource]
        resources += filter(
            None, (reading.library.find("CodeSystem", s) for s in system.supplements)
        )
        for resource in resources:
            for declared in resource.get("property", ()):
                if declared["code"] in options.properties:
                    used.add(declared["code"])
                if "uri" in declared:
                    uris[declared["code"]] = declared["uri"]
    return [
        {
            "url": PROPERTY_EXTENSION,
            "extension": [
                {"url": "code", "valueCode": code},
                *([{"url": "uri", "valueUri": uris[code]}] if code in uris else []),
            ],
        }
        for code in sorted(used)
    ]


def _nest(
    page: Iterable[Member], shown: Mapping[Key, dict[str, Any]], value_set: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Put each code below its nearest ancestor in the value set; enumerated codes stay flat."""
    includes = value_set.get("compose", {}).get("include", ())
    if any("concept" in include or "system" not in include for include in includes):
        return list(shown.values())
    top = []
    for member in page:
        entry = shown[(member.system, member.code)]
        above = None
        if member.concept and member.concept.parents:
            keys = ((member.system, parent) for parent in member.concept.parents)
            above = next((shown[key] for key in keys if key in shown), None)
        if above is None:
            top.append(entry)
        else:
            above.setdefault("contains", []).append(entry)
    return top


def _echo(
    options: ExpandOptions, value_set: Mapping[str, Any], reading: Reading
) -> list[dict[str, Any]]:
    """Say what was asked, what was read, and what to be careful with."""
    asked: list[tuple[str, str, Any]] = [
        ("filter", "valueString", options.filter),
        ("offset", "valueInteger", options.offset),
        ("count", "valueInteger", options.count),
        ("activeOnly", "valueBoolean", options.active_only),
        ("excludeNested", "valueBoolean", options.exclude_nested),
        ("includeDesignations", "valueBoolean", options.include_designations),
        ("includeDefinition", "valueBoolean", options.include_definition),
        (
            "displayLanguage",
            "valueCode",
            " ".join((options.display_language or "").split()) or None,
        ),
    ]
    asked += [("designation", "valueString", name) for name in options.designations]
    asked += [("exclude-system", "valueUri", name) for name in options.excluded_systems]
    parameters = [{"name": n, kind: value} for n, kind, value in asked if value is not None]
    supplements = {s for system in reading.systems.values() for s in system.supplements}
    used = [
        ("used-codesystem", list(reading.systems)),
        ("used-valueset", list(reading.imports)),
        ("used-supplement", sorted(supplements)),
    ]
    parameters += [{"name": name, "valueUri": uri} for name, uris in used for uri in uris]
    parameters += [
        {"name": f"warning-{status}", "valueUri": uri}
        for uri, status in cautions(value_set, reading)
    ]
    return parameters


def cautions(value_set: Mapping[str, Any], reading: Reading) -> list[tuple[str, str]]:
    """Return (canonical, status) of all that was read and is draft, experimental or withdrawn."""
    systems = [(canonical, system.resource) for canonical, system in reading.systems.items()]
    sets = [(canonical_of(value_set), value_set), *reading.imports.items()]
    found = []
    for canonical, resource in systems:
        if resource.get("status") == "draft":
            found.append((canonical, "draft"))
        elif resource.get("experimental") and not value_set.get("experimental"):
            found.append((canonical, "experimental"))
    for canonical, resource in (*systems, *sets):
        status = next(
            (
                value_of(extension)
                for extension in resource.get("extension", ())
                if extension.get("url") == STANDARDS_STATUS
            ),
            None,
        )
        if status in ("deprecated", "withdrawn"):
            found.append((canonical, str(status)))
    return found
