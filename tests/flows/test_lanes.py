"""Order is kept per key; poison stops its key and nobody else."""

import asyncio

import pytest
from msgspec import structs

from conformance.problem import EditConflict, Issue
from fhir_store import lanes, queue_desk
from fhir_store.lanes import Entry, Stuck, plan_batch
from ops import lanes as ops_lanes


def collided():
    return EditConflict(Issue(key="write-collided", text_en="again", text_zh="再试"))


async def move(spine, control_id, how, **why):
    ((id_,),) = await spine.rows("select id from inbox where control_id = %s", control_id)
    async with spine.store.begin() as transaction:
        return await how(transaction.connection, id_, actor="operator", **why)


def test_entries_of_one_key_are_worked_on_in_their_order(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            for n in range(120):
                await spine.send(adt(f"M{n:03}", patient=f"P{n % 7}"))
            await spine.drain()
            done = await spine.effects()
            assert sorted(done) == [f"M{n:03}" for n in range(120)]
            for key in range(7):
                mine = [one for one in done if int(one[1:]) % 7 == key]
                assert mine == sorted(mine)
            assert set((await spine.states()).values()) == {"translated"}

    asyncio.run(run())


@pytest.mark.parametrize("word", ["POISON", "UNREADABLE"])
def test_poison_in_the_middle_of_a_key_parks_that_key_only(open_spine, adt, word):
    async def run():
        async with open_spine() as spine:
            for n in range(40):
                extra = f"NTE|1||{word}" if n == 12 else ""
                await spine.send(adt(f"M{n:02}", patient=f"P{n % 4}", extra=extra))
            await spine.drain()
            behind = [f"M{n:02}" for n in range(16, 40, 4)]
            done = await spine.effects()
            assert sorted(done) == sorted({f"M{n:02}" for n in range(40)} - {"M12", *behind})
            states = await spine.states()
            assert states["M12"] == "parked"
            assert {states[one] for one in behind} == {"received"}
            ((issues,),) = await spine.rows("select issues from inbox where control_id = 'M12'")
            assert issues[0]["details"]["text"]

            await spine.send(adt("M99", patient="P0"))
            await spine.send(adt("M98", patient="P1"))
            await spine.drain()
            assert (await spine.effects())[-1] == "M98"

            assert await move(spine, "M12", queue_desk.replay) == 8
            spine.work.mended = True
            await spine.drain()
            assert (await spine.effects())[-8:] == ["M12", *behind, "M99"]

    asyncio.run(run())


def test_without_the_stops_a_key_would_overtake_its_poison(open_spine, adt, monkeypatch):
    """The twin of the test above: with nobody waiting behind the parked entry, order is lost."""

    async def run():
        async with open_spine() as spine:
            for n in range(8):
                await spine.send(adt(f"M{n}", extra="NTE|1||POISON" if n == 3 else ""))
            monkeypatch.setattr("ops.lanes._Batch.stands_behind", lambda _self, _entry: False)
            monkeypatch.setattr(
                lanes, "plan_batch", lambda entries, _: lanes.Plan(run=list(entries))
            )
            await spine.drain()
            assert "M4" in await spine.effects()

    asyncio.run(run())


def test_replaying_poison_that_is_still_poison_parks_it_again(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            for n in range(6):
                await spine.send(adt(f"M{n}", extra="NTE|1||POISON" if n in (2, 4) else ""))
            await spine.drain()
            await move(spine, "M2", queue_desk.replay)
            await spine.drain()
            assert await spine.effects() == ["M0", "M1"]
            await move(spine, "M2", queue_desk.skip, reason="test message")
            await spine.drain()
            assert await spine.effects() == ["M0", "M1", "M3"]
            assert (await spine.states())["M4"] == "parked"
            audit = await spine.rows("select action, actor, reason from queue_audit order by id")
            assert audit == [("replay", "operator", ""), ("skip", "operator", "test message")]

    asyncio.run(run())


def test_two_workers_share_the_lanes_and_keep_the_order_of_keys(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            for n in range(300):
                await spine.send(adt(f"M{n:03}", patient=f"P{n % 11}"))
            first, second = spine.workers(batch=5), spine.workers(batch=5)
            await asyncio.gather(spine.drain(first), spine.drain(second))
            await spine.drain()
            rows = await spine.rows("select control_id from effect order by n")
            done = [row[0] for row in rows]
            assert sorted(done) == [f"M{n:03}" for n in range(300)]
            for key in range(11):
                mine = [one for one in done if int(one[1:]) % 11 == key]
                assert mine == sorted(mine)

    asyncio.run(run())


def merge(adt, control_id, stays, goes):
    return adt(control_id, patient=stays, event="A40", extra=f"MRG|{goes}^^^H1^MR")


def test_a_merge_takes_both_keys_in_order(open_spine, adt):
    """Keys of both records, most of them in different lanes, around each merge."""

    async def run():
        async with open_spine() as spine:
            for n in range(20):
                stays, goes = f"S{n}", f"G{n}"
                await spine.send(adt(f"a{n:02}1", patient=goes))
                await spine.send(adt(f"a{n:02}2", patient=stays))
                await spine.send(merge(adt, f"a{n:02}3", stays, goes))
                await spine.send(adt(f"a{n:02}4", patient=goes))
                await spine.send(adt(f"a{n:02}5", patient=stays))
            workers = [spine.workers(batch=4), spine.workers(batch=4)]
            await asyncio.gather(*(spine.drain(one) for one in workers))
            await spine.drain()
            done = await spine.effects()
            assert len(done) == 100
            for n in range(20):
                mine = [one[3] for one in done if one[1:3] == f"{n:02}"]
                assert set(mine[:2]) == {"1", "2"}
                assert mine[2] == "3"

    asyncio.run(run())


def test_a_merge_waits_behind_a_parked_record_and_holds_both_keys(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await spine.send(adt("M1", patient="GOES", extra="NTE|1||POISON"))
            await spine.send(merge(adt, "M2", "STAYS", "GOES"))
            await spine.send(adt("M3", patient="STAYS"))
            await spine.send(adt("M4", patient="GOES"))
            await spine.send(adt("M5", patient="OTHER"))
            await spine.drain()
            await spine.send(adt("M6", patient="STAYS"))
            await spine.drain()
            assert await spine.effects() == ["M5"]
            # A40 during replay: another merge of the same record arrives while it drains.
            await move(spine, "M1", queue_desk.replay)
            spine.work.mended = True
            await spine.send(merge(adt, "M7", "STAYS", "OTHER"))
            await spine.drain()
            done = await spine.effects()
            assert sorted(done) == [f"M{n}" for n in range(1, 8)]
            order = {one: place for place, one in enumerate(done)}
            assert order["M1"] < order["M2"] < order["M3"] < order["M6"] < order["M7"]
            assert order["M2"] < order["M4"]

    asyncio.run(run())


def test_a_transient_failure_backs_off_in_place_and_keeps_its_key_waiting(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await spine.send(adt("M1", patient="P1", extra="NTE|1||BROKEN LINK"))
            await spine.send(adt("M2", patient="P1"))
            await spine.send(adt("M3", patient="P2"))
            await spine.drain()
            assert await spine.effects() == ["M3"]
            ((state, attempts, waits),) = await spine.rows(
                "select state, attempts, due_at is not null from inbox where control_id = 'M1'"
            )
            assert (state, attempts > 0, waits) == ("received", True, True)
            spine.work.mended = True
            await spine.send(adt("M4", patient="P1"))
            await spine.rows("update inbox set due_at = now() where due_at is not null")
            await spine.drain()
            assert await spine.effects() == ["M3", "M1", "M2", "M4"]

    asyncio.run(run())


def test_a_collision_of_writers_costs_no_message(open_spine, adt, monkeypatch):
    async def run():
        async with open_spine() as spine:
            monkeypatch.setattr(ops_lanes, "jitter", lambda: 300.0)
            for n in range(5):
                await spine.send(adt(f"M{n}"))
            spine.work.fail_next = [collided(), collided(), collided()]  # five, two, one
            await spine.drain()
            assert await spine.effects() == []
            await spine.rows("update inbox set due_at = now() where due_at is not null")
            await spine.drain()
            assert await spine.effects() == [f"M{n}" for n in range(5)]

    asyncio.run(run())


def test_what_comes_before_an_unreadable_entry_is_done_also_beside_poison(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            for n, word in enumerate(["", "POISON", "", "UNREADABLE", ""]):
                await spine.send(adt(f"M{n}", patient="P1", extra=f"NTE|1||{word}"))
            await spine.drain()
            assert await spine.effects() == ["M0"]
            assert await spine.states() == {
                "M0": "translated", "M1": "parked", "M2": "received", "M3": "parked",
                "M4": "received",
            }  # fmt: skip
            waits = await spine.rows("select id, waits_for from inbox where state = 'received'")
            assert sorted(waits) == [(3, 2), (5, 4)]

    asyncio.run(run())


def test_poison_is_found_by_halves_not_by_writing_each_alone(open_spine, adt, monkeypatch):
    """One among 64: 13 attempts hold it or a sibling half; each alone would be 65."""

    async def run():
        async with open_spine() as spine:
            sizes, write = [], spine.work.write

            async def noted(transaction, readings):
                sizes.append(len(readings))
                return await write(transaction, readings)

            monkeypatch.setattr(spine.work, "write", noted)
            for n in range(64):
                extra = "NTE|1||POISON" if n == 37 else ""
                # One lane, whatever their patients: else there are several batches.
                await spine.send(adt(f"M{n:02}", patient=f"P{n}", extra=extra))
            await spine.rows("update inbox set lane = 3")
            await spine.drain()
            assert sorted(sizes, reverse=True) == [64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1]
            states = await spine.states()
            assert [one for one, state in states.items() if state != "translated"] == ["M37"]

    asyncio.run(run())


@pytest.mark.parametrize(("size", "taken"), [(500, 250), (1_500, 174), (40_000, 100)])
def test_a_batch_of_large_messages_is_smaller(size, taken):
    waiting = [structs.replace(entry(n), raw=b"x" * size) for n in range(250)]
    assert len(lanes.of_bearable_size(waiting)) == taken


def test_messages_without_a_patient_wait_for_nobody(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await spine.send(adt("M1", patient="", extra="NTE|1||POISON"))
            await spine.send(adt("M2", patient=""))
            await spine.drain()
            assert await spine.effects() == ["M2"]

    asyncio.run(run())


def test_an_entry_under_which_workers_keep_dying_is_parked(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await spine.send(adt("M1"))
            await spine.send(adt("M2", patient="P2"))
            await spine.rows(
                "update inbox set state = 'claimed', attempts = 30 where control_id = 'M1'"
            )
            await spine.drain()
            assert (await spine.states())["M1"] == "parked"
            assert await spine.effects() == ["M2"]

    asyncio.run(run())


class Death(BaseException):
    """Ends a worker as `kill -9` does: nothing of its batch is committed."""


async def restart_until_drained(spine, most=60, **choices):
    """Work as a hub that is started again whenever it dies; returns how often it died."""
    write = spine.work.write

    async def deadly(transaction, readings):
        if any(b"DEADLY" in raw for _, raw in readings):
            raise Death
        return await write(transaction, readings)

    spine.work.write = deadly
    for deaths in range(most):
        try:
            await spine.drain(spine.workers(**choices))
        except Death:
            continue
        return deaths
    return most


def test_whatever_kills_its_process_is_found_among_a_batch_and_parked(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            for n in range(30):
                extra = "NTE|1||DEADLY" if n == 12 else ""
                await spine.send(adt(f"M{n:02}", patient=f"P{n % 10}", extra=extra))
            deaths = await restart_until_drained(spine, careful=50)
            assert lanes_deaths <= deaths <= lanes_deaths + 1
            states = await spine.states()
            assert states["M12"] == "parked"
            assert sorted(await spine.effects()) == sorted(set(states) - {"M12", "M22"})

    lanes_deaths = ops_lanes.MOST_DEATHS
    asyncio.run(run())


def test_uncounted_attempts_would_let_one_entry_kill_the_hub_for_ever(open_spine, adt):
    """The twin of the test above: without the count before the batch nothing is ever learned."""

    async def run():
        async with open_spine() as spine:
            await spine.send(adt("M1", extra="NTE|1||DEADLY"))
            assert await restart_until_drained(spine, careful=0) == 60
            assert await spine.states() == {"M1": "received"}

    asyncio.run(run())


def test_few_entries_in_many_lanes_share_a_commit(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            for n in range(40):
                await spine.send(adt(f"M{n}", patient=f"P{n}"))
            await spine.drain()
            assert len(await spine.effects()) == 40
            ((commits,),) = await spine.rows("select count(distinct xmin::text) from effect")
            assert commits <= 6  # sixteen lanes by four, and what the first batch left

    asyncio.run(run())


def test_workers_start_work_when_the_bell_rings_and_stop_cleanly(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await spine.bell.start()
            workers = spine.workers(poll_seconds=30, careful=10)
            await workers.start()
            await asyncio.sleep(0.2)
            await spine.send(adt("M1"))
            spine.bell.ring()
            for _ in range(100):
                if await spine.effects():
                    break
                await asyncio.sleep(0.02)
            assert await spine.effects() == ["M1"]
            await workers.stop()
            await spine.bell.stop()

    asyncio.run(run())


def entry(id_, *keys):
    return Entry(
        id=id_, channel="c", event="", control_id="", order_key=keys[0] if keys else "",
        also_keys=keys[1:] or None, lane=0, state="received", attempts=0, has_backed_off=False,
        trace_id="", raw=b"",
    )  # fmt: skip


def test_a_plan_follows_stops_through_merges():
    plan = plan_batch(
        [entry(5, "A"), entry(6, "B", "A"), entry(7, "B"), entry(8, "C"), entry(9)],
        [Stuck(id=1, keys=("A",), waits_for=1), Stuck(id=8, keys=("C",), waits_for=8)],
    )
    assert [one.id for one in plan.run] == [8, 9]
    assert plan.waiting == {5: 1, 6: 1, 7: 1}


def test_a_worker_outlives_whatever_goes_wrong(open_spine, adt, monkeypatch):
    """Named after mirth-3323: a queue thread that died after one SQL exception."""

    async def run():
        async with open_spine() as spine:
            take, wrong = lanes.take_batch, [ValueError("unforeseen"), collided()]

            async def take_later(*given, **named):
                if wrong:
                    raise wrong.pop()
                return await take(*given, **named)

            monkeypatch.setattr(lanes, "take_batch", take_later)
            workers = spine.workers(workers=1, poll_seconds=0.02)
            await spine.send(adt("M1"))
            await workers.start()
            for _ in range(200):
                if await spine.effects():
                    break
                await asyncio.sleep(0.02)
            assert await spine.effects() == ["M1"]
            await workers.stop()

    asyncio.run(run())
