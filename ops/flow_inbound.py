"""From a frame to a committed inbox entry and its acknowledgement: the first commit of a message.

Every frame gets exactly one answer. What cannot be filed (no MSH, no MSH-10) is refused and not
kept; everything else is kept first, also what cannot be read yet (`held`).
"""

import asyncio
import datetime
import functools
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from msgspec import Struct

from adapters.port import Received
from conformance.problem import InvalidStructure, Issue
from fhir_store.inbox import Kept, NewEntry
from fhir_store.inbox_writer import InboxWriter
from mappings.hl7.acknowledgement import Answer, Code, acknowledge
from mappings.hl7.charset import decode
from mappings.hl7.charset_doubt import doubt_of
from mappings.hl7.header import Header, read_header
from mappings.hl7.message import separators_of
from ops.application_answers import EffectWatch, is_asked, is_enhanced, not_applied_yet
from ops.channel import Channel
from ops.logs import log
from ops.metrics import Metrics
from ops.order_keys import order_keys_of

LONGEST_ID = 250
"""Characters of MSH-3, MSH-4 and MSH-10 (HL7 allows 227 and 199): they stand in an index."""


class Filed(Struct, frozen=True, kw_only=True):
    """What is known of a message before it is kept."""

    header: Header
    event: str = ""
    keys: tuple[str, ...] = ()
    refused: Issue | None = None  # it cannot be kept under a name
    held: Issue | None = None  # it is kept, but nobody can read it yet


@dataclass(slots=True)
class InboundFlow:
    """Keeps messages of all channels; `accept` is what a listener calls.

    Without `effects` no answer waits for an effect, whatever the channels say.
    """

    writer: InboxWriter
    channels: Mapping[str, Channel]
    metrics: Metrics
    effects: EffectWatch | None = None
    now: Callable[[], datetime.datetime] = field(default=lambda: _now())

    async def accept(self, received: Received) -> bytes | None:
        """Keep a frame and return its acknowledgement, or None where the sender asked for none.

        Raises `Unavailable` where it could not be kept: then nothing may be answered.
        """
        began = time.perf_counter()
        channel = self.channels.get(received.channel) or Channel(name=received.channel)
        filed = file_message(received.payload, channel)
        if filed.refused is not None:
            ack = self._refuse(channel, received, filed.header, filed.refused)
            return ack if _is_owed(filed.header, channel, is_error=True) else None
        entry = self._entry_of(received, channel, filed)
        kept = await self.writer.keep(entry)
        ack = kept.ack
        if self.effects is not None and _waits(channel, filed.header):
            ack = await self.effects.answer_to(kept.id, channel.profile.applied_seconds) or ack
        # The answer leaves first: the loop calls this once it has come round.
        loop = asyncio.get_running_loop()
        seconds = time.perf_counter() - began
        loop.call_soon(loop.call_soon, self._note, channel, received, kept, filed, seconds)
        is_error = filed.held is not None or (
            kept.is_id_reused and channel.profile.reused_id == "hold"
        )
        return ack if _is_owed(filed.header, channel, is_error=is_error) else None

    def refuse(self, received: Received, why: str) -> bytes | None:
        """Return the last answer on a connection whose frame is not read to its end."""
        header = read_header(received.payload)
        issue = Issue(
            code="too-costly",
            key="too-costly",
            text_en=f"The message was not read: {why}",
            text_zh="报文过大，未读取",
            fix_en="Send large documents by reference, or ask for a higher limit of the channel.",
            fix_zh="大型文档请以引用方式发送，或申请调高通道上限。",
            expression="MSH[1]",
        )
        channel = self.channels.get(received.channel) or Channel(name=received.channel)
        return self._refuse(channel, received, header, issue)

    def _refuse(self, channel: Channel, received: Received, header: Header, issue: Issue) -> bytes:
        trace_id = new_trace_id()
        # AR for what is no message of ours at all, AE for one that lacks something (table 0008).
        code = Code.AE if issue.key == "required" else Code.AR
        self.metrics.refused(channel.name, issue.key)
        log.warning(
            "message refused",
            trace_id=trace_id,
            channel=channel.name,
            peer=received.peer,
            bytes=len(received.payload),
            reason=issue.key,
            place=issue.expression,
        )
        return self._ack(header, code, trace_id, issue)

    def _entry_of(self, received: Received, channel: Channel, filed: Filed) -> NewEntry:
        header = filed.header
        trace_id = new_trace_id()
        held = filed.held
        problem = held
        if problem is None and self.effects is not None and _waits(channel, header):
            problem = not_applied_yet()  # until the effect replaces this answer
        ack = self._ack(header, Code.AE if problem else Code.AA, trace_id, problem)
        if_reused = None
        if channel.profile.reused_id == "hold":
            if_reused = self._ack(header, Code.AE, trace_id, _reused())
        keys = filed.keys
        return NewEntry(
            channel=channel.name,
            sender=_clean(header.sending_application),
            facility=_clean(header.sending_facility),
            control_id=_clean(header.control_id),
            content_hash=content_hash_of(received.payload, header),
            event=filed.event,
            order_key=keys[0] if keys else "",
            also_keys=keys[1:],
            state="held" if held else "received",
            trace_id=trace_id,
            peer=received.peer,
            raw=received.payload,
            ack=ack,
            ack_if_reused=if_reused,
            issues=(held,) if held else (),
        )

    def _ack(self, header: Header, code: Code, trace_id: str, issue: Issue | None) -> bytes:
        if is_enhanced(header):
            code = Code("C" + code.value[1])
        answer = Answer(
            code=code,
            control_id=trace_id[:20],  # MSH-10 holds 20 characters before v2.7
            at=self.now(),
            trace_id=trace_id,
            issues=(issue,) if issue else (),
        )
        return acknowledge(header, answer)

    def _note(
        self, channel: Channel, received: Received, kept: Kept, filed: Filed, seconds: float
    ) -> None:
        outcome = "resend" if kept.is_resend else "held" if filed.held else "kept"
        self.metrics.acknowledged(channel.name, outcome, seconds)
        if kept.is_id_reused and not kept.is_resend:
            self.metrics.id_reused(channel.name)
        log.info(
            "message kept" if not kept.is_resend else "message known",
            trace_id=kept.trace_id,
            entry=kept.id,
            channel=channel.name,
            peer=received.peer,
            trigger=filed.event,
            bytes=len(received.payload),
            outcome=outcome,
            id_reused=kept.is_id_reused,
        )


