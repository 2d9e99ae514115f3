"""What a sender is told of a message's effect: application acknowledgements (chapter 2.9).

In the original mode the one answer says `stored`, or `applied` where the channel promises that. In
the enhanced mode MSH-16 asks for a message of its own; it goes to where the channel says.
"""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg_pool import PoolTimeout

from conformance.problem import Issue
from fhir_store.cancellation import end_if_cancelled
from fhir_store.inbox import keep_acks, read_answers
from fhir_store.lanes import Entry
from fhir_store.outbox import Delivery, OutboxRow, insert_rows
from fhir_store.store import Pool
from fhir_store.transaction import Transaction
from mappings.hl7.acknowledgement import Answer, Code, acknowledge
from mappings.hl7.header import Header, read_header
from ops.bell import Bell
from ops.channel import Channel
from ops.lanes import Ended
from ops.repeating import alongside

TOPIC = "applied"
_CONTENT_TYPE = "x-application/hl7-v2+er7"
_POLL_SECONDS = 0.5  # covers a notice that was lost


def is_enhanced(header: Header) -> bool:
    """Whether MSH-15 and MSH-16 ask for an acknowledgement of receipt apart from that of effect.

    Blank they ask for nothing; NE with AL is the original mode in other words (chapter 2.9.3).
    """
    accept, application = header.field(15).strip().upper(), header.field(16).strip().upper()
    return bool(accept or application) and (accept or "NE", application) != ("NE", "AL")


def is_asked(condition: str, *, is_error: bool) -> bool:
    """Whether a condition of table 0155 (AL, NE, ER, SU) asks for this answer; blank is NE.

    Who writes anything else is answered: a sender that waits in vain sends again and again.
    """
    asked = condition.strip().upper() or "NE"
    return asked not in ("NE", "SU" if is_error else "ER")


@dataclass(slots=True, kw_only=True)
class ApplicationAnswers:
    """Keeps what entries came to as answers, in the transaction in which they end."""

    channels: Mapping[str, Channel]
    now: Callable[[], datetime.datetime] = field(
        default=lambda: datetime.datetime.now(datetime.UTC).astimezone()
    )

    async def give(self, transaction: Transaction, ended: Sequence[Ended]) -> None:
        """Owe the enhanced mode's messages; replace the stored answers of channels of `applied`."""
        acks: list[tuple[int, bytes]] = []
        rows: list[OutboxRow] = []
        for one in ended:
            channel = self.channels.get(one.entry.channel)
            if channel is None or not (channel.application_acks or channel.answers_when_applied):
                continue
            header = read_header(one.entry.raw, channel.profile.charset)
            code = _code_of(one.state)
            if not is_enhanced(header):
                if channel.answers_when_applied:
                    acks.append((one.entry.id, self._ack(one, header, code)))
            elif channel.application_acks and is_asked(
                header.field(16), is_error=code is not Code.AA
            ):
                payload = self._ack(one, header, code, of_its_own=True)
                rows.append(_owed(one.entry, channel.application_acks, code, payload))
        await keep_acks(transaction.connection, acks)
        await insert_rows(transaction.connection, rows)

    def _ack(self, one: Ended, header: Header, code: Code, *, of_its_own: bool = False) -> bytes:
        trace_id = one.entry.trace_id
        answer = Answer(
            code=code,
            # MSH-10 holds 20 characters before v2.7; this is not the one of the CA.
            control_id=f"{trace_id[:17]}-{code}" if of_its_own else trace_id[:20],
            at=self.now().replace(microsecond=0),
            trace_id=trace_id,
            issues=one.issues if code is not Code.AA else (),
            accept="AL" if of_its_own else "",
        )
        return acknowledge(header, answer)


def _code_of(state: str) -> Code:
    """AA for what took effect, AR for what no map covers, AE for what waits for a person."""
    return {"translated": Code.AA, "unmapped": Code.AR}.get(state, Code.AE)


def _owed(entry: Entry, destination: str, code: Code, payload: bytes) -> OutboxRow:
    delivery = Delivery(
        destination=destination,
        part=code.value,  # an entry that is replayed is answered once more where that changes
        order_key=entry.order_key or f"Message/{entry.id}",
        payload=payload,
        content_type=_CONTENT_TYPE,
    )
    return OutboxRow(
        source_type="Message",
        source_id=str(entry.id),
        source_version=1,
        delivery=delivery,
        trace_id=entry.trace_id,
    )


def not_applied_yet() -> Issue:
    """Say that the message is kept and its effect was not seen in time."""
    return Issue(
        code="transient",
        key="not-applied-yet",
        text_en="The message is kept; its effect was not seen in time",
        text_zh="报文已保存，但未在规定时间内生效",
        fix_en="Send the same message again to learn what became of it; nothing is done twice.",
        fix_zh="请重发同一报文以获知结果；不会重复处理。",
        expression="MSH[1]-10",
    )


class EffectWatch:
    """Waits for entries to end; one look at the database serves all who wait."""

    def __init__(self, pool: Pool, bell: Bell) -> None:
        self._pool = pool
        self._bell = bell
        self._waiting: dict[int, list[asyncio.Future[bytes]]] = {}
        self._asked = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["EffectWatch"]:
        """Look while the block lasts."""
        async with alongside(self._look()):
            yield self

    async def answer_to(self, id_: int, seconds: float) -> bytes | None:
        """Return the answer that an entry's end has left, None where it did not end in time."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id_, []).append(future)
        self._asked.set()
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            others = [one for one in self._waiting.pop(id_, ()) if one is not future]
            if others:
                self._waiting[id_] = others

    async def _look(self) -> None:
        with self._bell.hearing() as self._asked:
            while True:
                end_if_cancelled()
                await self._next()
                self._asked.clear()
                try:
                    async with self._pool.connection() as connection:
                        found = await read_answers(connection, list(self._waiting))
                except (psycopg.Error, PoolTimeout, OSError):
                    await asyncio.sleep(_POLL_SECONDS)
                    continue
                for id_, ack in found.items():
                    for future in self._waiting.pop(id_, ()):
                        if not future.done():
                            future.set_result(ack)

    async def _next(self) -> None:
        """Wait for somebody who asks; then for the bell, but not for long."""
        if not self._waiting:
            await self._asked.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), _POLL_SECONDS)
