"""From tokens to the syntax tree, by operator precedence (http://hl7.org/fhirpath/N1/#operator-precedence)."""

from decimal import Decimal

from conformance.fhirpath.faults import invalid_syntax, too_costly
from conformance.fhirpath.lexer import Kind, Token, read_tokens
from conformance.fhirpath.limits import DEFAULT_LIMITS, Limits
from conformance.fhirpath.quantity import CALENDAR_UNITS, Quantity
from conformance.fhirpath.syntax import (
    Binary,
    Call,
    Expression,
    External,
    Indexer,
    Literal,
    Member,
    Path,
    Several,
    Special,
    TypeTest,
    Unary,
)
from conformance.fhirpath.temporal import parse_literal

_LEVELS: dict[str, int] = {
    "implies": 1,
    "or": 2, "xor": 2,
    "and": 3,
    "in": 4, "contains": 4,
    "=": 5, "~": 5, "!=": 5, "!~": 5,
    "<": 6, "<=": 6, ">": 6, ">=": 6,
    "|": 7,
    "is": 8, "as": 8,
    "+": 9, "-": 9, "&": 9,
    "*": 10, "/": 10, "div": 10, "mod": 10,
}  # fmt: skip
_UNARY_LEVEL = 11
# Python's own stack bounds all: a nested expression takes up to twelve frames, a comparison five,
# a link of another left-deep chain of operators or a step of a path three.
_NESTED = 4
_COMPARED = 2
_CHAINED = 1
_COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">=", "is", "as"})
_ASSOCIATIVE = frozenset({"|", "and", "or"})
# These keywords may also be names of elements and functions.
_NAME_KEYWORDS = frozenset({"as", "is", "contains", "in"})
_RESERVED = frozenset({"and", "or", "xor", "implies", "div", "mod", "true", "false"})


def parse(source: str, limits: Limits = DEFAULT_LIMITS) -> Expression:
    """Read an expression; raises InvalidContent with the place, what was expected and found."""
    parser = _Parser(source, limits)
    tree = parser.expression(0)
    parser.expect_end()
    return tree


def _joined(token: Token, left: Expression, right: Expression) -> Several:
    """Keep `a | b | c` one flat node, so that a long list is not a deep tree."""
    if isinstance(left, Several) and left.operator == token.text:
        return Several(token.text, (*left.operands, right), left.at)
    return Several(token.text, (left, right), token.at)


