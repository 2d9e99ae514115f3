"""Channels from a folder of YAML files, refused whole with every fault named.

channel: his-a
transport: {kind: mllp, port: 2575, senders: ["HIS^H1"]}   # senders: the only MSH-3^MSH-4 let in
charset: gb18030
zone: Asia/Shanghai
order: [PID-3]
acknowledge: stored                     # or applied: AA leaves when the message took effect
applied_seconds: 20                     # how long `applied` waits; then AE, and a resend asks again
application_acks: "10.0.0.7:2700"       # where what MSH-16 asks for is sent
reply: always                           # or as-asked: MSH-15 = NE is obeyed
answers: {retry_on: [AE, CE], give_up_on: [AR, CR]}
reused_id: process                      # or hold
authorities: {H1: "https://fhir.qiao.example/cphc/sid/h1-mrn"}
code_systems: {LOCAL: "https://fhir.qiao.example/cphc/CodeSystem/h1-local"}
identifier_types: {NI: "urn:oid:2.16.156.10011.1.3"}
codes: {AdministrativeSex: {"1": male, "2": female}}
events: {"ADT^A05": "ADT^A01"}          # served by the map of another event
maps: ./his-a                           # a folder with maps/ and tables/ of its own
destinations: [province]                # the only partners that get what came in here
limits: {max_bytes: 16777216, frame_seconds: 15, idle_seconds: 3600, connections: 1000}
"""

import codecs
import pathlib
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from mappings.channels.profile import NATIONAL_TYPES, ChannelProfile
from mappings.engine.context import Sender
from mappings.engine.row_files import line_of, read_documents
from mappings.engine.rows import Fault, FaultyMaps

_ANSWERS = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
_KEYS = frozenset(
    {
        "channel",
        "transport",
        "charset",
        "charset_doubt",
        "zone",
        "order",
        "acknowledge",
        "answers",
        "reused_id",
    }
    | {"authorities", "code_systems", "identifier_types", "codes", "events", "destinations"}
    | {"limits", "namespace", "reply", "maps", "applied_seconds", "application_acks"}
)
_PARTS = {
    "transport": frozenset({"kind", "port", "senders"}),
    "answers": frozenset({"retry_on", "give_up_on"}),
    "limits": frozenset({"max_bytes", "frame_seconds", "idle_seconds", "connections"}),
}


