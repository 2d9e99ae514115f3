"""Conditional interactions are free of races, and no update is lost."""

import asyncio
import contextlib
import json

import psycopg
import pytest

from conformance.problem import (
    DuplicateFound,
    InvalidContent,
    NotFound,
    Unavailable,
    VersionConflict,
)
from fhir_store import targets
from fhir_store.changes import Changes
from fhir_store.operations import Create, Delete, Patch, Update

SYSTEM = "urn:oid:2.16.156.10011.1.3"


def patient(value, **more):
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": value}],
        **more,
    }


def condition(value):
    return f"identifier={SYSTEM}|{value}"


async def count_patients(store):
    async with store.pool.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM resource WHERE NOT del")
        return (await cursor.fetchone())[0]


def wish(form, value):
    """One of the three ways to ask for 'the patient with this identifier, made if need be'."""
    if form == "if-none-exist":
        return [Create(resource=patient(value), if_none_exist=condition(value))], False
    if form == "conditional-update":
        return [Update(resource=patient(value), criteria=f"Patient?{condition(value)}")], False
    return [
        Create(resource=patient(value), if_none_exist=condition(value), full_url="urn:uuid:1"),
        Create(resource={"resourceType": "Basic", "subject": {"reference": "urn:uuid:1"}}),
    ], True


FORMS = ("if-none-exist", "conditional-update", "transaction")


async def race(stores, context, identifiers, clients):
    async def client(number):
        store = stores[number % len(stores)]
        for value in range(identifiers):
            operations, link = wish(FORMS[(number + value) % 3], f"id-{value}")
            # Whoever meets a duplicate is refused; the count at the end shows the duplicate.
            with contextlib.suppress(DuplicateFound):
                await store.write(operations, context=context, link=link)

    await asyncio.gather(*(client(number) for number in range(clients)))


async def patients_after_race(open_store, context, identifiers, clients):
    # Several stores stand for several processes: they share no group and no cache.
    async with (
        open_store(size=4) as one,
        open_store(size=4) as two,
        open_store(size=4) as three,
    ):
        await race((one, two, three), context, identifiers, clients)
        async with one.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM resource JOIN rtype USING (tid) WHERE name = 'Patient'"
            )
            return (await cursor.fetchone())[0]


def test_200_identifiers_32_clients_three_forms_make_200_resources(open_store, context):
    assert asyncio.run(patients_after_race(open_store, context, 200, 32)) == 200


@pytest.mark.parametrize("is_locked", [True, False])
def test_only_the_lock_keeps_slow_writers_from_making_duplicates(
    open_store, context, monkeypatch, is_locked
):
    search = targets.search

    async def slow_search(*arguments):
        found = await search(*arguments)
        await asyncio.sleep(0.02)  # between looking and writing: the moment that races need
        return found

    async def no_lock(connection, lock_keys):
        await asyncio.sleep(0)

    monkeypatch.setattr(targets, "search", slow_search)
    if not is_locked:
        monkeypatch.setattr(targets, "lock", no_lock)
    made = asyncio.run(patients_after_race(open_store, context, 8, 9))
    assert (made == 8) is is_locked


async def lost_updates(stores, context, resources, writers):
    """Each writer adds one entry to each resource by read and If-Match, again when refused."""
    first = stores[0]
    ids = [f"p{number}" for number in range(resources)]
    await first.write(
        [Update(resource={"resourceType": "Patient", "id": id_}) for id_ in ids], context=context
    )

    async def writer(number):
        store = stores[number % len(stores)]
        for id_ in ids:
            while True:
                current = await store.read("Patient", id_)
                resource = json.loads(current.body)
                resource.setdefault("name", []).append({"text": str(number)})
                try:
                    await store.write(
                        [Update(resource=resource, if_match=current.version)], context=context
                    )
                except VersionConflict:
                    continue
                break

    await asyncio.gather(*(writer(number) for number in range(writers)))
    lost = 0
    for id_ in ids:
        final = await first.read("Patient", id_)
        assert final.version == writers + 1
        lost += writers - len({name["text"] for name in json.loads(final.body)["name"]})
    return lost


def test_no_update_is_lost_with_100_resources_and_20_writers(open_store, context):
    async def run():
        async with open_store(size=4) as one, open_store(size=4) as two:
            assert await lost_updates((one, two), context, 100, 20) == 0

    asyncio.run(run())


def test_patches_of_the_same_resource_all_count(open_store, context):
    async def run():
        def add(number):
            def change(resource):
                resource.setdefault("name", []).append({"text": str(number)})
                return resource

            return change

        async with open_store() as store:
            await store.write(
                [Update(resource={"resourceType": "Patient", "id": "p"})], context=context
            )
            await asyncio.gather(
                *(
                    store.write(
                        [Patch(type="Patient", id="p", change=add(number))], context=context
                    )
                    for number in range(40)
                )
            )
            final = await store.read("Patient", "p")
            assert len(json.loads(final.body)["name"]) == 40

    asyncio.run(run())


