"""The queues let go of what is finished and old, and of nothing else."""

import asyncio

import pytest

from conformance.problem import BusinessRule
from fhir_store import queue_desk, retention
from fhir_store.inbox import STATES
from fhir_store.outbox import STATES as OUTBOX_STATES
from fhir_store.retention import LetGo, Retention, let_go
from ops import upkeep

KEEP = Retention(message_days=90, row_days=400)
UNFINISHED = {"received", "claimed", "held", "parked"}
OWED = {"waiting", "claimed", "inflight", "deferred", "refused", "unknown"}


async def fill(spine, adt, days):
    """One entry with trace and one delivery of each state, all of them so many days old."""
    for state in STATES:
        await spine.send(adt(f"{state}-{days}", patient=f"{state}{days}"))
        await spine.rows(
            "update inbox set state = %s, received_at = now() - %s * interval '1 day',"
            " finished_at = case when %s then now() - %s * interval '1 day' end"
            " where control_id = %s",
            state, days, state not in UNFINISHED, days, f"{state}-{days}",
        )  # fmt: skip
    await spine.rows(
        "insert into inbox_trace (inbox_id, written, trace)"
        " select id, '{}', 't' from inbox on conflict do nothing"
    )
    for state in OUTBOX_STATES:
        await spine.rows(
            "insert into outbox (source_type, source_id, source_version, destination, order_key,"
            " state, created_at, settled_at, payload, receipt)"
            " values ('Patient', %s, 1, 'p', 'k', %s, now() - %s * interval '1 day',"
            " case when %s then now() - %s * interval '1 day' end, 'sent', 'got')",
            f"{state}-{days}", state, days, state not in OWED or state == "refused", days,
        )  # fmt: skip


async def run_retention(spine, keep=KEEP):
    async with spine.store.pool.connection() as connection:
        return await let_go(connection, keep)


async def whole(spine):
    """Entries and deliveries that still have their bytes, and those whose rows remain."""
    entries = await spine.rows("select control_id, raw <> '', ack <> '' from inbox")
    traces = {
        one for (one,) in await spine.rows(
            "select control_id from inbox join inbox_trace on inbox_id = id"
        )
    }  # fmt: skip
    deliveries = await spine.rows("select source_id, payload is not null from outbox")
    assert all(has_ack for _, _, has_ack in entries)
    assert traces == {one for one, has_bytes, _ in entries if has_bytes}
    return {one: has_bytes for one, has_bytes, _ in entries}, dict(deliveries)


def test_bytes_go_first_rows_much_later_and_nothing_unfinished_ever(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            for days in (500, 100, 1):
                await fill(spine, adt, days)
            assert await run_retention(spine) == LetGo(
                messages=4, payloads=6, entries=3, deliveries=4
            )
            entries, deliveries = await whole(spine)
            assert entries == {
                **{f"{state}-1": True for state in STATES},
                **{f"{state}-100": state not in ("translated", "skipped") for state in STATES},
                **{f"{state}-500": True for state in UNFINISHED},
            }
            kept_whole = OWED | {"withdrawn"}
            assert deliveries == {
                **{f"{state}-1": True for state in OUTBOX_STATES},
                **{f"{state}-100": state in kept_whole for state in OUTBOX_STATES},
                **{f"{state}-500": True for state in OWED},
            }
            assert await run_retention(spine) == LetGo()

    asyncio.run(run())


def test_without_the_list_of_ended_states_a_parked_message_would_be_lost(
    open_spine, adt, monkeypatch
):
    """The twin of the test above: it sees what a wider list lets go of."""

    async def run():
        async with open_spine() as spine:
            await fill(spine, adt, 500)
            await spine.rows("update inbox set finished_at = received_at where state = 'parked'")
            await run_retention(spine)
            assert "parked-500" in (await whole(spine))[0]
            monkeypatch.setattr(retention, "ENDED_ENTRIES", list(STATES))
            await run_retention(spine)
            assert "parked-500" not in (await whole(spine))[0]

    asyncio.run(run())


def test_zero_days_keep_for_ever_and_batches_repeat_until_all_is_gone(open_spine, adt, monkeypatch):
    async def run():
        async with open_spine() as spine:
            await fill(spine, adt, 5000)
            assert await run_retention(spine, Retention(message_days=0, row_days=0)) == LetGo()
            monkeypatch.setattr(retention, "_BATCH", 1)
            assert (await run_retention(spine)).entries == 3

    asyncio.run(run())


def test_a_resend_of_a_message_without_its_bytes_gets_its_stored_answer(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            first = await spine.send(adt("M1"))
            await spine.drain()
            await spine.rows(
                "update inbox set (received_at, finished_at) ="
                " (now() - interval '92 days', now() - interval '91 days')"
            )
            assert (await run_retention(spine)).messages == 1
            assert await spine.send(adt("M1")) == first
            assert await spine.rows("select count(*) from inbox") == [(1,)]
            ((id_,),) = await spine.rows("select id from inbox")
            await spine.rows("update inbox set state = 'skipped'")
            with pytest.raises(BusinessRule, match="bytes"):
                async with spine.store.begin() as transaction:
                    await queue_desk.replay(transaction.connection, id_, actor="me", reason="why")

    asyncio.run(run())


def test_the_upkeep_runs_it(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await fill(spine, adt, 500)
            keeping = asyncio.create_task(
                upkeep.keep_up(spine.store, KEEP, seal_seconds=0.01, hourly_seconds=0.02)
            )
            unfinished = {f"{state}-500" for state in UNFINISHED}
            for _ in range(500):
                # One statement at a time: what is let go between two of them would look half gone.
                left = {one for (one,) in await spine.rows("select control_id from inbox")}
                if left == unfinished:
                    break
                await asyncio.sleep(0.02)
            keeping.cancel()
            entries, _ = await whole(spine)
            assert set(entries) == unfinished

    asyncio.run(run())
