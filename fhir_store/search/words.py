"""Words of `_text` and `_content`: Latin words as they are, Chinese by pairs of characters."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.text_folding import fold

_RUNS = re.compile(r"[^\W_]+")
_TAGS = re.compile(r"<[^>]*>")
_IS_LATIN = re.compile(r"[\u0000-\u2e7f]+")
_MAX_WORD = 80
_MAX_TEXT = 200_000  # characters of one resource that count


def words_of(text: str) -> Iterator[str]:
    """Yield the words of a text; each pair and each character of a Chinese run is a word."""
    for match in _RUNS.finditer(fold(text[:_MAX_TEXT])):
        run = match.group()
        if _IS_LATIN.fullmatch(run):
            yield run[:_MAX_WORD]
        else:
            yield from run
            yield from (run[at : at + 2] for at in range(len(run) - 1))


def query_of(text: str) -> str:
    """Return a tsquery for all words of a text; one that matches nothing if there are none."""
    asked: list[str] = []
    for match in _RUNS.finditer(fold(text[:1000])):
        run = match.group()
        if _IS_LATIN.fullmatch(run) or len(run) == 1:
            asked.append(run[:_MAX_WORD])
        else:
            asked.extend(run[at : at + 2] for at in range(len(run) - 1))
    return " & ".join(f"'{word}'" for word in dict.fromkeys(asked)) or "'a' & !'a'"


def narrative_words(resource: Mapping[str, Any]) -> list[str]:
    """Return the words of the narrative, without its markup."""
    text = resource.get("text")
    div = text.get("div", "") if isinstance(text, dict) else ""
    plain = _TAGS.sub(" ", div) if isinstance(div, str) else ""
    return sorted(set(words_of(plain)))


def content_words(resource: Mapping[str, Any]) -> list[str]:
    """Return the words of all texts of the resource, narrative included."""
    found: set[str] = set()
    stack: list[Any] = [resource]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            plain = _TAGS.sub(" ", value) if value.startswith("<div") else value
            found.update(words_of(plain))
        elif isinstance(value, Mapping):
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return sorted(found)
