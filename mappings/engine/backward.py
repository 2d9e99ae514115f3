"""The same rows on the way back: from FHIR into segments, fields or a partner's document."""

import importlib
import re
from collections.abc import Container, Mapping
from typing import Any

from conformance.problem import Issue
from mappings.engine.codecs import CODECS
from mappings.engine.conditions import Condition, conjuncts, is_true, parse_condition, paths
from mappings.engine.context import Context, UnreadableValue
from mappings.engine.rows import Row, RowMap
from mappings.engine.scopes import UnreadableSource, cut, parse_source
from mappings.engine.sinks import NodeSink, PartsSink, Sink
from mappings.engine.tables import Table
from mappings.engine.targets import Step, parse_target, values_at
from mappings.hl7.escape import Separators
from mappings.hl7.message import Segment

_WHEN = re.compile(r"\s*([\w.\[\]:()-]+)\s*(=|!=|exists|missing)\s*(?:'([^']*)')?\s*\Z")


class UnreadableFilter(ValueError):
    """A `when_fhir:` is not `path = 'value'`, `path != 'value'`, `path exists` or `… missing`."""


def parse_filter(text: str) -> list[tuple[tuple[Step, ...], str, str]]:
    """Read a `when_fhir:`; parts are joined by `and`."""
    found = []
    for part in text.split(" and "):
        match = _WHEN.match(part)
        if match is None:
            raise UnreadableFilter(f"cannot read {part!r}")
        path, word, value = match.groups()
        found.append((parse_target(path), word, value or ""))
    return found


def holds(element: Any, filters: list[tuple[tuple[Step, ...], str, str]]) -> bool:
    """Return whether an element passes a `when_fhir:`."""
    for steps, word, wanted in filters:
        values = [str(value) for value in values_at(element, steps)]
        if word == "=" and wanted not in values:
            return False
        if word == "!=" and wanted in values:
            return False
        if word == "exists" and not values:
            return False
        if word == "missing" and values:
            return False
    return True


