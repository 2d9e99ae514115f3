"""Profile validation against base validation of the same resources in the same run."""

from typing import Any

from conformance import structure
from conformance.cphc.artefacts import package
from conformance.fhirpath import Ports
from conformance.profiles import Profiles
from conformance.terminology.library import Library
from conformance.terminology.port import terminology_of
from conformance.validation import Validator
from ops.bench.conformance_structure import cpu_in_turns
from ops.bench.fhirpath import examples

VITAL_SIGNS = "http://hl7.org/fhir/StructureDefinition/vitalsigns"
PACKAGE = "https://fhir.qiao.example/cphc/StructureDefinition/"
BY_TYPE = {
    "Observation": VITAL_SIGNS,
    "Patient": f"{PACKAGE}cphc-patient",
    "Encounter": f"{PACKAGE}cphc-encounter-fd",
    "Practitioner": f"{PACKAGE}cphc-practitioner",
    "Organization": f"{PACKAGE}cphc-organization",
    "ServiceRequest": f"{PACKAGE}cphc-referral",
}


async def run() -> dict[str, Any]:
    """Return microseconds a resource for base R4 alone, one profile, and everything."""
    resources = [one for one in examples(every=1) if one["resourceType"] in BY_TYPE]
    own = list(package())
    profiles = Profiles(own)
    terminology = terminology_of(Library(own))
    validator = Validator(profiles=profiles, ports=Ports(terminology=terminology))
    ports = Ports(terminology=terminology)

    def one_profile(resource: dict[str, Any]) -> None:
        profiles.check(resource, BY_TYPE[resource["resourceType"]], ports=ports)

    def everything(resource: dict[str, Any]) -> None:
        validator.check(resource, profiles=(BY_TYPE[resource["resourceType"]],))

    for resource in resources:  # compile before measuring
        everything(resource)
    figures = cpu_in_turns(
        30,
        base=(structure.check, resources),
        profile=(one_profile, resources),
        whole=(everything, resources),
    )
    base, profile, whole = (one * 1000 / len(resources) for one in figures.values())
    return {
        "resources": len(resources),
        "base_us": round(base, 1),
        "one_profile_us": round(profile, 1),
        "base_extensions_and_profile_us": round(whole, 1),
        "one_profile_to_base": round(profile / base, 2),
        "everything_to_base": round(whole / base, 2),
    }
