"""Idempotency-Key: one effect, the same answer again, and no key for two requests."""

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

PATIENT = {"resourceType": "Patient", "birthDate": "1990-01-01"}


def keyed(key: str) -> dict[str, str]:
    return {"content-type": "application/fhir+json", "idempotency-key": key}


async def test_a_repeat_gets_the_first_answer_and_has_no_second_effect(serve: Any) -> None:
    async with serve() as client:
        first = await client.post("/Patient", json=PATIENT, headers=keyed("k1"))
        again = await client.post("/Patient", json=PATIENT, headers=keyed("k1"))
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.content == first.content
        assert again.headers["location"] == first.headers["location"]
        history = (await client.get("/Patient/_history")).json()
        assert len(history["entry"]) == 1


async def test_without_the_key_the_same_repeat_has_a_second_effect(serve: Any) -> None:
    async with serve() as client:
        for _ in range(2):
            await client.post(
                "/Patient", json=PATIENT, headers={"content-type": "application/fhir+json"}
            )
        assert len((await client.get("/Patient/_history")).json()["entry"]) == 2


async def test_a_key_for_another_request_is_refused(serve: Any) -> None:
    async with serve() as client:
        await client.post("/Patient", json=PATIENT, headers=keyed("k1"))
        other = {**PATIENT, "active": True}
        reused = await client.post("/Patient", json=other, headers=keyed("k1"))
        assert reused.status_code == 422
        coding = reused.json()["issue"][0]["details"]["coding"][0]
        assert coding["code"] == "idempotency-reused"
        mended = await client.post("/Patient", json=other, headers=keyed("k2"))
        assert mended.status_code == 201


async def test_many_at_once_under_one_key_make_one_resource(serve: Any) -> None:
    async with serve() as client:
        for number in range(10):
            headers = keyed(f"storm-{number}")
            answers = await asyncio.gather(
                *(client.post("/Patient", json=PATIENT, headers=headers) for _ in range(5))
            )
            assert {answer.status_code for answer in answers} <= {201, 409}
            made = {answer.content for answer in answers if answer.status_code == 201}
            assert len(made) == 1
        assert len((await client.get("/Patient/_history")).json()["entry"]) == 10


async def test_a_failed_write_can_be_tried_again_under_its_key(serve: Any) -> None:
    async with serve() as client:
        headers = {**keyed("k1"), "if-match": 'W/"1"'}
        body = {**PATIENT, "id": "p1"}
        assert (await client.put("/Patient/p1", json=body, headers=headers)).status_code >= 400
        await client.put("/Patient/p1", json=body, headers=keyed("k0"))
        changed = {**body, "active": True}
        second = await client.put("/Patient/p1", json=changed, headers=headers)
        assert second.status_code == 200


@pytest.mark.parametrize("key", ["", "a" * 256])
async def test_a_key_that_is_none_is_refused(serve: Any, key: str) -> None:
    async with serve() as client:
        answer = await client.post("/Patient", json=PATIENT, headers=keyed(key))
        assert answer.status_code == 400
