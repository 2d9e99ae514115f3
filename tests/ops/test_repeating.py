"""Whatever runs beside the hub ends when it is told to, also where the telling got lost."""

import asyncio
import contextlib
import types
from datetime import UTC, datetime

import psycopg
import pytest

import fhir_store.audit
import ops.application_answers
import ops.bell
import ops.channel_reload
import ops.flow_notifications
import ops.repeating
import ops.upkeep
import routes.subscription_socket
from fhir_store.audit import Access, AccessLog
from fhir_store.retention import Retention
from fhir_store.store import Store
from ops.application_answers import EffectWatch
from ops.bell import Bell
from ops.flow_contracts import ContractCalendar
from ops.flow_deaths import Deaths
from ops.flow_matching import Matching
from ops.flow_notices import Notices
from ops.flow_notifications import SubscriptionTeller
from ops.flow_services_due import ServicesDue
from ops.flow_subscriptions import SubscriptionFollower
from ops.metrics import Metrics
from ops.repeating import alongside, repeat
from ops.upkeep import build_parameters, index_words_on, keep_up
from ops.wiring import _refreshing
from routes.operations.contract_writing import Following
from routes.subscription_socket import SubscriptionSocket

ASKING = (
    fhir_store.audit,
    ops.application_answers,
    ops.bell,
    ops.channel_reload,
    ops.flow_notifications,
    ops.repeating,
    ops.upkeep,
    routes.subscription_socket,
)
"""The modules that ask whether a cancellation was lost."""


class DeafPool:
    """A pool whose server answers a cancelled statement with an error of its own."""

    conninfo = ""
    is_deaf = True

    @contextlib.asynccontextmanager
    async def connection(self, timeout=None):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not self.is_deaf:
                raise
            raise psycopg.OperationalError("terminating connection") from None
        yield None


def loops(pool):
    """Everything that is repeated beside the hub, each about to use the pool."""
    store, bell = Store(pool), Bell(pool, "test")
    following = Following(store.searcher)
    told, heard = Bell(pool, "told"), Bell(pool, "heard")
    told.ring()
    log = AccessLog(pool, every_seconds=0.001)
    log.note(Access(actor="a", at=datetime.now(UTC), action="read"))
    watch = EffectWatch(pool, bell)
    watch._waiting[1] = []

    async def reload():
        async with pool.connection():
            pass

    async def rung():
        await asyncio.sleep(0.005)
        for one in (bell, heard):
            one.ring()

    hearing = asyncio.create_task(rung())
    keep = Retention(message_days=0, row_days=0)
    return hearing, {
        "deaths": Deaths(store=store, following=following).run(),
        "matching": Matching(store=store).run(),
        "calendar": ContractCalendar(store=store, following=following).run(),
        "services due": ServicesDue(store=store).run(),
        "subscriptions": SubscriptionFollower(store=store, notices=None, bell=bell).run(),
        "notices": Notices(store=store, channels=frozenset()).run(),
        "notifications": SubscriptionTeller(store=store, notices=None, bell=bell).run(),
        "upkeep": keep_up(store, keep, seal_seconds=0.001),
        "words": index_words_on(store),
        "search parameters": build_parameters(store),
        "queue figures": _refreshing(store, Metrics()),
        "tell": told._tell(),
        "listen": bell._listen(),
        "reload": ops.channel_reload._hear(heard, reload),
        "answers": watch._look(),
        "access log": log._write_regularly(),
    }


async def still_running(monkeypatch, seconds):
    """Cancel every loop in the middle of a statement, once; name those that go on."""
    pool = DeafPool()

    async def listen(_url, _topic):
        async with pool.connection():
            yield None

    monkeypatch.setattr(ops.bell, "listen", listen)
    hearing, running = loops(pool)
    tasks = [asyncio.create_task(loop, name=name) for name, loop in running.items()]
    await hearing
    await asyncio.sleep(0.05)
    for task in tasks:
        assert not task.done(), task
        task.cancel()
    _, left = await asyncio.wait(tasks, timeout=seconds)
    names = {task.get_name() for task in left}
    pool.is_deaf = False
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    return names, set(running)


def test_a_cancellation_that_a_statement_swallowed_ends_every_loop(monkeypatch):
    names, _ = asyncio.run(still_running(monkeypatch, seconds=5))
    assert names == set()


def test_without_the_question_every_loop_goes_on(monkeypatch):
    for module in ASKING:
        monkeypatch.setattr(module, "end_if_cancelled", lambda: None)
    names, all_ = asyncio.run(still_running(monkeypatch, seconds=0.1))
    assert names == all_


async def repeated_deaf_step(seconds):
    """Cancel a step that swallows it and claims to have more to do; say whether it ended."""
    begun = asyncio.Event()

    async def step():
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return True

    task = asyncio.create_task(repeat(step, failed="failed", rest_seconds=60))
    await begun.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=seconds)
    return task in done, task


def test_a_step_that_swallows_its_cancellation_is_the_last():
    ended, task = asyncio.run(repeated_deaf_step(seconds=5))
    assert ended
    assert task.cancelled()


def test_without_the_question_a_step_that_swallows_its_cancellation_is_repeated(monkeypatch):
    async def main():
        ended, task = await repeated_deaf_step(seconds=0.05)
        monkeypatch.undo()
        task.cancel()
        await asyncio.wait([task], timeout=5)
        return ended

    monkeypatch.setattr(ops.repeating, "end_if_cancelled", lambda: None)
    assert not asyncio.run(main())


def test_a_step_that_breaks_in_a_way_nobody_foresaw_is_done_again():
    asked = []

    async def step():
        asked.append(1)
        if len(asked) < 3:
            raise KeyError("none of the errors of a database")
        return False

    async def main():
        async with alongside(repeat(step, failed="failed", rest_seconds=0.001)):
            async with asyncio.timeout(5):
                while len(asked) < 4:
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(asked) >= 4


class QuietSocket(SubscriptionSocket):
    """A socket whose subscribers have nothing to hear."""

    async def _tell_once(self, socket, lines):
        return False


async def socket_outlives(steps):
    """Ring and, some steps of the event loop later, cancel; say whether the cancellation is lost.

    `asyncio.wait_for` of Python 3.11 prefers the ring that is there over the cancellation.
    """
    bell = Bell(DeafPool(), "test")
    socket = QuietSocket(store=None, notices=None, hearing=bell.hearing)
    task = asyncio.create_task(socket._tell(None, [types.SimpleNamespace()]))
    await asyncio.sleep(0.001)
    bell._wake()
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    _, left = await asyncio.wait([task], timeout=0.05)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    return bool(left)


@pytest.mark.parametrize("has_question", [True, False])
def test_a_ring_does_not_swallow_the_end_of_a_socket(has_question, monkeypatch):
    if not has_question:
        monkeypatch.setattr(routes.subscription_socket, "end_if_cancelled", lambda: None)
    outlived = [asyncio.run(socket_outlives(steps)) for steps in range(5)]
    assert any(outlived) is not has_question
