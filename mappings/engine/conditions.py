"""Conditions in the words of the v2-to-FHIR guide, read into a tree and compiled to functions.

    PID-25 NOT VALUED
    IF PID-7 LENGTH GREATER THAN 8
    OBX-2 IN ("NM", "SN") AND OBX-5 VALUED
    NOT (PV1-2 EQUALS "P" OR PV1-2 EQUALS "O")

Words: VALUED, EQUALS, IN, COUNT (of repetitions), LENGTH, GREATER THAN, LESS THAN, NOT, AND, OR.
One that the guide does not have is READS AS and a codec: `OBX-5.1 READS AS nm.decimal`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from mappings.engine.codecs import CODECS
from mappings.engine.context import Context, UnreadableValue

S = TypeVar("S")

_TOKEN = re.compile(r'\s*(?:"([^"]*)"|(\(|\)|,)|([A-Za-z0-9_$./@\-\[\]*]+)|(=|!=|>|<))')
_WORDS = frozenset(
    {"IF", "IS", "NOT", "VALUED", "EQUALS", "EQUAL", "TO", "IN", "COUNT", "LST.COUNT", "LENGTH"}
    | {"GREATER", "LESS", "THAN", "AND", "OR", "READS", "AS"}
)


class UnreadableCondition(ValueError):
    """The text is no condition; the message says where it stops making sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One question about the values at a path.

    `asks` is `valued`, `in` (one of `values`), `count` (of values), `length` (of the first one), or
    `reads` (whether `codec` can read the first one); `count` and `length` compare by `sign` (`>`,
    `<`, `=`) with `limit`.
    """

    path: str
    asks: str
    values: frozenset[str] = frozenset()
    sign: str = ""
    limit: int = 0
    codec: str = ""


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    of: "Condition"


@dataclass(frozen=True, slots=True)
class Both:
    """True where both are."""

    left: "Condition"
    right: "Condition"


@dataclass(frozen=True, slots=True)
class Either:
    """True where one is."""

    left: "Condition"
    right: "Condition"


Condition = Test | Not | Both | Either


def parse_condition(text: str) -> Condition:
    """Read a condition; raises `UnreadableCondition`."""
    parser = _Parser(_tokens(text))
    found = parser.either()
    parser.require_end()
    return found


def compile_condition(
    text: str, repetitions_of: Callable[[str], Callable[[S], list[str]]]
) -> Callable[[S], bool]:
    """Return a function from a scope to the truth of the condition.

    `repetitions_of(path)` gives a function from the scope to the values at the path: one text for
    each populated repetition. Raises `UnreadableCondition`.
    """
    return _compiled(parse_condition(text), repetitions_of)


def _compiled(
    condition: Condition, repetitions_of: Callable[[str], Callable[[S], list[str]]]
) -> Callable[[S], bool]:
    if isinstance(condition, Test):
        return _tested(condition, repetitions_of(condition.path))
    if isinstance(condition, Not):
        test = _compiled(condition.of, repetitions_of)
        return lambda scope: not test(scope)
    left = _compiled(condition.left, repetitions_of)
    right = _compiled(condition.right, repetitions_of)
    if isinstance(condition, Both):
        return lambda scope: left(scope) and right(scope)
    return lambda scope: left(scope) or right(scope)


def _tested(test: Test, get: Callable[[S], list[str]]) -> Callable[[S], bool]:
    if test.asks == "valued":
        return lambda scope: bool(get(scope))
    if test.asks == "in":
        return lambda scope: not test.values.isdisjoint(get(scope))
    return lambda scope: measures(get(scope), test)


def is_true(condition: Condition, values_at: Callable[[str], list[str]]) -> bool:
    """Whether a condition holds of the values at its paths, asked once and not compiled."""

    def repetitions_of(path: str) -> Callable[[None], list[str]]:
        return lambda _scope: values_at(path)

    return _compiled(condition, repetitions_of)(None)


def conjuncts(condition: Condition) -> Iterator[Condition]:
    """Yield the parts of a condition that must all be true."""
    if isinstance(condition, Both):
        yield from conjuncts(condition.left)
        yield from conjuncts(condition.right)
    else:
        yield condition


def paths(condition: Condition) -> Iterator[str]:
    """Yield every path that a condition asks about."""
    if isinstance(condition, Test):
        yield condition.path
    elif isinstance(condition, Not):
        yield from paths(condition.of)
    else:
        yield from paths(condition.left)
        yield from paths(condition.right)


def measures(values: list[str], test: Test) -> bool:
    """Whether the values are as the test wants their count, their length or how they read."""
    if test.asks == "reads":
        return bool(values) and _reads(values[0], test.codec)
    size = len(values) if test.asks == "count" else len(values[0]) if values else 0
    if test.sign == ">":
        return size > test.limit
    return size < test.limit if test.sign == "<" else size == test.limit


_PLAIN = Context()


def _reads(text: str, codec: str) -> bool:
    try:
        return CODECS[codec].forward(text, _PLAIN) is not None
    except UnreadableValue:
        return False


def _tokens(text: str) -> list[tuple[str, str]]:
    """Return (kind, token): kind is `text`, `word`, `path` or `mark`."""
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise UnreadableCondition(f"cannot read {text[position : position + 12]!r}")
        quoted, mark, name, sign = match.groups()
        if quoted is not None:
            found.append(("text", quoted))
        elif name is not None:
            upper = name.upper()
            found.append(("word", upper) if upper in _WORDS else ("path", name))
        else:
            found.append(("mark", mark or sign))
        position = match.end()
    return found


class _Parser:
    """Recursive descent over the tokens: either > both > single > test."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._take("IF")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "the end")

    def _take(self, *words: str) -> bool:
        for offset, word in enumerate(words):
            place = self._at + offset
            if place >= len(self._tokens) or self._tokens[place] not in (
                ("word", word),
                ("mark", word),
            ):
                return False
        self._at += len(words)
        return True

    def require_end(self) -> None:
        """Refuse what follows a complete condition."""
        if self._at != len(self._tokens):
            raise UnreadableCondition(f"does not expect {self._peek()[1]!r} here")

    def either(self) -> Condition:
        left = self.both()
        while self._take("OR"):
            left = Either(left, self.both())
        return left

    def both(self) -> Condition:
        left = self.single()
        while self._take("AND"):
            left = Both(left, self.single())
        return left

    def single(self) -> Condition:
        if self._take("NOT"):
            return Not(self.single())
        if self._take("("):
            inside = self.either()
            if not self._take(")"):
                raise UnreadableCondition("misses a closing bracket")
            return inside
        return self._test()

    def _test(self) -> Condition:
        kind, path = self._peek()
        if kind != "path":
            raise UnreadableCondition(f"expects a field, not {path!r}")
        self._at += 1
        measure = "count" if self._take("COUNT") or self._take("LST.COUNT") else ""
        measure = measure or ("length" if self._take("LENGTH") else "")
        self._take("IS")
        negative = self._take("NOT")
        if not measure and self._take("VALUED"):
            test: Condition = Test(path=path, asks="valued")
        else:
            test = self._measured(path, measure) if measure else self._compared(path)
        return Not(test) if negative else test

    def _compared(self, path: str) -> Condition:
        if self._take("READS", "AS"):
            name = self._value()
            if name not in CODECS or CODECS[name].is_composite:
                raise UnreadableCondition(f"expects a codec after READS AS, not {name!r}")
            return Test(path=path, asks="reads", codec=name)
        if self._take("IN"):
            return Test(path=path, asks="in", values=frozenset(self._list()))
        if self._take("=") or self._equals():
            return Test(path=path, asks="in", values=frozenset({self._value()}))
        if self._take("!="):
            return Not(Test(path=path, asks="in", values=frozenset({self._value()})))
        raise UnreadableCondition(
            f"expects VALUED, EQUALS, IN, COUNT, LENGTH or READS AS, not {self._peek()[1]!r}"
        )

    def _measured(self, path: str, measure: str) -> Condition:
        if self._take("GREATER", "THAN") or self._take(">"):
            sign = ">"
        elif self._take("LESS", "THAN") or self._take("<"):
            sign = "<"
        elif self._take("=") or self._equals():
            sign = "="
        else:
            raise UnreadableCondition(
                f"expects GREATER THAN, LESS THAN or EQUALS, not {self._peek()[1]!r}"
            )
        return Test(path=path, asks=measure, sign=sign, limit=self._number())

    def _equals(self) -> bool:
        if self._take("EQUALS"):
            return True
        if self._take("EQUAL"):
            self._take("TO")
            return True
        return False

    def _value(self) -> str:
        kind, token = self._peek()
        if kind not in {"text", "path"}:
            raise UnreadableCondition(f"expects a value in quotes, not {token!r}")
        self._at += 1
        return token

    def _number(self) -> int:
        value = self._value()
        if not value.isdigit():
            raise UnreadableCondition(f"expects a number, not {value!r}")
        return int(value)

    def _list(self) -> list[str]:
        if not self._take("("):
            raise UnreadableCondition("expects a list in brackets after IN")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        if not self._take(")"):
            raise UnreadableCondition("misses the closing bracket of its list")
        return values
