"""Channels from a folder of YAML files, refused whole with every fault named.

channel: his-a
transport: {kind: mllp, port: 2575, senders: ["HIS^H1"]}
charset: gb18030
zone: Asia/Shanghai
order: [PID-3]
acknowledge: stored                     # or applied
answers: {retry_on: [AE, CE], give_up_on: [AR, CR]}
reused_id: process                      # or hold
authorities: {H1: "https://fhir.qiao.example/cphc/sid/h1-mrn"}
code_systems: {LOCAL: "https://fhir.qiao.example/cphc/CodeSystem/h1-local"}
identifier_types: {NI: "urn:oid:2.16.156.10011.1.3"}
codes: {AdministrativeSex: {"1": male, "2": female}}
events: {"ADT^A05": "ADT^A01"}          # served by the map of another event
destinations: [province]
limits: {max_bytes: 16777216}
"""

import codecs
import pathlib
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any

from mappings.channels.profile import NATIONAL_TYPES, ChannelProfile
from mappings.engine.context import Sender
from mappings.engine.rows import Fault, FaultyMaps, line_of, read_documents

_ANSWERS = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
_KEYS = frozenset(
    {"channel", "transport", "charset", "zone", "order", "acknowledge", "answers", "reused_id"}
    | {"authorities", "code_systems", "identifier_types", "codes", "events", "destinations"}
    | {"limits", "namespace"}
)


def load_channels(folder: pathlib.Path) -> Mapping[str, ChannelProfile]:
    """Return the channels of `*.yaml` in a folder by name.

    Raises `FaultyMaps` with every fault; on a reload the caller keeps the channels it has.
    """
    faults: list[Fault] = []
    channels: dict[str, ChannelProfile] = {}
    ports: dict[int, str] = {}
    for file in sorted(folder.glob("*.yaml")):
        for document in read_documents(file, faults):
            reader = _Reader(document, file.name, faults)
            channel = reader.channel()
            if channel.name in channels:
                reader.fault("channel", "is declared twice", "Give each channel its own name.")
            if channel.port is not None and channel.port in ports:
                reader.fault(
                    "transport",
                    f"takes port {channel.port}, which {ports[channel.port]} has",
                    "Give each channel its own port.",
                )
            elif channel.port is not None:
                ports[channel.port] = channel.name
            channels[channel.name] = channel
    if faults:
        raise FaultyMaps(faults)
    return channels


class _Reader:
    """Reads one channel, noting faults and going on with the default."""

    def __init__(self, document: Mapping[str, Any], file: str, faults: list[Fault]) -> None:
        self._given = document
        self._file = file
        self._faults = faults

    def fault(self, key: str, text: str, fix: str) -> None:
        """Note what is wrong with a key."""
        self._faults.append(
            Fault(file=self._file, line=line_of(self._given), row=key, text=text, fix=fix)
        )

    def channel(self) -> ChannelProfile:
        """Return the channel."""
        for key in self._given:
            if key not in _KEYS and key.isprintable():
                self.fault(key, "is an unknown key", f"Use one of {', '.join(sorted(_KEYS))}.")
        transport = self._mapping("transport")
        answers = self._mapping("answers")
        limits = self._mapping("limits")
        name = str(self._given.get("channel", ""))
        if not name:
            self.fault("channel", "is missing", "Name the channel, such as `channel: his-a`.")
        return ChannelProfile(
            name=name,
            transport=str(transport.get("kind", "mllp")),
            port=self._number(transport, "port", 1, 65535, None),
            senders=tuple(map(str, transport.get("senders", ()))),
            charset=self._checked("charset", "utf-8", _is_codec, "Use utf-8, gb18030 or another."),
            order=self._order(),
            acknowledge=self._one_of("acknowledge", "stored", ("stored", "applied")),
            reused_id=self._one_of("reused_id", "process", ("process", "hold")),
            retry_on=self._codes(answers, "retry_on", ("AE", "CE")),
            give_up_on=self._codes(answers, "give_up_on", ("AR", "CR")),
            events=self._texts("events"),
            destinations=tuple(map(str, self._given.get("destinations", ()))),
            max_bytes=self._number(limits, "max_bytes", 1024, 256 << 20, 16 << 20) or 16 << 20,
            sender=self._sender(),
        )

    def _sender(self) -> Sender:
        zone = self._checked("zone", "Asia/Shanghai", _is_zone, "Use a name of the IANA database.")
        if not _is_zone(zone):
            zone = "Asia/Shanghai"
        codes = self._mapping("codes")
        return Sender(
            zone=zoneinfo.ZoneInfo(zone),
            namespace=str(self._given.get("namespace", Sender().namespace)),
            authorities=self._texts("authorities"),
            code_systems=self._texts("code_systems"),
            identifier_types={**NATIONAL_TYPES, **self._texts("identifier_types")},
            code_overlay={
                table: {
                    str(code): str(target) for code, target in rows.items() if code.isprintable()
                }
                for table, rows in codes.items()
                if isinstance(rows, dict)
            },
        )

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self._given.get(key) or {}
        if not isinstance(value, dict):
            self.fault(key, "is no mapping", f"Write `{key}: {{name: value}}`.")
            return {}
        return {str(name): item for name, item in value.items() if str(name).isprintable()}

    def _texts(self, key: str) -> dict[str, str]:
        return {name: str(value) for name, value in self._mapping(key).items()}

    def _checked(self, key: str, default: str, test: Callable[[str], bool], fix: str) -> str:
        value = str(self._given.get(key, default))
        if not test(value):
            self.fault(key, f"has the unknown value {value!r}", fix)
        return value

    def _one_of(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        value = str(self._given.get(key, default))
        if value not in allowed:
            self.fault(key, f"has the unknown value {value!r}", f"Use {' or '.join(allowed)}.")
        return value

    def _codes(
        self, given: Mapping[str, Any], key: str, default: tuple[str, ...]
    ) -> tuple[str, ...]:
        codes = tuple(map(str, given.get(key, default)))
        for code in codes:
            if code not in _ANSWERS:
                self.fault(key, f"names {code!r}", f"Use {', '.join(sorted(_ANSWERS))}.")
        return codes

    def _order(self) -> tuple[str, ...]:
        fields = tuple(map(str, self._given.get("order", ())))
        for name in fields:
            segment, _, number = name.partition("-")
            if len(segment) != 3 or not number.isdigit():
                self.fault("order", f"names {name!r}", "Name fields, such as PID-3.")
        return fields

    def _number(
        self, given: Mapping[str, Any], key: str, low: int, high: int, default: int | None
    ) -> int | None:
        value = given.get(key, default)
        if value is None or (isinstance(value, int) and low <= value <= high):
            return value
        self.fault(key, f"is not a number from {low} to {high}", "Correct the number.")
        return default


def _is_codec(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return False
    return True
