"""The rows of a map or data type, written as one function of Python.

The function fills `out` from the fields of segments or from the raw parts of a data type, and
notes for each value where it came from.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from mappings.engine.context import Context
from mappings.engine.converters import Convert
from mappings.engine.row_reading import fields_named
from mappings.engine.rows import Row
from mappings.engine.scopes import SlotNames, Source, parse_source
from mappings.engine.targets import Element, parse_target
from mappings.engine.value_code import CALLED_WITH, Compiling, ValueCode

# slots or parts, level, context, element, target path, source path
Fill = Callable[[Any, int, Context, Element, str, str], None]


def segment_rows(
    title: str, rows: Sequence[Row], slots: SlotNames, compiling: Compiling, root: str = ""
) -> Fill:
    """Return the function of rows over segments, in their order; plain constants last.

    `root` is the resource type, "" where the rows fill an element of another resource.
    """
    return _SegmentRows(title, rows, slots, compiling, root).function()


def part_rows(title: str, rows: Sequence[Row], compiling: Compiling, root: str = "") -> Fill:
    """Return the function of rows over the parts of a field that another resource is made of."""
    made: Fill = _PartRows(title, CALLED_WITH, rows, compiling, root).function()
    return made


def type_rows(title: str, rows: Sequence[Row], compiling: Compiling) -> Convert:
    """Return the converter of a whole data type; None is its value where no row found one."""
    arguments = "raw, level, context, target, source"
    made: Convert = _PartRows(title, arguments, rows, compiling).converter()
    return made


class _SegmentRows:
    def __init__(
        self,
        title: str,
        rows: Sequence[Row],
        slots: SlotNames,
        compiling: Compiling,
        root: str,
    ) -> None:
        self._rows = rows
        self._slots = slots
        self._values = ValueCode(title, CALLED_WITH, compiling, slots, root)
        self._code = self._values.code
        self._highest = self._values.conditions(list(rows)).highest

    def function(self) -> Fill:
        last = [row for row in self._rows if _is_constant(row)]
        for row in self._rows:
            if not _is_constant(row):
                self._row(row)
        if last:
            with self._code.inside("if out:"):
                for row in last:
                    self._look(row)
                    self._values.constant(row)
        begin = self._code.begin
        begin("repeat = context.separators.repetition")
        begin("marks = (context.separators.component, context.separators.subcomponent)")
        for slot, name in enumerate(self._slots.names):
            begin(f"prefix_{slot} = parts[1][{slot}]  # {name}")
            begin(f"fields_{slot} = full(parts[0][{slot}], {self._highest.get(slot, 0) + 1})")
        made: Fill = self._code.function()
        return made

    def _row(self, row: Row) -> None:
        truth = self._values.truth(row)
        if row.py or row.value is not None:
            self._look(row)
            with self._values.where(truth):
                (self._values.call if row.py else self._values.constant)(row)
            return
        source = parse_source(row.source, is_type=False)
        if source.every_segment:
            self._look(row)
            with self._values.where(truth):
                self._every_segment(row, source)
            return
        slot = self._slots.number(source.segment)
        self._highest[slot] = max(self._highest.get(slot, 0), source.field)
        raw = f"fields_{slot}[{source.field}]"
        if self._values.watched:
            with self._code.inside(f"if {raw}:"):
                self._look(row)
        valued = f"(one := {raw}) and one != NULL{truth and f' and {truth}'}"
        self._repetitions(row, source, valued, f"prefix_{slot}")

    def _every_segment(self, row: Row, source: Source) -> None:
        """Read one field of every segment of a name in the map's own group."""
        code = self._code
        with code.inside(f"for segment in parts[2].segments.get({source.segment!r}, ()):"):
            code.add("prefix = segment.place")
            valued = f"(one := segment.field({source.field})) and one != NULL"
            self._repetitions(row, source, valued, "prefix")

    def _repetitions(self, row: Row, source: Source, valued: str, prefix: str) -> None:
        """Write what is done with the wanted repetitions of a field, which `valued` names `one`."""
        code = self._code
        wanted = source.repetition or 1
        # The second field of a header declares the separators and repeats nothing.
        is_header = source.segment == "MSH" and source.field <= 2
        origin = f'f"{{{prefix}}}-{source.field}[{wanted}]{source.suffix}"'
        part = f"cut(one, {source.component}, {source.subcomponent}, marks)"
        if source.repetition == 0 and not is_header:
            origin = f'f"{{{prefix}}}-{source.field}[{{number}}]{source.suffix}"'
            one = f"(one := {part})" if source.component else "one"
            with (
                code.inside(f"if {valued}:"),
                code.inside("for number, one in repetitions(one, repeat):"),
                code.inside(f"if {one} and one != NULL:"),
            ):
                self._one(row, source, origin, prefix)
            return
        if not is_header:
            chosen = f"one_repetition(one, repeat, {wanted})"
            if wanted == 1:
                chosen = "first_of(one, repeat)"
                valued += f" and (repeat not in one or (one := {chosen}) and one != NULL)"
            else:
                valued += f" and (one := {chosen}) and one != NULL"
        if source.component:
            valued += f" and (one := {part}) and one != NULL"
        with code.inside(f"if {valued}:"):
            self._one(row, source, origin, prefix)

    def _one(self, row: Row, source: Source, origin: str, prefix: str) -> None:
        level = "2" if source.subcomponent else "1" if source.component else "0"
        self._values.value(row, "one", level, origin, around=prefix)

    def _look(self, row: Row) -> None:
        """Let a watched run remember which fields the row reads or asks about."""
        if self._values.watched:
            places = tuple(
                (self._slots.number(name), name, number)
                for text in (row.source, row.when, *row.reads)
                for name, number in fields_named(text)
            )
            every = "[*]-" in row.source
            self._code.add(f"look(context, parts, {places!r}, {every!r})")