class _Parser:
    def __init__(self, source: str, limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.tokens = read_tokens(source, limits)
        self.index = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def take(self) -> Token:
        token = self.tokens[self.index]
        self.index += 1
        return token

    def is_symbol(self, text: str) -> bool:
        token = self.tokens[self.index]
        return token.kind is Kind.SYMBOL and token.text == text

    def expect(self, text: str) -> Token:
        if not self.is_symbol(text):
            raise self.fault(f"`{text}`")
        return self.take()

    def expect_end(self) -> None:
        if self.token.kind is not Kind.END:
            raise self.fault("an operator or the end")

    def fault(self, expected: str) -> Exception:
        token = self.token
        found = "the end" if token.kind is Kind.END else f"{token.kind} `{token.text[:40]}`"
        return invalid_syntax(self.source, token.at, expected=expected, found=found)

    def deeper(self, by: int = _NESTED) -> None:
        self.depth += by
        if self.depth > self.limits.depth:
            raise too_costly("nesting", self.limits.depth)

    def expression(self, level: int) -> Expression:
        self.deeper()
        entered = self.depth
        left = self.unary()
        while True:
            token = self.token
            if token.kind is not Kind.SYMBOL and token.kind is not Kind.IDENTIFIER:
                break
            found = _LEVELS.get(token.text)
            if found is None or found <= level:
                break
            self.take()
            if token.text in _ASSOCIATIVE:
                left = _joined(token, left, self.expression(found))
                continue
            self.deeper(_COMPARED if token.text in _COMPARISONS else _CHAINED)
            if token.text in ("is", "as"):
                left = TypeTest(token.text, left, self.type_name(), token.at)
            else:
                left = Binary(token.text, left, self.expression(found), token.at)
        self.depth = entered - _NESTED
        return left

    def unary(self) -> Expression:
        if self.is_symbol("-") or self.is_symbol("+"):
            token = self.take()
            self.deeper()
            operand = self.expression(_UNARY_LEVEL)
            self.depth -= _NESTED
            return Unary(token.text, operand, token.at)
        return self.path()

    def path(self) -> Expression:
        entered = self.depth
        head = self.term()
        steps: list[Member | Call | Indexer | Special] = []
        while True:
            if self.is_symbol("."):
                self.take()
                self.deeper(_CHAINED)
                steps.append(self.invocation())
            elif self.is_symbol("["):
                at = self.take().at
                self.deeper(_CHAINED)
                steps.append(Indexer(self.expression(0), at))
                self.expect("]")
            else:
                break
        self.depth = entered
        return Path(head, tuple(steps), head.at) if steps else head

    def term(self) -> Expression:
        token = self.token
        match token.kind:
            case Kind.SYMBOL if token.text == "(":
                self.take()
                inside = self.expression(0)
                self.expect(")")
                return inside
            case Kind.SYMBOL if token.text == "{":
                self.take()
                self.expect("}")
                return Literal(None, token.at)
            case Kind.STRING:
                self.take()
                return Literal(token.text, token.at)
            case Kind.NUMBER:
                return self.number()
            case Kind.TEMPORAL:
                self.take()
                value = parse_literal(token.text)
                if value is None:
                    raise invalid_syntax(
                        self.source, token.at, expected="a date or time that exists",
                        found=f"`{token.text}`",
                    )  # fmt: skip
                return Literal(value, token.at)
            case Kind.EXTERNAL:
                self.take()
                return External(token.text, token.at)
            case Kind.IDENTIFIER if token.text in ("true", "false"):
                self.take()
                return Literal(token.text == "true", token.at)
        return self.invocation()

    def number(self) -> Expression:
        token = self.take()
        text = token.text
        value: int | Decimal = (
            Decimal(text) if "." in text.removesuffix("L") else int(text.removesuffix("L"))
        )
        unit = self.token
        if unit.kind is Kind.STRING:
            self.take()
            return Literal(Quantity(Decimal(value), unit.text), token.at)
        if unit.kind is Kind.IDENTIFIER and unit.text in CALENDAR_UNITS:
            self.take()
            name = CALENDAR_UNITS[unit.text]
            return Literal(Quantity(Decimal(value), name, is_calendar=True), token.at)
        return Literal(value, token.at)

    def invocation(self) -> Member | Call | Special:
        token = self.token
        if token.kind is Kind.SPECIAL:
            if token.text not in ("$this", "$index", "$total"):
                raise self.fault("$this, $index or $total")
            self.take()
            return Special(token.text, token.at)
        if token.kind is Kind.IDENTIFIER:
            is_name = token.text in _NAME_KEYWORDS or token.text not in _RESERVED
        else:
            is_name = token.kind is Kind.DELIMITED
        if not is_name:
            raise self.fault("a value, a name or a function")
        self.take()
        if token.kind is Kind.IDENTIFIER and self.is_symbol("("):
            return Call(token.text, self.arguments(), token.at)
        return Member(token.text, token.at)

    def arguments(self) -> tuple[Expression, ...]:
        self.expect("(")
        found: list[Expression] = []
        if not self.is_symbol(")"):
            found.append(self.expression(0))
            while self.is_symbol(","):
                self.take()
                found.append(self.expression(0))
        if not self.is_symbol(")"):
            raise self.fault("`,` or `)`")
        self.take()
        return tuple(found)

    def type_name(self) -> str:
        names = [self.name_token()]
        while self.is_symbol("."):
            self.take()
            names.append(self.name_token())
        return ".".join(names)

    def name_token(self) -> str:
        if self.token.kind not in (Kind.IDENTIFIER, Kind.DELIMITED):
            raise self.fault("the name of a type")
        return self.take().text
