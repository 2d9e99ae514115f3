"""The words of FHIRPath (http://hl7.org/fhirpath/N1/grammar.html)."""

import re
from enum import StrEnum
from typing import NamedTuple

from conformance.fhirpath.faults import invalid_syntax, too_costly
from conformance.fhirpath.limits import Limits


class Kind(StrEnum):
    """What a token is; the value is what a message calls it."""

    IDENTIFIER = "a name"
    DELIMITED = "a `name`"
    STRING = "a string"
    NUMBER = "a number"
    TEMPORAL = "a date or time"
    EXTERNAL = "a %variable"
    SPECIAL = "a $variable"
    SYMBOL = "a symbol"
    END = "the end"


class Token(NamedTuple):
    """One word: `text` as read and unescaped, `at` its first character's index."""

    kind: Kind
    text: str
    at: int


_SPACE = re.compile(r"(?:[ \t\r\n\f\v\u00a0]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
# The alternatives exclude each other by their first character, so matching is linear.
_TOKEN = re.compile(
    r"""
    (?P<temporal>@(?:T[0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)?
      | [0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?
        (?:T(?:[0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?)?))
  | (?P<number>[0-9]+(?:\.[0-9]+)?L?)
  | (?P<identifier>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<special>\$[A-Za-z]+)
  | (?P<symbol><=|>=|!=|!~|[.,()\[\]{}+\-*/&|<>=~])
    """,
    re.VERBOSE,
)
_KINDS = {
    "temporal": Kind.TEMPORAL,
    "number": Kind.NUMBER,
    "identifier": Kind.IDENTIFIER,
    "special": Kind.SPECIAL,
    "symbol": Kind.SYMBOL,
}
_ESCAPES = {
    "`": "`", "'": "'", '"': '"', "\\": "\\", "/": "/",
    "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
_HEX4 = re.compile(r"[0-9A-Fa-f]{4}")


def read_tokens(source: str, limits: Limits) -> list[Token]:
    """Split the expression into tokens, the last of kind END."""
    if len(source) > limits.characters:
        raise too_costly("characters", limits.characters)
    tokens: list[Token] = []
    at = 0
    while True:
        space = _SPACE.match(source, at)
        at = space.end() if space else at
        if at >= len(source):
            tokens.append(Token(Kind.END, "", len(source)))
            return tokens
        token, at = _read_token(source, at)
        tokens.append(token)


def _read_token(source: str, at: int) -> tuple[Token, int]:
    first = source[at]
    if first in "'`":
        text, end = _read_quoted(source, at)
        kind = Kind.STRING if first == "'" else Kind.DELIMITED
        return Token(kind, text, at), end
    if first == "%":
        return _read_external(source, at)
    if source.startswith("/*", at):
        raise invalid_syntax(source, at, expected="`*/` that ends the comment", found="the end")
    match = _TOKEN.match(source, at)
    if match is None or match.lastgroup is None:
        raise invalid_syntax(source, at, expected="a FHIRPath token", found=f"`{first}`")
    return Token(_KINDS[match.lastgroup], match.group(), at), match.end()


def _read_external(source: str, at: int) -> tuple[Token, int]:
    quote = source[at + 1 : at + 2]
    if quote in ("'", "`"):
        text, end = _read_quoted(source, at + 1)
        return Token(Kind.EXTERNAL, text, at), end
    match = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").match(source, at + 1)
    if match is None:
        raise invalid_syntax(source, at + 1, expected="a variable's name", found=_shown(quote))
    # `%vs-name` and `%ext-name` are written bare in some R4 expressions; a name there keeps `-`.
    name = match.group()
    end = match.end()
    if name in ("vs", "ext"):
        longer = re.compile(r"(?:-[A-Za-z0-9]+)+").match(source, end)
        if longer is not None:
            name, end = name + longer.group(), longer.end()
    return Token(Kind.EXTERNAL, name, at), end


def _read_quoted(source: str, at: int) -> tuple[str, int]:
    quote = source[at]
    parts: list[str] = []
    start = index = at + 1
    while index < len(source):
        character = source[index]
        if character == quote:
            parts.append(source[start:index])
            return "".join(parts), index + 1
        if character != "\\":
            index += 1
            continue
        parts.append(source[start:index])
        text, index = _read_escape(source, index)
        parts.append(text)
        start = index
    raise invalid_syntax(source, at, expected=f"a closing {quote}", found="the end")


def _read_escape(source: str, at: int) -> tuple[str, int]:
    letter = source[at + 1 : at + 2]
    if letter == "u":
        match = _HEX4.match(source, at + 2)
        if match is None:
            raise invalid_syntax(source, at, expected="four hex digits behind \\u", found="others")
        return _read_code_unit(source, at, match)
    if letter in _ESCAPES and letter:
        return _ESCAPES[letter], at + 2
    raise invalid_syntax(
        source, at, expected="an escape of \\ ' \" ` / f n r t uXXXX", found=f"`\\{letter}`"
    )


def _read_code_unit(source: str, at: int, match: re.Match[str]) -> tuple[str, int]:
    """Return the character of an escape, or of the two that write one beyond the first 65,536."""
    first, end = int(match.group(), 16), match.end()
    if 0xD800 <= first < 0xDC00 and source.startswith("\\u", end):
        low = _HEX4.match(source, end + 2)
        if low is not None and 0xDC00 <= int(low.group(), 16) < 0xE000:
            return chr(0x10000 + (first - 0xD800 << 10) + int(low.group(), 16) - 0xDC00), low.end()
    # http://hl7.org/fhir/R4/datatypes.html#string: no control characters but tab and line ends.
    if 0xD800 <= first < 0xE000 or (first < 0x20 and first not in (0x9, 0xA, 0xD)):
        raise invalid_syntax(source, at, expected="a character that a string may have",
                             found=f"`{source[at:end]}`")  # fmt: skip
    return chr(first), end


def _shown(text: str) -> str:
    return f"`{text}`" if text else "the end"
