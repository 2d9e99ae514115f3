"""Who calls: a bearer token (RFC 6750), a JWT verified against the issuer's JWKS (RFC 7517)."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from conformance.problem import Issue, NotAuthenticated
from routes.scopes import Scope, parse_scopes

# Asymmetric only: with "none" or HS256 anybody who knows the public key could sign.
ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
# A token can be signed by a key that is newer than our copy of the JWKS, but not again and again.
_REFRESH_SECONDS = 30.0
_REMEMBERED = 10_000
_LONGEST_TOKEN = 16_384

FetchJwks = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency:
    """A claim to read one patient's record against the rules (`Patient/id` or `system|value`)."""

    patient: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and with which scopes; `patient` is the launch context, `fhir_user` the person."""

    subject: str
    client: str = ""
    scopes: tuple[Scope, ...] = ()
    patient: str | None = None
    fhir_user: str | None = None
    is_unrestricted: bool = False
    emergency: Emergency | None = None

    def __hash__(self) -> int:
        # Rights are looked up by caller with every request; hashing the scopes would cost more.
        return hash((self.subject, self.client, self.patient, self.fhir_user))


# What everybody is while access control is switched off, on loopback only.
ANYBODY = Caller(subject="anybody", client="auth-off", is_unrestricted=True)


class TokenVerifier:
    """Verifies tokens of one issuer for one audience and remembers those it has seen."""

    def __init__(self, *, issuer: str, audience: str, fetch_jwks: FetchJwks) -> None:
        self._issuer = issuer
        self._audience = audience
        self._fetch_jwks = fetch_jwks
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()
        self._seen: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def caller_of(self, authorization: str | None) -> Caller:
        """Return who sent this Authorization header; raise NotAuthenticated (401)."""
        key = hashlib.sha256((authorization or "").encode()).digest()
        known = self._seen.get(key)
        if known is not None and known[0] > time.time():
            self._seen.move_to_end(key)
            return known[1]
        claims = await self._claims_of(_token_of(authorization))
        caller = _caller_of(claims)
        self._seen[key] = (float(claims["exp"]), caller)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return caller

    async def _claims_of(self, token: str) -> dict[str, Any]:
        keys = await self._key_set(renew=False)
        try:
            decoded = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
        except (JoseError, ValueError):
            keys = await self._key_set(renew=True)
            try:
                decoded = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
            except (JoseError, ValueError) as error:
                raise not_authenticated() from error
        claims = decoded.claims
        _check_claims(claims, issuer=self._issuer, audience=self._audience)
        return claims

    async def _key_set(self, *, renew: bool) -> KeySet:
        async with self._lock:
            is_stale = time.monotonic() - self._fetched_at > _REFRESH_SECONDS
            if self._keys is None or (renew and is_stale):
                self._fetched_at = time.monotonic()
                self._keys = KeySet.import_key_set(dict(await self._fetch_jwks()))  # type: ignore[arg-type]
            return self._keys


def not_authenticated() -> NotAuthenticated:
    """Return the refusal (401) that does not tell why, so that nobody can probe."""
    return NotAuthenticated(
        Issue(
            code="login",
            key="not-authenticated",
            text_en="The bearer token is missing or not valid.",
            text_zh="缺少访问令牌，或令牌无效。",
            fix_en="Get a token for this server and send it as 'Authorization: Bearer …'.",
            fix_zh="请获取本系统的访问令牌，并以 'Authorization: Bearer …' 发送。",
            expression="http.Authorization",
        )
    )


def _token_of(authorization: str | None) -> str:
    kind, _, token = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not token.strip() or len(token) > _LONGEST_TOKEN:
        raise not_authenticated()
    return token.strip()


def _check_claims(claims: Mapping[str, Any], *, issuer: str, audience: str) -> None:
    now = time.time()
    expires, starts = claims.get("exp"), claims.get("nbf", 0)
    audiences = claims.get("aud")
    named = audiences if isinstance(audiences, list) else [audiences]
    if (
        not isinstance(expires, int | float)
        or expires <= now
        or not isinstance(starts, int | float)
        or starts > now
        or claims.get("iss") != issuer
        or audience not in named
        or not isinstance(claims.get("sub"), str)
    ):
        raise not_authenticated()


def _caller_of(claims: Mapping[str, Any]) -> Caller:
    scope = claims.get("scope", "")
    text = " ".join(scope) if isinstance(scope, list) else str(scope)
    patient, user = claims.get("patient"), claims.get("fhirUser")
    return Caller(
        subject=claims["sub"],
        client=str(claims.get("client_id") or claims.get("azp") or ""),
        scopes=parse_scopes(text),
        patient=patient.removeprefix("Patient/") if isinstance(patient, str) else None,
        fhir_user="/".join(user.split("/")[-2:]) if isinstance(user, str) else None,
    )