class _PartRows:
    """Rows by the part they read, then those without one, plain constants last."""

    def __init__(
        self,
        title: str,
        arguments: str,
        rows: Sequence[Row],
        compiling: Compiling,
        root: str = "",
    ) -> None:
        self._rows = rows
        self._values = ValueCode(title, arguments, compiling, None, root)
        self._code = self._values.code
        self._conditions = self._values.conditions(list(rows))

    def function(self) -> Any:
        begin = self._code.begin
        begin("easy = is_easy(parts, context.separators)")
        return self._whole()

    def converter(self) -> Any:
        begin = self._code.begin
        begin("component, subcomponent, escape = context.marks")
        begin("mark = subcomponent if level else component")
        begin("parts = raw.split(mark) if mark and level < 2 else [raw]")
        begin("easy = escape not in raw and subcomponent not in raw and raw.isprintable()")
        begin("out = {}")
        return self._whole(ending="return out or None")

    def _whole(self, ending: str = "") -> Any:
        by_index: dict[int, list[Row]] = {}
        for row in self._rows:
            if row.source and not row.py and row.value is None:
                index = parse_source(row.source, is_type=True).field - 1
                by_index.setdefault(index, []).append(row)
        self._code.begin("deeper = 2 if level else 1")
        self._code.begin("count = len(parts)")
        with ExitStack() as present:
            for index in sorted(by_index):
                if index:
                    present.enter_context(self._code.inside(f"if count > {index}:"))
                self._conditions.there = index
                with self._code.inside(f"if (part := parts[{index}]) and part != NULL:"):
                    if any(
                        parse_source(row.source, is_type=True).component for row in by_index[index]
                    ):
                        self._code.add("pieces = pieces_of(part, level, easy, context)")
                    for row in by_index[index]:
                        with self._values.where(self._values.truth(row)):
                            self._part(row)
        self._conditions.there = 0
        for row in self._rows:
            if row.py or (row.value is not None and row.when):
                with self._values.where(self._values.truth(row)):
                    (self._values.call if row.py else self._values.constant)(row)
        self._finish([row for rows in by_index.values() for row in rows])
        if ending:
            self._code.add(ending)
        return self._code.function()

    def _part(self, row: Row) -> None:
        source = parse_source(row.source, is_type=True)
        origin = f"source + '.{source.field}{source.suffix}'"
        if not source.component:
            text = "part.strip() if easy else first_text(part, deeper, context)"
            self._values.value(row, "part", "deeper", origin, text=text)
            return
        number = source.component
        with self._code.inside(f"if len(pieces) >= {number} and (piece := pieces[{number - 1}]):"):
            self._values.value(row, "piece", "2", origin)

    def _finish(self, rows: Sequence[Row]) -> None:
        """Write the constants; drop list places that nothing filled."""
        code = self._code
        constants = [row for row in self._rows if _is_constant(row)]
        first = [parse_target(row.target)[0] for row in rows]
        lists = {step.name for step in first if step.index is not None}
        paired = sorted(name for name in lists if name.startswith("_"))
        sparse = {step.name for step in first if (step.index or 0) > 0} - set(paired)
        if not (constants or sparse or paired):
            return
        with code.inside("if out:"):
            for row in constants:
                self._values.constant(row)
            for name in sorted(sparse):
                with code.inside(f"if len(out.get({name!r}, ())) > 1 and not all(out[{name!r}]):"):
                    code.add(f"close_up(out, {name!r}, context.trace, target)")
            for name in paired:
                code.add(f"if {name!r} in out: pair(out, {name!r})")


def _is_constant(row: Row) -> bool:
    return row.value is not None and not row.when and not row.py
