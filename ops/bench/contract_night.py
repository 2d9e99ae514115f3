"""A night of the calendar among a million contracts.

Contracts that do not end tonight are rows and claims without search rows (nothing looks for them by
search); each of the 5,000 that end has four open services. Of the others 5,000 end in 30, 7 or 0
days: their residents are reminded, from the timer to the request and its next timer, and then to
the attempt that waits to be sent.
"""

import datetime
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import AsyncConnection

from care.contract import signing
from care.contract.renewal import DAYS_BEFORE
from care.contract.steps import SERVICE
from care.effects import Put
from care.fulfilment.schedule import tasks_for
from care.periods import day_of, end_of, start_of
from conformance.resource_json import dump
from fhir_store.digests import lock_number
from fhir_store.following import Place, note_place, take_turn
from fhir_store.keys import resource_key
from fhir_store.operations import Operation, Update, WriteContext
from fhir_store.resource_types import TYPE_IDS
from fhir_store.store import Pool, Store, make_pool
from fhir_store.transaction import Transaction
from ops.bench.contracting import (
    DOCTOR,
    TEAM,
    basic_package,
    one_signing,
    patient_named,
    read_back,
    signed_papers,
    surroundings_of,
    wish_for,
)
from ops.bench.grounds.database import fresh_database
from ops.flow_contracts import ContractCalendar
from ops.flow_notices import NAME, RENEWAL, Notices
from ops.laws import lawful_store
from routes.operations.contract_writing import Following, operations_of

MILLION = 1_000_000
DUE = 5_000
OPEN_SERVICES = 4


async def run() -> dict[str, Any]:
    """Return the seconds of ending 5,000 contracts and of reminding 5,000 residents."""
    with fresh_database() as url:
        return await _night(url)


async def _night(url: str) -> dict[str, Any]:
    today = day_of(datetime.datetime.now(datetime.UTC))
    async with make_pool(url, size=4, statement_seconds=600) as pool:
        store = lawful_store(pool)
        await _write_due(store, today)
        await _write_others(pool, today)
        async with pool.connection() as connection:
            await connection.execute("VACUUM ANALYZE")
        ended = await _ending(store, start_of(today))
        reminded = await _reminding(store, start_of(today) + datetime.timedelta(hours=9))
    return {"contracts": MILLION, **ended, **reminded}


async def _ending(store: Store, midnight: datetime.datetime) -> dict[str, Any]:
    calendar = ContractCalendar(
        store=store, following=Following(store.searcher, tasks_for=tasks_for)
    )
    begin, used = time.perf_counter(), time.process_time()
    figures = await calendar.look(midnight)
    seconds, used = time.perf_counter() - begin, time.process_time() - used
    begin = time.perf_counter()
    again = await calendar.look(midnight)
    idle = time.perf_counter() - begin
    if figures.expired != DUE or figures.failed or again.done:
        raise RuntimeError(f"{figures.expired} of {DUE} ended, {len(figures.failed)} failed")
    return {
        "ended": figures.expired,
        "open_services_each": OPEN_SERVICES,
        "end_seconds": round(seconds, 1),
        "ended_per_second": round(figures.expired / seconds),
        "end_hub_ms_each": round(used / figures.expired * 1e3, 2),
        "nothing_due_seconds": round(idle, 3),
    }


async def _reminding(store: Store, morning: datetime.datetime) -> dict[str, Any]:
    """Make the requests of the morning; then let each be decided, with one channel there."""
    notices = Notices(store=store, channels=frozenset({"sms"}))
    async with store.begin() as transaction:  # what was written before the morning has its timers
        row = await (await transaction.connection.execute("SELECT change_number()")).fetchone()
        assert row is not None
        await take_turn(transaction.connection, NAME)
        await note_place(transaction.connection, NAME, Place(txid=int(row[0]), rid=0))

    async def all_of(part: Callable[[Transaction, datetime.datetime], Awaitable[int]]) -> int:
        done = 0
        while True:
            async with store.begin() as transaction:
                some = await part(transaction, morning)
            if not some:
                return done
            done += some

    begin, used = time.perf_counter(), time.process_time()
    reminded = await all_of(notices.remind_of_renewal)
    requested = time.perf_counter()
    while await notices.set_timers(morning):
        pass
    attempted = await all_of(notices.send_due)
    decided, used = time.perf_counter(), time.process_time() - used
    if (reminded, attempted) != (DUE, DUE):
        raise RuntimeError(f"{reminded} reminded and {attempted} decided of {DUE}")
    return {
        "reminded": reminded,
        "remind_seconds": round(requested - begin, 1),
        "attempt_seconds": round(decided - requested, 1),
        "remind_hub_ms_each": round(used / reminded * 1e3, 2),
    }


