"""What one row does with a text, as statements of Python: read it, note its source, put it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from mappings.engine import row_reading
from mappings.engine.code import Code
from mappings.engine.codecs import CODECS
from mappings.engine.condition_code import WORDS, Conditions
from mappings.engine.context import UnreadableValue
from mappings.engine.converters import NULL, Convert, first_text
from mappings.engine.naming import own_system
from mappings.engine.place_code import PlaceCode, written
from mappings.engine.rows import Row
from mappings.engine.scopes import SlotNames, cut

_NAMES: dict[str, Any] = {
    **WORDS,
    "NULL": NULL,
    "UnreadableValue": UnreadableValue,
    "close_up": row_reading.close_up,
    "cut": cut,
    "first_of": row_reading.first_of,
    "first_text": first_text,
    "is_easy": row_reading.is_easy,
    "look": row_reading.look,
    "one_repetition": row_reading.one_repetition,
    "own_system": own_system,
    "pair": row_reading.pair,
    "pieces_of": row_reading.pieces_of,
    "repetitions": row_reading.repetitions,
    "seen": row_reading.seen,
}
CALLED_WITH = "parts, level, context, out, target, source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiling:
    """What the writers of rows ask the compiler for.

    `convert` gives the converter of a row that takes more than one codec, `call` the function of a
    `py:` row, which is `CALLED_WITH` what it may read and write.
    """

    traced: bool
    watched: bool
    convert: Callable[[Row], Convert]
    call: Callable[[Row], Callable[..., None]]


class ValueCode:
    """Writes the statements of single rows into one function.

    `slots` is None in a data type, `root` the resource type, "" where it is not the same each time.
    """

    def __init__(
        self,
        title: str,
        arguments: str,
        compiling: Compiling,
        slots: SlotNames | None,
        root: str = "",
    ) -> None:
        self.code = Code(title, arguments)
        self.code.names |= _NAMES
        self.watched = compiling.watched
        self._title = title
        self._compiling = compiling
        self._slots = slots
        self._root = root
        self._traced = compiling.traced
        self._conditions = Conditions(self.code, slots, ())
        if compiling.traced:
            self.code.begin("trace = context.trace")

    def conditions(self, rows: list[Row]) -> Conditions:
        """Read the conditions of all rows; done before any row is written."""
        self._conditions = Conditions(self.code, self._slots, [row.when for row in rows])
        return self._conditions

    def truth(self, row: Row) -> str:
        """Return the expression of a row's condition, "" where it has none."""
        if not row.when:
            return ""
        truth = self._conditions.expression(row.when)
        return f"seen(context, {f'{self._title}/{row.id}'!r}, {truth})" if self.watched else truth

    def where(self, truth: str) -> AbstractContextManager[None]:
        """Return the block of what is done where an expression is true; "" is always true."""
        return self.code.inside(f"if {truth}:") if truth else nullcontext()

    def value(
        self, row: Row, raw: str, level: str, source: str, *, text: str = "", around: str = "source"
    ) -> None:
        """Write how the text that `raw` names becomes a value at the row's target.

        `text` is the expression of the text itself where `first_text` need not be called, `around`
        that of the segment or part which is the source of constants beside the value.
        """
        code, codec = self.code, CODECS[row.codec or "text"]
        beside = (lambda path: self._note(row, path, around)) if self._traced else None
        place = PlaceCode(code, row.target, row.defaults, self._root, beside)
        if row.use or row.refer or row.table or codec.is_composite:
            convert = code.name("convert", self._compiling.convert(row))
            code.add(f"value = {convert}({raw}, {level}, context, {place.path}, {source})")
            with code.inside("if value is not None:"):
                self._put(row, place, "value")
            return
        # No delimiter is a letter or digit: what has only those is its own text.
        whole = f"{raw} if {raw}.isalnum() else first_text({raw}, {level}, context)"
        code.add(f"text = {text or whole}")
        if codec.name == "text":
            # A component whose text is HL7's null with blanks around it is null as well.
            is_component = bool(text) and not row.when and place.is_fixed
            with code.inside("if text and text != NULL:" if is_component else "if text:"):
                self._note(row, place.path, source)
                self._put(row, place, "text")
            return
        with code.inside("if text:"):
            read = f"{code.name('read', codec.forward)}(text, context)"
            if codec.name == "code":
                read = f"text if text.isalnum() else {read}"
            code.add(f"try: value = {read}")
            with code.inside("except UnreadableValue as error:"):
                code.add(f"context.note({row.id!r}, {source}, str(error))")
                code.add("value = None")
            with code.inside("if value is not None:"):
                self._note(row, place.path, source)
                self._put(row, place, "value")

    def constant(self, row: Row) -> None:
        """Write a constant, which never overwrites what the sender said."""
        place = PlaceCode(self.code, row.target, row.defaults, self._root)
        with self.code.inside(place.if_empty()):
            self._note(row, place.path, "source")
            place.put(self._given(row.value))

    def call(self, row: Row) -> None:
        """Call the function of a `py:` row."""
        self.code.add(f"{self.code.name('call', self._compiling.call(row))}({CALLED_WITH})")

    def _given(self, value: Any) -> str:
        if value == "$authority":
            return "own_system(context)"
        return written(self.code, value)

    def _put(self, row: Row, place: PlaceCode, value: str) -> None:
        place.put(value)
        if self.watched and self._slots is not None:
            self.code.add(f"if context.fired is not None: context.fired.add({row.id!r})")

    def _note(self, row: Row, path: str, source: str) -> None:
        if self._traced:
            self.code.add(f"trace.append(({path}, {source}, {row.id!r}))")
