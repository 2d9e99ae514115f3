"""Name, ID card and face compared by a service on a real socket, and what the hub makes of it."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from contracting import WORLD, asked, world

from adapters.identity_proof import faceid
from adapters.identity_proof.simulator import FaceidSimulator
from adapters.transport.http_serving import serving_on_socket
from care.identity.verification import MOST_PROOFS
from conformance.identity_numbers import ID_CARD_SYSTEM, check_character_of_id_card

pytestmark = pytest.mark.anyio
FIRST = "99900119600501001"
NUMBER = FIRST + check_character_of_id_card(FIRST)
FACE, OTHER = b"\x89PNG\r\n\x1a\nface", b"\x89PNG\r\n\x1a\nother"
RESIDENT = {**WORLD[1], "identifier": [{"system": ID_CARD_SYSTEM, "value": NUMBER}]}
PATH = "/Patient/p1/$prove-identity"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def photo(data: bytes, kind: str = "image/png") -> dict[str, Any]:
    value = {"contentType": kind, "data": base64.b64encode(data).decode()}
    return asked({"name": "photo", "valueAttachment": value})


@asynccontextmanager
async def hub(
    database_url: str, simulator: FaceidSimulator, key: str = "simulated"
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving_on_socket(simulator) as url,
        world(
            database_url,
            RESIDENT,
            faceid_url=url,
            faceid_secret_id=simulator.secret_id,
            faceid_secret_key=key,
        ) as client,
    ):
        yield client


def simulator(tmp_path: Path, **more: Any) -> FaceidSimulator:
    return FaceidSimulator(ledger=tmp_path / "faceid.jsonl", **more)


async def level(client: httpx.AsyncClient) -> list[str]:
    person = (await client.get("/Patient/p1")).json()
    return [one["valueCode"] for one in person.get("extension", ())]


async def kept(client: httpx.AsyncClient) -> list[Any]:
    found = await client.get("/DocumentReference?related=Patient/p1")
    return [one["resource"] for one in found.json().get("entry", ())]


def key_of(answer: httpx.Response) -> str:
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])


async def test_a_number_and_then_a_face_raise_the_level_and_the_photo_is_not_kept(
    database_url: str, tmp_path: Path
) -> None:
    service = simulator(tmp_path, people={NUMBER: ("王秀英", hashlib.sha256(FACE).hexdigest())})
    async with hub(database_url, service) as client:
        assert (await client.post(PATH, json=asked())).status_code == 200
        assert await level(client) == ["2"]
        seen = await client.post(PATH, json=photo(FACE))
        assert (seen.status_code, await level(client)) == (200, ["3"])
        assert (await client.post(PATH, json=asked())).status_code == 200
        assert await level(client) == ["3"], "it never falls by a comparison"
        asked_of = [(one["action"], one["result"]) for one in service.entries()]
        number = ("IdCardVerification", "0")
        assert asked_of == [number, ("ImageRecognition", "Success"), number]
        documents = await kept(client)
        assert len(documents) == 3
        assert any("96.5" in one["description"] for one in documents)
        who = (await client.get("/Provenance?target=Patient/p1")).json()["entry"]
        assert {e["resource"]["entity"][0]["what"]["reference"] for e in who} == {
            f"DocumentReference/{one['id']}" for one in documents
        }
        told = json.dumps([documents, who])
        assert base64.b64encode(FACE).decode() not in told


async def test_another_face_or_name_changes_nothing_but_is_on_record(
    database_url: str, tmp_path: Path
) -> None:
    people = {NUMBER: ("王秀英", hashlib.sha256(FACE).hexdigest())}
    async with hub(database_url, simulator(tmp_path, people=people)) as client:
        refused = await client.post(PATH, json=photo(OTHER))
        assert (refused.status_code, key_of(refused)) == (422, "identity-differs")
        people[NUMBER] = ("别人", "")
        refused = await client.post(PATH, json=asked())
        assert (refused.status_code, key_of(refused)) == (422, "identity-differs")
        assert (await level(client), len(await kept(client))) == ([], 2)
        people[NUMBER] = ("王秀英", "")
        assert (await client.post(PATH, json=asked())).status_code == 200, "the advice"


@pytest.mark.parametrize("trouble", ["away", "limit", "key"])
async def test_a_service_that_cannot_say_is_no_verdict(
    database_url: str, tmp_path: Path, trouble: str
) -> None:
    moods = {} if trouble == "key" else {trouble: 1.0}
    key = "wrong" if trouble == "key" else "simulated"
    async with hub(database_url, simulator(tmp_path, moods=moods), key) as client:
        for body in (asked(), photo(FACE)):
            answer = await client.post(PATH, json=body)
            assert (answer.status_code, key_of(answer)) == (422, "identity-proof-away")
        assert (await level(client), await kept(client)) == ([], [])


async def test_what_cannot_be_compared_is_refused_before_the_service_is_asked(
    database_url: str, tmp_path: Path
) -> None:
    service = simulator(tmp_path)
    async with hub(database_url, service) as client:
        for body in (photo(b""), photo(FACE, "text/html"), photo(b"x" * (2 * 2**20 + 1))):
            assert (await client.post(PATH, json=body)).status_code == 400
        assert (await client.post("/Patient/none/$prove-identity", json=asked())).status_code == 404
        bare = await client.post("/Practitioner/d1/$prove-identity", json=asked())
        assert (bare.status_code, key_of(bare)) == (422, "identity-facts")
        assert service.entries() == []


async def test_nobody_is_compared_more_than_ten_times_a_day(
    database_url: str, tmp_path: Path
) -> None:
    service = simulator(tmp_path)
    async with hub(database_url, service) as client:
        answers = [await client.post(PATH, json=asked()) for _ in range(MOST_PROOFS + 1)]
        assert [one.status_code for one in answers] == [200] * MOST_PROOFS + [422]
        assert key_of(answers[-1]) == "identity-proof-often"
        assert len(service.entries()) == MOST_PROOFS


async def test_without_a_service_the_remedy_is_named(database_url: str) -> None:
    async with world(database_url, RESIDENT) as client:
        answer = await client.post(PATH, json=asked())
        assert (answer.status_code, key_of(answer)) == (422, "identity-proof-off")


async def test_a_likeness_below_the_threshold_is_not_the_person(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(similarity: float) -> faceid.Answer:
        found = {"Result": "Success", "Sim": similarity}
        return faceid._read("ImageRecognition", found).answer

    assert (read(79.9), read(80)) == (faceid.Answer.DIFFERS, faceid.Answer.SAME)
    monkeypatch.setattr(faceid, "LEAST_SIMILARITY", 0.0)
    assert read(79.9) is faceid.Answer.SAME, "the twin: the threshold alone keeps it out"
