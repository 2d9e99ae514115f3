"""What people do to the queues by hand stands in the audit, sealed like every other access."""

import asyncio

import pytest

from conformance.structure import check
from fhir_store import queue_desk
from fhir_store.audit import seal, verify
from fhir_store.audit_events import AuditQuery, list_events

MOVES = ["inbox-replay", "inbox-skip", "outbox-requeue", "outbox-settle", "outbox-withdraw"]


async def move_everything(spine, adt):
    """One move of each kind, with a person and a reason."""
    for number in range(2):
        await spine.send(adt(f"M{number}", patient=f"P{number}", extra="NTE|1||POISON"))
    await spine.drain()
    await spine.rows(
        "insert into outbox (source_type, source_id, source_version, destination, order_key, state,"
        " trace_id) select 'Patient', 'p' || n, 3, 'province', 'k' || n, 'unknown', 'trace' || n"
        " from generate_series(1, 3) n"
    )
    entries = [id_ for (id_,) in await spine.rows("select id from inbox order by id")]
    owed = [id_ for (id_,) in await spine.rows("select id from outbox order by id")]
    async with spine.store.begin() as transaction:
        connection = transaction.connection
        why = {"actor": "operator", "reason": "agreed by telephone"}
        await queue_desk.replay(connection, entries[0], **why)
        await queue_desk.skip(connection, entries[1], **why)
        for id_, how in zip(owed, ("requeue", "settle", "withdraw"), strict=True):
            await queue_desk.move_outbox(connection, id_, how, **why)


async def moves_of(connection):
    page = await list_events(connection, AuditQuery(subtypes=MOVES))
    return {event["subtype"][0]["code"]: event for event in page.events}


def test_each_move_is_an_audit_event_with_person_reason_and_place(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await move_everything(spine, adt)
            async with spine.store.pool.connection() as connection:
                events = await moves_of(connection)
            assert sorted(events) == MOVES
            for event in events.values():
                assert [one for one in check(event) if one.severity == "error"] == []
                assert event["action"] == "E"
                assert event["agent"][0]["who"] == {"display": "operator"}
                assert event["purposeOfEvent"] == [{"text": "agreed by telephone"}]
            ((id_, trace),) = await spine.rows(
                "select id, trace_id from inbox where control_id = 'M1'"
            )
            (entity,) = events["inbox-skip"]["entity"]
            assert entity == {
                "name": f"his/{id_}", "detail": [{"type": "trace", "valueString": trace}]
            }  # fmt: skip
            (sent,) = events["outbox-requeue"]["entity"]
            assert sent["what"] == {"reference": "Patient/p1/_history/3"}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("touch", "found"),
    [
        ("update audit set detail = 'other' where action = 'inbox-skip'", ["rows-changed"]),
        ("delete from audit where action = 'outbox-settle'", ["rows-missing"]),
        # The twin: the list that `show` prints can be edited, and nobody would know.
        ("update queue_audit set reason = 'other'", []),
    ],
)
def test_a_move_that_is_changed_or_removed_afterwards_is_found(open_spine, adt, touch, found):
    async def run():
        async with open_spine() as spine:
            await move_everything(spine, adt)
            async with spine.store.pool.connection() as connection:
                for _ in range(200):
                    if await seal(connection) is not None:
                        break
                    await asyncio.sleep(0.05)
                assert await verify(connection) == []
                await connection.execute(touch)
                assert [one.kind for one in await verify(connection)] == found

    asyncio.run(run())
