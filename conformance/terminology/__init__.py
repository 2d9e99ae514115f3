"""Code systems, value sets and concept maps: expand, look up, validate, subsume, translate.

https://hl7.org/fhir/R4/terminology-service.html; pure: a `Library` is given the resources.
"""
