"""MLLP over TLS: known callers are served, everybody else is turned away with a log line."""

import asyncio
import contextlib
import pathlib
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
import uvloop
from certificates import DAY, NOW, SERVER, Identity, issue

from adapters.port import Outgoing, Received, Verdict
from adapters.transport.hl7_header import control_id_of
from adapters.transport.mllp_client import MllpSender
from adapters.transport.mllp_limits import MllpLimits
from adapters.transport.mllp_server import MllpServer
from adapters.transport.tls import client_context, server_context

MESSAGE = b"MSH|^~\\&|Q|Q|HIS|H|20260102||ADT^A01|id-7|P|2.5.1\rPID|1\r"


@dataclass
class World:
    folder: pathlib.Path
    authority: Identity
    server: Identity
    client: Identity


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("certificates")
    authority = issue(folder, "authority", is_authority=True)
    server = issue(folder, "server", issuer=authority, usage=SERVER)
    client = issue(folder, "his-a", issuer=authority)
    return World(folder, authority, server, client)


@contextlib.asynccontextmanager
async def listening(
    world: World, *, server: Identity | None = None, limits: MllpLimits | None = None
) -> AsyncIterator[MllpServer]:
    async def accept(received: Received) -> bytes:
        control_id = control_id_of(received.payload)
        return f"MSH|^~\\&|H|H|Q|Q|||ACK|1|P|2.5.1\rMSA|AA|{control_id}\r".encode()

    identity = server or world.server
    tls = server_context(
        certificate=identity.certificate_file,
        key=identity.key_file,
        client_authorities=world.authority.certificate_file,
    )
    listener = MllpServer(channel="his-a", accept=accept, tls=tls, limits=limits)
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.stop(grace_seconds=1)


async def sent(listener: MllpServer, tls: ssl.SSLContext | None, times: int = 1) -> list[Verdict]:
    sender = MllpSender(host="127.0.0.1", port=listener.port, tls=tls, reply_seconds=5)
    receipts = [await sender.send(Outgoing(key="id-7", payload=MESSAGE)) for _ in range(times)]
    await sender.close()
    return [receipt.verdict for receipt in receipts]


def as_client(world: World, identity: Identity | None) -> ssl.SSLContext:
    return client_context(
        authorities=world.authority.certificate_file,
        certificate=identity.certificate_file if identity else None,
        key=identity.key_file if identity else None,
    )


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_caller_with_a_certificate_is_served_over_one_connection(
    world: World, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def scenario() -> None:
        async with listening(world) as listener:
            verdicts = await sent(listener, as_client(world, world.client), times=20)
            assert verdicts == [Verdict.ACCEPTED] * 20
            assert listener.counts["connected"] == 1

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 30))


def bad_clients(world: World) -> dict[str, Identity | None]:
    stranger = issue(world.folder, "stranger-authority", is_authority=True)
    return {
        "no certificate": None,
        "expired": issue(
            world.folder,
            "expired",
            issuer=world.authority,
            begins=NOW - 9 * DAY,
            ends=NOW - DAY,
        ),
        "not yet valid": issue(
            world.folder, "early", issuer=world.authority, begins=NOW + DAY, ends=NOW + 9 * DAY
        ),
        "another authority": issue(world.folder, "stranger", issuer=stranger),
        "an authority of the same name": issue(
            world.folder,
            "impostor",
            issuer=issue(world.folder / "..", "authority", is_authority=True),
        ),
        "signed by itself": issue(world.folder, "lonely"),
        "meant for servers": issue(
            world.folder, "server-only", issuer=world.authority, usage=SERVER
        ),
        "issued by a caller": issue(world.folder, "grandchild", issuer=world.client),
    }


CASES = [
    "no certificate",
    "expired",
    "not yet valid",
    "another authority",
    "an authority of the same name",
    "signed by itself",
    "meant for servers",
    "issued by a caller",
]


WORDS = {
    "expired": "tls: certificate has expired",
    "not yet valid": "tls: certificate is not yet valid",
    "another authority": "tls: unable to get local issuer certificate",
}


@pytest.mark.parametrize("case", CASES)
def test_a_caller_with_a_bad_certificate_is_turned_away(
    world: World, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with listening(world) as listener:
            identity = bad_clients(world)[case]
            [verdict] = await sent(listener, as_client(world, identity))
            # With TLS 1.3 the caller has already written when it learns of the refusal.
            assert verdict in (Verdict.DEFERRED, Verdict.UNKNOWN)
            assert not listener.counts["frames"]
            assert await sent(listener, as_client(world, world.client)) == [Verdict.ACCEPTED]

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert "mllp connection ended: tls:" in caplog.text
    assert WORDS.get(case, "") in caplog.text


def test_a_caller_without_tls_is_turned_away(world: World) -> None:
    async def scenario() -> None:
        async with listening(world) as listener:
            [verdict] = await sent(listener, None)
            assert verdict is Verdict.UNKNOWN
            assert not listener.counts["frames"]

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_tls_1_1_is_refused(world: World) -> None:
    async def scenario() -> None:
        async with listening(world) as listener:
            old = as_client(world, world.client)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                old.minimum_version = ssl.TLSVersion.TLSv1
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            [verdict] = await sent(listener, old)
            assert verdict is Verdict.DEFERRED
            assert not listener.counts["frames"]

    asyncio.run(asyncio.wait_for(scenario(), 30))


def bad_servers(world: World) -> dict[str, Identity]:
    return {
        "another host": issue(
            world.folder, "elsewhere", issuer=world.authority, usage=SERVER, host="127.0.0.2"
        ),
        "signed by itself": issue(world.folder, "fake", usage=SERVER),
        "expired": issue(
            world.folder,
            "old-server",
            issuer=world.authority,
            usage=SERVER,
            begins=NOW - 9 * DAY,
            ends=NOW - DAY,
        ),
        "meant for clients": issue(world.folder, "client-only", issuer=world.authority),
    }


@pytest.mark.parametrize(
    "case", ["another host", "signed by itself", "expired", "meant for clients"]
)
def test_a_destination_with_a_bad_certificate_gets_nothing(world: World, case: str) -> None:
    async def scenario() -> None:
        async with listening(world, server=bad_servers(world)[case]) as listener:
            [verdict] = await sent(listener, as_client(world, world.client))
            assert verdict is Verdict.DEFERRED
            assert not listener.counts["frames"]

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_handshake_that_never_ends_is_ended_and_counted_out(world: World) -> None:
    async def scenario() -> None:
        limits = MllpLimits(handshake_seconds=0.3, connections_per_peer=5)
        async with listening(world, limits=limits) as listener:
            slow = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(5)]
            for reader, writer in slow:
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()
            assert await sent(listener, as_client(world, world.client)) == [Verdict.ACCEPTED]

    asyncio.run(asyncio.wait_for(scenario(), 30))
