"""What the routes are given by wiring: the store and the plain functions they may call."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from conformance.fhirpath import Node, Ports
from conformance.problem import Issue
from fhir_store.audit import Access
from fhir_store.authorization import Authorization
from fhir_store.store import Store
from fhir_store.transaction import Transaction
from routes.bearer import Caller
from routes.limits import Limits

Authorize = Callable[[Caller, str, str], Awaitable[Authorization]]


def _no_ports(_root: Node) -> Ports:
    """Know no definitions."""
    return Ports()


def _no_issues(_resource: Mapping[str, Any], _profiles: tuple[str, ...]) -> list[Issue]:
    return []


async def _nothing_new() -> None:
    """Know all definitions already."""


NoteSubscriber = Callable[[Transaction, Caller, str], Awaitable[None]]


async def _no_answers(_resource: Mapping[str, Any]) -> list[Issue]:
    """Know no forms."""
    return []


async def _unnoted(_transaction: Transaction, _caller: Caller, _id: str) -> None:
    """Keep nothing of who asks for a Subscription."""


def _unobserved(_interaction: str, _status: int, _seconds: float) -> None:
    """Forget the figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Everything an interaction needs beside the request.

    `identify` turns an Authorization header into a caller or raises NotAuthenticated;
    `authorize` (caller, letter, type) gives what that caller may see or raises NotAllowed;
    `check_profiles` returns the issues of a resource beyond base R4: extensions, the profiles named
    and, by policy, the claimed ones, as `refresh_definitions` last read them, at most a moment
    before, or `reread_definitions`, which asks whether anything was stored since;
    `fhirpath_ports` gives expressions on a resource what those definitions say;
    `check_answers` returns what is wrong with a QuestionnaireResponse by its Questionnaire;
    `note_subscriber` keeps, in the commit of a Subscription, with whose rights its events are seen;
    `note` keeps an access for the audit; `observe` takes (interaction, status, seconds) of each
    answer for the metrics. `base` is the public address of the FHIR base, None to take it from
    each request; `oauth` maps authorize, token, introspect and jwks to the addresses of the
    authorization server.
    """

    store: Store
    identify: Callable[[str | None], Awaitable[Caller]]
    authorize: Authorize
    note: Callable[[Access], None]
    limits: Limits = field(default_factory=Limits)
    check_profiles: Callable[[Mapping[str, Any], tuple[str, ...]], list[Issue]] = _no_issues
    refresh_definitions: Callable[[], Awaitable[None]] = _nothing_new
    reread_definitions: Callable[[], Awaitable[None]] = _nothing_new
    fhirpath_ports: Callable[[Node], Ports] = _no_ports
    check_answers: Callable[[Mapping[str, Any]], Awaitable[list[Issue]]] = _no_answers
    observe: Callable[[str, int, float], None] = _unobserved
    base: str | None = None
    version: str = "0"
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    oauth: Mapping[str, str] = field(default_factory=dict)
    note_subscriber: NoteSubscriber = _unnoted
