"""Fifty poison messages among ten thousand: they are parked, the rest flows, a fix replays them."""

import asyncio
import random

import pytest

from fhir_store import queue_desk

MOST_SECONDS = 30.0


async def run(open_spine, adt, *, count: int, poison: int) -> None:
    chosen = set(random.Random(20260101).sample(range(count), poison))
    async with open_spine() as spine:
        worker = spine.workers()
        await worker.start()
        for number in range(count):
            # A poison message has a patient of its own; the others share three hundred.
            is_poison = number in chosen
            patient = f"X{number}" if is_poison else f"P{number % 300}"
            extra = "NTE|1||POISON" if is_poison else ""
            await spine.send(adt(f"M{number:05}", patient=patient, extra=extra))
        await _until(spine, "state = 'parked' or finished_at is not null", count)
        states = await spine.states()
        parked = sorted(one for one, state in states.items() if state == "parked")
        assert parked == sorted(f"M{number:05}" for number in chosen)
        assert len(await spine.effects()) == count - poison
        causes = await spine.rows("select issues from inbox where state = 'parked'")
        assert len(causes) == poison
        assert all(issues[0]["details"]["coding"] for (issues,) in causes)
        ((longest,),) = await spine.rows(
            "select max(extract(epoch from finished_at - received_at)) from inbox"
        )
        assert longest < MOST_SECONDS
        # One more of each parked patient waits behind it.
        for number in sorted(chosen):
            await spine.send(adt(f"N{number:05}", patient=f"X{number}"))
        await asyncio.sleep(0.5)
        assert len(await spine.effects()) == count - poison
        spine.work.mended = True
        before = len(await spine.effects())
        for (id_,) in await spine.rows("select id from inbox where state = 'parked' order by id"):
            async with spine.store.begin() as transaction:
                await queue_desk.replay(
                    transaction.connection, id_, actor="operator", reason="mended"
                )
        spine.bell.ring()
        await _until(spine, "state = 'translated'", count + poison)
        await worker.stop()
        replayed = (await spine.effects())[before:]
        for number in chosen:
            mine = [one for one in replayed if one[1:] == f"{number:05}"]
            assert mine == [f"M{number:05}", f"N{number:05}"]
        assert len(replayed) == 2 * poison


async def _until(spine, condition: str, count: int) -> None:
    for _ in range(2400):
        ((done,),) = await spine.rows(f"select count(*) from inbox where {condition}")
        if done == count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{done} of {count}")


def test_poison_is_parked_and_replayed(open_spine, adt) -> None:
    asyncio.run(run(open_spine, adt, count=400, poison=8))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_poison_messages_among_ten_thousand(open_spine, adt) -> None:
    asyncio.run(run(open_spine, adt, count=10_000, poison=50))