async def _write_due(store: Store, today: datetime.date) -> None:
    """Write the contracts whose last day was yesterday, with their claims and open services."""
    plan, items = basic_package()
    last = today - datetime.timedelta(days=1)
    first = last - datetime.timedelta(days=364)
    then = start_of(first) + datetime.timedelta(hours=10)
    context = WriteContext(actor="bench", at=then, deliveries=False)
    world = [TEAM, DOCTOR, plan, *items]
    await store.write([Update(resource=read_back(one)) for one in world], context=context)
    for start in range(0, DUE, 100):
        operations: list[Operation] = []
        for number in range(start, start + 100):
            name = f"due-{number}"
            patient = patient_named(name)
            around = surroundings_of(patient, plan, then)
            wish = wish_for(name, plan, first, last)
            decision = signing.sign_at_once(around, wish, signed_papers(name, then))
            services = tasks_for(
                decision.contract, f"PlanDefinition/{plan['id']}", plan, items, now=then
            )
            effects = [Put(patient), *decision.effects, *map(Put, services[:OPEN_SERVICES])]
            operations += operations_of(effects)
        await store.write(operations, context=context)


def _days_left(number: int) -> int:
    """Return in how many days a contract ends: 5,000 are reminded today, the others later."""
    return DAYS_BEFORE[number % len(DAYS_BEFORE)] if number < DUE else 31 + number % 334


async def _write_others(pool: Pool, today: datetime.date) -> None:
    """Copy the contracts that go on; one shape, a million rows, with their timers."""
    names = [f"on-{number}" for number in range(MILLION - DUE)]
    ends = [today + datetime.timedelta(days=_days_left(n)) for n in range(len(names))]
    async with pool.connection() as connection, connection.transaction():
        await _copy_resources(connection, names, ends)
        columns = "k, kind, key, period, holder"
        cursor = connection.cursor()
        async with cursor.copy(f"COPY claim ({columns}) FROM STDIN") as copy:
            start = start_of(today - datetime.timedelta(days=30))
            for name, end in zip(names, ends, strict=True):
                holder, key = f"Contract/{name}", f"Patient/{name}"
                number = lock_number("claim", SERVICE, key)
                await copy.write_row((number, SERVICE, key, f"[{start},{end_of(end)})", holder))
                left = (end - today).days
                before = left if left in DAYS_BEFORE else DAYS_BEFORE[0]
                at = start_of(end - datetime.timedelta(days=before)) + datetime.timedelta(hours=9)
                number = lock_number("claim", RENEWAL, holder)
                await copy.write_row((number, RENEWAL, holder, f"[{at},)", holder))


async def _copy_resources(
    connection: AsyncConnection[Any], names: list[str], ends: list[datetime.date]
) -> None:
    """Copy the contracts, and the residents of those who are reminded."""
    plan, _ = basic_package()
    now = start_of(ends[0]) - datetime.timedelta(days=60)
    contract = dict(one_signing(plan, now).contract)
    meta = {"versionId": "1", "lastUpdated": now.isoformat()}
    contract["meta"], contract["applies"] = meta, {**contract["applies"], "end": "%e"}
    for one in contract["signer"]:
        one["signature"][0].pop("data")
    text = dump(contract).decode().replace('"one"', '"%s"').replace("Patient/one", "Patient/%s")
    phone = {"system": "phone", "value": "10000000009", "use": "mobile"}
    patient = dump({**patient_named("%s"), "meta": meta, "telecom": [phone]}).decode()
    cursor = await connection.execute("SELECT nextval('rid_seq'), change_number()")
    row = await cursor.fetchone()
    assert row is not None
    first, change = int(row[0]) + 64, int(row[1])
    rids = itertools.count(first)
    columns = "rid, rkey, tid, fid, ver, lu, txid, op, del, chash, pset, body"
    async with connection.cursor().copy(f"COPY resource ({columns}) FROM STDIN") as copy:
        for type_, shape, some in (("Contract", text, names), ("Patient", patient, names[:DUE])):
            for name, end in zip(some, ends, strict=False):
                body = shape.replace("%s", name).replace("%e", end.isoformat())
                key, tid = resource_key(type_, name), TYPE_IDS[type_]
                await copy.write_row(
                    (next(rids), key, tid, name, 1, now, change, "u", False, 0, [], body)
                )
    await connection.execute("SELECT setval('rid_seq', %s)", [next(rids) + 64])