def test_one_match_updates_none_creates_and_more_are_refused(open_store, context):
    async def run():
        async with open_store() as store:
            (made,) = await store.write(
                [Update(resource=patient("a"), criteria=condition("a"))], context=context
            )
            assert made.created
            (changed,) = await store.write(
                [Update(resource=patient("a", active=True), criteria=condition("a"))],
                context=context,
            )
            assert changed.version.id == made.version.id
            assert changed.version.version == 2
            other = patient("a", id="another")
            with pytest.raises(InvalidContent):
                await store.write(
                    [Update(resource=other, criteria=condition("a"))], context=context
                )
            await store.write([Create(resource=patient("a"))], context=context)
            for operation in (
                Create(resource=patient("a"), if_none_exist=condition("a")),
                Update(resource=patient("a"), criteria=condition("a")),
                Patch(type="Patient", criteria=condition("a"), change=lambda r: r),
                Delete(type="Patient", criteria=condition("a")),
            ):
                with pytest.raises(DuplicateFound):
                    await store.write([operation], context=context)
            (deleted,) = await store.write(
                [Delete(type="Patient", criteria=condition("a"), several=True)], context=context
            )
            assert len(deleted.also) == 1
            assert await count_patients(store) == 0
            with pytest.raises(NotFound):
                await store.write(
                    [Patch(type="Patient", criteria=condition("a"), change=lambda r: r)],
                    context=context,
                )
            (nothing,) = await store.write(
                [Delete(type="Patient", criteria=condition("a"))], context=context
            )
            assert not nothing.changed

    asyncio.run(run())


def test_criteria_beyond_identifiers_are_given_to_the_search(open_store, context):
    async def run():
        asked = []

        async def match(connection, type_, criteria, limit):
            asked.append((type_, criteria, limit))
            return ["p1"]

        async with open_store(match=match) as store:
            await store.write(
                [Update(resource={"resourceType": "Patient", "id": "p1"})], context=context
            )
            (found,) = await store.write(
                [
                    Create(
                        resource={"resourceType": "Patient"},
                        if_none_exist="name=%E5%BC%A0&birthdate=1990",
                    )
                ],
                context=context,
            )
            assert found.version.id == "p1"
            assert not found.created
            assert asked == [("Patient", "birthdate=1990&name=%E5%BC%A0", 2)]
        async with open_store() as store:
            named = {"resourceType": "Patient", "name": [{"family": "张"}], "birthDate": "1990-02"}
            create = Create(resource=named, if_none_exist="name=%E5%BC%A0&birthdate=1990")
            (first,) = await store.write([create], context=context)
            (again,) = await store.write([create], context=context)
            assert (first.created, again.created) == (True, False)
            assert again.version.id == first.version.id

    asyncio.run(run())


KNOWN = patient("a", id="p1")


def replacing(form):
    """Delete `KNOWN` and make another of its identifier, in one transaction."""
    make = (
        Create(resource=patient("a"), if_none_exist=condition("a"))
        if form == "create"
        else Update(resource=patient("a"), criteria=condition("a"))
    )
    return [Delete(type="Patient", id="p1"), make]


@pytest.mark.parametrize("form", ["create", "update"])
def test_what_a_transaction_deletes_is_no_match_of_its_conditions(open_store, context, form):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=KNOWN)], context=context)
            deleted, made = await store.write(
                replacing(form), context=context, link=True, distinct=True
            )
            assert deleted.version.deleted
            assert made.created
            assert made.version.id != "p1"
            assert await count_patients(store) == 1

    asyncio.run(run())


def test_what_a_transaction_deletes_is_not_referred_to(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=KNOWN)], context=context)
            basic = {"resourceType": "Basic", "subject": {"reference": f"Patient?{condition('a')}"}}
            with pytest.raises(InvalidContent, match="matches no resource"):
                await store.write(
                    [Delete(type="Patient", id="p1"), Create(resource=basic)],
                    context=context,
                    link=True,
                )
            assert await count_patients(store) == 1

    asyncio.run(run())


def test_one_of_three_matches_deleted_leaves_two_too_many(open_store, context):
    async def run():
        async with open_store() as store:
            named = [
                {"resourceType": "Patient", "id": f"p{n}", "birthDate": "1990-02-01"}
                for n in range(3)
            ]
            await store.write([Update(resource=one) for one in named], context=context)
            with pytest.raises(DuplicateFound):
                await store.write(
                    [
                        Delete(type="Patient", id="p2"),
                        Create(resource=patient("new"), if_none_exist="birthdate=1990-02-01"),
                    ],
                    context=context,
                )
            assert await count_patients(store) == 3

    asyncio.run(run())


def test_a_match_that_another_request_of_the_commit_deletes_is_looked_for_again(
    open_store, context
):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=KNOWN)], context=context)
            deleted, made = await asyncio.gather(
                store.write([Delete(type="Patient", id="p1")], context=context),
                store.write(
                    [Create(resource=patient("a"), if_none_exist=condition("a"))], context=context
                ),
            )
            assert deleted[0].version.deleted
            assert made[0].created
            assert await count_patients(store) == 1

    asyncio.run(run())


