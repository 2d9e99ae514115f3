"""How we answer HTTP: FHIR REST, operations, webhooks and the console's own small API."""
