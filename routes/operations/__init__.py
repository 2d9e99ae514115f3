"""The operations of FHIR, one module each."""
