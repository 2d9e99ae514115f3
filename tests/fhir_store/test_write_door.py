"""The write door: versions, unchanged writes, version checks, deletes, index rows, audit."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from conformance.problem import EditConflict, Gone, InvalidContent, NotFound, VersionConflict
from fhir_store.histories import HistoryQuery
from fhir_store.operations import Claim, Create, Delete, Patch, Release, Update


def patient(id_=None, family="Test", **more):
    resource = {"resourceType": "Patient", "name": [{"family": family}], **more}
    return resource if id_ is None else {"id": id_, **resource}


def test_what_is_created_reads_back_with_version_and_time(open_store, context):
    async def run():
        async with open_store() as store:
            (written,) = await store.write([Create(resource=patient())], context=context)
            assert written.created
            assert written.changed
            read = await store.read("Patient", written.version.id)
            assert read == written.version
            stored = json.loads(read.body)
            assert stored["meta"]["versionId"] == "1"
            assert stored["meta"]["lastUpdated"].endswith("Z")
            assert stored["id"] == written.version.id
            assert stored["name"] == [{"family": "Test"}]

    asyncio.run(run())


def test_updates_make_versions_and_unchanged_ones_none(open_store, context):
    async def run():
        async with open_store() as store:
            results = []
            for family in ("A", "B", "B"):
                update = Update(resource=patient("p1", family))
                results += await store.write([update], context=context)
            assert [one.version.version for one in results] == [1, 2, 2]
            assert [one.created for one in results] == [True, False, False]
            assert [one.changed for one in results] == [True, True, False]
            assert results[1].previous["name"] == [{"family": "A"}]
            first = await store.vread("Patient", "p1", 1)
            assert json.loads(first.body)["name"] == [{"family": "A"}]
            page = await store.history(HistoryQuery(type="Patient", id="p1"))
            assert [one.version for one in page.versions] == [2, 1]

    asyncio.run(run())


def test_a_resource_changed_twice_in_one_call_keeps_both_versions(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write(
                [Update(resource=patient("p1", family)) for family in "ABC"], context=context
            )
            page = await store.history(HistoryQuery(type="Patient", id="p1"))
            assert [json.loads(v.body)["name"][0]["family"] for v in page.versions] == list("CBA")

    asyncio.run(run())


def test_if_match_names_the_current_version_or_is_refused(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("p1", "A"))], context=context)
            await store.write([Update(resource=patient("p1", "B"), if_match=1)], context=context)
            with pytest.raises(VersionConflict):
                await store.write(
                    [Update(resource=patient("p1", "C"), if_match=1)], context=context
                )
            with pytest.raises(VersionConflict):
                await store.write(
                    [Update(resource=patient("p1", "C"), must_be_new=True)], context=context
                )
            with pytest.raises(VersionConflict):
                await store.write(
                    [Update(resource=patient("p2", "C"), if_match=1)], context=context
                )

    asyncio.run(run())


def test_a_deleted_resource_is_gone_and_may_come_back(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("p1"))], context=context)
            await store.write([Delete(type="Patient", id="p1")], context=context)
            with pytest.raises(Gone):
                await store.read("Patient", "p1")
            with pytest.raises(Gone):
                await store.vread("Patient", "p1", 2)
            again = await store.write([Delete(type="Patient", id="p1")], context=context)
            assert not again[0].changed
            (back,) = await store.write([Update(resource=patient("p1"))], context=context)
            assert back.created
            assert back.version.version == 3
            page = await store.history(HistoryQuery(type="Patient", id="p1"))
            assert [(v.version, v.deleted) for v in page.versions] == [
                (3, False),
                (2, True),
                (1, False),
            ]
            with pytest.raises(NotFound):
                await store.read("Patient", "never")

    asyncio.run(run())


def test_a_patch_changes_the_current_content_only(open_store, context):
    async def run():
        def rename(resource):
            resource["name"][0]["family"] = "New"
            return resource

        async with open_store() as store:
            await store.write([Update(resource=patient("p1"))], context=context)
            (done,) = await store.write(
                [Patch(type="Patient", id="p1", change=rename)], context=context
            )
            assert done.version.version == 2
            assert done.version.method == "PATCH"
            with pytest.raises(InvalidContent):
                await store.write(
                    [Patch(type="Patient", id="p1", change=lambda r: {**r, "id": "other"})],
                    context=context,
                )
            with pytest.raises(NotFound):
                await store.write([Patch(type="Patient", id="no", change=rename)], context=context)

    asyncio.run(run())


def test_one_call_of_many_is_all_or_none(open_store, context):
    async def run():
        async with open_store() as store:
            with pytest.raises(VersionConflict):
                await store.write(
                    [
                        Update(resource=patient("p1")),
                        Update(resource=patient("p2"), if_match=7),
                    ],
                    context=context,
                )
            with pytest.raises(NotFound):
                await store.read("Patient", "p1")

    asyncio.run(run())


def test_a_claim_is_held_once_until_it_is_released(open_store, context):
    def period(start, end):
        return tuple(datetime(2026, 1, day, tzinfo=UTC) for day in (start, end))

    def claim(holder, start, end):
        return Claim(kind="contract", key="resident-1", holder=holder, period=period(start, end))

    async def run():
        async with open_store() as store:
            await store.write([claim("Contract/1", 1, 10)], context=context)
            await store.write([claim("Contract/2", 10, 20)], context=context)
            with pytest.raises(EditConflict):
                await store.write([claim("Contract/3", 5, 6)], context=context)
            release = Release(kind="contract", holder="Contract/1")
            await store.write([release, claim("Contract/3", 5, 6)], context=context)

    asyncio.run(run())


def test_claims_of_one_call_are_all_held_or_none(open_store, context):
    def claim(key, holder, open_=False):
        since = datetime(2026, 1, 1, tzinfo=UTC)
        period = (since, None) if open_ else (since, datetime(2026, 2, 1, tzinfo=UTC))
        return Claim(kind="contract", key=key, holder=holder, period=period)

    async def run():
        async with open_store() as store:
            await store.write([claim("r1", "C/1"), claim("r2", "C/2", True)], context=context)
            for many in (
                [claim("r3", "C/3"), claim("r2", "C/3")],  # held by another
                [claim("r3", "C/3"), claim("r3", "C/4")],  # twice in this call
                [Release(kind="contract", holder="C/1"), claim("r2", "C/3")],
            ):
                with pytest.raises(EditConflict):
                    await store.write(many, context=context)
            with pytest.raises(EditConflict):  # nothing was given up half-way
                await store.write([claim("r1", "C/9")], context=context)
            both = [Release(kind="contract", holder=one) for one in ("C/1", "C/2")]
            free = [claim(one, "C/5") for one in ("r1", "r2", "r3")]
            await store.write([*both, *free], context=context)

    asyncio.run(run())