def load_channels(folder: pathlib.Path) -> Mapping[str, ChannelProfile]:
    """Return the channels of `*.yaml` in a folder by name.

    Raises `FaultyMaps` with every fault; on a reload the caller keeps the channels it has.
    """
    faults: list[Fault] = []
    channels: dict[str, ChannelProfile] = {}
    ports: dict[int, str] = {}
    for file in sorted(folder.glob("*.yaml")):
        for number, document in enumerate(read_documents(file, faults)):
            reader = _Reader(document, file, _lines_of(file, number), faults)
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

    def __init__(
        self,
        document: Mapping[str, Any],
        file: pathlib.Path,
        lines: Mapping[str, int],
        faults: list[Fault],
    ) -> None:
        self._given = document
        self._file = file
        self._lines = lines
        self._faults = faults

    def fault(self, key: str, text: str, fix: str) -> None:
        """Note what is wrong with a key, at its line."""
        line = self._lines.get(key) or line_of(self._given)
        self._faults.append(Fault(file=self._file.name, line=line, row=key, text=text, fix=fix))

    def channel(self) -> ChannelProfile:
        """Return the channel."""
        for key in self._given:
            if key not in _KEYS and key.isprintable():
                self.fault(key, "is an unknown key", f"Use one of {', '.join(sorted(_KEYS))}.")
        transport = self._mapping("transport")
        answers = self._mapping("answers")
        limits = self._mapping("limits")
        for part, given in (("transport", transport), ("answers", answers), ("limits", limits)):
            for key in sorted(set(given) - _PARTS[part]):
                fix = f"Use one of {', '.join(sorted(_PARTS[part]))}."
                self.fault(part, f"has the unknown key {key!r}", fix)
        name = str(self._given.get("channel", ""))
        if not name:
            self.fault("channel", "is missing", "Name the channel, such as `channel: his-a`.")
        retry_on, give_up_on = self._meanings(answers)
        return ChannelProfile(
            name=name,
            transport=self._kind(transport),
            port=self._number(transport, "port", 1, 65535, None),
            senders=self._list(transport, "senders"),
            charset=self._checked("charset", "utf-8", _is_codec, "Use utf-8, gb18030 or another."),
            charset_doubt=self._one_of("charset_doubt", "hold", ("hold", "note", "trust")),
            order=self._order(),
            acknowledge=self._one_of("acknowledge", "stored", ("stored", "applied")),
            reused_id=self._one_of("reused_id", "process", ("process", "hold")),
            retry_on=retry_on,
            give_up_on=give_up_on,
            events=self._texts("events"),
            destinations=self._list(self._given, "destinations"),
            max_bytes=self._number(limits, "max_bytes", 1024, 256 << 20, None),
            frame_seconds=self._number(limits, "frame_seconds", 1, 3600, None),
            idle_seconds=self._number(limits, "idle_seconds", 1, 86400, None),
            connections=self._number(limits, "connections", 1, 10000, None),
            applied_seconds=self._number(self._given, "applied_seconds", 1, 300, 20) or 20,
            application_acks=self._checked(
                "application_acks", "", _is_address, "Write host:port, such as 10.0.0.7:2700."
            ),
            reply=self._one_of("reply", "always", ("always", "as-asked")),
            maps=self._maps(),
            sender=self._sender(),
        )

    def _kind(self, transport: Mapping[str, Any]) -> str:
        kind = str(transport.get("kind", "mllp"))
        if kind != "mllp":
            self.fault("transport", f"has the unknown kind {kind!r}", "Use `kind: mllp`.")
        return kind

    def _maps(self) -> str:
        given = str(self._given.get("maps", ""))
        if not given:
            return ""
        folder = self._file.parent / given
        if not (folder / "maps").is_dir():
            fix = "Name a folder that holds maps/ and tables/, relative to this file."
            self.fault("maps", f"names {given!r}, which holds no maps", fix)
        return str(folder)

    def _sender(self) -> Sender:
        zone = self._checked("zone", "Asia/Shanghai", _is_zone, "Use a name of the IANA database.")
        if not _is_zone(zone):
            zone = "Asia/Shanghai"
        codes = self._mapping("codes")
        for table, rows in codes.items():
            if not isinstance(rows, dict):
                fix = 'Write `codes: {AdministrativeSex: {"1": male}}`.'
                self.fault("codes", f"has no mapping for {table!r}", fix)
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

    def _list(self, given: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = given.get(key)
        if isinstance(value, list) or value is None:
            return tuple(map(str, value or ()))
        self.fault(key, "is no list", f"Write `{key}: [...]`, also where it is one.")
        return ()

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

    def _meanings(self, given: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the codes after which to send again and to give up; others keep what they mean."""
        retry_on, give_up_on = self._codes(given, "retry_on"), self._codes(given, "give_up_on")
        for code in set(retry_on) & set(give_up_on):
            self.fault("answers", f"gives {code!r} two meanings", "Name it in one of the lists.")
        named = {*retry_on, *give_up_on}
        retry_on += tuple(code for code in ("AE", "CE") if code not in named)
        give_up_on += tuple(code for code in ("AR", "CR") if code not in named)
        return retry_on, give_up_on

    def _codes(self, given: Mapping[str, Any], key: str) -> tuple[str, ...]:
        codes = self._list(given, key)
        for code in codes:
            if code not in _ANSWERS:
                self.fault(key, f"names {code!r}", f"Use {', '.join(sorted(_ANSWERS))}.")
        return codes

    def _order(self) -> tuple[str, ...]:
        fields = self._list(self._given, "order")
        for name in fields:
            segment, _, number = name.partition("-")
            if len(segment) != 3 or not number.isdigit():
                self.fault("order", f"names {name!r}", "Name fields, such as PID-3.")
        return fields

    def _number(
        self, given: Mapping[str, Any], key: str, low: int, high: int, default: int | None
    ) -> int | None:
        value = given.get(key, default)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.fault(key, f"is not a number from {low} to {high}", "Correct the number.")
        return default


def _lines_of(file: pathlib.Path, number: int) -> Mapping[str, int]:
    """Return the line of each key of a document and of the mappings in it, the first of a name."""
    lines: dict[str, int] = {}
    nodes = [
        node
        for node in yaml.compose_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        if isinstance(node, yaml.MappingNode)
    ]
    waiting = [nodes[number]]
    for node in waiting:
        for key, value in node.value:
            lines.setdefault(str(key.value), key.start_mark.line + 1)
            if isinstance(value, yaml.MappingNode):
                waiting.append(value)
    return lines


def _is_codec(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return not text or (bool(host) and port.isdigit() and 0 < int(port) < 65536)


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones
        return False
    return True
