"""Acknowledgements: MSH, MSA and ERR in the sender's own charset and separators (chapter 2.9)."""

import datetime
import functools
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from conformance.problem import Issue
from mappings.hl7.escape import Separators, escape
from mappings.hl7.header import Header
from mappings.hl7.message import parse_location


class Code(StrEnum):
    """MSA-1, table 0008: application (A.) and commit (C.) accept, error, reject."""

    AA = "AA"
    AE = "AE"
    AR = "AR"
    CA = "CA"
    CE = "CE"
    CR = "CR"


class Answer(Struct, frozen=True, kw_only=True):
    """What an acknowledgement says; `control_id` is the answer's own MSH-10.

    `trace_id` goes into MSA-3 and lets both sides find the message; `at` is aware. `accept` is
    MSH-15 where the answer travels as a message of its own and asks to be acknowledged itself.
    """

    code: Code
    control_id: str
    at: datetime.datetime
    trace_id: str = ""
    issues: Sequence[Issue] = ()
    accept: str = ""


# Table 0357 by our issue keys and by IssueType; 207 is "application internal error".
_ERROR_CODES = {
    "hl7-no-header": "100^Segment sequence error",
    "hl7-separators": "102^Data type error",
    "hl7-charset": "102^Data type error",
    "hl7-undecodable": "102^Data type error",
    "hl7-charset-doubt": "102^Data type error",
    "required": "101^Required field missing",
    "structure": "100^Segment sequence error",
    "value": "102^Data type error",
    "code-invalid": "103^Table value not found",
    "not-supported": "200^Unsupported message type",
    "too-costly": "207^Application internal error",
    "invalid": "102^Data type error",
}
_SEVERITIES = {"fatal": "F", "error": "E", "warning": "W", "information": "I"}


def acknowledge(header: Header, answer: Answer) -> bytes:
    """Return the acknowledgement of the message whose header this is, ready for a frame."""
    separators = header.separators
    mark, component = separators.field, separators.component
    codec = header.codec
    version = header.component(12) or "2.5.1"
    declared = "".join(
        (component, separators.repetition, separators.escape, separators.subcomponent,
         separators.truncation)
    )  # fmt: skip
    trigger = header.component(9, 2)
    kind = component.join(["ACK", trigger, "ACK"]) if trigger else "ACK"
    msh = [
        "MSH",
        declared,
        header.field(5),
        header.field(6),
        header.field(3),
        header.field(4),
        _stamp(answer.at),
        "",
        kind,
        escape(answer.control_id, separators),
        header.field(11) or "P",
        version,
        "",
        "",
        answer.accept,
        "NE" if answer.accept else "",
        "",
        header.field(18),
    ]
    msa = ["MSA", answer.code.value, header.field(10)]
    if answer.trace_id:
        msa.append(_trace_label(separators) + escape(answer.trace_id, separators))
    segments = [mark.join(msh).rstrip(mark), mark.join(msa)]
    is_old = version < "2.5"
    segments.extend(_err(issue, header, is_old=is_old) for issue in answer.issues)
    text = "\r".join(segments) + "\r"
    return text.encode(codec, errors="replace")


@functools.lru_cache(maxsize=16)
def _stamp(at: datetime.datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S%z")


@functools.lru_cache(maxsize=64)
def _trace_label(separators: Separators) -> str:
    return escape("trace=", separators)


def _in_both(texts: Sequence[str], codec: str) -> str:
    """Return English and Chinese, without what the sender's charset has no letters for."""
    return " / ".join(text for text in texts if text and _is_of(codec, text))


def _is_of(codec: str, text: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _err(issue: Issue, header: Header, *, is_old: bool) -> str:
    """Return ERR; before v2.5 it has one field, segment^sequence^field^code&text."""
    separators = header.separators
    mark, component, part = separators.field, separators.component, separators.subcomponent
    location = parse_location(issue.expression or "")
    code, _, text = (
        _ERROR_CODES.get(issue.key) or _ERROR_CODES.get(issue.code) or _ERROR_CODES["too-costly"]
    ).partition("^")
    says = _in_both((issue.text_en, issue.text_zh), header.codec)
    fix = _in_both((issue.fix_en, issue.fix_zh), header.codec)
    numbers = [
        location.segment if location else "",
        str(location.sequence) if location else "",
        str(location.field or "") if location else "",
        str(location.repetition or "") if location else "",
        str(location.component or "") if location else "",
        str(location.subcomponent or "") if location else "",
    ]
    if is_old:
        coded = (part or " ").join([code, escape(f"{says}. {fix}", separators), "HL70357"])
        return mark.join(["ERR", component.join([*numbers[:3], coded])])
    place = component.join(numbers).rstrip(component)
    return mark.join(
        [
            "ERR",
            "",
            place,
            component.join([code, text, "HL70357"]),
            _SEVERITIES.get(issue.severity, "E"),
            escape(issue.key, separators),
            "",
            escape(fix, separators),
            escape(says, separators),
        ]
    )
