"""Rules of Bundles that FHIRPath does not carry (https://hl7.org/fhir/R4/bundle.html)."""

from collections.abc import Mapping
from typing import Any

from conformance.problem import Issue


def check_bundle(resource: Mapping[str, Any]) -> list[Issue]:
    return []
