"""Every access leaves a note: reads, searches, operations and whatever was refused.

Writes that succeed bring their own audit row in the same commit, so they are not noted here.
"""

from datetime import UTC, datetime
from functools import partial

from conformance.problem import Problem
from fhir_store.audit import Access
from routes.answer import Answer
from routes.hub import Hub
from routes.registry import Handler
from routes.request import Address, Request, written_query

# AuditEvent.outcome: http://terminology.hl7.org/CodeSystem/audit-event-outcome is 0, 4, 8, 12.
_DONE, _REFUSED, _FAILED = 0, 4, 8
_WRITES = frozenset({"create", "update", "patch", "delete", "batch", "$meta-add", "$meta-delete"})
_UNNOTED = frozenset({"capabilities"})
_LONGEST_DETAIL = 2_000


async def answer_audited(hub: Hub, request: Request, name: str, handler: Handler) -> Answer:
    """Answer a request and note the access, whether it was answered or refused."""
    try:
        answer = await hub.store.at_present_rights(
            partial(handler, hub, request), whose=request.caller
        )
    except Exception as failure:
        outcome = _REFUSED if isinstance(failure, Problem) else _FAILED
        hub.note(_access_of(request, name, outcome))
        raise
    if name not in _WRITES and name not in _UNNOTED:
        hub.note(_access_of(request, name, _DONE))
    return answer


def note_stranger(hub: Hub, name: str, address: Address, request_id: str) -> None:
    """Note a request whose caller could not be told."""
    hub.note(
        Access(
            actor="unknown",
            at=datetime.now(UTC),
            action=name,
            trace_id=request_id,
            type=address.type or None,
            id=address.id or None,
            outcome=_REFUSED,
        )
    )


def _access_of(request: Request, name: str, outcome: int) -> Access:
    address, caller = request.address, request.caller
    text = address.version
    version = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    return Access(
        actor=caller.fhir_user or caller.subject,
        at=datetime.now(UTC),
        action=name,
        trace_id=request.request_id,
        type=address.type or None,
        id=address.id or None,
        version=version,
        outcome=outcome,
        detail=written_query(request.query)[:_LONGEST_DETAIL] if request.query else None,
    )
