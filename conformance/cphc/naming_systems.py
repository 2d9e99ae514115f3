"""The systems of identifiers and codes as NamingSystem resources, from readable rows.

https://hl7.org/fhir/R4/namingsystem.html; R4 gives a NamingSystem no address of its own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.cphc import BASE
from conformance.cphc.code_systems import CONFIDENCE, CONFIDENCE_EXTENSION, code_systems, sources
from conformance.yaml_text import read_yaml

DATE = "2026-11-22"
_SEEN = "OID from V3 messages and CDA documents as seen"
V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"


def naming_systems() -> Iterator[dict[str, Any]]:
    """Yield every NamingSystem of the package, code lists with an OID included."""
    source = read_yaml((sources() / "naming_systems.yaml").read_text("utf-8"))
    for name, row in source["rows"].items():
        yield _naming_system(name, row)
    for system in code_systems():
        if "identifier" in system or system["id"] in source["lists"]:
            yield _of_list(system)


def name_of(system: str) -> str:
    """Return a system as NamingSystem.uniqueId has it: an OID without `urn:oid:`."""
    return system.removeprefix("urn:oid:")


def _naming_system(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    chinese, english = row["title"]
    id_ = f"cphc-ns-{name}"
    own = row.get("oid", f"{BASE}/NamingSystem/{id_}")
    source = row.get("source", _SEEN)
    confidence = "design" if "uri" in row else "secondary"
    found = _head(id_, row.get("kind", "identifier"), confidence)
    if "type" in row:
        found["type"] = {"coding": [{"system": V2_0203, "code": row["type"]}]}
    found["description"] = f"{chinese} ({english}). {source}. Confidence: {CONFIDENCE[confidence]}."
    if "usage" in row:
        found["usage"] = row["usage"]
    found["uniqueId"] = [_unique(own, is_preferred=True)]
    for other in row.get("others", ()):
        found["uniqueId"].append(_unique(other, comment=row["comment"]))
    return found


def _of_list(system: Mapping[str, Any]) -> dict[str, Any]:
    """Return the NamingSystem of a code list: its address, and the OID that others write."""
    confidence = system["extension"][0]["valueCode"]
    found = _head(f"cphc-ns-{system['id'].removeprefix('cphc-')}", "codesystem", confidence)
    found["description"] = f"{system['title']}. {system['purpose']}"
    found["uniqueId"] = [_unique(system["url"], is_preferred=True)]
    for identifier in system.get("identifier", ()):
        found["uniqueId"].append(_unique(name_of(identifier["value"]), is_preferred=True))
    return found


def _head(id_: str, kind: str, confidence: str) -> dict[str, Any]:
    return {
        "resourceType": "NamingSystem",
        "id": id_,
        "extension": [{"url": CONFIDENCE_EXTENSION, "valueCode": confidence}],
        "name": "".join(part.capitalize() for part in id_.split("-")),
        "status": "active",
        "kind": kind,
        "date": DATE,
    }


def _unique(name: str, *, is_preferred: bool = False, comment: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "uri" if "://" in name else "oid", "value": name}
    if is_preferred:  # nsd-2: one preferred name of each type
        found["preferred"] = True
    return found | ({"comment": comment} if comment else {})
