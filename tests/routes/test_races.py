"""Clients that race over HTTP: one resource for one identifier, no update lost."""

import asyncio
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}


def person(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:race", "value": str(number)}],
    }


async def ask(client: httpx.AsyncClient, form: int, number: int) -> httpx.Response:
    """Ask for the person in one of the three conditional forms."""
    criteria = f"identifier=urn:race|{number}"
    if form == 0:
        return await client.post(
            "/Patient", json=person(number), headers={**JSON, "if-none-exist": criteria}
        )
    if form == 1:
        return await client.put(f"/Patient?{criteria}", json=person(number), headers=JSON)
    request = {"method": "POST", "url": "Patient", "ifNoneExist": criteria}
    entry = {"resource": person(number), "request": request}
    sent = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    return await client.post("", json=sent, headers=JSON)


@pytest.mark.parametrize(
    ("identifiers", "clients"), [(10, 8), pytest.param(200, 32, marks=pytest.mark.slow)]
)
async def test_racing_conditional_writes_make_one_resource_each(
    serve: Any, identifiers: int, clients: int
) -> None:
    async with serve() as client:
        turns = asyncio.Semaphore(32)

        async def one(form: int, number: int) -> int:
            async with turns:
                answer = await ask(client, form, number)
            return answer.status_code

        jobs = [one(n % 3, number) for number in range(identifiers) for n in range(clients)]
        statuses = await asyncio.gather(*jobs)
        assert {status for status in statuses if status >= 500} == set()
        total = (await client.get("/Patient?_summary=count")).json()["total"]
        assert total == identifiers


@pytest.mark.parametrize(
    ("writers", "steps"), [(6, 5), pytest.param(20, 50, marks=pytest.mark.slow)]
)
async def test_no_update_under_if_match_is_lost(serve: Any, writers: int, steps: int) -> None:
    async with serve() as client:
        start = {"resourceType": "Patient", "id": "p", "multipleBirthInteger": 0}
        await client.put("/Patient/p", json=start, headers=JSON)

        async def increment() -> int:
            done = 0
            for _ in range(steps):
                read = await client.get("/Patient/p")
                body = read.json()
                body["multipleBirthInteger"] += 1
                headers = {**JSON, "if-match": read.headers["etag"]}
                answer = await client.put("/Patient/p", json=body, headers=headers)
                assert answer.status_code in {200, 409, 412}
                done += answer.status_code == 200
            return done

        done = sum(await asyncio.gather(*(increment() for _ in range(writers))))
        final = (await client.get("/Patient/p")).json()
        assert final["multipleBirthInteger"] == done
        assert final["meta"]["versionId"] == str(done + 1)


async def test_without_if_match_updates_are_lost(serve: Any) -> None:
    async with serve() as client:
        start = {"resourceType": "Patient", "id": "p", "multipleBirthInteger": 0}
        await client.put("/Patient/p", json=start, headers=JSON)
        first, second = [(await client.get("/Patient/p")).json() for _ in range(2)]
        for body in (first, second):
            body["multipleBirthInteger"] += 1
            await client.put("/Patient/p", json=body, headers=JSON)
        assert (await client.get("/Patient/p")).json()["multipleBirthInteger"] == 1
