"""Channels declared in YAML, on ports of their own, read again while messages flow."""

import asyncio
import contextlib
import pathlib
import socket
from collections.abc import AsyncIterator

import psycopg
import pytest
from typer.testing import CliRunner

from adapters.port import Outgoing, Verdict
from adapters.transport.mllp_client import MllpSender
from mappings.engine.rows import FaultyMaps
from ops.channels import read_channels
from ops.commands.channels import app
from ops.settings import Settings
from ops.wiring import Running, running_hub

RUNNER = CliRunner()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def declare(folder: pathlib.Path, name: str, port: int, more: str = "") -> None:
    text = f"channel: {name}\ntransport: {{kind: mllp, port: {port}}}\n{more}"
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def adt(control_id: str, number: str = "7", name: str = "李^雷", sender: str = "HIS|H1") -> str:
    return (
        f"MSH|^~\\&|{sender}|HUB|Q|20260101||ADT^A08|{control_id}|P|2.5\r"
        f"PID|1||{number}^^^H1^MR||{name}||199001010830|F\r"
    )


@contextlib.asynccontextmanager
async def hub_of(folder: pathlib.Path | None, database_url: str) -> AsyncIterator[Running]:
    settings = Settings(auth="off", http_port=0, mllp_port=0, channels=folder)
    roles = frozenset({"mllp", "worker"})
    async with running_hub(settings, database_url, roles=roles) as hub:
        yield hub


@contextlib.asynccontextmanager
async def line(port: int) -> AsyncIterator[MllpSender]:
    sender = MllpSender(host="127.0.0.1", port=port, connect_seconds=5, reply_seconds=10)
    try:
        yield sender
    finally:
        await sender.close()


