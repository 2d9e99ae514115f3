"""What a transaction has locked it does not read again to write it, and it is never out of date."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest

from fhir_store.operations import Update

KEY = ("Patient", "p1")


def patient(family: str) -> dict:
    return {"resourceType": "Patient", "id": "p1", "name": [{"family": family}]}


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect the statements that read rows."""
    seen: list[str] = []
    execute = psycopg.AsyncConnection.execute

    async def counting(self, query, *arguments, **more):
        if isinstance(query, str) and "FROM resource WHERE rkey" in query:
            seen.append(query)
        return await execute(self, query, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "execute", counting)
        yield seen


async def undone(transaction, work):
    """Do something inside a savepoint that is rolled back."""
    with suppress(LookupError):
        async with transaction.savepoint():
            await work
            raise LookupError


def test_a_locked_row_is_read_once_and_written_on(open_store, context, monkeypatch):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("A"))], context=context)
            with counted(monkeypatch) as seen:
                async with store.begin() as transaction:
                    known = await transaction.read_together([KEY], [("Patient", "p2")])
                    assert known[KEY]["name"] == [{"family": "A"}]
                    (b,) = await transaction.apply([Update(resource=patient("B"))], context=context)
                    assert len(seen) == 1
                    (c,) = await transaction.apply([Update(resource=patient("C"))], context=context)
                    assert len(seen) == 2, "after a write it is read anew"
            assert (b.version.version, c.version.version) == (2, 3)
            assert c.previous["name"] == [{"family": "B"}]

    asyncio.run(run())


def test_a_lock_that_a_savepoint_took_is_forgotten_with_it(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("A"))], context=context)
            async with store.begin() as transaction:
                await undone(transaction, transaction.read_for_update([KEY]))
                # The lock is gone, so somebody else may write; the next write sees it.
                await store.write([Update(resource=patient("B"))], context=context)
                (c,) = await transaction.apply([Update(resource=patient("C"))], context=context)
            assert c.version.version == 3
            assert c.previous["name"] == [{"family": "B"}]

    asyncio.run(run())


def test_what_a_savepoint_undoes_is_read_as_it_was(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("A"))], context=context)
            async with store.begin() as transaction:
                await transaction.read_for_update([KEY])
                write = transaction.apply([Update(resource=patient("X"))], context=context)
                await undone(transaction, write)
                (b,) = await transaction.apply([Update(resource=patient("B"))], context=context)
            assert b.version.version == 2
            assert b.previous["name"] == [{"family": "A"}]

    asyncio.run(run())


def test_two_who_lock_the_same_row_write_one_after_the_other(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("0"))], context=context)

            async def add():
                async with store.begin() as transaction:
                    known = await transaction.read_together([KEY], [])
                    number = int(known[KEY]["name"][0]["family"]) + 1
                    await transaction.apply(
                        [Update(resource=patient(str(number)))], context=context
                    )

            await asyncio.gather(*(add() for _ in range(8)))
            final = await store.read("Patient", "p1")
            assert (final.version, b'"family":"8"' in final.body) == (9, True)

    asyncio.run(run())
