"""The concept maps of the package as ConceptMap resources, from readable rows.

https://hl7.org/fhir/R4/conceptmap.html
"""

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.cphc import BASE, VERSION
from conformance.cphc.code_systems import CONFIDENCE, CONFIDENCE_EXTENSION, sources
from conformance.yaml_text import read_yaml


def concept_maps() -> Iterator[dict[str, Any]]:
    """Yield every ConceptMap of the package."""
    maps = read_yaml((sources() / "concept_maps.yaml").read_text("utf-8"))
    for name, entry in maps.items():
        chinese, english = entry["title"]
        id_ = f"cphc-cm-{name}"
        yield {
            "resourceType": "ConceptMap",
            "id": id_,
            "extension": [{"url": CONFIDENCE_EXTENSION, "valueCode": entry["confidence"]}],
            "url": f"{BASE}/ConceptMap/{id_}",
            "version": VERSION,
            "name": "".join(part.capitalize() for part in id_.split("-")),
            "title": f"{chinese} ({english})",
            "status": "active",
            "purpose": f"{entry['source']}. Confidence: {CONFIDENCE[entry['confidence']]}.",
            "group": list(_groups(entry)),
        }


def _groups(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one group for each target system, each source code once in it."""
    usual = _address(entry["to"])
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for code, *rest in entry["rows"]:
        written, equivalence, comment = [*rest, None, None, None][:3]
        system, _, code_there = str(written or "").rpartition("|")
        targets = groups.setdefault(system or usual, {}).setdefault(code, [])
        if written is None:
            targets.append({"equivalence": "unmatched"})
            continue
        target = {"code": code_there, "equivalence": equivalence or "equivalent"}
        targets.append(target | ({"comment": comment} if comment else {}))
    for system, elements in groups.items():
        yield {
            "source": _address(entry["from"]),
            "target": system,
            "element": [{"code": code, "target": found} for code, found in elements.items()],
        }


def _address(name: str) -> str:
    return name if "://" in name else f"{BASE}/CodeSystem/{name}"
