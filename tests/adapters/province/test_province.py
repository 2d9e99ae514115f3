"""The province's sender and the simulator, over real HTTP, with zeep as the second opinion."""

import asyncio
import contextlib
import datetime
import importlib.resources
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx
import lxml.etree
import pytest
import zeep
import zeep.transports

from adapters.envelope.profile import profile_of
from adapters.envelope.seal import seal
from adapters.port import Outgoing, Receipt, Verdict
from adapters.province.client import Account, ProvinceSender
from adapters.province.error_table import read_error_table
from adapters.province.ledger import Ledger, read_ledger
from adapters.province.mischief import Mischief
from adapters.province.simulator import ProvinceSimulator, running

KEY = b"shared key"
DOCUMENT = (
    importlib.resources.files("adapters.province")
    .joinpath("resident_registration.xml")
    .read_bytes()
)


@contextlib.asynccontextmanager
async def province(
    folder: pathlib.Path,
    faults: Mapping[str, float] | None = None,
    *,
    key: bytes = KEY,
    clock: Callable[[], datetime.datetime] | None = None,
    reply_seconds: float = 5.0,
) -> AsyncIterator[tuple[ProvinceSender, str]]:
    simulator = ProvinceSimulator(
        ledger=Ledger(folder / "ledger.jsonl"),
        key=KEY,
        mischief=Mischief(faults or {}, 1),
        delay_seconds=0.05,
        hang_seconds=20,
    )
    async with running(simulator) as endpoint:
        account = Account(endpoint=endpoint, key=key, org_code="HOSP-A", org_name="演示医院")
        clocked = {} if clock is None else {"clock": clock}
        sender = ProvinceSender(account=account, reply_seconds=reply_seconds, **clocked)
        try:
            yield sender, endpoint
        finally:
            await sender.close()


def outgoing(key: str = "m-1", payload: bytes = DOCUMENT, **facts: str) -> Outgoing:
    return Outgoing(key=key, payload=payload, facts=facts)


def registered(folder: pathlib.Path) -> list[str]:
    return [entry.msg_id for entry in read_ledger(folder / "ledger.jsonl")]


def run(scenario: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario, 30)

    asyncio.run(bounded())


def test_a_document_is_registered_once_and_the_receipt_names_its_number(
    tmp_path: pathlib.Path,
) -> None:
    async def scenario() -> None:
        async with province(tmp_path) as (sender, _):
            first = await sender.send(outgoing())
            again = await sender.send(outgoing())
            asked = await sender.ask("m-1")
            for receipt, code in ((first, "0000"), (again, "0001"), (asked, "0000")):
                assert (receipt.verdict, receipt.code) == (Verdict.ACCEPTED, code)
                assert receipt.reference == "P00000001"
        assert registered(tmp_path) == ["m-1"]

    run(scenario())


