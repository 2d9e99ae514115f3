"""Conditions of rows as expressions of Python over the fields of segments or parts of a type."""

from collections import Counter
from collections.abc import Callable, Iterable

from mappings.engine import row_reading
from mappings.engine.code import Code
from mappings.engine.conditions import Both, Condition, Not, Test, measures, parse_condition
from mappings.engine.context import Context
from mappings.engine.scopes import SlotNames, Slots, parse_source


class Conditions:
    """Writes the conditions of one function; a question that several rows ask is answered once.

    `slots` is None in a data type, where `parts` are asked about. `highest` is the last field of
    each slot that any condition asks for, `there` the last part known to be there.
    """

    def __init__(self, code: Code, slots: SlotNames | None, texts: Iterable[str]) -> None:
        self._code = code
        self._slots = slots
        self._trees = {text: parse_condition(text) for text in texts if text}
        counts = Counter(test for text in texts if text for test in _tests(self._trees[text]))
        self._often = {test for test, count in counts.items() if count > 1}
        self._answers: dict[Test, str] = {}
        self.highest: dict[int, int] = {}
        self.there = 0

    def expression(self, text: str) -> str:
        """Return the expression of a condition."""
        return self._of(self._trees[text])

    def _of(self, condition: Condition) -> str:
        if isinstance(condition, Test):
            return self._test(condition)
        if isinstance(condition, Not):
            return f"(not {self._of(condition.of)})"
        word = "and" if isinstance(condition, Both) else "or"
        return f"({self._of(condition.left)} {word} {self._of(condition.right)})"

    def _test(self, test: Test) -> str:
        asked = self._asked_of_parts(test) if self._slots is None else self._asked_of_fields(test)
        if test not in self._often or " not in " in asked:
            return asked
        answer = self._answers.get(test)
        if answer is None:
            answer = self._answers[test] = f"answer_{len(self._answers)}"
            self._code.begin(f"{answer} = None")
        return f"({answer} if {answer} is not None else ({answer} := {asked}))"

    def _asked_of_fields(self, test: Test) -> str:
        assert self._slots is not None
        source = parse_source(test.path, is_type=False)
        slot, number = self._slots.number(source.segment), source.field
        self._reach(slot, number)
        raw = f"fields_{slot}[{number}]"
        is_plain = not source.component and source.repetition == 1
        if test.asks == "valued" and is_plain:
            return f"({raw} not in NOTHING)"
        if test.asks == "in" and is_plain and not source.subcomponent:
            return f"first_is_in({raw}, context, {self._code.name('values', test.values)})"
        place = f"{source.repetition}, {source.component}, {source.subcomponent}"
        return self._asked(test, f"field_texts({raw}, {place}, context)")

    def _asked_of_parts(self, test: Test) -> str:
        source = parse_source(test.path, is_type=True)
        index, part = source.field - 1, source.component
        raw = f"parts[{index}]"
        if test.asks == "valued" and not part:
            is_there = f"count > {index} and " if index > self.there else ""
            return f"({is_there}{raw} not in NOTHING)"
        if index > self.there:
            raw = f"(parts[{index}] if count > {index} else '')"
        if test.asks == "valued":
            return f"part_valued({raw}, {part}, context)"
        if test.asks == "in":
            return f"part_is_in({raw}, {part}, context, {self._code.name('values', test.values)})"
        return self._asked(test, f"part_texts({raw}, {part}, context)")

    def _asked(self, test: Test, texts: str) -> str:
        if test.asks == "valued":
            return f"bool({texts})"
        if test.asks == "in":
            return f"(not {self._code.name('values', test.values)}.isdisjoint({texts}))"
        return f"measures({texts}, {self._code.name('test', test)})"

    def _reach(self, slot: int, number: int) -> None:
        self.highest[slot] = max(self.highest.get(slot, 0), number)


def _tests(condition: Condition) -> list[Test]:
    if isinstance(condition, Test):
        return [condition]
    if isinstance(condition, Not):
        return _tests(condition.of)
    return [*_tests(condition.left), *_tests(condition.right)]


WORDS = {
    "NOTHING": row_reading.NOTHING,
    "field_texts": row_reading.field_texts,
    "first_is_in": row_reading.first_is_in,
    "full": row_reading.full,
    "measures": measures,
    "part_is_in": row_reading.part_is_in,
    "part_texts": row_reading.part_texts,
    "part_valued": row_reading.part_valued,
}


def line_condition(text: str) -> tuple[SlotNames, Callable[[Slots, Context], bool]]:
    """Return the condition of a line of a message map, and the segments it asks about."""
    slots = SlotNames()
    code = Code(text, "parts, context")
    code.names |= WORDS
    conditions = Conditions(code, slots, [text])
    code.add(f"return {conditions.expression(text)}")
    for slot, count in conditions.highest.items():
        code.begin(f"fields_{slot} = full(parts[0][{slot}], {count + 1})")
    return slots, code.function()
