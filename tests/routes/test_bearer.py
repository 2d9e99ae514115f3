"""Bearer tokens: only what the issuer signed for this server and for now is let in."""

import base64
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from conformance.problem import NotAuthenticated
from routes.bearer import TokenVerifier
from routes.scopes import parse_scopes

ISSUER, AUDIENCE = "https://login.example", "https://hub.example/fhir"
KEY = RSAKey.generate_key(2048, parameters={"kid": "one"})


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": now + 60, "scope": "user/*.rs"}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def token(changes: Mapping[str, Any] | None = None, *, key: Any = KEY, alg: str = "RS256") -> str:
    header = {"alg": alg, "kid": "one"}
    return "Bearer " + jwt.encode(header, claims(**(changes or {})), key, algorithms=[alg])


def signed_with_the_public_key() -> str:
    """The classic confusion: what the server takes as a public key, used as a shared secret."""
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "kid": "one"}, claims())
    )
    mac = hmac.digest(KEY.as_pem(private=False), head + b"." + body, "sha256")
    parts = [head, body, base64.urlsafe_b64encode(mac).rstrip(b"=")]
    return "Bearer " + b".".join(parts).decode()


def verifier(*keys: Any) -> TokenVerifier:
    async def fetch() -> Mapping[str, Any]:
        return KeySet(list(keys or [KEY])).as_dict(private=False)

    return TokenVerifier(issuer=ISSUER, audience=AUDIENCE, fetch_jwks=fetch)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_signed_token_names_its_caller() -> None:
    extra = {"patient": "p1", "fhirUser": "https://x/Practitioner/d1", "client_id": "app"}
    caller = await verifier().caller_of(token(extra))
    assert (caller.subject, caller.client) == ("a", "app")
    assert (caller.patient, caller.fhir_user) == ("p1", "Practitioner/d1")
    assert caller.scopes == parse_scopes("user/*.rs")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": time.time() + 86_400},  # of collection; the suite may take a while
        {"aud": "https://other.example/fhir"},
        {"aud": None},
        {"aud": ["x", "y"]},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"sub": None},
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(NotAuthenticated):
        await verifier().caller_of(token(changes))


@pytest.mark.anyio
async def test_only_the_issuers_key_and_asymmetric_algorithms_count() -> None:
    other = RSAKey.generate_key(2048, parameters={"kid": "one"})
    none = token().rpartition(".")[0].split(" ")[1].split(".")
    wrong = [
        token(key=other),
        signed_with_the_public_key(),
        "Bearer eyJhbGciOiJub25lIn0." + none[1] + ".",
        token() + "x",
        "Bearer ",
        "Basic YTpi",
        "Bearer " + "a" * 20_000,
        "Bearer a.b.c",
        None,
    ]
    for header in wrong:
        with pytest.raises(NotAuthenticated):
            await verifier().caller_of(header)


@pytest.mark.anyio
async def test_a_remembered_token_still_ends_with_its_time() -> None:
    watched = verifier()
    short = token({"exp": time.time() + 0.3})
    assert await watched.caller_of(short)
    while True:
        try:
            await watched.caller_of(short)
        except NotAuthenticated:
            break


@pytest.mark.anyio
async def test_elliptic_keys_serve_as_well() -> None:
    key = ECKey.generate_key("P-256", parameters={"kid": "one"})
    assert await verifier(key).caller_of(token(key=key, alg="ES256"))


def test_scopes_of_both_versions_are_read() -> None:
    found = parse_scopes(
        "openid launch/patient patient/Observation.read user/*.* system/Patient.cu"
        " patient/Observation.rs?category=vital-signs&status=final"
    )
    assert [(s.level, s.type, "".join(sorted(s.letters))) for s in found] == [
        ("patient", "Observation", "rs"),
        ("user", "*", "cdrsu"),
        ("system", "Patient", "cu"),
        ("patient", "Observation", "rs"),
    ]
    assert found[3].parameters == (("category", "vital-signs"), ("status", "final"))


@pytest.mark.parametrize(
    "text",
    [
        "patient/Observation",
        "patient/Observation.",
        "patient/observation.rs",
        "patient/Observation.sr",
        "patient/Observation.readwrite",
        "patient/Observation.rs?",
        "patient/Observation.rs?category",
        "patient/Observation.read?category=x",
        "Patient/Observation.rs",
        "all/*.*",
        "patient/*.rs?" + "a=b&" * 400,
    ],
)
def test_a_malformed_scope_gives_nothing(text: str) -> None:
    assert parse_scopes(text) == ()
