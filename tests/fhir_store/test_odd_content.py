"""Content at the edges: it goes in and comes back, or is refused in words; never a server error."""

import asyncio
import json
import random
from dataclasses import replace

import pytest

from conformance.problem import InvalidContent
from conformance.resource_json import parse
from fhir_store.operations import Create, Delete, Patch, Update

LONG = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9_000))

ODD = {
    "long uri": {"resourceType": "ValueSet", "status": "active", "url": f"http://x.example/{LONG}"},
    "long code": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": f"http://x.example/{LONG}", "code": LONG}], "text": LONG},
    },
    "long identifier": {
        "resourceType": "Patient",
        "identifier": [{"system": f"urn:{LONG}", "value": LONG}],
        "name": [{"family": "汉" * 9_000}],
    },
    "long reference": {"resourceType": "Basic", "subject": {"reference": f"Patient/{LONG}"}},
    "many values": {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:x", "value": str(n)} for n in range(3_000)],
    },
    "controls and escapes": {
        "resourceType": "Patient",
        "name": [{"family": 'a\\b"c\td\ne\u0001\u2028\U0001f600'}],
    },
    "no elements": {"resourceType": "Basic"},
    "empty meta": {"resourceType": "Basic", "meta": {}},
    "meta is replaced": {
        "resourceType": "Basic",
        "meta": {"versionId": "77", "lastUpdated": "1990-01-01T00:00:00Z", "tag": [{"code": "x"}]},
    },
}


@pytest.mark.parametrize("name", ODD)
def test_odd_content_goes_in_and_comes_back(open_store, context, name):
    async def run():
        async with open_store() as store:
            (written,) = await store.write([Create(resource=ODD[name])], context=context)
            again = Update(resource={**ODD[name], "id": written.version.id, "language": "zh"})
            await store.write([again], context=context)
            stored = json.loads((await store.read(written.version.type, written.version.id)).body)
            meta = stored.pop("meta")
            assert meta["versionId"] == "2"
            assert {key: stored[key] for key in ODD[name] if key != "meta"} == {
                key: value for key, value in ODD[name].items() if key != "meta"
            }
            assert meta.get("tag") == ODD[name].get("meta", {}).get("tag")
            delete = Delete(type=written.version.type, id=written.version.id)
            await store.write([delete], context=context)

    asyncio.run(run())


def test_numbers_keep_their_text(open_store, context):
    text = b'{"resourceType":"Basic","extension":[{"url":"u","valueDecimal":1.10},' + (
        b'{"url":"u","valueDecimal":1E3},{"url":"u","valueDecimal":0.0000000100}]}'
    )

    async def run():
        async with open_store() as store:
            (written,) = await store.write([Create(resource=parse(text))], context=context)

            def touch(resource):
                return {**resource, "language": "zh"}

            patch = Patch(type="Basic", id=written.version.id, change=touch)
            (patched,) = await store.write([patch], context=context)
            for number in (b"1.10}", b"1E3}", b"0.0000000100}"):
                assert number in written.version.body
                assert number in patched.version.body

    asyncio.run(run())


@pytest.mark.parametrize(
    "operation",
    [
        Create(resource={}),
        Create(resource={"resourceType": "Nothing"}),
        Create(resource={"resourceType": ["Patient"]}),
        Update(resource={"resourceType": "Patient"}),
        Update(resource={"resourceType": "Patient", "id": "a/b"}),
        Update(resource={"resourceType": "Patient", "id": "x" * 65}),
        Update(resource={"resourceType": "Patient", "id": 7}),
        Update(resource={"resourceType": "Patient"}, criteria=""),
        Update(resource={"resourceType": "Patient"}, criteria="Observation?code=x"),
        Create(resource={"resourceType": "Patient"}, id="a b"),
        Delete(type="Nothing", id="1"),
        Delete(type="Patient"),
    ],
)
def test_what_cannot_be_a_row_is_refused(open_store, context, operation):
    async def run():
        async with open_store() as store:
            with pytest.raises(InvalidContent) as caught:
                await store.write([operation], context=context)
            assert caught.value.issues[0].fix_en
            assert caught.value.issues[0].fix_zh

    asyncio.run(run())


def test_a_very_long_actor_can_still_write(open_store, context):
    async def run():
        async with open_store() as store:
            writer = replace(context, actor=LONG)
            await store.write([Create(resource={"resourceType": "Basic"})], context=writer)

    asyncio.run(run())
