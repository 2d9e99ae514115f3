"""From a written version to a partner's receipt: the third commit of a message.

Each destination has a worker of its own, so a dead one slows no other. A send that may have been
taken is asked about, and sent again only where the destination is declared idempotent.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
from psycopg_pool import PoolTimeout

from adapters.port import Outgoing, Receipt, Sender, Verdict
from conformance.problem import Problem
from fhir_store import outbox
from fhir_store.operations import Version
from fhir_store.outbox import Owed, Settlement
from fhir_store.store import Store
from ops.bell import Bell
from ops.breaker import Breaker
from ops.logs import log
from ops.metrics import Metrics
from ops.worker_loop import WorkerLoop, jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What goes to a destination for one version."""

    payload: bytes
    content_type: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Why nothing is sent for a version after all; its row is withdrawn with these words."""

    code: str
    detail: str


LEASE = timedelta(seconds=10)
"""How long a claim holds without being renewed: when its worker dies, others wait this long."""
_LOOK_SECONDS = 0.5  # between two looks for sends that nobody finished or that are due to be asked

Compose = Callable[[Owed, Version], Awaitable[Document | Withheld]]
"""Makes the destination's document of a version; raises a Problem where it cannot be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A partner's inlet and how it wants to be treated.

    `is_idempotent` allows what may have been taken to be sent again under the same key.
    `parallel` deliveries (of different order keys) run at a time. Waits double from
    `wait_seconds` to `longest_wait_seconds`; after `most_asks` an unknown one waits for a person.
    """

    name: str
    sender: Sender
    compose: Compose | None = None
    is_idempotent: bool = False
    parallel: int = 4
    send_seconds: float = 30.0
    wait_seconds: float = 1.0
    longest_wait_seconds: float = 600.0
    most_asks: int = 12


class DeliveryWorkers:
    """Delivers the outbox to all destinations; several processes may do the same."""

    def __init__(
        self,
        store: Store,
        destinations: Sequence[Destination],
        *,
        bell: Bell,
        metrics: Metrics,
        poll_seconds: float = 0.5,
        grace_seconds: float = 5.0,
    ) -> None:
        self._store = store
        self._bell = bell
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._grace_seconds = grace_seconds
        self._destinations = list(destinations)
        self._serving: dict[str, tuple[Counter, WorkerLoop, asyncio.Task[None]]] = {}

    async def start(self) -> None:
        """Begin to deliver."""
        for destination in self._destinations:
            self.serve(destination)

    async def stop(self) -> None:
        """Finish the deliveries under way, take no more, and let go of the senders."""
        await asyncio.gather(*map(self.leave, list(self._serving)))

    def serve(self, destination: Destination) -> None:
        """Deliver to one more destination."""
        counter = Counter(store=self._store, destination=destination, metrics=self._metrics)
        loop = WorkerLoop(self._bell, poll_seconds=self._poll_seconds, queue="outbox")
        task = asyncio.get_running_loop().create_task(
            self._run(counter, loop), name=f"deliver-{destination.name}"
        )
        self._serving[destination.name] = (counter, loop, task)

    async def leave(self, name: str) -> None:
        """Finish what is under way to a destination, and deliver there no more."""
        counter, loop, task = self._serving.pop(name)
        loop.stop()
        await asyncio.gather(task, return_exceptions=True)
        await counter.destination.sender.close()

    async def _run(self, counter: "Counter", loop: WorkerLoop) -> None:
        await loop.run(counter.begin_some, destination=counter.destination.name)
        await counter.end(self._grace_seconds)


@dataclass(slots=True, kw_only=True)
class Counter:
    """The counter at which one destination's deliveries leave, `parallel` at a time."""

    store: Store
    destination: Destination
    metrics: Metrics
    breaker: Breaker = field(default_factory=Breaker)
    under_way: set[asyncio.Task[None]] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    renewed_at: float = 0.0
    looked_at: float = -_LOOK_SECONDS

    async def begin_some(self, ended: asyncio.Event) -> bool:
        """Begin what may go and ask about what is due, if any; sets `ended` as each is over."""
        await self._renew()
        free = self.destination.parallel - len(self.under_way)
        wanted = self.breaker.allowed(free)
        if wanted < free and self.under_way:
            return False  # a probe goes alone
        if wanted <= 0:
            return False
        name, lease = self.destination.name, LEASE
        async with self.store.pool.connection() as connection:
            asked: list[Owed] = []
            if time.monotonic() - self.looked_at > _LOOK_SECONDS:
                self.looked_at = time.monotonic()
                await outbox.expire_inflight(connection, name)
                asked = await outbox.claim_unknown(connection, name, limit=wanted, lease=lease)
            owed = await outbox.claim(
                connection, name, limit=max(0, wanted - len(asked)), lease=lease
            )
            if any(one.is_outdated for one in owed):
                await outbox.supersede(connection, name)
        work = [(one, self._ask(one)) for one in asked]
        work += [(one, self._deliver(one)) for one in owed]
        for one, steps in work:
            task = asyncio.get_running_loop().create_task(self._surely(one, steps))
            self.under_way.add(task)
            task.add_done_callback(self.under_way.discard)
            task.add_done_callback(lambda _: ended.set())
        return bool(work)

    async def _renew(self) -> None:
        """Keep what is under way ours: a lease is short, so that a death is soon noticed."""
        if self.held and time.monotonic() - self.renewed_at > LEASE.total_seconds() / 4:
            async with self.store.pool.connection() as connection:
                await outbox.renew(connection, self.held, lease=LEASE)
            self.renewed_at = time.monotonic()

    async def end(self, grace_seconds: float) -> None:
        """Wait for what is under way; a send that is cut off will be asked about."""
        if self.under_way:
            await asyncio.wait(self.under_way, timeout=grace_seconds)
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)

    async def _surely(self, owed: Owed, steps: Awaitable[None]) -> None:
        """Finish one delivery; where the database is away its claim runs out and it comes again."""
        self.held.add(owed.id)
        try:
            await steps
        except (psycopg.Error, PoolTimeout, OSError) as away:
            log.warning(
                "delivery put off",
                destination=self.destination.name,
                reason=type(away).__name__,
            )
        finally:
            self.held.discard(owed.id)

    async def _deliver(self, owed: Owed) -> None:
        if owed.is_outdated:
            await self._settle(owed, Settlement(state="superseded"))
            return
        try:
            document = await self._document(owed)
        except Problem as problem:
            text = "; ".join(issue.text_en for issue in problem.issues)
            code = problem.issues[0].key if problem.issues else "problem"
            await self._settle(owed, Settlement(state="refused", code=code, detail=text))
            return
        except (psycopg.Error, PoolTimeout, OSError):
            raise  # the claim runs out and the row is taken again
        except Exception as failure:  # noqa: BLE001 - a bad document must stop its own row only
            kind = type(failure).__name__
            await self._settle(owed, Settlement(state="refused", code="unforeseen", detail=kind))
            return
        if isinstance(document, Withheld):
            reason = Settlement(state="withdrawn", code=document.code, detail=document.detail)
            await self._settle(owed, reason)
            return
        async with self.store.pool.connection() as connection:
            is_ours = await outbox.mark_inflight(
                connection,
                owed,
                payload=document.payload,
                content_type=document.content_type,
                facts=document.facts,
                lease=LEASE,
            )
        if not is_ours:
            return
        outgoing = Outgoing(
            key=owed.key,
            payload=document.payload,
            content_type=document.content_type,
            facts=document.facts,
        )
        receipt = await self._timed(owed, lambda: self.destination.sender.send(outgoing))
        await self._settle(owed, self._settlement_of_send(owed, receipt))

    async def _document(self, owed: Owed) -> Document | Withheld:
        if owed.payload is not None:
            return Document(payload=owed.payload, content_type=owed.content_type, facts=owed.facts)
        version = await self.store.vread(owed.source_type, owed.source_id, owed.source_version)
        if self.destination.compose is None:
            return Document(payload=version.body, content_type="application/fhir+json")
        return await self.destination.compose(owed, version)

    async def _ask(self, owed: Owed) -> None:
        receipt = await self._timed(owed, lambda: self.destination.sender.ask(owed.key))
        await self._settle(owed, self._settlement_of_ask(owed, receipt))

    async def _timed(self, owed: Owed, call: Callable[[], Awaitable[Receipt]]) -> Receipt:
        """Let the sender try, no longer than agreed; no answer in time is `unknown`."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self.destination.send_seconds):
                receipt = await call()
        except TimeoutError:
            receipt = Receipt(verdict=Verdict.UNKNOWN, code="timeout", detail="no answer in time")
        except Exception as failure:  # noqa: BLE001 - a sender that raises has told us nothing
            kind = type(failure).__name__
            receipt = Receipt(verdict=Verdict.UNKNOWN, code="sender-failed", detail=kind)
        seconds = time.perf_counter() - began
        self.metrics.verdict(self.destination.name, receipt.verdict, seconds)
        was_open = self.breaker.is_open
        if receipt.verdict in (Verdict.ACCEPTED, Verdict.REFUSED) or receipt.raw:
            self.breaker.succeeded()
        else:
            self.breaker.failed()
        if was_open != self.breaker.is_open:
            self.metrics.breaker(self.destination.name, is_open=self.breaker.is_open)
            log.warning(
                "destination is left alone" if self.breaker.is_open else "destination is back",
                destination=self.destination.name,
                seconds=round(self.breaker.seconds_left(), 1),
            )
        log.info(
            "delivery attempted",
            trace_id=owed.trace_id,
            entry=owed.id,
            destination=self.destination.name,
            verdict=receipt.verdict,
            code=receipt.code,
            attempt=owed.attempts,
            milliseconds=round(seconds * 1000, 1),
        )
        return receipt

    def _settlement_of_send(self, owed: Owed, receipt: Receipt) -> Settlement:
        states = {
            Verdict.ACCEPTED: "accepted",
            Verdict.REFUSED: "refused",
            Verdict.DEFERRED: "deferred",
            Verdict.UNKNOWN: "deferred" if self.destination.is_idempotent else "unknown",
        }
        return self._settlement(owed, states[receipt.verdict], receipt)

    def _settlement_of_ask(self, owed: Owed, receipt: Receipt) -> Settlement:
        states = {
            Verdict.ACCEPTED: "settled",
            Verdict.REFUSED: "refused",
            Verdict.DEFERRED: "waiting",  # certainly not taken: it may go again
            Verdict.UNKNOWN: "unknown",
        }
        return self._settlement(owed, states[receipt.verdict], receipt)

    def _settlement(self, owed: Owed, state: str, receipt: Receipt) -> Settlement:
        wait = None
        if state in ("deferred", "unknown"):
            doubled = self.destination.wait_seconds * 2 ** min(owed.attempts - 1, 30)
            wait = timedelta(seconds=min(self.destination.longest_wait_seconds, doubled) * jitter())
        if state == "unknown" and owed.attempts > self.destination.most_asks:
            wait = timedelta(days=3650)  # a person decides; `qiao outbox list --state unknown`
        return Settlement(
            state=state,
            code=receipt.code,
            detail=receipt.detail,
            reference=receipt.reference,
            receipt=receipt.raw,
            wait=wait,
        )

    async def _settle(self, owed: Owed, outcome: Settlement) -> None:
        """Keep the verdict; if the database is away it is tried until it is back.

        The answer is known only here: losing it would turn a sure verdict into a question.
        """
        for attempt in range(6):
            try:
                async with self.store.pool.connection() as connection:
                    await outbox.settle(connection, owed.id, owed.attempts, outcome)
                return
            except (psycopg.OperationalError, PoolTimeout, OSError):
                await asyncio.sleep(0.2 * 2**attempt * jitter())
        log.warning("verdict could not be kept", entry=owed.id, trace_id=owed.trace_id)
