"""What every adapter offers to the hub: take bytes in, send bytes out, say what happened."""

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct


class Verdict(enum.StrEnum):
    """What the other side did with a payload, as far as we can know."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # sending it again unchanged cannot help
    DEFERRED = "deferred"  # certainly not taken; safe to send again
    UNKNOWN = "unknown"  # may have been taken; look before sending again


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One payload on its way out; `key` is the same at every attempt."""

    key: str
    payload: bytes
    content_type: str = "application/octet-stream"
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came back for an `Outgoing`: verdict, the partner's code and words, the raw reply."""

    verdict: Verdict
    code: str = ""
    detail: str = ""
    reference: str = ""
    raw: bytes = b""


class Sender(Protocol):
    """A partner's inlet. Never raises: whatever happens becomes a verdict."""

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Deliver once and say what is known of it."""
        ...

    async def ask(self, key: str) -> Receipt:
        """Ask the partner what became of `key`; UNKNOWN where it cannot say."""
        ...

    async def close(self) -> None:
        """Let go of sockets."""
        ...


class Received(Struct, frozen=True, kw_only=True):
    """One frame as it came in, undecoded."""

    channel: str
    payload: bytes
    peer: str
    received_at: float


Accept = Callable[[Received], Awaitable[bytes | None]]
"""Keeps a frame and returns the reply to write, or None where none is owed."""
