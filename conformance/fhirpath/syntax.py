"""The syntax tree of FHIRPath (http://hl7.org/fhirpath/N1/grammar.html)."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: its System value; `None` is the empty collection `{}`."""

    value: Any
    at: int


@dataclass(frozen=True, slots=True)
class External:
    """An outside variable, `%name`."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Special:
    """`$this`, `$index` or `$total`."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Member:
    """An element (or, at the head of a path, a type) by name."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments, not yet evaluated."""

    name: str
    arguments: tuple["Expression", ...]
    at: int


@dataclass(frozen=True, slots=True)
class Indexer:
    """`[index]` behind a path."""

    index: "Expression"
    at: int


@dataclass(frozen=True, slots=True)
class Path:
    """A head and the steps behind its dots and brackets."""

    head: "Expression"
    steps: tuple["Member | Call | Indexer | Special", ...]
    at: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`+` or `-` before an expression."""

    operator: str
    operand: "Expression"
    at: int


@dataclass(frozen=True, slots=True)
class Binary:
    """Two expressions and the operator between them."""

    operator: str
    left: "Expression"
    right: "Expression"
    at: int


@dataclass(frozen=True, slots=True)
class Several:
    """Many expressions joined by one of `|`, `and`, `or`."""

    operator: str
    operands: tuple["Expression", ...]
    at: int


@dataclass(frozen=True, slots=True)
class TypeTest:
    """`is` or `as` with the (perhaps qualified) name of a type."""

    operator: str
    operand: "Expression"
    type_name: str
    at: int


Expression = (
    Literal | External | Special | Member | Call | Path | Unary | Binary | Several | TypeTest
)