class Backward:
    """Runs rows backwards; `passed` notes elements that no row could carry."""

    def __init__(self, maps: Mapping[str, RowMap], tables: Mapping[str, Table]) -> None:
        self._maps = maps
        self._tables = tables
        self._rows: dict[str, list[_BackRow]] = {}

    def run(
        self,
        name: str,
        element: Mapping[str, Any],
        sink: Sink,
        context: Context,
        original: Segment | None = None,
    ) -> None:
        """Write what the map's rows say about the element into the sink.

        A row whose condition asks about a field that no row writes (OBX-2) is one of several ways
        to say a value: with the `original` at hand that segment decides which is meant, whatever
        `when_fhir:` guesses; without it the first of them that has a value speaks.
        """
        spoken = set[str]()
        for row in self._rows_of(name):
            chosen = row.chosen(original, context.separators) if row.choice else None
            if chosen is False or (chosen is None and row.row.source in spoken):
                continue
            if self._run_row(row, element, sink, context, chosen=bool(chosen)) and row.choice:
                spoken.add(row.row.source)

    def _rows_of(self, name: str) -> list["_BackRow"]:
        ready = self._rows.get(name)
        if ready is None:
            row_map = self._maps[name]
            own = {row.id for row in row_map.rows}
            inherited = [
                row
                for included in row_map.includes
                for row in self._rows_of(included)
                if row.row.id not in own
            ]
            ready = inherited + [
                _BackRow(row)
                for row in row_map.rows
                if not row.ignore
                and row.only != "forward"
                and row.value is None
                and (row.target or row.py_back)
            ]
            # What a function derives from the value, such as OBX-2, follows the other rows.
            written = {_field_of(one.row.source) for one in ready if one.function is None}
            for one in ready:
                one.choose(written)
            self._rows[name] = ready
        return ready

    def _run_row(
        self,
        back: "_BackRow",
        element: Mapping[str, Any],
        sink: Sink,
        context: Context,
        *,
        chosen: bool = False,
    ) -> bool:
        """Write a row's values; return whether it had any."""
        row = back.row
        if back.function is not None:
            back.function(element, sink, context)
            return False
        is_list = isinstance(sink, NodeSink) or "[*]" in row.source
        has_written = False
        repetition = 0
        if not isinstance(sink, PartsSink) and "[*]" in row.source:
            repetition = sink.count(row.source)
        for value in back.values(element, is_filtered=not chosen):
            if repetition and not is_list:
                break  # the field holds one value
            made = self._write(row, value, sink, repetition, context)
            repetition += made
            has_written |= bool(made)
        return has_written

    def _write(self, row: Row, value: Any, sink: Sink, repetition: int, context: Context) -> int:
        """Write one value; return how many repetitions that made."""
        if row.refer:
            named = context.resources.get(str(value.get("reference", "")))
            if named is None or named.get("resourceType") != self._maps[row.refer].to:
                return 0  # another row's kind of resource
            self.run(row.refer, named, sink.enter(row.source, repetition), context)
            return 1
        if row.use:
            return self._write_type(row, value, sink, repetition, context)
        text = self._text_of(row, value, context)
        if not text:
            return 0
        if "\x1f" in text:
            sink.put_parts(row.source, text.split("\x1f"), repetition)
        else:
            sink.put(row.source, text, repetition)
        return 1

    def _write_type(
        self, row: Row, value: Any, sink: Sink, repetition: int, context: Context
    ) -> int:
        held = self._table_back(row, value) if row.table else None
        if row.table and held is None:
            value = self._without_mapped(row, value)
        inner = sink.enter(row.source, repetition)
        if isinstance(inner, NodeSink) and row.use in self._maps:
            self.run(row.use, value, inner, context)
            if self._lacks(row.use, inner):
                sink.leave(row.source)  # type: ignore[union-attr]
                context.note(row.id, row.target, "lacks what the partner requires")
                return 0
        elif held is not None and row.use in self._maps and isinstance(value, Mapping):
            codings = [{"code": held}, *value.get("coding", ())[1:]]
            besides = {"coding": codings, **({"text": value["text"]} if "text" in value else {})}
            self.run(row.use, besides if "coding" in value else {"code": held}, inner, context)
        else:
            self.run(row.use, value, inner, context)
        return 1

    def _lacks(self, name: str, sink: NodeSink) -> bool:
        return any(not sink.has(path) for path in self._maps[name].require)

    def _text_of(self, row: Row, value: Any, context: Context) -> str:
        if row.table:
            return self._code_back(row, str(value), context)
        codec = CODECS[row.codec or "text"]
        try:
            return codec.backward(value, context)
        except (UnreadableValue, ValueError, KeyError) as error:
            context.note(row.id, row.target, str(error) or "cannot be written")
            return ""

    def _code_back(self, row: Row, code: str, context: Context) -> str:
        if code in row.back:
            return row.back[code]
        table = self._tables[row.table]
        for given, target in context.sender.code_overlay.get(table.name, {}).items():
            if target == code:
                return given
        for (_, target), given in table.backward.items():
            if target == code:
                return given
        if row.unknown == "pass":
            return code
        if not row.unknown.startswith("default:"):
            context.notes.append(_no_code(row, table))
        return ""

    def _without_mapped(self, row: Row, value: Any) -> Any:
        """Leave out the table's coding where the sender's own stands beside it."""
        codings = value.get("coding", ()) if isinstance(value, Mapping) else ()
        table = self._tables[row.table]
        own = [
            coding
            for coding in codings
            if (coding.get("system", ""), coding.get("code", "")) not in table.backward
        ]
        return {**value, "coding": own} if own and len(own) < len(codings) else value

    def _table_back(self, row: Row, value: Any) -> str | None:
        """Return the sender's code of a coded element that only its table explains."""
        codings = value.get("coding", ()) if isinstance(value, Mapping) else ()
        if row.use.endswith("-Coding"):
            codings = [value]
        table = self._tables[row.table]
        for coding in codings[:1]:
            key = (coding.get("system", ""), coding.get("code", ""))
            if len(codings) > 1 and key[1] in table.collapsed:
                return None  # the sender's own coding stands beside the table's
            if key in table.backward:
                return row.back.get(key[1]) or table.backward[key]
        return None