async def rows(url: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(statement, values)
        return await cursor.fetchall()


async def translated(url: str, count: int) -> list[tuple[object, ...]]:
    for _ in range(200):
        found = await rows(url, "select channel, control_id, state from inbox order by id")
        if len(found) >= count and all(row[2] not in ("received", "claimed") for row in found):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


def outgoing(text: str, charset: str = "utf-8") -> Outgoing:
    return Outgoing(
        key="k", payload=text.encode(charset), content_type="x-application/hl7-v2+er7", facts={}
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_two_channels_listen_and_read_each_in_its_own_way(
    tmp_path: pathlib.Path, database_url: str
) -> None:
    one, two = free_port(), free_port()
    declare(tmp_path, "his-a", one, "charset: gb18030\nzone: Asia/Urumqi\norder: [PID-5]\n")
    declare(tmp_path, "his-b", two)
    async with hub_of(tmp_path, database_url) as hub:
        assert dict(hub.channel_ports()) == {"his-a": one, "his-b": two}
        async with line(one) as first, line(two) as second:
            for sender, message in (
                (first, outgoing(adt("A-1"), "gb18030")),
                (second, outgoing(adt("B-1", number="8", name="韩^梅梅"))),
            ):
                assert (await sender.send(message)).verdict is Verdict.ACCEPTED
        assert await translated(database_url, 2) == [
            ("his-a", "A-1", "translated"),
            ("his-b", "B-1", "translated"),
        ]
        keys = await rows(database_url, "select order_key from inbox order by id")
        assert keys == [("李^@H1",), ("8^H1",)]
        born = {}
        written = (
            "select split_part(w, '/', 2) from inbox_trace, unnest(written) w "
            "where starts_with(w, 'Patient')"
        )
        for (id_,) in await rows(database_url, written):
            patient = await hub.store.read("Patient", str(id_))
            born["李" if "李".encode() in patient.body else "韩"] = patient.body
        assert b"+06:00" in born["李"]
        assert b"+08:00" in born["韩"]


@pytest.mark.anyio
async def test_only_the_named_partners_get_what_a_channel_brings(
    tmp_path: pathlib.Path, database_url: str
) -> None:
    one, two = free_port(), free_port()
    declare(tmp_path, "all", one)
    declare(tmp_path, "some", two, "destinations: [province]\nsenders_note: x\n")
    with pytest.raises(FaultyMaps, match=r"some.yaml:4: row senders_note: is an unknown key"):
        read_channels(tmp_path, ("province",))
    declare(tmp_path, "some", two, "destinations: [nobody]\n")
    with pytest.raises(FaultyMaps, match="'nobody', which is no partner"):
        read_channels(tmp_path, ("province",))
    found = read_channels(tmp_path, ("province", "nobody"))
    assert found.profiles["some"].destinations == ("nobody",)
    declare(tmp_path, "some", two, "destinations: [province]\n")
    async with hub_of(tmp_path, database_url) as hub:
        assert hub.channel_ports()["some"] == two
        async with line(two) as sender:
            await sender.send(outgoing(adt("S-1")))
        await translated(database_url, 1)
        owed = await rows(database_url, "select destination from outbox")
        assert owed == [("province",)]


@pytest.mark.anyio
async def test_a_stranger_is_refused_on_a_channel_that_names_its_senders(
    tmp_path: pathlib.Path, database_url: str
) -> None:
    port = free_port()
    (tmp_path / "a.yaml").write_text(
        f'channel: a\ntransport: {{port: {port}, senders: ["HIS^H1"]}}\n', encoding="utf-8"
    )
    async with hub_of(tmp_path, database_url), line(port) as sender:
        told = await sender.send(outgoing(adt("1", sender="EVIL|H1")))
        assert (told.verdict, told.code) == (Verdict.REFUSED, "AR")
        assert b"sender" in told.raw
        assert (await sender.send(outgoing(adt("2")))).verdict is Verdict.ACCEPTED
    assert await rows(database_url, "select control_id from inbox") == [("2",)]


@pytest.mark.anyio
async def test_channels_are_read_again_without_losing_a_message(
    tmp_path: pathlib.Path, database_url: str
) -> None:
    stays, goes, comes = free_port(), free_port(), free_port()
    declare(tmp_path, "stays", stays)
    declare(tmp_path, "goes", goes)
    acknowledged: list[str] = []
    done = asyncio.Event()

    async def keep_sending(port: int) -> None:
        async with line(port) as sender:
            number = 0
            while not done.is_set():
                number += 1
                control_id = f"S{number}"
                told = await sender.send(outgoing(adt(control_id, number=str(number % 5))))
                assert told.verdict is Verdict.ACCEPTED, told
                acknowledged.append(control_id)

    async def more_than(count: int) -> None:
        while len(acknowledged) <= count and not sending.done():
            await asyncio.sleep(0.02)

    async with hub_of(tmp_path, database_url) as hub:
        sending = asyncio.create_task(keep_sending(stays))
        await more_than(3)
        declare(tmp_path, "stays", stays, "zone: Asia/Urumqi\n")
        (tmp_path / "goes.yaml").unlink()
        declare(tmp_path, "comes", comes)
        before = len(acknowledged)
        assert await hub.reload() == ()
        assert dict(hub.channel_ports()) == {"stays": stays, "comes": comes}
        async with line(comes) as sender:
            assert (await sender.send(outgoing(adt("C-1", "9")))).verdict is Verdict.ACCEPTED
        async with line(goes) as sender:
            assert (await sender.send(outgoing(adt("G-1", "9")))).verdict is Verdict.DEFERRED
        await more_than(before + 3)
        assert len(acknowledged) > before > 0
        done.set()
        await sending
        found = await translated(database_url, len(acknowledged) + 1)
        kept = [row[1] for row in found if row[0] == "stays"]
        assert kept == acknowledged
        assert {row[2] for row in found} == {"translated"}


@pytest.mark.anyio
async def test_a_wrong_file_leaves_all_channels_as_they_were(
    tmp_path: pathlib.Path, database_url: str
) -> None:
    port, other = free_port(), free_port()
    declare(tmp_path, "a", port)
    async with hub_of(tmp_path, database_url) as hub, line(port) as sender:
        declare(tmp_path, "b", other)
        declare(tmp_path, "c", free_port(), "charset: klingon\nzone: Mars/Base\n")
        faults = [str(fault) for fault in await hub.reload()]
        assert [text.split(": ")[0] for text in faults] == [
            "c.yaml:3",
            "c.yaml:4",
        ]
        assert dict(hub.channel_ports()) == {"a": port}
        (tmp_path / "c.yaml").write_bytes("channel: 内科".encode("gb18030"))
        (fault,) = map(str, await hub.reload())
        assert fault.startswith("c.yaml:1: row -: is not UTF-8")
        (tmp_path / "c.yaml").unlink()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            declare(tmp_path, "b", taken.getsockname()[1])
            faults = [str(fault) for fault in await hub.reload()]
            assert len(faults) == 1
            assert "cannot be listened on" in faults[0]
        assert dict(hub.channel_ports()) == {"a": port}
        assert (await sender.send(outgoing(adt("1")))).verdict is Verdict.ACCEPTED


@pytest.mark.anyio
async def test_a_hub_with_wrong_channels_does_not_start(
    tmp_path: pathlib.Path, database_url: str
) -> None:
    declare(tmp_path, "a", free_port(), "order: [PID3]\nlimits: {max_bytes: 1}\n")
    with pytest.raises(FaultyMaps) as refused:
        async with hub_of(tmp_path, database_url):
            pass
    assert "a.yaml:3: row order" in str(refused.value)
    assert "a.yaml:4: row max_bytes" in str(refused.value)


@pytest.mark.anyio
async def test_a_channel_is_read_by_maps_of_its_own(
    tmp_path: pathlib.Path, database_url: str
) -> None:
    port = free_port()
    own = tmp_path / "own" / "maps"
    own.mkdir(parents=True)
    (tmp_path / "own" / "tables").mkdir()
    text = (
        "map: P\nto: Patient\nidentity: [identifier]\nrows:\n"
        '  - {id: N, v2: PID-3.1, fhir: "identifier[0].value",\n'
        '     with: {system: "urn:own"}}\n'
        "---\nmessage: M\nevents: [ADT^A08]\nmakes:\n  - {id: p, map: P, each: PID}\n"
    )
    (own / "p.yaml").write_text(text, encoding="utf-8")
    declare(tmp_path, "a", port, "maps: ./own\n")
    async with hub_of(tmp_path, database_url) as hub, line(port) as sender:
        await sender.send(outgoing(adt("1", "55")))
        assert await translated(database_url, 1) == [("a", "1", "translated")]
        (written,) = await rows(database_url, "select written from inbox_trace")
        id_ = written[0][0].split("/")[1]  # type: ignore[index]
        assert b'"urn:own"' in (await hub.store.read("Patient", id_)).body
        (own / "p.yaml").write_text(text.replace("urn:own", "urn:other"), encoding="utf-8")
        assert await hub.reload() == ()
        await sender.send(outgoing(adt("2", "56")))
        await translated(database_url, 2)
        _, written = await rows(database_url, "select written from inbox_trace order by inbox_id")
        id_ = written[0][0].split("/")[1]  # type: ignore[index]
        assert b'"urn:other"' in (await hub.store.read("Patient", id_)).body


def test_the_files_are_checked_before_anything_runs(tmp_path: pathlib.Path) -> None:
    declare(tmp_path, "a", 2601)
    result = RUNNER.invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 0
    declare(tmp_path, "b", 2601, "reply: sometimes\nacknowledge: applied\n")
    result = RUNNER.invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert "b.yaml:2: row transport: takes port 2601, which a has" in result.stdout
    assert "b.yaml:3: row reply" in result.stdout
    (tmp_path / "b.yaml").unlink()
    result = RUNNER.invoke(app, ["list", str(tmp_path), "--json"])
    assert '"port": 2601' in result.stdout
