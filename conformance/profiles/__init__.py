"""Profiles: StructureDefinitions compiled once into checks of resources.

https://hl7.org/fhir/R4/profiling.html. `Profiles` holds the definitions; `snapshot` writes out a
differential; `conformance.validation` puts form, constraints and profiles together.
"""

from conformance.profiles.profiles import Profiles, snapshot

__all__ = ["Profiles", "snapshot"]