class _BackRow:
    """One row with its paths read."""

    __slots__ = ("_defaults", "_filters", "_rest", "_star", "choice", "function", "row")

    def __init__(self, row: Row) -> None:
        self.function: Any = None
        if row.py_back:
            module, _, name = row.py_back.rpartition(".")
            self.function = getattr(importlib.import_module(module), name)
        steps = parse_target(row.target or "$this")
        star = next((at for at, step in enumerate(steps) if step.index == -1), None)
        self.row = row
        self._star: tuple[Step, ...]
        self._rest: tuple[Step, ...]
        if star is None and row.when_fhir:
            self._star, self._rest = (), steps  # the filter is about the element itself
        elif star is None:
            # Defaults stand beside the last step.
            self._star, self._rest = steps[:-1], steps[-1:]
        else:
            self._star, self._rest = steps[: star + 1], steps[star + 1 :]
        self._defaults = [(parse_target(path), value) for path, value in row.defaults.items()]
        self._filters = parse_filter(row.when_fhir) if row.when_fhir else []
        self.choice: tuple[Condition, ...] = ()

    def choose(self, written: Container[tuple[str, int]]) -> None:
        """Keep the parts of the condition that ask about fields which no row writes.

        What FHIR changes leaves those fields as they are, and so the truth of these parts.
        """
        segment, number = _field_of(self.row.source)
        if not segment or not number or not self.row.when:
            return
        self.choice = tuple(
            part
            for part in conjuncts(parse_condition(self.row.when))
            if all(
                place[0] == segment and place not in written
                for place in map(_field_of, paths(part))
            )
        )

    def chosen(self, original: Segment | None, separators: Separators) -> bool | None:
        """Whether the original says that the row is the one meant; None where it cannot."""
        if original is None or original.name != _field_of(self.row.source)[0]:
            return None

        def values(path: str) -> list[str]:
            source = parse_source(path, is_type=False)
            raw = original.field(source.field)
            reps = raw.split(separators.repetition) if separators.repetition else [raw]
            if source.repetition:
                reps = reps[source.repetition - 1 : source.repetition]
            marks = (separators.component, separators.subcomponent)
            texts = (cut(one, source.component or 1, source.subcomponent, marks) for one in reps)
            return [text for text in texts if text]

        return all(is_true(part, values) for part in self.choice)

    def values(self, element: Mapping[str, Any], *, is_filtered: bool = True) -> list[Any]:
        """Return the values the row is about: those whose constants and filter fit."""
        found: list[Any] = []
        for holder in values_at(element, self._star):
            if holder is None or (is_filtered and not self._fits(holder)):
                continue
            found.extend(value for value in values_at(holder, self._rest) if value is not None)
        return found

    def _fits(self, holder: Any) -> bool:
        if self._filters:
            return holds(holder, self._filters)
        return all(
            (values := values_at(holder, steps)) and values[0] == wanted
            for steps, wanted in self._defaults
        )


def _field_of(path: str) -> tuple[str, int]:
    """Return segment and field of a path, ("", 0) where it names none."""
    try:
        source = parse_source(path, is_type=False)
    except UnreadableSource:
        return "", 0
    return source.segment, source.field


def _no_code(row: Row, table: Table) -> Issue:
    return Issue(
        severity="warning",
        code="code-invalid",
        key="map-code-back",
        text_en=f"Table {table.name} has no code for what {row.target} holds; {row.id} is empty",
        text_zh=f"对照表 {table.name} 没有与 {row.target} 对应的代码；{row.id} 留空",
        fix_en="Add the code to the table or to the channel's overlay.",
        fix_zh="请在对照表或通道的代码补充中增加该代码。",
        expression=row.target,
    )