def test_twin_unlooked_for_the_deleted_match_would_be_the_answer(open_store, context, monkeypatch):
    monkeypatch.setattr(Changes, "require_there", lambda self, key: None)

    async def run():
        async with open_store() as store:
            await store.write([Update(resource=KNOWN)], context=context)
            _, made = await asyncio.gather(
                store.write([Delete(type="Patient", id="p1")], context=context),
                store.write(
                    [Create(resource=patient("a"), if_none_exist=condition("a"))], context=context
                ),
            )
            assert not made[0].created
            assert await count_patients(store) == 0

    asyncio.run(run())


def test_a_reference_to_no_entry_of_the_bundle_is_refused(open_store, context):
    async def run():
        async with open_store() as store:
            named = Create(resource=patient("a"), full_url="urn:uuid:1")
            for reference, is_known in (
                ("urn:uuid:1", True),
                ("urn:uuid:1#part", True),
                ("urn:uuid:2", False),
            ):
                inner = {"resourceType": "Basic", "id": "c", "subject": {"reference": reference}}
                basic = Create(resource={"resourceType": "Basic", "contained": [inner]})
                written = store.write([named, basic], context=context, link=True)
                if is_known:
                    assert len(await written) == 2
                    continue
                with pytest.raises(InvalidContent, match="has the fullUrl urn:uuid:2"):
                    await written
            assert await count_patients(store) == 4

    asyncio.run(run())


def test_a_failing_request_of_a_group_fails_alone(open_store, context):
    async def run():
        async with open_store() as store:
            good = [
                store.write([Update(resource=patient(str(n), id=f"p{n}"))], context=context)
                for n in range(20)
            ]
            bad = [
                store.write(
                    [Update(resource=patient(str(n), id=f"q{n}"), if_match=3)], context=context
                )
                for n in range(5)
            ]
            results = await asyncio.gather(*good, *bad, return_exceptions=True)
            assert all(isinstance(one, list) for one in results[:20])
            assert all(isinstance(one, VersionConflict) for one in results[20:])
            assert await count_patients(store) == 20

    asyncio.run(run())


def test_a_group_whose_connection_is_lost_is_not_written_again(open_store, context, database_url):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("a", id="p1"))], context=context)
            async with await psycopg.AsyncConnection.connect(database_url) as other:
                await other.execute("SELECT 1 FROM resource FOR UPDATE")
                writes = asyncio.gather(
                    store.write([Update(resource=patient("b", id="p1"))], context=context),
                    store.write([Create(resource=patient("c"))], context=context),
                    return_exceptions=True,
                )
                ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN " + (
                    "(SELECT pid FROM pg_locks WHERE NOT granted) AND datname = current_database()"
                )
                while not await (await other.execute(ended)).fetchall():
                    await asyncio.sleep(0.02)
                found = await writes
            assert [type(one) for one in found] == [Unavailable, Unavailable]
            assert await count_patients(store) == 1

    asyncio.run(run())


def test_links_and_conditional_references_become_final_references(open_store, context):
    async def run():
        async with open_store() as store:
            (known,) = await store.write([Create(resource=patient("known"))], context=context)
            results = await store.write(
                [
                    Create(resource=patient("new"), full_url="urn:uuid:aaa"),
                    Create(
                        resource={
                            "resourceType": "Observation",
                            "status": "final",
                            "code": {"text": "x"},
                            "subject": {"reference": "urn:uuid:aaa"},
                            "focus": [{"reference": f"Patient?{condition('known')}"}],
                        }
                    ),
                ],
                context=context,
                link=True,
            )
            observation = json.loads(results[1].version.body)
            assert observation["subject"]["reference"] == f"Patient/{results[0].version.id}"
            assert observation["focus"][0]["reference"] == f"Patient/{known.version.id}"
            with pytest.raises(InvalidContent):
                await store.write(
                    [
                        Create(
                            resource={
                                "resourceType": "Basic",
                                "subject": {"reference": f"Patient?{condition('nobody')}"},
                            }
                        )
                    ],
                    context=context,
                    link=True,
                )

    asyncio.run(run())


def test_a_savepoint_undoes_one_message_and_keeps_the_others(open_store, context):
    async def run():
        async with open_store() as store:
            async with store.begin() as transaction:
                await transaction.apply([Create(resource=patient("a"))], context=context)
                with contextlib.suppress(RuntimeError):
                    async with transaction.savepoint():
                        await transaction.apply([Create(resource=patient("b"))], context=context)
                        raise RuntimeError
                found = await transaction.find_by_identifier(
                    "Patient", [(SYSTEM, "a"), (SYSTEM, "b"), ("", "a")], lock=True
                )
                assert list(found) == [(SYSTEM, "a")]
            assert await count_patients(store) == 1

    asyncio.run(run())
