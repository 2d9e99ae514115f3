"""The demonstration speaks to a hub whose MLLP port is under TLS."""

import asyncio
import contextlib
import pathlib
import ssl

import pytest
from certificates import SERVER, Identity, issue

from adapters.province.simulator import running as running_simulator
from adapters.province.simulator import simulator_at
from ops.certificates import demo_tls
from ops.demo.first_message import DemoFailed, send_one
from ops.province import province_sender
from ops.settings import Settings
from ops.wiring import running_hub

KEY = b"a key of sixteen bytes and more"


async def rooms_of(
    database_url: str,
    tmp_path: pathlib.Path,
    settings: Settings,
    tls: ssl.SSLContext | None,
) -> list[str]:
    async with contextlib.AsyncExitStack() as stack:
        simulator = simulator_at(tmp_path, key=KEY)
        endpoint = await stack.enter_async_context(running_simulator(simulator))
        province = province_sender(settings, endpoint, KEY)
        roles = frozenset({"mllp", "worker"})
        hub = await stack.enter_async_context(
            running_hub(settings, database_url, roles=roles, province=province)
        )
        assert hub.mllp_port is not None
        rooms = send_one(
            database_url, host="127.0.0.1", port=hub.mllp_port, base="http://hub/fhir", tls=tls
        )
        return [room.name async for room in rooms]


def settings_of(server: Identity, authority: Identity | None = None) -> Settings:
    return Settings(
        auth="off",
        http_port=0,
        mllp_port=0,
        mllp_certificate=server.certificate_file,
        mllp_key=server.key_file,
        mllp_client_authorities=authority.certificate_file if authority else None,
    )


def test_the_demonstration_reaches_the_province_under_tls(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    authority = issue(tmp_path, "authority", is_authority=True)
    # Signed by somebody else, and for another host: the demonstration knows the certificate.
    server = issue(tmp_path, "server", issuer=authority, usage=SERVER, host="10.9.8.7")
    client = issue(tmp_path, "client", issuer=authority)
    settings = settings_of(server, authority)
    tls = demo_tls(settings, client.certificate_file, client.key_file)
    rooms = asyncio.run(rooms_of(database_url, tmp_path, settings, tls))
    assert rooms[-1] == "receipt"


@pytest.mark.parametrize("known", ["nothing", "another certificate", "no client certificate"])
def test_without_what_tls_asks_for_the_demonstration_says_so(
    known: str, database_url: str, tmp_path: pathlib.Path
) -> None:
    """The twin: plain bytes, a hub that is another, and a missing certificate get nowhere."""
    authority = issue(tmp_path, "authority", is_authority=True)
    server = issue(tmp_path, "server", issuer=authority, usage=SERVER)
    other = issue(tmp_path, "other", issuer=authority, usage=SERVER)
    settings = settings_of(server, authority if known == "no client certificate" else None)
    tls = {
        "nothing": None,
        "another certificate": demo_tls(settings_of(other), None, None),
        "no client certificate": demo_tls(settings, None, None),
    }[known]
    with pytest.raises(DemoFailed, match="Next: qiao"):
        asyncio.run(rooms_of(database_url, tmp_path, settings, tls))


def test_without_a_certificate_the_demonstration_speaks_plainly() -> None:
    assert demo_tls(Settings(), None, None) is None
