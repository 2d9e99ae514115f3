"""National and own code lists as CodeSystem and ValueSet resources, built from CSV sources.

Each says where it is from and how sure we are of it, in `purpose` and in an extension.
"""

import csv
import functools
import importlib.resources
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from typing import Any

from conformance.cphc import BASE, VERSION
from conformance.yaml_text import read_yaml

CONFIDENCE_EXTENSION = f"{BASE}/StructureDefinition/cphc-confidence"
CONFIDENCE = {
    "official": "official: the owner's publication",
    "secondary": "secondary source: check against the official text before certifying",
    "expert": "expert knowledge: confirm against the official text before certifying",
    "design": "design: the hub's own choice",
}


def sources() -> Traversable:
    """Return the folder of readable sources that ship with the package."""
    return importlib.resources.files("conformance.cphc") / "sources"


@functools.cache
def code_systems() -> tuple[dict[str, Any], ...]:
    """Return every CodeSystem of the package."""
    folder = sources() / "code_systems"
    entries = read_yaml((folder / "index.yaml").read_text("utf-8"))
    national = [_code_system(entry, _rows(folder / f"{entry['id']}.csv")) for entry in entries]
    return (*national, *_own_code_systems())


def _own_code_systems() -> Iterator[dict[str, Any]]:
    own = read_yaml((sources() / "own_code_systems.yaml").read_text("utf-8"))
    for name, entry in own.items():
        chinese, english = entry["title"]
        heading = {
            "id": f"cphc-{name}",
            "title": {"zh": chinese, "en": english},
            "version": VERSION,
            "source": entry.get("source", "The hub's own list"),
            "confidence": "secondary" if "source" in entry else "design",
        }
        rows = [
            {"code": code, "display": text, "english": gloss, "parent": ""}
            for code, text, gloss in entry["codes"]
        ]
        yield _code_system(heading, rows)


def value_sets() -> Iterator[dict[str, Any]]:
    """Yield a ValueSet of all codes for each CodeSystem, then those of value_sets.yaml."""
    for system in code_systems():
        yield _value_set(system["id"], system["title"], [{"system": system["url"]}])
    rows = read_yaml((sources() / "value_sets.yaml").read_text("utf-8"))
    for id_, chinese, english, systems in rows:
        include = [_include(system, codes) for system, codes in systems.items()]
        yield _value_set(id_, f"{chinese} ({english})", include)


def _value_set(id_: str, title: str, include: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "resourceType": "ValueSet",
        "id": id_,
        "url": f"{BASE}/ValueSet/{id_}",
        "version": VERSION,
        "name": "".join(part.capitalize() for part in id_.split("-")),
        "title": title,
        "status": "active",
        "compose": {"include": include},
    }


def _include(system: str, codes: list[str]) -> dict[str, Any]:
    url = system if "://" in system else f"{BASE}/CodeSystem/{system}"
    return {"system": url} | ({"concept": [{"code": code} for code in codes]} if codes else {})


def _rows(source: Traversable) -> list[dict[str, str]]:
    with source.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def _code_system(entry: Mapping[str, Any], rows: list[dict[str, str]]) -> dict[str, Any]:
    key = entry["id"]
    system: dict[str, Any] = {
        "resourceType": "CodeSystem",
        "id": key,
        "language": "zh",
        "extension": [{"url": CONFIDENCE_EXTENSION, "valueCode": entry["confidence"]}],
        "url": f"{BASE}/CodeSystem/{key}",
        "version": entry["version"],
        "name": "".join(part.capitalize() for part in key.split("-")),
        "title": f"{entry['title']['zh']} ({entry['title']['en']})",
        "status": "active",
        "purpose": f"{entry['source']}. Confidence: {CONFIDENCE[entry['confidence']]}.",
        "caseSensitive": True,
        "valueSet": f"{BASE}/ValueSet/{key}",
        "hierarchyMeaning": "is-a",
        "content": entry.get("content", "complete"),
        "count": len(rows),
        "concept": _concepts(rows, ""),
    }
    if oid := entry.get("oid"):
        system["identifier"] = [{"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{oid}"}]
    return system


def _concepts(rows: list[dict[str, str]], parent: str) -> list[dict[str, Any]]:
    concepts = []
    for row in rows:
        if row["parent"] != parent:
            continue
        concept: dict[str, Any] = {
            "code": row["code"],
            "display": row["display"],
            "designation": [{"language": "en", "value": row["english"]}],
        }
        if children := _concepts(rows, row["code"]):
            concept["concept"] = children
        concepts.append(concept)
    return concepts
