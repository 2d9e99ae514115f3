"""Whether a fact stands in the fields that are said to be its source.

The ledger of disagreements excuses a fact only where the message says it in a field that the
ledger's line names: a value of another field, or a wrong one, is a disagreement without excuse.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mappings.engine.codecs import CODECS
from mappings.engine.context import Context, UnreadableValue
from mappings.engine.library import Library
from mappings.engine.naming import own_system
from mappings.engine.rows import Row
from mappings.facts import Fact, extension_name, normal
from mappings.hl7.escape import unescape
from mappings.hl7.message import Message
from mappings.translated import TranslatedResource

_READINGS = (
    "dtm.date", "dtm.dateTime", "dtm.instant", "tm.time", "yn", "nm.decimal", "code-system", "uri",
)  # fmt: skip
_PLACE = re.compile(r"[A-Z][A-Z0-9]{2}-\d+")
_SHORTEST_PART = 4  # of a text: less stands in any longer text by chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value of ours came from: the field (`PID-5`, or `PID` of a constant) and its row."""

    field: str
    raw: str
    row: str


@dataclass(slots=True, kw_only=True)
class Sources:
    """The fields of one message, and what each of them can say."""

    message: Message
    context: Context
    library: Library
    _said: dict[str, set[str]] = field(default_factory=dict)

    def origins(
        self, one: TranslatedResource, resource: Mapping[str, Any]
    ) -> dict[str, set[Origin]]:
        """Return the origins of one of our resources' paths, as facts write paths."""
        found: dict[str, set[Origin]] = {}
        for target, source, row in one.trace:
            path = _as_fact(target.partition(".")[2], resource)
            found.setdefault(path, set()).add(self._origin(source, row))
        return found

    def _origin(self, source: str, row: str) -> Origin:
        place, _, rest = source.partition("-")
        name, number = place.rstrip("]").split("[") if "[" in place else (place, "1")
        if not rest:
            return Origin(field=self._field_beside(name, row), raw="", row=row)
        position, _, repetition = rest.partition(".")[0].rstrip("]").partition("[")
        segments = list(self.message.all(name))
        raw = segments[int(number) - 1].field(int(position)) if len(segments) >= int(number) else ""
        mark = self.message.separators.repetition
        if mark and name != "MSH":
            repetitions = raw.split(mark)
            wanted = int(repetition or 1) - 1
            raw = repetitions[wanted] if wanted < len(repetitions) else raw
        return Origin(field=f"{name}-{position}", raw=raw, row=row)

    def _field_beside(self, segment: str, row: str) -> str:
        """Return the field that a row reads whose constant stands beside the value."""
        for one in _rows_of(self.library).get(row, ()):
            place = _PLACE.match(one.source)
            if place is not None and one.defaults and place.group(0).startswith(segment):
                return place.group(0)
        return segment

    def is_said_by(self, value: str, path: str, origin: Origin) -> bool:
        """Whether the origin's field, or the constant or table of its row, says the value."""
        if path.endswith(".reference"):
            return True  # of a reference only the type is a fact
        if origin.raw and self.says(origin.raw, value):
            return True
        if path.endswith("system") and value == normal(own_system(self.context)):
            return True  # the sender's own numbers
        rows = _rows_of(self.library)
        return any(
            value in _constants([row.value, row.defaults])
            or value in self._of_table(row, origin.raw)
            for row in rows.get(origin.row, ())
        ) or any(value in _constants(row.defaults) for row in rows.get(origin.field, ()))

    def is_in_fields(self, value: str, path: str, fields: Iterable[str]) -> bool:
        """Whether one of the fields (`ACC`, `PID-10`) of the message says the value."""
        return any(
            raw and (path.endswith(".reference") or self.says(raw, value))
            for name in fields
            for raw in self._raws(name)
        )

    def says(self, raw: str, value: str) -> bool:
        """Whether the raw text of a field says the value, as text or read as a time or number."""
        said = self._said.get(raw)
        if said is None:
            said = self._said[raw] = set(self._readings(raw))
        if value in said:
            return True
        return len(value) >= _SHORTEST_PART and value in self._text(raw)

    def _raws(self, name: str) -> Iterator[str]:
        segment, _, number = name.partition("-")
        for one in self.message.all(segment):
            if number:
                yield one.field(int(number))
            else:
                yield from one.fields[1:]

    def _text(self, raw: str) -> str:
        return " ".join(self._atoms(raw))

    def _atoms(self, raw: str) -> list[str]:
        marks = self.message.separators
        texts = [raw]
        for mark in (marks.repetition, marks.component, marks.subcomponent):
            if mark:
                texts = [part for text in texts for part in text.split(mark)]
        return [unescape(text, marks, self.context.codec).strip() for text in texts if text.strip()]

    def _readings(self, raw: str) -> Iterator[str]:
        for text in [*self._atoms(raw), self._text(raw)]:
            yield text
            yield normal(text)
            yield " ".join(text.split())
            yield base64.b64encode(text.encode()).decode()
            for name in _READINGS:
                try:
                    read = CODECS[name].forward(text, self.context)
                except (UnreadableValue, ValueError):
                    continue
                if read is not None:
                    yield normal(read)

    def _of_table(self, row: Row, raw: str) -> set[str]:
        table = self.library.tables.get(row.table)
        if table is None:
            return set()
        found = {row.unknown.partition(":")[2]} - {""}
        for text in self._atoms(raw):
            concept = table.forward.get(text)
            if concept is not None:
                found |= {concept.code, normal(concept.system), concept.display}
        return found


