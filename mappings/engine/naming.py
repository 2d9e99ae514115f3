"""Names of authorities and coding systems between HL7 v2 and FHIR's URIs."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mappings.engine.context import Context

# http://hl7.org/fhir/R4/datatypes.html#oid, #uuid
_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


def system_of_authority(namespace: str, universal: str, kind: str, context: Context) -> str | None:
    """Return the identifier system of an assigning authority (HD).

    The channel's table comes first, then a real universal id, then a URI made of the namespace
    under the sender's own namespace, so that two senders' numbers never mix.
    """
    known = context.sender.authorities
    if known:
        for name in (f"{namespace}@{context.facility}", universal, namespace):
            if name and name in known:
                return known[name]
    if universal:
        if _OID.match(universal) and kind in {"ISO", ""}:
            return f"urn:oid:{universal}"
        if _UUID.match(universal):
            return f"urn:uuid:{universal.lower()}"
        if kind in {"URI", "URL"} and ":" in universal and " " not in universal:
            return universal
    name = namespace or universal
    if not name:
        return None
    return f"{context.sender.namespace}/{_slug(name)}"


def own_system(context: Context) -> str:
    """Return the system of numbers that the sender gives without naming an authority."""
    return f"{context.sender.namespace}/{_slug(context.facility) or 'sender'}"


@lru_cache(maxsize=4096)
def _slug(name: str) -> str:
    if name.isalnum():
        return name
    return "".join(
        letter
        if letter.isalnum() or letter in "-._"
        else "".join(f"%{octet:02X}" for octet in letter.encode())
        for letter in name.strip()
    )


# HL7 table 0396 and the names senders use -> FHIR's own URIs,
# http://hl7.org/fhir/R4/terminologies-systems.html
_CODE_SYSTEMS = {
    "LN": "http://loinc.org",
    "LOINC": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "SNM": "http://snomed.info/sct",
    "SNOMED": "http://snomed.info/sct",
    "SNOMED-CT": "http://snomed.info/sct",
    "UCUM": "http://unitsofmeasure.org",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "ICD-10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9": "http://hl7.org/fhir/sid/icd-9-cm",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
    "CVX": "http://hl7.org/fhir/sid/cvx",
    "MVX": "http://hl7.org/fhir/sid/mvx",
    "NDC": "http://hl7.org/fhir/sid/ndc",
    "C4": "http://www.ama-assn.org/go/cpt",
    "CPT": "http://www.ama-assn.org/go/cpt",
    "CPTM": "http://www.ama-assn.org/go/cpt",
    "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ISO3166_1": "urn:iso:std:iso:3166",
    "ISO639": "urn:ietf:bcp:47",
    "CDCREC": "urn:oid:2.16.840.1.113883.6.238",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
}
_V2_TABLE = re.compile(r"(?:HL7)?-?(?:HL7|v2-)?(\d{4})\Z")


def to_code_system(text: str, context: Context) -> str | None:
    """Return the URI of a coding system that HL7 v2 or the sender names."""
    name = text.strip()
    known = context.sender.code_systems.get(name) or _public_system(name)
    if known:
        return known
    return f"{context.sender.namespace}/code-system/{_slug(name)}" if name else None


@lru_cache(maxsize=4096)
def _public_system(name: str) -> str | None:
    """Return the URI of a coding system that says by its name alone which it is."""
    known = _CODE_SYSTEMS.get(name.upper())
    if known:
        return known
    table = _V2_TABLE.match(name)
    if table:
        return f"http://terminology.hl7.org/CodeSystem/v2-{table.group(1)}"
    if _OID.match(name):
        return f"urn:oid:{name}"
    return name if "://" in name or name.startswith("urn:") else None


def from_code_system(value: Any, context: Context) -> str:
    """Return the name of a coding system."""
    text = str(value)
    for names in (context.sender.code_systems, _CODE_SYSTEMS):
        for name, uri in names.items():
            if uri == text:
                return name
    prefix = f"{context.sender.namespace}/code-system/"
    if text.startswith(prefix):
        return _unslug(text.removeprefix(prefix))
    table = text.removeprefix("http://terminology.hl7.org/CodeSystem/v2-")
    if table != text and table.isdigit():
        return f"HL7{table}"
    return text.removeprefix("urn:oid:")


def _unslug(text: str) -> str:
    return re.sub(
        r"(?:%[0-9A-F]{2})+",
        lambda match: bytes.fromhex(match.group().replace("%", "")).decode(errors="replace"),
        text,
    )


def to_authority(text: str, context: Context) -> str | None:
    """Return the system of an HD, its parts joined by U+001F."""
    parts = text.split("\x1f")
    namespace, universal, kind = (*parts, "", "", "")[:3]
    return system_of_authority(namespace, universal, kind, context)


def from_authority(value: Any, context: Context) -> str:
    """Return the HD of an identifier system, its parts joined by U+001F."""
    system = str(value)
    for name, uri in context.sender.authorities.items():
        if uri == system:
            if _OID.match(name):
                return f"\x1f{name}\x1fISO"
            return name.split("@", 1)[0]
    if system.startswith("urn:oid:"):
        return f"\x1f{system[8:]}\x1fISO"
    if system.startswith("urn:uuid:"):
        return f"\x1f{system[9:]}\x1fUUID"
    prefix = f"{context.sender.namespace}/"
    if system.startswith(prefix):
        return _unslug(system.removeprefix(prefix))
    return f"\x1f{system}\x1fURI"


def to_uri_of_oid(text: str, _context: Context) -> str:
    """Return an OID or UUID as a URN, any other text as a URI."""
    if _OID.match(text):
        return f"urn:oid:{text}"
    if _UUID.match(text):
        return f"urn:uuid:{text.lower()}"
    return text.replace(" ", "%20")


def from_uri_of_oid(value: Any, _context: Context) -> str:
    """Return the OID or UUID of a URN."""
    return str(value).removeprefix("urn:oid:").removeprefix("urn:uuid:")


def to_system_of_type(text: str, context: Context) -> str | None:
    """Return the system that an identifier type means by the channel."""
    return context.sender.identifier_types.get(text)


def type_of(identifier: Mapping[str, Any]) -> str:
    """Return the code of an identifier's type, "" where it has none."""
    for coding in identifier.get("type", {}).get("coding", ()):
        return str(coding.get("code", ""))
    return ""
