"""What a message says that its map does not read, and which rows, conditions and codes were met."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mappings.channels.profile import ChannelProfile
from mappings.engine.library import Library
from mappings.engine.rows import MessageMap
from mappings.hl7.message import Message, parse
from mappings.translate import Translator, Watch
from mappings.translated import Unmapped


@dataclass(slots=True, kw_only=True, eq=False)
class Coverage:
    """Counts over one message or a folder of them.

    `unread` counts populated fields that no row read and none declares; `ignored` those that a
    row declares, with its reason; `codes` the codes without a row in their table.
    """

    messages: int = 0
    unmapped: Counter[str] = field(default_factory=Counter)
    populated: int = 0
    read: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    watch: Watch = field(default_factory=Watch)

    @property
    def ignored_share(self) -> float:
        """Ignored fields as a part of the populated ones."""
        return self.ignored.total() / self.populated if self.populated else 0.0


def ignores_of(library: Library, message: MessageMap) -> Mapping[str, str]:
    """Return every `SEG-F` (or whole `SEG`) that the maps of a message declare, with its reason."""
    names = {making.map for making in message.makes}
    names |= {into.element for making in message.makes for into in making.into.values()}
    found: dict[str, str] = {}
    for name in names - {""}:
        for row in library.maps[name].rows:
            if row.ignore and "-" in row.source:
                found.setdefault(row.source, row.ignore)
    found.update(message.ignores)
    return found


def cover(
    messages: Iterable[bytes | Message], translator: Translator, channel: ChannelProfile
) -> Coverage:
    """Run messages through a watched translator and count."""
    coverage = Coverage()
    library = translator.library
    ignores: dict[str, Mapping[str, str]] = {}
    for given in messages:
        coverage.messages += 1
        message = given if isinstance(given, Message) else parse(given, channel.charset)
        result = translator.translate(message, channel, watch=coverage.watch)
        if isinstance(result, Unmapped):
            coverage.unmapped[result.event] += 1
            continue
        message_map = library.message_map(result.event)
        assert message_map is not None
        if message_map.name not in ignores:
            ignores[message_map.name] = ignores_of(library, message_map)
        _count_fields(message, coverage.watch.looked, ignores[message_map.name], coverage)
        for note in result.notes:
            if note.key == "map-code":
                coverage.codes[f"{(note.expression or '').split('[')[0]}: {note.text_en}"] += 1
    return coverage


def _count_fields(
    message: Message,
    looked: set[str],
    ignores: Mapping[str, str],
    coverage: Coverage,
) -> None:
    for segment in message.segments:
        place = segment.place
        for number, raw in enumerate(segment.fields):
            if number == 0 or not raw.strip("^~&") or raw == '""':
                continue
            coverage.populated += 1
            name = f"{segment.name}-{number}"
            if f"{place}-{number}" in looked:
                coverage.read += 1
            elif name in ignores or segment.name in ignores:
                coverage.ignored[name] += 1
            else:
                coverage.unread[name] += 1


def rows_never_fired(library: Library, coverage: Coverage) -> list[str]:
    """Return the rows over segments that no message of the run made fire."""
    return sorted(
        f"{row_map.name}/{row.id}"
        for row_map in library.maps.values()
        if not row_map.reads_parts and row_map.source_kind == "v2"
        for row in row_map.rows
        if row.source and not row.ignore and row.only != "backward"
        and row.id not in coverage.watch.fired
    )  # fmt: skip


def conditions_one_sided(coverage: Coverage) -> list[tuple[str, bool]]:
    """Return the conditions that were always the same, with that truth."""
    return sorted(
        (label, next(iter(truths)))
        for label, truths in coverage.watch.conditions.items()
        if len(truths) == 1
    )
