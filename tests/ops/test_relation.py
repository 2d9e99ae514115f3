"""A relative may act for a resident once both have confirmed it by codes on their telephones."""

import datetime
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from contracting import asked, world
from days import today

from adapters.notify.simulators import SmsSimulator
from adapters.transport.http_serving import serving_on_socket
from care.identity import relation
from routes.operations import relation as operation

PATH = "/RelatedPerson/r1"
VIEW = {"name": "scope", "valueCode": "view"}
SYSTEM = "https://fhir.qiao.example/cphc/CodeSystem/cphc-proxy-scope"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def phone(number: str) -> dict[str, Any]:
    return {"telecom": [{"system": "phone", "use": "mobile", "value": number}]}


PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"text": "王秀英"}],
           "birthDate": "1960-05-01", **phone("138 0000 0001")}  # fmt: skip
RELATIVE = {"resourceType": "RelatedPerson", "id": "r1", "active": True,
            "patient": {"reference": "Patient/p1"}, **phone("+8613800000002")}  # fmt: skip


class Family:
    """A resident, a relative, and the cloud that sends them messages."""

    def __init__(self, client: httpx.AsyncClient, cloud: SmsSimulator) -> None:
        self.client = client
        self.cloud = cloud

    async def request(self, *parts: dict[str, Any], **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        body = asked(*(parts or (VIEW,)))
        return await self.client.post(f"{PATH}/$request-relation", json=body, headers=sent)

    async def confirm(self, task: str, **codes: str) -> httpx.Response:
        parts = [{"name": f"{side}Code", "valueString": code} for side, code in codes.items()]
        named = {"name": "task", "valueReference": {"reference": f"Task/{task}"}}
        return await self.client.post(f"{PATH}/$confirm-relation", json=asked(named, *parts))

    def codes(self) -> dict[str, str]:
        """Return the last code of each side, as its telephone shows it."""
        sides = {"+8613800000001": "resident", "+8613800000002": "relative"}
        return {sides[one["to"]]: one["parameters"][0] for one in self.cloud.entries()}

    async def consents(self) -> list[dict[str, Any]]:
        found = (await self.client.get("/Consent?patient=Patient/p1")).json()
        return [one["resource"] for one in found.get("entry", ())]


@asynccontextmanager
async def family(database_url: str, folder: Path, **moods: float) -> AsyncIterator[Family]:
    cloud = SmsSimulator(ledger=folder / "sms.jsonl", moods=moods)
    async with serving_on_socket(cloud) as url:
        sms = {
            "sms_url": url,
            "sms_secret_id": cloud.secret_id,
            "sms_secret_key": cloud.secret_key,
            "sms_app_id": "1400",
            "sms_sign_name": "桥南社区",
            "sms_templates": "verification=2001,*=1000",
        }
        async with world(database_url, PATIENT, **sms) as client:
            await client.put(PATH, json=RELATIVE)
            yield Family(client, cloud)


def key_of(answer: httpx.Response) -> tuple[int, str]:
    issue = answer.json()["issue"][0]
    return answer.status_code, issue["details"]["coding"][0]["code"]


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06d}"


@pytest.mark.anyio
async def test_both_confirm_and_the_relative_may_act(database_url: str, tmp_path: Path) -> None:
    async with family(database_url, tmp_path) as f:
        until = {"name": "until", "valueDate": (today() + datetime.timedelta(days=90)).isoformat()}
        book = {"name": "scope", "valueCode": "book"}
        answer = await f.request(VIEW, book, until)
        assert (answer.status_code, answer.json()["status"]) == (201, "requested")
        task, codes = answer.json()["id"], f.codes()
        assert {one["template"] for one in f.cloud.entries()} == {"2001"}
        for side in relation.SIDES:
            assert codes[side] not in answer.text, "the code itself is on the telephone alone"
        first = await f.confirm(task, resident=codes["resident"])
        assert (first.status_code, first.json()["status"]) == (200, "in-progress")
        assert await f.consents() == []
        second = await f.confirm(task, relative=codes["relative"])
        assert (second.status_code, second.json()["resourceType"]) == (200, "Consent")
        (consent,) = await f.consents()
        assert consent["provision"]["actor"][0]["reference"]["reference"] == "RelatedPerson/r1"
        scopes = [one["coding"][0] for one in consent["provision"]["action"]]
        assert scopes == [{"system": SYSTEM, "code": one} for one in ("view", "book")]
        assert consent["provision"]["period"]["end"] == until["valueDate"]
        again = await f.confirm(task, **codes)
        assert key_of(again) == (422, "relation-over")
        assert len(await f.consents()) == 1


@pytest.mark.anyio
async def test_a_wrong_code_counts_and_five_end_it(database_url: str, tmp_path: Path) -> None:
    async with family(database_url, tmp_path) as f:
        task = (await f.request()).json()["id"]
        codes = f.codes()
        for left in range(relation.MOST_TRIES - 1, -1, -1):
            answer = await f.confirm(task, resident=wrong(codes["resident"]))
            assert key_of(answer) == (422, "relation-code")
            told = answer.json()["issue"][0]["diagnostics"]
            assert (f"{left} tries" in told) if left else ("$request-relation" in told)
        assert key_of(await f.confirm(task, **codes)) == (422, "relation-over")
        assert (await f.client.get(f"/Task/{task}")).json()["status"] == "failed"
        # The advice: new codes, and they count.
        task = (await f.request()).json()["id"]
        assert (await f.confirm(task, **f.codes())).json()["resourceType"] == "Consent"


