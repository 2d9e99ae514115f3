"""What an app asks before it has a token; hl7.org/fhir/smart-app-launch/conformance.html."""

from collections.abc import Mapping
from typing import Any


def smart_configuration(issuer: str, oauth: Mapping[str, str]) -> dict[str, Any]:
    """Return the SMART configuration; `oauth` maps authorize, token, … to their addresses."""
    document: dict[str, Any] = {
        "issuer": issuer,
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "capabilities": [
            "permission-patient",
            "permission-user",
            "permission-v1",
            "permission-v2",
            "context-standalone-patient",
        ],
    }
    for name, member in (
        ("authorize", "authorization_endpoint"),
        ("token", "token_endpoint"),
        ("introspect", "introspection_endpoint"),
        ("jwks", "jwks_uri"),
    ):
        if name in oauth:
            document[member] = oauth[name]
    return document
