"""The token of a page: sealed, stateless, bound to its search, and good for a day.

It holds sort values, which may be names or dates of birth, so it is encrypted and not only signed.
"""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import AsyncConnection

from conformance.problem import InvalidContent, Issue
from fhir_store.search.plan import Place
from fhir_store.site_secrets import site_secret

LIFETIME = 24 * 3600  # seconds


class PageTokens:
    """Seals and opens page tokens with one secret, shared by all processes of a site."""

    def __init__(
        self,
        secret: bytes,
        *,
        lifetime: int = LIFETIME,
        clock: Callable[[], float] = time.time,
        nonce: Callable[[], bytes] | None = None,
    ) -> None:
        self._cipher = AESGCM(hashlib.blake2b(secret, digest_size=32, person=b"page").digest())
        self._lifetime = lifetime
        self._clock = clock
        self._nonce = nonce or _random_nonce

    def seal(self, place: Place, fingerprint: bytes) -> str:
        """Return the token of a place in the search with this fingerprint."""
        values = [_written(value) for value in place.values]
        content = orjson.dumps([int(self._clock()), place.order, values, place.rid])
        nonce = self._nonce()
        sealed = self._cipher.encrypt(nonce, content, fingerprint)
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()

    def open(self, token: str, fingerprint: bytes) -> Place:
        """Return the place; refuse a token that is old, altered or of another search."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            content = self._cipher.decrypt(raw[:12], raw[12:], fingerprint)
        except (ValueError, InvalidTag):
            _refuse(
                "search-page-invalid", "not of this search, or altered", "不属于该查询或已被改动"
            )
        issued, order, values, rid = orjson.loads(content)
        if self._clock() - issued > self._lifetime:
            _refuse("search-page-expired", "older than a day", "已超过一天")
        return Place(order=order, values=tuple(_read(value) for value in values), rid=rid)


def _written(value: Any) -> Any:
    """Return a sort value for JSON, which has no infinity: open ends of numbers are infinite."""
    return [repr(value)] if isinstance(value, float) else value


def _read(value: Any) -> Any:
    return float(value[0]) if isinstance(value, list) else value


async def site_tokens(connection: AsyncConnection[Any]) -> PageTokens:
    """Return the page tokens of this site: their secret is made once and kept in the database."""
    return PageTokens(await site_secret(connection, "page"))


def _random_nonce() -> bytes:
    return os.urandom(12)


def fingerprint_of(types: Sequence[str], pairs: Sequence[tuple[str, str]]) -> bytes:
    """Return the fingerprint of a search: its types and parameters, without the page's own."""
    kept = sorted(p for p in pairs if p[0] not in ("_cursor", "_count", "_total", "_explain"))
    content = orjson.dumps([list(types) if len(types) == 1 else [], kept])
    return hashlib.blake2b(content, digest_size=16).digest()


def _refuse(key: str, english: str, chinese: str) -> NoReturn:
    raise InvalidContent(
        Issue(
            key=key,
            text_en=f"The page link is {english}",
            text_zh=f"分页链接{chinese}",
            fix_en="Start again from the first page of the search.",
            fix_zh="请从该查询的第一页重新开始。",
            expression="http._cursor",
        )
    )
