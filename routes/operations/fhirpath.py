"""`$fhirpath`: evaluate an expression on a resource that is sent along."""