def _constants(value: Any) -> set[str]:
    """Return every text in a row's constants."""
    if isinstance(value, Mapping):
        return {text for item in value.values() for text in _constants(item)}
    if isinstance(value, list):
        return {text for item in value for text in _constants(item)}
    return set() if value is None else {normal(value)}


_ROWS: dict[int, tuple[Library, dict[str, list[Row]]]] = {}


def _rows_of(library: Library) -> Mapping[str, list[Row]]:
    """Return the rows by their id, those with constants beside the value also by their field."""
    known = _ROWS.get(id(library))
    if known is None:
        rows: dict[str, list[Row]] = {}
        for row_map in library.maps.values():
            for row in row_map.rows:
                rows.setdefault(row.id, []).append(row)
                place = _PLACE.match(row.source)
                if place is not None and row.defaults:
                    rows.setdefault(place.group(0), []).append(row)
        _ROWS.clear()
        known = _ROWS[id(library)] = (library, rows)
    return known[1]


def _as_fact(path: str, resource: Mapping[str, Any]) -> str:
    """Return a traced path (`name[0].family`) as facts write it: `name.family`."""
    steps: list[str] = []
    here: Any = resource
    for step in _steps(path):
        name, _, rest = step.partition("[") if "(" not in step else (step, "", "")
        if "(" in name:
            steps.append(extension_name(name))
            here = None
            continue
        here = here.get(name) if isinstance(here, Mapping) else None
        if isinstance(here, list):
            number = int(rest.rstrip("]") or 0)
            here = here[number] if number < len(here) else None
        url = here.get("url") if isinstance(here, Mapping) else None
        is_extension = name.endswith("xtension") and isinstance(url, str)
        steps.append(f"{name}({extension_name(str(url))})" if is_extension else name)
    return ".".join(steps)


def _steps(path: str) -> list[str]:
    """Split a path at the dots outside brackets."""
    steps, depth, start = [], 0, 0
    for at, sign in enumerate(path):
        if sign in "([":
            depth += 1
        elif sign in ")]":
            depth -= 1
        elif sign == "." and not depth:
            steps.append(path[start:at])
            start = at + 1
    return [*steps, path[start:]] if path else []


def origins_of(fact: Fact, origins: Mapping[str, set[Origin]]) -> set[Origin]:
    """Return the origins of a fact: those of its path and of an element written as a whole.

    Where there are none, those of what stands in the nearest element around it.
    """
    path = fact[1]
    found = set(origins.get(path, ()))
    while path:
        path = path.rpartition(".")[0]
        around = origins.get(path)
        if around is not None:
            return found | around
        beside = {
            origin
            for other, origin_of in origins.items()
            if path and other.startswith(f"{path}.")
            for origin in origin_of
        }
        if beside and not found:
            return beside
    return found
