"""Changing part of a resource: JSON Patch, FHIRPath Patch, XML Patch; http.html#patch."""