@pytest.mark.anyio
@pytest.mark.parametrize(("lasts", "is_taken"), [(600.0, True), (0.0, False)])
async def test_a_code_is_good_for_ten_minutes(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lasts: float,
    is_taken: bool,
) -> None:
    monkeypatch.setattr(relation, "LASTS", datetime.timedelta(seconds=lasts))
    async with family(database_url, tmp_path) as f:
        task = (await f.request()).json()["id"]
        answer = await f.confirm(task, **f.codes())
        assert answer.status_code == (200 if is_taken else 422)
        assert len(await f.consents()) == is_taken


@pytest.mark.anyio
async def test_codes_of_another_task_or_side_are_wrong(database_url: str, tmp_path: Path) -> None:
    async with family(database_url, tmp_path) as f:
        await f.request()
        old = f.codes()
        task = (await f.request()).json()["id"]
        codes = f.codes()
        crossed = {"resident": codes["relative"], "relative": codes["resident"]}
        for given in (old, crossed):
            if given != codes:
                assert key_of(await f.confirm(task, **given)) == (422, "relation-code")
        other = {**RELATIVE, "id": "r2"}
        await f.client.put("/RelatedPerson/r2", json=other)
        named = {"name": "task", "valueReference": {"reference": f"Task/{task}"}}
        code = {"name": "residentCode", "valueString": codes["resident"]}
        path = "/RelatedPerson/r2/$confirm-relation"
        assert (await f.client.post(path, json=asked(named, code))).status_code == 404


@pytest.mark.anyio
async def test_what_is_kept_of_a_code_cannot_be_guessed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: with a secret that is known, a million guesses find the code in the Task."""

    def is_guessed(answer: httpx.Response, codes: dict[str, str]) -> bool:
        task = answer.json()
        words = f"{task['id']} resident {codes['resident']}".encode()
        kept = {one["type"]["text"]: one.get("valueString") for one in task["input"]}
        guess = hmac.new(b"known", words, hashlib.sha256).hexdigest()
        return str(kept["resident-digest"]) == guess

    async def known(*_: object) -> bytes:
        return b"known"

    async with family(database_url, tmp_path) as f:
        assert not is_guessed(await f.request(), f.codes())
        monkeypatch.setattr(operation, "site_secret", known)
        assert is_guessed(await f.request(), f.codes())


@pytest.mark.anyio
async def test_who_cannot_be_asked_is_refused_with_advice(
    database_url: str, tmp_path: Path
) -> None:
    async with family(database_url, tmp_path) as f:
        odd = {"name": "scope", "valueCode": "sell"}
        past = {"name": "until", "valueDate": "2020-01-01"}
        assert key_of(await f.request(odd)) == (422, "relation-scope")
        assert key_of(await f.request(VIEW, past)) == (422, "relation-until")
        for change, key in (
            ({"telecom": []}, "relation-phone"),
            (phone("010-65001234"), "relation-phone"),
            (phone("13800000001"), "relation-same-phone"),
            ({"active": False}, "relation-inactive"),
        ):
            changed = {k: v for k, v in {**RELATIVE, **change}.items() if v != []}
            await f.client.put(PATH, json=changed)
            assert key_of(await f.request()) == (422, key)
        await f.client.put(PATH, json=RELATIVE)
        assert f.cloud.entries() == []
        key = "only-once"
        first = await f.request(VIEW, Idempotency_Key=key)
        again = await f.request(VIEW, Idempotency_Key=key)
        assert first.content == again.content
        assert len(f.cloud.entries()) == 2, "a repeat sends nothing anew"
        for _ in range(relation.MOST_REQUESTS - 1):
            assert (await f.request()).status_code == 201
        assert key_of(await f.request()) == (422, "relation-often")
        await f.client.put("/Patient/p1", json={**PATIENT, "deceasedBoolean": True})
        assert key_of(await f.request()) == (422, "resident-deceased")


@pytest.mark.anyio
async def test_a_message_that_did_not_leave_is_said(database_url: str, tmp_path: Path) -> None:
    async with family(database_url, tmp_path, blacklist=1.0) as f:
        for _ in range(2):  # a repeat is not told that they left
            answer = await f.request(VIEW, Idempotency_Key="k")
            assert key_of(answer) == (422, "relation-unsent")
        found = (await f.client.get("/Task?focus=RelatedPerson/r1")).json()["entry"]
        assert [one["resource"]["status"] for one in found] == ["failed"]


@pytest.mark.anyio
async def test_without_sms_nothing_is_promised(database_url: str) -> None:
    async with world(database_url) as client:
        answer = await client.post(f"{PATH}/$request-relation", json=asked(VIEW))
        assert key_of(answer) == (422, "relation-off")
