"""Conditions in the words of the v2-to-FHIR guide, compiled to functions.

    PID-25 NOT VALUED
    IF PID-7 LENGTH GREATER THAN 8
    OBX-2 IN ("NM", "SN") AND OBX-5 VALUED
    NOT (PV1-2 EQUALS "P" OR PV1-2 EQUALS "O")

Words: VALUED, EQUALS, IN, COUNT (of repetitions), LENGTH, GREATER THAN, LESS THAN, NOT, AND, OR.
"""

import re
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")

_TOKEN = re.compile(r'\s*(?:"([^"]*)"|(\(|\)|,)|([A-Za-z0-9_$./@\-\[\]*]+)|(=|!=|>|<))')
_WORDS = frozenset(
    {"IF", "IS", "NOT", "VALUED", "EQUALS", "EQUAL", "TO", "IN", "COUNT", "LST.COUNT", "LENGTH"}
    | {"GREATER", "LESS", "THAN", "AND", "OR"}
)


class UnreadableCondition(ValueError):
    """The text is no condition; the message says where it stops making sense."""


def compile_condition(
    text: str,
    repetitions_of: Callable[[str], Callable[[S], list[str]]],
    valued_of: Callable[[str], Callable[[S], bool]] | None = None,
) -> Callable[[S], bool]:
    """Return a function from a scope to the truth of the condition.

    `repetitions_of(path)` gives a function from the scope to the values at the path: one text for
    each populated repetition; `valued_of` may answer VALUED without them.
    Raises `UnreadableCondition`.
    """
    parser = _Parser(_tokens(text), repetitions_of, valued_of)
    test = parser.either()
    parser.require_end()
    return test


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


class _Parser(Generic[S]):
    """Recursive descent over the tokens: either > both > single > test."""

    def __init__(
        self,
        tokens: list[tuple[str, str]],
        repetitions_of: Callable[[str], Callable[[S], list[str]]],
        valued_of: Callable[[str], Callable[[S], bool]] | None,
    ) -> None:
        self._valued_of = valued_of
        self._tokens = tokens
        self._repetitions_of = repetitions_of
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

    def either(self) -> Callable[[S], bool]:
        left = self.both()
        while self._take("OR"):
            left = _or(left, self.both())
        return left

    def both(self) -> Callable[[S], bool]:
        left = self.single()
        while self._take("AND"):
            left = _and(left, self.single())
        return left

    def single(self) -> Callable[[S], bool]:
        if self._take("NOT"):
            return _not(self.single())
        if self._take("("):
            inside = self.either()
            if not self._take(")"):
                raise UnreadableCondition("misses a closing bracket")
            return inside
        return self._test()

    def _test(self) -> Callable[[S], bool]:
        kind, path = self._peek()
        if kind != "path":
            raise UnreadableCondition(f"expects a field, not {path!r}")
        self._at += 1
        get = self._repetitions_of(path)
        measure = "COUNT" if self._take("COUNT") or self._take("LST.COUNT") else ""
        measure = measure or ("LENGTH" if self._take("LENGTH") else "")
        self._take("IS")
        negative = self._take("NOT")
        if not measure and self._take("VALUED"):
            test = self._valued(path, get)
        else:
            test = self._measured(get, measure) if measure else self._compared(get)
        return _not(test) if negative else test

    def _valued(self, path: str, get: Callable[[S], list[str]]) -> Callable[[S], bool]:
        if self._valued_of is not None:
            return self._valued_of(path)
        return lambda scope: bool(get(scope))

    def _compared(self, get: Callable[[S], list[str]]) -> Callable[[S], bool]:
        if self._take("IN"):
            return _is_in(get, frozenset(self._list()))
        if self._take("=") or self._equals():
            return _is_in(get, frozenset({self._value()}))
        if self._take("!="):
            return _not(_is_in(get, frozenset({self._value()})))
        raise UnreadableCondition(
            f"expects VALUED, EQUALS, IN, COUNT or LENGTH, not {self._peek()[1]!r}"
        )

    def _measured(self, get: Callable[[S], list[str]], measure: str) -> Callable[[S], bool]:
        def size(scope: S) -> int:
            values = get(scope)
            if measure == "COUNT":
                return len(values)
            return len(values[0]) if values else 0

        if self._take("GREATER", "THAN") or self._take(">"):
            limit = self._number()
            return lambda scope: size(scope) > limit
        if self._take("LESS", "THAN") or self._take("<"):
            limit = self._number()
            return lambda scope: size(scope) < limit
        if self._take("=") or self._equals():
            limit = self._number()
            return lambda scope: size(scope) == limit
        raise UnreadableCondition(
            f"expects GREATER THAN, LESS THAN or EQUALS, not {self._peek()[1]!r}"
        )

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


def _or(left: Callable[[S], bool], right: Callable[[S], bool]) -> Callable[[S], bool]:
    return lambda scope: left(scope) or right(scope)


def _and(left: Callable[[S], bool], right: Callable[[S], bool]) -> Callable[[S], bool]:
    return lambda scope: left(scope) and right(scope)


def _not(test: Callable[[S], bool]) -> Callable[[S], bool]:
    return lambda scope: not test(scope)


def _is_in(get: Callable[[S], list[str]], values: frozenset[str]) -> Callable[[S], bool]:
    def is_in(scope: S) -> bool:
        found = get(scope)
        return bool(found) and not values.isdisjoint(found)

    return is_in
