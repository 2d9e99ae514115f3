"""Answers kept under a client's Idempotency-Key, in the same commit as the write they tell of.

draft-ietf-httpapi-idempotency-key-header. A repeat gets the first answer and has no second
effect; a failed write keeps nothing, so it can be tried again under the same key.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from psycopg import AsyncConnection

from conformance.problem import BusinessRule, EditConflict, Issue
from fhir_store.digests import lock_number

Connection = AsyncConnection[Any]
KEPT_FOR = timedelta(hours=24)

# lock_key: nobody else may work under this key until the transaction ends
LOCK_KEY = "SELECT pg_try_advisory_xact_lock(%(k)s)"

# read_reply: what was answered under this key, if it is not too long ago
READ_REPLY = """
SELECT request_hash, status, headers, body FROM idempotency
 WHERE k = %(k)s AND created_at > now() - %(kept_for)s"""

# keep_reply: an old answer under the same key is replaced
KEEP_REPLY = """
INSERT INTO idempotency (k, request_hash, status, headers, body)
VALUES (%(k)s, %(request)b, %(status)s, %(headers)s, %(body)b)
ON CONFLICT (k) DO UPDATE
   SET request_hash = excluded.request_hash, status = excluded.status,
       headers = excluded.headers, body = excluded.body, created_at = now()"""

# prune_replies: what nobody can ask for any more
PRUNE_REPLIES = "DELETE FROM idempotency WHERE created_at < now() - %(kept_for)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer as it was first given; `headers` as (name, value)."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A key, whose it is, and the digest of the request that it stands for."""

    caller: str
    key: str
    request: bytes

    @property
    def number(self) -> int:
        """Return the key of its row and its lock."""
        return lock_number("idempotency", self.caller, self.key)


def digest_of(*parts: bytes) -> bytes:
    """Return the digest of a request from its method, address, wishes and body."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


async def find_reply(connection: Connection, wanted: IdempotencyKey) -> Reply | None:
    """Return the answer kept under the key and hold the key until the transaction ends.

    Raises EditConflict (409) while another request works under it and BusinessRule (422) where
    the key stands for another request.
    """
    cursor = await connection.execute(LOCK_KEY, {"k": wanted.number})
    row = await cursor.fetchone()
    if row is None or not row[0]:
        raise EditConflict(_IN_FLIGHT)
    cursor = await connection.execute(READ_REPLY, {"k": wanted.number, "kept_for": KEPT_FOR})
    row = await cursor.fetchone()
    if row is None:
        return None
    request, status, headers, body = row
    if bytes(request) != wanted.request:
        raise BusinessRule(_REUSED)
    return Reply(status=status, headers=orjson.loads(headers), body=bytes(body))


async def keep_reply(connection: Connection, wanted: IdempotencyKey, reply: Reply) -> None:
    """Keep the answer; it becomes visible with the commit of the write."""
    await connection.execute(
        KEEP_REPLY,
        {
            "k": wanted.number,
            "request": wanted.request,
            "status": reply.status,
            "headers": orjson.dumps(reply.headers).decode(),
            "body": reply.body,
        },
    )


async def prune_replies(connection: Connection) -> int:
    """Remove what is too old to be asked for; returns how many."""
    cursor = await connection.execute(PRUNE_REPLIES, {"kept_for": KEPT_FOR})
    return cursor.rowcount


_IN_FLIGHT = Issue(
    code="conflict",
    key="idempotency-in-flight",
    text_en="A request with this Idempotency-Key is still being worked on.",
    text_zh="使用该 Idempotency-Key 的请求仍在处理中。",
    fix_en="Wait a moment and send the same request again.",
    fix_zh="请稍候原样重发。",
    expression="http.Idempotency-Key",
)
_REUSED = Issue(
    code="business-rule",
    key="idempotency-reused",
    text_en="This Idempotency-Key was used for another request.",
    text_zh="该 Idempotency-Key 已用于另一请求。",
    fix_en="Make a new key for each new request; repeat a key only with the same request.",
    fix_zh="每个新请求请使用新的键；仅重发同一请求时才重复使用。",
    expression="http.Idempotency-Key",
)
