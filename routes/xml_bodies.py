"""Resources as XML."""

from collections.abc import Mapping
from typing import Any

from routes.negotiation import unsupported_media_type


def parse(_data: bytes, *, max_depth: int = 64) -> dict[str, Any]:
    """Return the resource that XML bytes hold."""
    raise unsupported_media_type("application/fhir+json")


def parse_element(_data: bytes) -> Any:
    """Return the root element of XML bytes."""
    raise unsupported_media_type("application/fhir+json")


def dump(_resource: Mapping[str, Any]) -> bytes:
    """Return a resource as XML bytes."""
    raise unsupported_media_type("application/fhir+json")
