"""The ports of the channels: one MLLP listener each, kept open over a reload."""

import asyncio
import functools
import ssl
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from adapters.transport.mllp_limits import MllpLimits
from adapters.transport.mllp_server import MllpServer
from mappings.channels.profile import ChannelProfile
from mappings.engine.rows import Fault, FaultyMaps
from ops.flow_inbound import InboundFlow
from ops.settings import Settings


class ChannelLines:
    """Listens for every channel; a port that stays keeps its connections, whosever it becomes."""

    def __init__(
        self,
        flow: InboundFlow,
        *,
        host: str,
        default_port: int,
        tls: ssl.SSLContext | None,
        limits: MllpLimits,
    ) -> None:
        self._flow = flow
        self._limits = limits
        self._host = host
        self._default_port = default_port
        self._tls = tls
        self._servers: dict[int, MllpServer] = {}
        self._turn = asyncio.Lock()
        self._is_stopped = False

    @property
    def ports(self) -> Mapping[str, int]:
        """The port of each channel, by its name."""
        return {server.channel: server.port for server in self._servers.values()}

    async def agree(self, profiles: Mapping[str, ChannelProfile]) -> None:
        """Listen for exactly these channels.

        Where one of the ports cannot be had everything stays as it was and `FaultyMaps` is raised.
        Lines that end answer first what they are keeping. After `stop` nothing is listened to.
        """
        async with self._turn:
            if not self._is_stopped:
                await self._agree(profiles)

    async def _agree(self, profiles: Mapping[str, ChannelProfile]) -> None:
        wanted = {
            self._default_port if profile.port is None else profile.port: profile
            for profile in profiles.values()
        }
        opened = await self._open({port: wanted[port] for port in wanted.keys() - self._servers})
        ended = [self._servers.pop(port) for port in self._servers.keys() - wanted.keys()]
        self._servers |= opened
        for port, profile in wanted.items():
            server = self._servers[port]
            server.channel = profile.name
            server.limits = _limits(profile, self._limits)
            self._flow.metrics.watch_lines(profile.name, functools.partial(_open_lines, server))
        for server in ended:
            await server.stop()

    async def _open(self, wanted: Mapping[int, ChannelProfile]) -> dict[int, MllpServer]:
        """Listen on all these ports, or on none of them."""
        opened: dict[int, MllpServer] = {}
        faults: list[Fault] = []
        try:
            for port, profile in wanted.items():
                server = self._server(profile)
                try:
                    await server.start(self._host, port)
                except OSError as taken:
                    faults.append(_taken(profile, port, taken))
                else:
                    opened[port] = server
            if faults:
                raise FaultyMaps(faults)
        except BaseException:
            for server in opened.values():
                await server.stop(grace_seconds=0.0)
            raise
        return opened

    async def stop(self) -> None:
        """Let go of every port, for good."""
        async with self._turn:
            self._is_stopped = True
            for server in self._servers.values():
                await server.stop()
            self._servers = {}

    def _server(self, profile: ChannelProfile) -> MllpServer:
        server = MllpServer(
            channel=profile.name,
            accept=self._flow.accept,
            refuse=self._flow.refuse,
            limits=_limits(profile, self._limits),
            tls=self._tls,
            on_ended=lambda reason: self._flow.metrics.line_ended(server.channel, reason),
        )
        return server


def mllp_limits(settings: Settings) -> MllpLimits:
    """Return what every channel's listener bears, by the settings `QIAO_MLLP_…`."""
    names = (field.name for field in fields(MllpLimits))
    return MllpLimits(**{name: getattr(settings, f"mllp_{name}") for name in names})


def _open_lines(server: MllpServer) -> int:
    return len(server.connections)


def _limits(profile: ChannelProfile, hub: MllpLimits) -> MllpLimits:
    """Return the hub's limits with those that the channel declares for itself."""
    own = {
        "frame_bytes": profile.max_bytes,
        "frame_seconds": profile.frame_seconds,
        "idle_seconds": profile.idle_seconds,
        "connections": profile.connections,
    }
    declared: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    return replace(hub, **declared)


def _taken(profile: ChannelProfile, port: int, taken: OSError) -> Fault:
    return Fault(
        file=profile.name,
        line=1,
        row="transport",
        text=f"port {port} cannot be listened on ({taken.strerror or type(taken).__name__})",
        fix="Free the port, or give the channel another.",
    )
