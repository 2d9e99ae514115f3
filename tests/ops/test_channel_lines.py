"""A hub that stops lets go of its ports, and a reload that comes late opens none again."""

import asyncio
import contextlib

import pytest

from adapters.transport.mllp_limits import MllpLimits
from mappings.channels.profile import ChannelProfile
from ops.channel_lines import ChannelLines
from ops.flow_inbound import InboundFlow
from ops.metrics import Metrics

PROFILES = {"his": ChannelProfile(name="his", port=0)}


def new_lines():
    flow = InboundFlow(writer=None, channels={}, metrics=Metrics())
    return ChannelLines(flow, host="127.0.0.1", default_port=0, tls=None, limits=MllpLimits())


async def ports_after(steps):
    """Return what is listened to at the end, and close it."""
    lines = new_lines()
    await steps(lines)
    ports = dict(lines.ports)
    for server in lines._servers.values():
        await server.stop(grace_seconds=0)
    return ports


async def stop_then_agree(lines):
    await lines.agree(PROFILES)
    assert lines.ports["his"]
    await lines.stop()
    await lines.agree(PROFILES)


async def stop_while_agreeing(lines):
    await asyncio.gather(lines.agree(PROFILES), lines.stop())


@pytest.mark.parametrize("steps", [stop_then_agree, stop_while_agreeing])
def test_after_the_stop_nothing_is_listened_to(steps):
    assert asyncio.run(ports_after(steps)) == {}


def test_without_the_note_of_the_stop_a_late_reload_opens_the_port_again():
    async def steps(lines):
        await lines.stop()
        lines._is_stopped = False
        await lines.agree(PROFILES)

    assert asyncio.run(ports_after(steps)).keys() == {"his"}


def test_without_the_turn_a_stop_overtakes_the_opening_of_a_port():
    async def steps(lines):
        lines._turn = contextlib.nullcontext()
        await stop_while_agreeing(lines)

    assert asyncio.run(ports_after(steps)).keys() == {"his"}
