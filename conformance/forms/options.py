"""Option lists as the sources of the forms write them: `1没有=1 2其他__`."""

import functools
import importlib.resources
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from conformance.yaml_text import read_yaml

_OPTION = re.compile(r"^(?P<code>[0-9]+)(?P<label>.*?)(?:=(?P<score>\d+))?$")


class BrokenForm(ValueError):
    """A source of a form cannot be read; the text names form, row and what is wrong."""


class Option(NamedTuple):
    """One option; `takes_text` says whether a text belongs to it."""

    code: str
    label: str
    score: int | None
    takes_text: bool


class SharedList(NamedTuple):
    """A list that several forms use; `confidence` says how sure we are of its source."""

    chinese: str
    english: str
    options: list[Option]
    confidence: str


@functools.cache
def read_source(name: str) -> Any:
    """Return a source of the forms by the name of its file."""
    source = importlib.resources.files("conformance.forms") / "sources" / f"{name}.yaml"
    return read_yaml(source.read_text("utf-8"))


@functools.cache
def shared_lists() -> Mapping[str, SharedList]:
    """Return the lists of options.yaml by name."""
    found = {}
    for name, (chinese, english, text, *rest) in read_source("options").items():
        confidence = rest[0] if rest else "secondary"
        found[name] = SharedList(chinese, english, read_options(text), confidence)
    return found


def read_options(text: str) -> list[Option]:
    """Return the options of a list; raises BrokenForm."""
    found = []
    for part in str(text).split():
        match = _OPTION.match(part)
        if match is None:
            raise BrokenForm(f"the option {part!r} does not begin with a number")
        label, score = match["label"], match["score"]
        option = Option(
            code=match["code"],
            label=label.rstrip("_"),
            score=int(score) if score else None,
            takes_text=label.endswith("__"),
        )
        found.append(option)
    return found


def options_of(name_or_list: str) -> list[Option]:
    """Return the options of a shared list by its name, or of a list itself."""
    shared = shared_lists().get(name_or_list)
    return shared.options if shared else read_options(name_or_list)