def test_the_same_message_sent_at_once_by_many_is_registered_once(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with province(tmp_path) as (sender, _):
            receipts = await asyncio.gather(*(sender.send(outgoing()) for _ in range(20)))
            assert {receipt.verdict for receipt in receipts} == {Verdict.ACCEPTED}
        assert registered(tmp_path) == ["m-1"]

    run(scenario())


def test_a_refused_document_names_field_code_and_advice_without_its_value(
    tmp_path: pathlib.Path,
) -> None:
    wrong = DOCUMENT.replace(b"999001199003071010", b"999001199003071011")

    async def scenario() -> None:
        async with province(tmp_path) as (sender, _):
            receipt = await sender.send(outgoing(payload=wrong))
            assert (receipt.verdict, receipt.code) == (Verdict.REFUSED, "E2003")
            assert "IdCard E2003" in receipt.detail
            assert "请更正档案中的身份证号" in receipt.detail
            assert "99900119900307" not in receipt.detail
            assert (await sender.ask("m-1")).code == "E2003"
            # The advice is followed: the corrected record is taken.
            assert (await sender.send(outgoing())).verdict is Verdict.ACCEPTED
            assert (await sender.ask("m-1")).verdict is Verdict.ACCEPTED

    run(scenario())


def test_a_message_id_used_for_another_document_is_refused(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with province(tmp_path) as (sender, _):
            await sender.send(outgoing())
            other = DOCUMENT.replace("演示路1号".encode(), "演示路2号".encode())
            receipt = await sender.send(outgoing(payload=other))
            assert (receipt.verdict, receipt.code) == (Verdict.REFUSED, "E3001")
            # The advice is followed: a new message id.
            again = await sender.send(outgoing("m-2", other, opType="U", dataVersion="2"))
            assert (again.verdict, again.reference) == (Verdict.ACCEPTED, "P00000001")

    run(scenario())


MOODS = {
    "delay": (Verdict.ACCEPTED, "0000", Verdict.ACCEPTED),
    "timeout": (Verdict.UNKNOWN, "timeout", Verdict.ACCEPTED),
    "fault": (Verdict.UNKNOWN, "E9001", Verdict.DEFERRED),
    "refuse": (Verdict.REFUSED, "E2002", Verdict.REFUSED),
    "twice": (Verdict.ACCEPTED, "0000", Verdict.ACCEPTED),
    "busy": (Verdict.DEFERRED, "http-503", Verdict.DEFERRED),
    "garbage": (Verdict.UNKNOWN, "unreadable", Verdict.ACCEPTED),
    "pending": (Verdict.UNKNOWN, "0002", Verdict.ACCEPTED),
}


@pytest.mark.parametrize("mood", MOODS)
def test_every_mood_gets_its_verdict_and_asking_settles_it(
    mood: str, tmp_path: pathlib.Path
) -> None:
    verdict, code, settled = MOODS[mood]

    async def scenario() -> None:
        async with province(tmp_path, {mood: 1.0}, reply_seconds=1.0) as (sender, _):
            receipt = await sender.send(outgoing())
            assert (receipt.verdict, receipt.code) == (verdict, code)
            assert (await sender.ask("m-1")).verdict is settled
        assert registered(tmp_path) == (["m-1"] if settled is Verdict.ACCEPTED else [])

    run(scenario())


def test_with_every_mood_at_once_each_message_is_registered_once_or_refused(
    tmp_path: pathlib.Path,
) -> None:
    async def deliver(sender: ProvinceSender, key: str) -> Receipt:
        receipt = await sender.send(outgoing(key))
        for _ in range(50):
            if receipt.verdict is Verdict.UNKNOWN:
                receipt = await sender.ask(key)
            elif receipt.verdict is Verdict.DEFERRED:
                receipt = await sender.send(outgoing(key))
            else:
                break
        return receipt

    async def scenario() -> None:
        faults = dict.fromkeys(MOODS, 0.1)
        async with province(tmp_path, faults, reply_seconds=0.5) as (sender, _):
            keys = [f"m-{number}" for number in range(60)]
            receipts = await asyncio.gather(*(deliver(sender, key) for key in keys))
            taken = [
                key
                for key, receipt in zip(keys, receipts, strict=True)
                if receipt.verdict is Verdict.ACCEPTED
            ]
            assert {receipt.verdict for receipt in receipts} == {
                Verdict.ACCEPTED,
                Verdict.REFUSED,
            }
        assert sorted(registered(tmp_path)) == sorted(taken)

    run(scenario())


def test_a_wrong_key_is_deferred_because_the_key_is_what_must_change(
    tmp_path: pathlib.Path,
) -> None:
    async def scenario() -> None:
        async with province(tmp_path, key=b"another key") as (sender, _):
            receipt = await sender.send(outgoing())
            assert (receipt.verdict, receipt.code) == (Verdict.DEFERRED, "E1005")
            assert (await sender.ask("m-1")).verdict is Verdict.UNKNOWN
        assert registered(tmp_path) == []

    run(scenario())


def test_a_clock_six_minutes_off_is_deferred(tmp_path: pathlib.Path) -> None:
    def late() -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=6)

    async def scenario() -> None:
        async with province(tmp_path, clock=late) as (sender, _):
            receipt = await sender.send(outgoing())
            assert (receipt.verdict, receipt.code) == (Verdict.DEFERRED, "E1006")

    run(scenario())


def test_our_own_wrong_envelope_is_refused_before_it_leaves(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with province(tmp_path) as (sender, _):
            for wrong in (outgoing("a key with blanks"), outgoing(opType="X")):
                receipt = await sender.send(wrong)
                assert (receipt.verdict, receipt.code) == (Verdict.REFUSED, "envelope")
            assert (await sender.ask("a key with blanks")).verdict is Verdict.UNKNOWN

    run(scenario())


def test_the_heartbeat_says_whether_the_province_is_up(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with province(tmp_path) as (sender, _):
            assert (await sender.heartbeat()).verdict is Verdict.ACCEPTED
        away = Account(endpoint="http://127.0.0.1:1/x", key=KEY, org_code="H", org_name="医院")
        sender = ProvinceSender(account=away)
        assert (await sender.heartbeat()).verdict is Verdict.DEFERRED
        await sender.close()

    run(scenario())


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http_answer(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


ANSWERS = [
    (b"", Verdict.UNKNOWN, "broken"),
    (b"nonsense\r\n\r\n", Verdict.UNKNOWN, "broken"),
    (http_answer("200 OK", "text/html", b"<html>"), Verdict.UNKNOWN, "unreadable"),
    (http_answer("200 OK", "text/xml", b"\x00" * 2_000_000), Verdict.UNKNOWN, "unreadable"),
    (http_answer("400 Bad Request", "text/plain", b"no"), Verdict.REFUSED, "http-400"),
    (http_answer("401 Unauthorized", "text/plain", b"no"), Verdict.DEFERRED, "http-401"),
    (http_answer("302 Found", "text/plain", b"no"), Verdict.UNKNOWN, "http-302"),
    (http_answer("404 Not Found", "text/plain", b"no"), Verdict.DEFERRED, "http-404"),
    (http_answer("429 Slow Down", "text/plain", b"no"), Verdict.DEFERRED, "http-429"),
    (http_answer("500 Oops", "text/html", b"<html>"), Verdict.UNKNOWN, "http-500"),
    (http_answer("502 Bad Gateway", "text/html", b"<html>"), Verdict.UNKNOWN, "http-502"),
    (http_answer("503 Busy", "text/html", b"<html>"), Verdict.DEFERRED, "http-503"),
    (http_answer("504 Timeout", "text/html", b"<html>"), Verdict.UNKNOWN, "http-504"),
]


def soap(inside: str) -> bytes:
    namespace = "http://schemas.xmlsoap.org/soap/envelope/"
    text = f'<s:Envelope xmlns:s="{namespace}"><s:Body>{inside}</s:Body></s:Envelope>'
    return http_answer("200 OK", "text/xml; charset=utf-8", text.encode())


def receipts(*texts: str) -> bytes:
    inside = "".join(f"<Receipt>{text}</Receipt>" for text in texts)
    return soap(f'<UploadResponse xmlns="urn:qiao:province:1">{inside}</UploadResponse>')


def receipt_xml(msg_id: str, status: str, code: str) -> str:
    return f"<msgId>{msg_id}</msgId><status>{status}</status><code>{code}</code><message/>"


SOAP_ANSWERS = [
    (receipts(receipt_xml("m-2", "accepted", "0000")), Verdict.UNKNOWN, "wrong-receipt"),
    (receipts(), Verdict.UNKNOWN, "wrong-receipt"),
    (
        receipts(receipt_xml("m-1", "accepted", "0000"), receipt_xml("m-1", "refused", "E2002")),
        Verdict.UNKNOWN,
        "contradiction",
    ),
    (receipts(receipt_xml("m-1", "refused", "X77")), Verdict.REFUSED, "X77"),
    (receipts(receipt_xml("m-1", "shrug", "X78")), Verdict.UNKNOWN, "X78"),
    (
        soap(
            "<s:Fault><faultcode>s:Client</faultcode><faultstring>no</faultstring></s:Fault>",
        ),
        Verdict.REFUSED,
        "fault-Client",
    ),
    (
        soap("<s:Fault><faultcode>s:Server</faultcode><faultstring>x</faultstring></s:Fault>"),
        Verdict.UNKNOWN,
        "fault-Server",
    ),
    (
        http_answer(
            "200 OK",
            "text/xml",
            b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        ),
        Verdict.UNKNOWN,
        "unreadable",
    ),
]


@pytest.mark.parametrize(("answer", "verdict", "code"), ANSWERS + SOAP_ANSWERS)
def test_whatever_comes_back_is_a_verdict(answer: bytes, verdict: Verdict, code: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        await reader.readexactly(int(length.partition(b":")[2]))
        writer.write(answer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        account = Account(
            endpoint=f"http://127.0.0.1:{port}/x", key=KEY, org_code="H", org_name="医院"
        )
        sender = ProvinceSender(account=account, reply_seconds=5)
        receipt = await sender.send(outgoing())
        assert (receipt.verdict, receipt.code) == (verdict, code)
        assert receipt.detail
        asked = await sender.ask("m-1")
        assert asked.verdict in (Verdict.UNKNOWN, verdict)
        await sender.close()
        server.close()
        await asyncio.sleep(0.02)

    run(scenario())


def test_the_table_knows_every_code_the_simulator_and_the_sender_use() -> None:
    table = read_error_table()
    source = importlib.resources.files("adapters.province")
    for code in ("0000", "0001", "0002", "E4001", "E9001", "timeout", "broken", "connect"):
        assert code in table
    for name in ("simulator.py", "registration.py", "client.py"):
        text = source.joinpath(name).read_text("utf-8")
        for word in text.replace('"', " ").split():
            if len(word) == 5 and word[0] == "E" and word[1:].isdigit():
                assert word in table
    for meaning in table.values():
        assert meaning.action_en
        assert meaning.action_zh
        assert meaning.meaning_en
        assert meaning.meaning_zh


def zeep_client(endpoint: str) -> Any:
    transport = zeep.transports.Transport(timeout=5, operation_timeout=5)
    return zeep.Client(endpoint + "?wsdl", transport=transport)


def test_zeep_reads_the_wsdl_and_registers_a_resident(tmp_path: pathlib.Path) -> None:
    fields = {
        "orgCode": "HOSP-A",
        "sysCode": "QIAO",
        "bizType": "resident",
        "opType": "A",
        "batchNo": "B1",
        "msgId": "by-zeep",
    }
    now = datetime.datetime.now(datetime.UTC)
    wire = seal(profile_of("province_upload"), fields, payload=DOCUMENT, key=KEY, at=now)

    def call(endpoint: str) -> None:
        client = zeep_client(endpoint)
        with client.transport.session:
            given = {name: text for name, text in wire.items() if text}
            [receipt] = client.service.Upload(**given)
            assert (receipt.status, receipt.code) == ("accepted", "0000")
            assert receipt.registrationNo == "P00000001"
            assert client.service.Heartbeat(sysCode="QIAO").status == "up"

    async def scenario() -> None:
        async with province(tmp_path) as (_, endpoint):
            await asyncio.to_thread(call, endpoint)
        assert registered(tmp_path) == ["by-zeep"]

    run(scenario())


def test_zeep_understands_our_faults(tmp_path: pathlib.Path) -> None:
    def call(endpoint: str) -> None:
        client = zeep_client(endpoint)
        with client.transport.session:
            message = client.create_message(client.service, "Heartbeat", sysCode="QIAO")
            [request] = message.find("{*}Body")
            request.append(request[0].__copy__())
            reply = client.transport.post_xml(endpoint, message, {"Content-Type": "text/xml"})
            assert reply.status_code == 500
            operation = client.service._binding._operations["Heartbeat"]
            with pytest.raises(zeep.exceptions.Fault, match="repeated"):
                client.service._binding.process_reply(client, operation, reply)

    async def scenario() -> None:
        async with province(tmp_path) as (_, endpoint):
            await asyncio.to_thread(call, endpoint)

    run(scenario())


def test_the_template_writes_what_zeep_writes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[bytes] = []

    async def scenario() -> None:
        async with province(tmp_path) as (sender, endpoint):
            post = sender._http.post

            async def keep(body: bytes, headers: Mapping[str, str]) -> object:
                bodies.append(body)
                return await post(body, headers)

            monkeypatch.setattr(sender._http, "post", keep)
            await sender.send(outgoing(dataVersion="3"))
            await asyncio.to_thread(compare, endpoint)

    def compare(endpoint: str) -> None:
        client = zeep_client(endpoint)
        with client.transport.session:
            root = lxml.etree.fromstring(bodies[0])
            [request] = root.find("{*}Body")
            given = {child.tag.rpartition("}")[2]: child.text for child in request}
            message = client.create_message(client.service, "Upload", **given)
            [by_zeep] = message.find("{*}Body")
            assert [(child.tag, child.text) for child in by_zeep] == [
                (child.tag, child.text) for child in request
            ]
            assert by_zeep.tag == request.tag

    run(scenario())


def sample(kind: str) -> bytes:
    file = importlib.resources.files("adapters.province").joinpath(f"{kind}_registration.xml")
    return file.read_bytes()


def test_children_wait_for_their_parents_and_the_ledger_keeps_each_step(
    tmp_path: pathlib.Path,
) -> None:
    async def scenario() -> None:
        async with province(tmp_path) as (sender, endpoint):
            early = await sender.send(outgoing("c-1", sample("contract"), bizType="contract"))
            assert (early.verdict, early.code) == (Verdict.REFUSED, "E2104")
            assert early.detail.startswith("Resident E2104, Team E2103, Doctor E2102;")
            second = sample("doctor").replace(b"999001D000001", b"999001D000002")
            for number, (kind, payload) in enumerate(
                [
                    ("institution", sample("institution")),
                    ("doctor", sample("doctor")),
                    ("doctor", second),
                    ("team", sample("team")),
                    ("resident", DOCUMENT),
                ]
            ):
                receipt = await sender.send(outgoing(f"p-{number}", payload, bizType=kind))
                assert receipt.verdict is Verdict.ACCEPTED, receipt.detail
            # The advice is followed: the contract is sent again.
            for msg_id, step in (("c-1", b"01"), ("c-2", b"03"), ("c-3", b"05")):
                payload = sample("contract").replace(b"<Step>03", b"<Step>" + step)
                receipt = await sender.send(outgoing(msg_id, payload, bizType="contract"))
                assert receipt.verdict is Verdict.ACCEPTED, receipt.detail
            again = await sender.send(outgoing("c-4", sample("contract"), bizType="contract"))
            assert again.code == "E2106"
            async with httpx.AsyncClient(trust_env=False) as client:
                schema = await client.get(f"{endpoint}?xsd=contract")
                missing = await client.get(f"{endpoint}?xsd=../x")
            assert b"ContractRegistration" in schema.content
            assert missing.status_code == 404
        kept = [one for one in read_ledger(tmp_path / "ledger.jsonl") if one.step]
        assert [(one.number, one.step) for one in kept] == [
            ("FD-2026-0001", step) for step in ("01", "03", "05")
        ]
        assert len({one.registration_no for one in kept}) == 1

    run(scenario())
