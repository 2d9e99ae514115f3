"""Profiles, extensions and search parameters of the package, from readable rows."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.cphc import BASE, VERSION
from conformance.cphc.agreement_template import agreement_template
from conformance.cphc.code_systems import code_systems, sources, value_sets
from conformance.cphc.concept_maps import concept_maps
from conformance.cphc.naming_systems import V2_0203, naming_systems
from conformance.cphc.operations import operation_definitions
from conformance.cphc.service_packages import service_packages
from conformance.forms.option_lists import option_value_sets
from conformance.forms.questionnaires import questionnaires
from conformance.yaml_text import read_yaml

CORE = "http://hl7.org/fhir/StructureDefinition"
FHIR_VERSION = "4.0.1"
UCUM = "http://unitsofmeasure.org"


def package() -> Iterator[dict[str, Any]]:
    """Yield every resource of the package `cn.cphc.core`."""
    yield from code_systems()
    yield from value_sets()
    yield from option_value_sets()
    yield from concept_maps()
    yield from naming_systems()
    yield from extensions()
    yield from profiles()
    yield from search_parameters()
    yield from operation_definitions()
    yield from questionnaires().values()
    yield from service_packages()
    yield agreement_template()


@functools.cache
def _read(name: str) -> Any:
    return read_yaml((sources() / f"{name}.yaml").read_text("utf-8"))


def _head(resource_type: str, id_: str, chinese: str, english: str) -> dict[str, Any]:
    return {
        "resourceType": resource_type,
        "id": id_,
        "url": f"{BASE}/{resource_type}/{id_}",
        "version": VERSION,
        "name": "".join(part.capitalize() for part in id_.split("-")),
        "title": f"{chinese} ({english})",
        "status": "active",
    }


def value_set_of(name: str) -> str:
    """Return the canonical address of a list's value set."""
    return f"{BASE}/ValueSet/cphc-{name}"


def extensions() -> Iterator[dict[str, Any]]:
    """Yield the extensions as StructureDefinitions."""
    for name, kind, contexts, chinese, english in _read("extensions"):
        head = _head("StructureDefinition", f"cphc-{name}", chinese, english)
        type_, _, detail = kind.partition(":")
        value: dict[str, Any] = {
            "id": "Extension.value[x]",
            "path": "Extension.value[x]",
            "min": 1,
            "type": [{"code": type_}],
        }
        if type_ == "Reference" and detail:
            value["type"][0]["targetProfile"] = [f"{CORE}/{detail}"]
        elif detail:
            value["binding"] = {"strength": "required", "valueSet": value_set_of(detail)}
        yield {
            **head,
            "fhirVersion": FHIR_VERSION,
            "kind": "complex-type",
            "abstract": False,
            "context": [{"type": "element", "expression": context} for context in contexts],
            "type": "Extension",
            "baseDefinition": f"{CORE}/Extension",
            "derivation": "constraint",
            "differential": {
                "element": [
                    {"id": "Extension", "path": "Extension", "short": chinese},
                    {"id": "Extension.extension", "path": "Extension.extension", "max": "0"},
                    {"id": "Extension.url", "path": "Extension.url", "fixedUri": head["url"]},
                    value,
                ]
            },
        }


def profiles() -> Iterator[dict[str, Any]]:
    """Yield the profiles as StructureDefinitions with a differential."""
    for name, source in _read("profiles").items():
        type_ = source["type"]
        elements: list[dict[str, Any]] = [{"id": type_, "path": type_}]
        elements += _extension_slices(type_, source.get("extension", ()))
        for path, wanted in source["rows"]:
            elements += _elements(type_, path, wanted)
        yield {
            **_head("StructureDefinition", name, *source["title"]),
            "fhirVersion": FHIR_VERSION,
            "kind": "resource",
            "abstract": False,
            "type": type_,
            "baseDefinition": f"{CORE}/{type_}",
            "derivation": "constraint",
            "differential": {"element": elements},
        }


def _extension_slices(type_: str, names: list[str]) -> Iterator[dict[str, Any]]:
    path = f"{type_}.extension"
    if names:
        slicing = {"discriminator": [{"type": "value", "path": "url"}], "rules": "open"}
        yield {"id": path, "path": path, "slicing": slicing}
    for name in names:
        profile = f"{BASE}/StructureDefinition/cphc-{name}"
        slice_name = "".join(part.capitalize() for part in name.split("-"))
        yield {
            "id": f"{path}:{slice_name}",
            "path": path,
            "sliceName": slice_name,
            "type": [{"code": "Extension", "profile": [profile]}],
        }


def _elements(type_: str, path: str, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    full = f"{type_}.{path}"
    element: dict[str, Any] = {"id": full, "path": full}
    if "slices" in wanted:
        discriminator = [{"type": "pattern", "path": "$this"}]
        element["slicing"] = {"discriminator": discriminator, "rules": "open"}
    element |= {name: wanted[name] for name in ("min",) if name in wanted}
    if "max" in wanted:
        element["max"] = str(wanted["max"])
    if "targets" in wanted:
        profiles_ = [f"{CORE}/{target}" for target in wanted["targets"]]
        element["type"] = [{"code": "Reference", "targetProfile": profiles_}]
    if "fixed" in wanted:
        kind = "fixedBoolean" if isinstance(wanted["fixed"], bool) else "fixedCode"
        element[kind] = wanted["fixed"]
    if "pattern" in wanted:
        element["patternCodeableConcept"] = wanted["pattern"]
    for word, strength in (("values", "required"), ("prefers", "extensible")):
        if word in wanted:
            binding = {"strength": strength, "valueSet": value_set_of(wanted[word])}
            element["binding"] = binding
    if "measured" in wanted:
        element["type"] = [{"code": "Quantity"}]
    yield element
    if "measured" in wanted:
        yield {"id": f"{full}.system", "path": f"{full}.system", "min": 1, "fixedUri": UCUM}
        yield {"id": f"{full}.code", "path": f"{full}.code", "min": 1}
    yield from _slices(full, wanted.get("slices", {}))


def _slices(full: str, rows: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the slices of identifiers, each known by its system or by its type."""
    for name, row in rows.items():
        bounds = {"min": 0, **({"max": str(row["max"])} if "max" in row else {})}
        rules = [_rule(*rule) for rule in row.get("rules", ())]
        pattern = (
            {"system": row["system"]}
            if "system" in row
            else {"type": {"coding": [{"system": V2_0203, "code": row["type"]}]}}
        )
        sliced = {"id": f"{full}:{name}", "path": full, "sliceName": name, **bounds}
        sliced["patternIdentifier"] = pattern
        yield sliced | ({"constraint": rules} if rules else {})


def _rule(key: str, chinese: str, english: str, expression: str) -> dict[str, Any]:
    return {
        "key": key,
        "severity": "error",
        "human": f"{chinese} ({english})",
        "expression": " ".join(expression.split()),
    }


def search_parameters() -> Iterator[dict[str, Any]]:
    """Yield the search parameters beyond R4."""
    for type_, code, kind, expression, chinese, english in _read("search_parameters"):
        resource = {
            **_head("SearchParameter", f"cphc-{type_.lower()}-{code}", chinese, english),
            "description": english,
            "code": code,
            "base": [type_],
            "type": kind,
            "expression": expression,
        }
        resource.pop("title")
        yield resource
