"""The concept maps of the package as ConceptMap resources, from readable rows.

https://hl7.org/fhir/R4/conceptmap.html
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from conformance.cphc import BASE, VERSION
from conformance.cphc.code_systems import CONFIDENCE, CONFIDENCE_EXTENSION, sources
from conformance.yaml_text import read_yaml


class FormerCode(NamedTuple):
    """A code of an earlier edition: what it was called, its codes of today, the answer beside it.

    Several targets: a person chooses. `beside` is (linkId, code).
    """

    display: str | None
    targets: tuple[str, ...]
    beside: tuple[str, str] | None


@functools.cache
def _entries() -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = read_yaml(
        (sources() / "concept_maps.yaml").read_text("utf-8")
    )
    return found


@functools.cache
def former_codes() -> Mapping[tuple[str, str], Mapping[str, FormerCode]]:
    """Return the codes of earlier editions by (system they are stored under, system of today)."""
    found: dict[tuple[str, str], Mapping[str, FormerCode]] = {}
    for entry in _entries().values():
        if entry.get("former"):
            stored = _address(entry.get("stored", entry["from"]))
            found[(stored, _address(entry["to"]))] = _former(entry)
    return found


def _former(entry: Mapping[str, Any]) -> Mapping[str, FormerCode]:
    products = entry.get("products", {})
    link_id = str(products.get("question", "")).rpartition("#")[2]
    targets: dict[str, list[str]] = {}
    for code, target, *_ in entry["rows"]:
        targets.setdefault(code, []).append(target)
    return {
        code: FormerCode(
            display=entry.get("displays", {}).get(code),
            targets=tuple(codes),
            beside=(link_id, other) if (other := products.get("codes", {}).get(code)) else None,
        )
        for code, codes in targets.items()
    }


def concept_maps() -> Iterator[dict[str, Any]]:
    """Yield every ConceptMap of the package."""
    for name, entry in _entries().items():
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
        target |= {"comment": comment} if comment else {}
        targets.append(target | _product(entry.get("products"), code))
    for system, elements in groups.items():
        yield {
            "source": _address(entry["from"]),
            "target": system,
            "element": [
                {"code": code, **_display(entry, code), "target": found}
                for code, found in elements.items()
            ],
        }


def _display(entry: Mapping[str, Any], code: str) -> dict[str, str]:
    display = entry.get("displays", {}).get(code)
    return {"display": display} if display else {}


def _product(products: Mapping[str, Any] | None, code: str) -> dict[str, Any]:
    value = products["codes"].get(code) if products else None
    if products is None or value is None:
        return {}
    question = f"{BASE}/Questionnaire/{products['question']}"
    system = _address(products["system"])
    return {"product": [{"property": question, "system": system, "value": value}]}


def _address(name: str) -> str:
    return name if "://" in name else f"{BASE}/CodeSystem/{name}"
