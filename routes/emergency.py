"""Emergency access (break the glass): a clinician reads one patient's record against the rules.

Asked for by three headers: `Purpose-Of-Use: BTG` (http://terminology.hl7.org/CodeSystem/v3-ActReason),
`Purpose-Patient` (`Patient/id`, or an identifier as `system|value`) and `Purpose-Reason`
(percent-encoded UTF-8). Each such request leaves an audit row of its own before it is answered.
"""

import logging
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from conformance.problem import InvalidContent, Issue, NotAllowed
from fhir_store.audit import Access, keep_access
from fhir_store.audit_events import BREAK_GLASS
from fhir_store.failures import translated_failures
from routes.bearer import Caller, Emergency
from routes.hub import Hub

_SHORTEST, _LONGEST = 5, 500
_DONE, _REFUSED = 0, 4  # AuditEvent.outcome
_ID = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})")
_log = logging.getLogger("qiao.access")


def with_purpose(caller: Caller, headers: Mapping[bytes, bytes]) -> Caller:
    """Return the caller with the emergency that the headers claim, if they claim one."""
    purpose = headers.get(b"purpose-of-use")
    if purpose is None:
        return caller
    if purpose != b"BTG":
        raise _bad(
            "Purpose-Of-Use", "Send BTG, or leave the header out.", "请发送 BTG 或去掉该头。"
        )
    patient = _text(headers, b"purpose-patient")
    if not _ID.fullmatch(patient) and not re.fullmatch(r"[^|\s]+\|[^|\s]+", patient):
        raise _bad(
            "Purpose-Patient",
            "Name one patient: Patient/id, or an identifier as system|value.",
            "请指定一名患者：Patient/id，或以 system|value 书写的标识。",
        )
    reason = _text(headers, b"purpose-reason")
    if not _SHORTEST <= len(reason) <= _LONGEST or not reason.isprintable():
        raise _bad(
            "Purpose-Reason",
            f"Say why in {_SHORTEST} to {_LONGEST} characters, percent-encoded as UTF-8.",
            f"请用 {_SHORTEST} 至 {_LONGEST} 个字符说明原因（UTF-8 百分号编码）。",
        )
    return replace(caller, emergency=Emergency(patient=patient, reason=reason))


async def require_emergency_kept(
    hub: Hub, caller: Caller, emergency: Emergency, request_id: str
) -> None:
    """Keep the claim in the audit, committed, before anything is answered; and say it aloud.

    Raises NotAllowed, kept too, for those who are no clinicians in an active role.
    """
    try:
        await hub.authorize(caller, "r", "Patient")
    except NotAllowed:
        await _keep(hub, caller, emergency, request_id, outcome=_REFUSED)
        raise
    await _keep(hub, caller, emergency, request_id, outcome=_DONE)


async def _keep(
    hub: Hub, caller: Caller, emergency: Emergency, request_id: str, *, outcome: int
) -> None:
    named = _ID.fullmatch(emergency.patient)
    access = Access(
        actor=caller.fhir_user or caller.subject,
        at=datetime.now(UTC),
        action=BREAK_GLASS,
        trace_id=request_id,
        type="Patient",
        id=named[1] if named else None,
        outcome=outcome,
        detail=f"{emergency.patient}: {emergency.reason}",
    )
    with translated_failures():
        async with hub.store.pool.connection() as connection:
            await keep_access(connection, access)
    words = "refused" if outcome else "granted"
    _log.warning("EMERGENCY ACCESS %s to %s, request %s", words, access.actor, request_id)


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    value = headers.get(name, b"").decode("latin-1")
    try:
        return urllib.parse.unquote(value, errors="strict").strip()
    except UnicodeDecodeError:
        return ""


def _bad(header: str, fix_en: str, fix_zh: str) -> InvalidContent:
    return InvalidContent(
        Issue(
            code="value",
            key="purpose-of-use",
            text_en=f"The header {header} of an emergency access is missing or wrong.",
            text_zh=f"紧急访问的请求头 {header} 缺失或有误。",
            fix_en=fix_en,
            fix_zh=fix_zh,
            expression=f"http.{header}",
        )
    )
