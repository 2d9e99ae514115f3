"""The console's own API on a whole hub: messages sent over MLLP, browsed, mended, replayed."""

import asyncio
import contextlib
import pathlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import psycopg
import pytest

from adapters.port import Outgoing
from adapters.transport.mllp_client import MllpSender
from ops.settings import Settings
from ops.wiring import Running, running_hub


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(kw_only=True)
class Console:
    hub: Running
    client: httpx.AsyncClient
    sender: MllpSender
    url: str
    home: pathlib.Path

    async def send(self, *messages: str) -> None:
        for text in messages:
            await self.sender.send(
                Outgoing(key="k", payload=text.encode(), content_type="x", facts={})
            )
        await self.settled()

    async def settled(self) -> None:
        for _ in range(200):
            async with await psycopg.AsyncConnection.connect(self.url) as connection:
                cursor = await connection.execute(
                    "select count(*) from inbox where state in ('received', 'claimed')"
                    " and waits_for is null"
                )
                row = await cursor.fetchone()
            if row == (0,):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("messages are still open")

    async def get(self, path: str, **query: str | int) -> dict:
        answer = await self.client.get(f"/console/api{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: object) -> dict:
        answer = await self.client.post(f"/console/api{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def found(self, **query: str | int) -> list[str]:
        return [row["control_id"] for row in (await self.get("/messages", **query))["messages"]]


@contextlib.asynccontextmanager
async def console_of(
    database_url: str, home: pathlib.Path, **settings: object
) -> AsyncIterator[Console]:
    chosen = Settings(auth="off", http_port=0, mllp_port=0, home=home, **settings)
    async with running_hub(chosen, database_url) as hub:
        sender = MllpSender(host="127.0.0.1", port=hub.mllp_port or 0)
        base = f"http://127.0.0.1:{hub.http_port}"
        async with httpx.AsyncClient(base_url=base, timeout=30) as client:
            try:
                yield Console(hub=hub, client=client, sender=sender, url=database_url, home=home)
            finally:
                await sender.close()


def card_of(number: str) -> str:
    return f"99900119900101{number:0>4}" if number else ""


def adt(
    control_id: str, number: str = "7", sex: str = "M", event: str = "A08", more: str = ""
) -> str:
    return (
        f"MSH|^~\\&|HIS|H1|QIAO|HUB|20260101080000+0800||ADT^{event}|{control_id}|P|2.5.1\r"
        f"PID|1||{number}^^^H1^MR~{card_of(number)}^^^CN^NNCHN||李^雷||19900101|{sex}\r{more}"
    )


@pytest.mark.anyio
async def test_messages_are_found_by_every_filter(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with console_of(database_url, tmp_path) as console:
        await console.send(adt("A"), adt("B", "8"), adt("C", event="A99"), adt("D", sex="?"))
        assert await console.found() == ["D", "C", "B", "A"]
        assert await console.found(event="ADT^A08") == ["D", "B", "A"]
        assert await console.found(event="ADT") == ["D", "C", "B", "A"]
        assert await console.found(event="AD") == []
        assert await console.found(state="unmapped") == ["C"]
        assert await console.found(state="held") == ["D"]
        assert await console.found(state="held", event="ADT^A99") == []
        assert await console.found(control_id="B") == ["B"]
        assert await console.found(channel="his") == ["D", "C", "B", "A"]
        assert await console.found(channel="nobody") == []
        assert await console.found(patient="8") == ["B"]
        assert await console.found(patient="8", control_id="A") == []
        # The identity card stands in another repetition; the record that carries it is known.
        assert await console.found(patient=card_of("7")) == ["D", "C", "A"]
        assert await console.found(patient="7^^^H1", state="translated") == ["A"]
        hour = 3600
        now = time.time()
        past, soon = _iso(now - hour), _iso(now + hour)
        assert await console.found(since=past, until=soon) == ["D", "C", "B", "A"]
        assert await console.found(since=soon) == []
        assert await console.found(until=past) == []
        page = await console.get("/messages", limit=2)
        assert [row["control_id"] for row in page["messages"]] == ["D", "C"]
        assert await console.found(limit=2, before=page["next"]) == ["B", "A"]
        kinds = await console.get("/kinds")
        assert kinds["channels"] == ["his"]
        assert kinds["events"] == ["ADT^A08", "ADT^A99"]


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


@pytest.mark.anyio
async def test_a_message_shows_where_each_value_went(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with console_of(database_url, tmp_path) as console:
        await console.send(adt("A"))
        (row,) = (await console.get("/messages"))["messages"]
        shown = await console.get(f"/messages/{row['id']}")
        assert shown["raw"].startswith("MSH|^~\\&|HIS|H1|")
        assert "MSA|AA|A" in shown["ack"]
        pid = next(segment for segment in shown["tree"] if segment["name"] == "PID")
        places = {field["place"]: field for field in pid["fields"]}
        family = places["PID[1]-5[1]"]["parts"][0]
        assert (family["place"], family["text"]) == ("PID[1]-5[1].1", "李")
        patient = next(one for one in shown["resources"] if one["reference"].startswith("Patient/"))
        assert patient["resource"]["name"][0]["family"] == "李"
        assert ["Patient.name[0].family", "PID[1]-5[1].1", "XPN-1"] in patient["trace"]
        words = shown["rows"]["PID-8"][0]
        assert words["file"].endswith("patient.yaml")
        assert words["kind"] == "lossy"
        assert words["text_zh"].startswith("PID-8 写入 gender")
        assert shown["is_current_map"]
        (owed,) = [one for one in shown["sent"] if one["source_type"] == "Patient"]
        assert owed["destination"] == "province"


@pytest.mark.anyio
async def test_a_held_code_is_rehearsed_resolved_and_its_messages_run_in_order(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with console_of(database_url, tmp_path) as console:
        await console.send(
            adt("A", sex="?"), adt("B", sex="M"), adt("C", sex="?"), adt("D", "8", sex="?")
        )
        assert await console.found(state="translated") == []
        queues = await console.get("/queues")
        (code,) = queues["codes"]
        assert (code["table"], code["code"]) == ("AdministrativeSex", "?")
        assert [one["control_id"] for one in code["messages"]] == ["A", "D"]
        assert [one["waiting"] for one in queues["held"]] == [2, 0]
        assert "unknown" in [one["code"] for one in code["targets"]]
        first = code["messages"][0]["id"]
        stuck = await console.post(f"/messages/{first}/rehearse", {})
        assert stuck["outcome"] == "held"
        chosen = {"AdministrativeSex": {"?": "unknown"}}
        dry = await console.post(f"/messages/{first}/rehearse", {"codes": chosen})
        assert dry["outcome"] == "translated"
        patient = next(one for one in dry["changes"] if one["reference"].startswith("Patient/"))
        gender = next(one for one in patient["differences"] if one["path"] == "gender")
        assert gender == {"path": "gender", "was": None, "becomes": "unknown", "row": "PID-8"}
        # Nothing was written.
        assert (await console.client.get("/fhir/Patient?_summary=count")).json()["total"] == 0
        done = await console.post(
            "/codes",
            {
                "channel": "his", "table": "AdministrativeSex", "code": "?", "target": "unknown",
                "reason": "asked the ward",
            },
        )  # fmt: skip
        assert done["messages"] == [one["id"] for one in code["messages"]]
        assert done["opened"] == 4
        await console.settled()
        assert await console.found(state="translated") == ["D", "C", "B", "A"]
        history = (await console.client.get("/fhir/Patient/_history")).json()["entry"]
        genders = [entry["resource"]["gender"] for entry in reversed(history)]
        assert sorted(genders) == ["male", "unknown", "unknown", "unknown"]
        seven = await console.client.get("/fhir/Patient?identifier=7")
        id_ = seven.json()["entry"][0]["resource"]["id"]
        history = (await console.client.get(f"/fhir/Patient/{id_}/_history")).json()["entry"]
        genders = [entry["resource"]["gender"] for entry in reversed(history)]
        assert genders == ["unknown", "male", "unknown"]
        shown = await console.get(f"/messages/{first}")
        assert shown["moves"][0]["action"] == "replay"
        assert "asked the ward" in shown["moves"][0]["reason"]
        (kept,) = (await console.get("/queues"))["resolved"]
        assert (kept["code"], kept["target"], kept["actor"]) == ("?", "unknown", "anybody")
    # A hub that starts knows what was resolved.
    async with console_of(database_url, tmp_path) as console:
        await console.send(adt("E", "9", sex="?"))
        assert "E" in await console.found(state="translated")


@pytest.mark.anyio
async def test_a_parked_message_is_rehearsed_against_the_present_record(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with console_of(database_url, tmp_path) as console:
        await console.send(adt("A"))
        await console.send(adt("M", number="", event="A40", more="MRG|9^^^H1\r"))
        assert await console.found(state="parked") == ["M"]
        (parked,) = (await console.get("/queues"))["parked"]
        dry = await console.post(f"/messages/{parked['id']}/rehearse", {})
        assert dry["outcome"] == "parked"
        assert dry["issues"][0]["diagnostics"]
        answer = await console.client.post(
            f"/console/api/messages/{parked['id']}/skip", json={"reason": ""}
        )
        assert answer.status_code == 422
        await console.post(f"/messages/{parked['id']}/skip", {"reason": "wrong merge"})
        assert await console.found(state="skipped") == ["M"]


@pytest.mark.anyio
async def test_the_playground_tries_messages_and_changed_maps_and_saves_cases(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with console_of(database_url, tmp_path) as console:
        message = adt("A").replace("\r", "\n")
        tried = await console.post("/try", {"message": message})
        patient = next(one for one in tried["resources"] if one["reference"].startswith("Patient/"))
        assert patient["resource"]["gender"] == "male"
        assert tried["rows"]["PID-8"][0]["text"].startswith("PID-8 becomes gender")
        name = "hl7v2/patient.yaml"
        assert name in (await console.get("/maps"))["files"]
        text = (await console.get(f"/maps/{name}"))["text"]
        changed = text.replace("fhir: birthDate, as: dtm.date", "fhir: birthDate, as: nothing")
        faulty = await console.post("/try", {"message": message, "maps": {name: changed}})
        assert faulty["resources"] == []
        assert faulty["faults"][0]["file"].endswith("patient.yaml")
        assert faulty["faults"][0]["line"] > 1
        assert faulty["faults"][0]["fix"]
        other = text.replace("fhir: birthDate, as: dtm.date", "fhir: birthDate, as: code")
        changed_try = await console.post("/try", {"message": message, "maps": {name: other}})
        patient = next(
            one for one in changed_try["resources"] if one["reference"].startswith("Patient/")
        )
        assert patient["resource"]["birthDate"] == "19900101"
        assert changed_try["issues"]  # no date: the resource would be refused
        broken = await console.post("/try", {"message": "PID|1"})
        assert broken["issues"][0]["details"]["coding"][0]["code"]
        case = {"name": "a-case", "message": message, "why": "A patient without a ward."}
        saved = await console.post("/cases", case)
        folder = pathlib.Path(saved["folder"])
        assert {file.name for file in folder.iterdir()} == {
            "in.hl7", "out.fhir.json", "back.hl7", "why.md",
        }  # fmt: skip
        for wrong in ({**case}, {**case, "name": "../up"}, {**case, "name": "b", "why": " "}):
            answer = await console.client.post("/console/api/cases", json=wrong)
            assert answer.status_code == 400
            assert answer.json()["issue"][0]["diagnostics"]
        assert len((await console.get("/samples"))["samples"]) >= 5


BAD = [
    ("GET", "/messages?state=odd", None, 400),
    ("GET", "/messages?since=yesterday", None, 400),
    ("GET", "/messages?limit=0", None, 400),
    ("GET", "/messages?limit=9999999", None, 400),
    ("GET", "/messages?before=x", None, 400),
    ("GET", "/messages/99", None, 404),
    ("GET", "/messages/x", None, 400),
    ("GET", "/maps/..%2F..%2Fpyproject.toml", None, 404),
    ("GET", "/maps/hl7v2/none.yaml", None, 404),
    ("POST", "/replay", {"ids": []}, 400),
    ("POST", "/replay", {"ids": [99]}, 404),
    ("POST", "/replay", {"ids": "all"}, 400),
    ("POST", "/codes", {"channel": "x", "table": "t", "code": "c", "target": "t"}, 400),
    ("POST", "/codes", {"channel": "his", "table": "t", "code": "c", "target": "t"}, 400),
    ("POST", "/try", {"message": "x", "maps": {"../x.yaml": ""}}, 404),
    ("POST", "/try", {"message": "x" * 1_100_000}, 400),
    ("POST", "/messages/99/rehearse", {}, 404),
]


@pytest.mark.anyio
async def test_bad_requests_are_refused_with_advice(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with console_of(database_url, tmp_path) as console:
        for method, path, body, status in BAD:
            answer = await console.client.request(method, f"/console/api{path}", json=body)
            assert answer.status_code == status, (path, answer.text)
            if answer.headers["content-type"].startswith("application/fhir+json"):
                issue = answer.json()["issue"][0]
                assert issue["details"]["coding"][0]["code"]
                assert issue["diagnostics"]
        # Another site's page can post a form here, but nothing that is taken.
        form = await console.client.post("/console/api/replay", data={"ids": "1"})
        assert form.status_code == 415
        text = await console.client.post("/console/api/replay", content=b'{"ids":[1]}')
        assert text.status_code == 415


@pytest.mark.anyio
async def test_only_callers_who_may_see_all_records_come_in(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    chosen = Settings(auth="on", http_port=0, mllp_port=0, home=tmp_path)
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}") as client,
    ):
        for path in ("/messages", "/queues", "/kinds", "/maps", "/samples"):
            answer = await client.get(f"/console/api{path}")
            assert answer.status_code == 401
        assert (await client.post("/console/api/replay", json={"ids": [1]})).status_code == 401


@pytest.mark.anyio
async def test_without_pages_the_address_says_why_and_the_rest_works(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with console_of(database_url, tmp_path) as console:
        answer = await console.client.get("/console")
        assert answer.status_code == 503
        assert "Everything else works" in answer.text
        assert "其余功能不受影响" in answer.text
        folder = console.hub.pages.folder
        (folder / "assets").mkdir(parents=True)
        (folder / "index.html").write_text("<p>pages</p>", encoding="utf-8")
        (folder / "assets" / "a-1.js").write_text("1", encoding="utf-8")
        (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
        page = await console.client.get("/console")
        assert page.text == "<p>pages</p>"
        assert "script-src 'self'" in page.headers["content-security-policy"]
        script = await console.client.get("/console/assets/a-1.js")
        assert "immutable" in script.headers["cache-control"]
        for path in ("../../secret.txt", "..%2f..%2f..%2fsecret.txt", "%2e%2e/%2e%2e/secret.txt"):
            stolen = await console.client.get(f"/console/assets/{path}")
            assert "secret" not in stolen.text
