"""What a message says that its map does not read, and which rows, conditions and codes were met."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mappings.channels.profile import ChannelProfile
from mappings.engine.library import Library
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


def ignores_of(library: Library) -> Mapping[str, str]:
    """Return every declared `SEG-F` (or whole `SEG`) with its reason."""
    found: dict[str, str] = {}
    for row_map in library.maps.values():
        for row in row_map.rows:
            if row.ignore and "-" in row.source:
                found.setdefault(row.source, row.ignore)
    for message in library.messages.values():
        found.update(message.ignores)
    return found


_FIELD = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[\*\])?-(\d+)")


def read_fields(library: Library) -> frozenset[str]:
    """Return every `SEG-F` that some row reads or asks about in its condition."""
    found: set[str] = set()
    for row_map in library.maps.values():
        for row in row_map.rows:
            if row.ignore:
                continue
            for text in (row.source, row.when, *row.reads):
                found.update(f"{name}-{number}" for name, number in _FIELD.findall(text))
    return frozenset(found)


def cover(messages: Iterable[bytes], translator: Translator, channel: ChannelProfile) -> Coverage:
    """Run messages through a watched translator and count."""
    coverage = Coverage()
    ignores = ignores_of(translator.library)
    known = read_fields(translator.library)
    for data in messages:
        coverage.messages += 1
        message = parse(data, channel.charset)
        result = translator.translate(message, channel, watch=coverage.watch)
        if isinstance(result, Unmapped):
            coverage.unmapped[result.event] += 1
            continue
        read = {
            source.split("[", 2)[0] + "[" + source.split("[", 2)[1].split("[")[0]
            for one in result.resources
            for _, source, _ in one.trace
            if source.count("[") >= 1
        }
        _count_fields(message, (read, known), ignores, coverage)
        for note in result.notes:
            if note.key == "map-code":
                coverage.codes[f"{(note.expression or '').split('[')[0]}: {note.text_en}"] += 1
    return coverage


def _count_fields(
    message: Message,
    reads: tuple[set[str], frozenset[str]],
    ignores: Mapping[str, str],
    coverage: Coverage,
) -> None:
    traced, known = reads
    for segment in message.segments:
        place = f"{segment.name}[{segment.sequence}]"
        for number, raw in enumerate(segment.fields):
            if number == 0 or not raw.strip("^~&") or raw == '""':
                continue
            coverage.populated += 1
            name = f"{segment.name}-{number}"
            if f"{place}-{number}" in traced or name in known:
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