def _now() -> datetime.datetime:
    return _local(int(time.time()))


@functools.lru_cache(maxsize=2)
def _local(second: int) -> datetime.datetime:
    """Return a moment in the machine's zone; asking for it costs as much as reading MSH."""
    return datetime.datetime.fromtimestamp(second, datetime.UTC).astimezone()


def new_trace_id() -> str:
    """Return 16 random bytes as hex digits (https://www.w3.org/TR/trace-context/#trace-id)."""
    return os.urandom(16).hex()


def file_message(payload: bytes, channel: Channel) -> Filed:
    """Say under which names a message is kept, or why it cannot be; never raises."""
    charset = channel.profile.charset
    header = read_header(payload, charset)
    if not header.is_readable:
        return Filed(header=header, refused=_no_header())
    try:
        text, codec = decode(payload, charset)
        held = doubt_of(payload, codec) if channel.profile.charset_doubt == "hold" else None
    except InvalidStructure as unreadable:
        held = unreadable.issues[0]
        text = payload.decode(header.codec, "replace")
    try:
        separators_of(text.removeprefix("\ufeff"))
    except InvalidStructure as broken:
        return Filed(header=header, refused=broken.issues[0])
    refused = _lacking(header) or _second_header(text, header) or _stranger(header, channel)
    if refused is not None:
        return Filed(header=header, refused=refused)
    return Filed(
        header=header,
        event=_clean(header.event)[:LONGEST_ID],
        keys=order_keys_of(text, header, channel.profile.order),
        held=held,
    )


