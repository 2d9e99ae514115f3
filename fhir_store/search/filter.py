"""`_filter`: a logical expression over search parameters, parsed into conditions.

http://hl7.org/fhir/R4/search_filter.html: and, or, not, parentheses, chains, and the operators
eq ne co sw ew gt lt ge le ap sa eb pr ss sb in ni re. Filters inside paths (`[…]`) are refused.
"""

import re
from dataclasses import dataclass, replace
from typing import NoReturn

from conformance.problem import UnknownParameter
from fhir_store.search.condition_parser import Lookup, condition_of
from fhir_store.search.conditions import AllOf, AnyOf, ChainTest, Condition, NotOf, ValueTest
from fhir_store.search.value_parser import refuse
from fhir_store.search.values import Reading

_TOKEN = re.compile(r'\s*(?:([()])|"((?:[^"\\]|\\.)*)"|([^\s()"]+))')
_ORDERED = {"gt", "lt", "ge", "le", "ap", "sa", "eb"}
_MODIFIERS = {"in": "in", "ss": "below", "sb": "above"}
_NEGATED = {"ne": "eq", "ni": "in"}
_TEXT = {"eq": "equals", "co": "contains", "sw": "prefix", "ew": "ends"}
_MAX_TOKENS = 500


def parse_filter(types: tuple[str, ...], text: str, lookup: Lookup, reading: Reading) -> Condition:
    """Return the condition a filter expression states; refuse what cannot be read."""
    tokens: list[tuple[str, str]] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(tokens) > _MAX_TOKENS:
            _refuse()
        sign, quoted, word = match.groups()
        if sign:
            tokens.append(("sign", sign))
        elif quoted is not None:
            tokens.append(("text", re.sub(r"\\(.)", r"\1", quoted)))
        else:
            tokens.append(("word", word))
        position = match.end()
    parser = _Parser(types=types, tokens=tokens, lookup=lookup, reading=reading)
    found = parser.either()
    if parser.at != len(tokens):
        _refuse()
    return found


def _refuse() -> NoReturn:
    refuse(
        "_filter",
        "search-filter-form",
        ("the expression cannot be read", "表达式无法解析"),
        (
            'Write, for example, name co "pet" and birthdate ge 1990-01-01.',
            '例如：name co "pet" and birthdate ge 1990-01-01。',
        ),
    )


@dataclass(slots=True, kw_only=True)
class _Parser:
    """A descent over the tokens; `at` is the next one, `depth` counts open parentheses."""

    types: tuple[str, ...]
    tokens: list[tuple[str, str]]
    lookup: Lookup
    reading: Reading
    at: int = 0
    depth: int = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        found = self.peek()
        if found[0] == "end":
            _refuse()
        self.at += 1
        return found

    def either(self) -> Condition:
        parts = [self.both()]
        while self.peek() == ("word", "or"):
            self.at += 1
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def both(self) -> Condition:
        parts = [self.one()]
        while self.peek() == ("word", "and"):
            self.at += 1
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def one(self) -> Condition:
        if self.peek() == ("word", "not"):
            self.at += 1
            return NotOf(self.one())
        if self.peek() == ("sign", "("):
            self.at += 1
            self.depth += 1
            if self.depth > 30:
                _refuse()
            found = self.either()
            if self.take() != ("sign", ")"):
                _refuse()
            self.depth -= 1
            return found
        return self.test()

    def test(self) -> Condition:
        kind, path = self.take()
        operator = self.take()[1]
        value = self.take()[1]
        if kind != "word" or "[" in path:
            _refuse()
        if operator in _NEGATED:
            return NotOf(self.compare(path, _NEGATED[operator], value))
        return self.compare(path, operator, value)

    def compare(self, path: str, operator: str, value: str) -> Condition:
        """Return the condition of one comparison, by way of the same parameter in a URL."""
        if operator == "pr":
            if value not in ("true", "false"):
                _refuse()
            is_missing = "false" if value == "true" else "true"
            return self.read(f"{path}:missing", is_missing)
        if operator in _MODIFIERS:
            return self.read(f"{path}:{_MODIFIERS[operator]}", _escaped(value))
        if operator in _ORDERED:
            return self.read(path, operator + _escaped(value))
        if operator == "re":
            return self.read(path, _escaped(value))
        if operator not in _TEXT:
            _refuse_operator()
        found = self.read(path, _escaped(value))
        return _with_text(found, operator)

    def read(self, name: str, value: str) -> Condition:
        return condition_of(self.types, name, value, self.lookup, self.reading)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$")


def _with_text(condition: Condition, operator: str) -> Condition:
    """Return the condition with a string operator put on its innermost test."""
    if isinstance(condition, ChainTest):
        targets = tuple((type_, _with_text(inner, operator)) for type_, inner in condition.targets)
        return replace(condition, targets=targets)
    if not isinstance(condition, ValueTest) or condition.parameters[0].type != "string":
        if operator != "eq":
            _refuse_operator()
        return condition
    modifier = _TEXT[operator]
    return replace(condition, modifier="" if modifier == "prefix" else modifier)


def _refuse_operator() -> NoReturn:
    refuse(
        "_filter",
        "search-filter-operator",
        ("an operator that is not known or not for this type", "运算符未知或不适用于该类型"),
        (
            "Use eq ne co sw ew gt lt ge le ap sa eb pr ss sb in ni re.",
            "可用的运算符：eq ne co sw ew gt lt ge le ap sa eb pr ss sb in ni re。",
        ),
        kind=UnknownParameter,
    )
