"""Python source put together line by line from rows, and made a function once, when a map loads.

A row costs a few plain statements then, instead of a chain of closures (docs/decisions/0012).
Nothing of a map gets into the source but as a literal written by `repr`, or as an object under a
name of our own.
"""

import linecache
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType
from typing import Any


class Code:
    """The lines of one function, and the objects that its names mean."""

    def __init__(self, title: str, arguments: str) -> None:
        self.title = title
        self.names: dict[str, Any] = {}
        self._arguments = arguments
        self._first: list[str] = []
        self._lines: list[str] = []
        self._depth = 1
        self._known: dict[int, str] = {}

    def add(self, text: str) -> None:
        """Add a line."""
        self._lines.append(" " * self._depth + text)

    def begin(self, text: str) -> None:
        """Add a line in front of all others."""
        self._first.append(" " + text)

    @contextmanager
    def inside(self, opening: str) -> Iterator[None]:
        """Indent what is added under a line such as `if count > 1:`."""
        self.add(opening)
        self._depth += 1
        yield
        self._depth -= 1

    def name(self, kind: str, value: object) -> str:
        """Return the name under which the function finds an object."""
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = f"{kind}_{len(self.names)}"
            self.names[known] = value
        return known

    @property
    def source(self) -> str:
        """The function as people read it."""
        lines = [*self._first, *self._lines] or [" pass"]
        return "\n".join([f"def run({self._arguments}):", *lines, ""])

    def function(self) -> Any:
        """Return the function."""
        exec(_compiled(self.source, f"<rows of {self.title}>"), self.names)  # noqa: S102 -- ours
        return self.names["run"]


@lru_cache(maxsize=2048)
def _compiled(source: str, title: str) -> CodeType:
    """Compile a source once for all translators; a traceback shows its lines."""
    linecache.cache[title] = (len(source), None, source.splitlines(keepends=True), title)
    return compile(source, title, "exec")
