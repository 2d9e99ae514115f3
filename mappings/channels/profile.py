"""One channel: transport, charset, zone, order key, answers, map, destinations and limits."""

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mappings.engine.context import Sender

NATIONAL_ID = "urn:oid:2.16.156.10011.1.3"  # 居民身份证, resident identity card
HEALTH_CARD = "urn:oid:2.16.156.10011.1.19"  # 居民健康卡, resident health card

# HL7 table 0203 codes that mean one national system whoever assigned the number.
NATIONAL_TYPES: Mapping[str, str] = MappingProxyType({"NNCHN": NATIONAL_ID, "HC": HEALTH_CARD})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelProfile:
    """What translating and answering need to know of a channel.

    `order` names the fields of the order key; empty takes the message map's own.
    `acknowledge` is `stored` (AA says the message is kept) or `applied` (AA says it took effect).
    `charset_doubt` is what becomes of a message whose bytes are probably of another charset than it
    declares: `hold`, `note` or `trust`. `reused_id` is `process` or `hold`, for a control id that
    comes with another body. `reply` is
    `always`, or `as-asked` where MSH-15 = NE is obeyed. `maps` is a folder with maps/ and tables/
    that this channel is read by; empty takes the hub's own. `senders` (MSH-3^MSH-4) are the only
    ones let in, `destinations` the only partners that get what came; empty lets all. An answer of
    `applied` is waited for `applied_seconds`. `application_acks` is the `host:port` (MLLP) that
    gets what MSH-16 asks for; `retry_on` and `give_up_on` are what MSA-1 of its own answers means.
    A limit that is None is the hub's.
    """

    name: str = "default"
    transport: str = "mllp"
    port: int | None = None
    charset: str = "utf-8"
    charset_doubt: str = "hold"
    order: tuple[str, ...] = ()
    acknowledge: str = "stored"
    reused_id: str = "process"
    retry_on: tuple[str, ...] = ("AE", "CE")
    give_up_on: tuple[str, ...] = ("AR", "CR")
    events: Mapping[str, str] = field(default_factory=dict)
    destinations: tuple[str, ...] = ()
    applied_seconds: int = 20
    application_acks: str = ""
    max_bytes: int | None = None
    frame_seconds: int | None = None
    idle_seconds: int | None = None
    connections: int | None = None
    reply: str = "always"
    maps: str = ""
    senders: tuple[str, ...] = ()
    sender: Sender = field(
        default_factory=lambda: Sender(
            zone=zoneinfo.ZoneInfo("Asia/Shanghai"), identifier_types=NATIONAL_TYPES
        )
    )

    def event_of(self, event: str) -> str:
        """Return the event whose map serves, after the channel's own renaming."""
        return self.events.get(event, event)