def content_hash_of(payload: bytes, header: Header) -> bytes:
    """Return the SHA-256 of a message with MSH-7 blanked: senders stamp resends anew."""
    end = min((found for mark in (b"\r", b"\n") if (found := payload.find(mark)) >= 0), default=-1)
    rest = payload[end:] if end >= 0 else b""
    fields = [text for number, text in enumerate(header.fields) if number != 7]
    head_text = "\x1f".join(fields)
    digest = hashlib.sha256(head_text.encode("utf-8", "surrogatepass"))
    if "\ufffd" in head_text:
        # Different bytes that cannot be decoded look the same once decoded.
        stamp = header.field(7).encode(header.codec, "replace")
        head = payload if end < 0 else payload[:end]
        digest.update(head.replace(stamp, b"", 1) if stamp else head)
    digest.update(rest)
    return digest.digest()


def _is_owed(header: Header, channel: Channel, *, is_error: bool) -> bool:
    """Whether an answer leaves: always, unless the channel obeys MSH-15 (table 0155)."""
    if channel.answers == "always" or not is_enhanced(header):
        return True
    return is_asked(header.field(15), is_error=is_error)


def _waits(channel: Channel, header: Header) -> bool:
    """Whether the one answer of the original mode is to say that the message took effect."""
    return channel.answers_when_applied and not is_enhanced(header)


def _clean(text: str) -> str:
    return text.replace("\0", "")


def _lacking(header: Header) -> Issue | None:
    for number, name in ((9, "message type"), (10, "message control id")):
        if not _clean(header.field(number)).strip():
            return _required(number, name)
    for number in (3, 4, 10):
        if len(header.field(number)) > LONGEST_ID:
            return replace(
                _required(number, ""),
                key="value",
                text_en=f"MSH-{number} is longer than {LONGEST_ID} characters",
                text_zh=f"MSH-{number} 超过 {LONGEST_ID} 个字符",
                fix_en="Shorten it.",
                fix_zh="请缩短。",
            )
    return None


def _second_header(text: str, header: Header) -> Issue | None:
    mark = header.separators.field
    if f"\rMSH{mark}" not in text and f"\nMSH{mark}" not in text:
        return None
    return Issue(
        code="structure",
        key="structure",
        text_en="The frame holds more than one MSH segment",
        text_zh="一帧内有多个 MSH 段",
        fix_en="Send one message per frame.",
        fix_zh="每帧只发送一条报文。",
        expression="MSH[2]",
    )


def _stranger(header: Header, channel: Channel) -> Issue | None:
    senders = channel.profile.senders
    if not senders or f"{header.component(3)}^{header.component(4)}" in senders:
        return None
    return Issue(
        code="forbidden",
        key="sender-unknown",
        text_en=f"Channel {channel.name} takes no messages of this sender (MSH-3, MSH-4)",
        text_zh=f"通道 {channel.name} 不接收该发送方（MSH-3、MSH-4）的报文",
        fix_en="Send to your own channel's port, or have the sender added to the channel's YAML.",
        fix_zh="请发送到您自己的通道端口，或在通道 YAML 的 senders 中登记该发送方。",
        expression="MSH[1]-3",
    )


def _required(number: int, name: str) -> Issue:
    return Issue(
        code="required",
        key="required",
        text_en=f"MSH-{number} ({name}) is empty",
        text_zh=f"MSH-{number} 为空",
        fix_en=f"Fill MSH-{number}; without it the message cannot be filed.",
        fix_zh=f"请填写 MSH-{number}，否则报文无法归档。",
        expression=f"MSH[1]-{number}",
    )


def _no_header() -> Issue:
    return Issue(
        code="structure",
        key="hl7-no-header",
        text_en="The frame does not begin with an MSH segment",
        text_zh="报文没有以 MSH 段开头",
        fix_en="Send one HL7 v2 message per frame, its first three bytes being MSH.",
        fix_zh="每帧发送一条 HL7 v2 报文，且前三个字节为 MSH。",
        expression="MSH[1]",
    )


def _reused() -> Issue:
    return Issue(
        code="duplicate",
        key="id-reused",
        text_en="MSH-10 was used before for another message of this sender; this one is held",
        text_zh="该发送方的 MSH-10 已用于另一条报文；本报文已暂存待处理",
        fix_en="Give each message its own MSH-10, or ask the hub's operator to replay this one.",
        fix_zh="请为每条报文使用唯一的 MSH-10，或请平台管理员重放本报文。",
        expression="MSH[1]-10",
    )
