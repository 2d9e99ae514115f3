"""Packages of services to start from: ActivityDefinitions in force, PlanDefinitions as drafts."""

from collections.abc import Iterator
from typing import Any

from conformance.cphc import BASE, VERSION
from conformance.cphc.code_systems import sources
from conformance.yaml_text import read_yaml

_EXTENSION = f"{BASE}/StructureDefinition/cphc-"
_FOCUS = {"system": "http://terminology.hl7.org/CodeSystem/usage-context-type", "code": "focus"}


def service_packages() -> Iterator[dict[str, Any]]:
    """Yield the items and the packages of `service_packages.yaml`."""
    source = read_yaml((sources() / "service_packages.yaml").read_text("utf-8"))
    for code, row in source["items"].items():
        yield _item(code, *row)
    for name, row in source["packages"].items():
        yield _package(name, *row)


def _item(
    code: str,
    chinese: str,
    english: str,
    quota: int,
    every: list[Any],
    proof: list[str],
    populations: list[str],
) -> dict[str, Any]:
    item: dict[str, Any] = {
        "resourceType": "ActivityDefinition",
        "id": f"cphc-item-{code}",
        "extension": [
            {"url": f"{_EXTENSION}service-quota", "valueInteger": quota},
            *({"url": f"{_EXTENSION}evidence-rule", "valueCode": one} for one in proof),
        ],
        "url": f"{BASE}/ActivityDefinition/cphc-item-{code}",
        "version": VERSION,
        "name": "".join(part.capitalize() for part in code.split("-")),
        "title": f"{chinese} ({english})",
        "status": "active",
        "kind": "Task",
        "code": {
            "coding": [
                {
                    "system": f"{BASE}/CodeSystem/cphc-service-item",
                    "code": code,
                    "display": chinese,
                }
            ]
        },
        "timingTiming": {"repeat": {"frequency": 1, "period": every[0], "periodUnit": every[1]}},
    }
    return _for(item, populations)


def _package(
    name: str,
    chinese: str,
    english: str,
    category: str,
    populations: list[str],
    items: list[str],
) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "resourceType": "PlanDefinition",
        "id": f"cphc-package-{name}",
        "extension": [{"url": f"{_EXTENSION}contract-category", "valueCode": category}],
        "url": f"{BASE}/PlanDefinition/cphc-package-{name}",
        "version": VERSION,
        "name": f"{name.capitalize()}Package",
        "title": f"{chinese} ({english})",
        "status": "draft",
        "action": [
            {"definitionCanonical": f"{BASE}/ActivityDefinition/cphc-item-{item}|{VERSION}"}
            for item in items
        ],
    }
    if category == "personalised":
        plan["relatedArtifact"] = [
            {"type": "composed-of", "resource": f"{BASE}/PlanDefinition/cphc-package-basic"}
        ]
    return _for(plan, populations)


def _for(definition: dict[str, Any], populations: list[str]) -> dict[str, Any]:
    """Return the definition with the key populations it is for."""
    system = f"{BASE}/CodeSystem/cphc-key-population"
    if populations:
        definition["useContext"] = [
            {
                "code": _FOCUS,
                "valueCodeableConcept": {"coding": [{"system": system, "code": one}]},
            }
            for one in populations
        ]
    return definition
