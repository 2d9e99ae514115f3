"""What structural checks return, before it becomes issues."""

from collections.abc import Callable, Iterable
from typing import Any

# path below the value, key, arguments of the message
Found = tuple[str, str, tuple[str, ...]]
# (value, local references seen so far) -> None or findings
Check = Callable[[Any, list[str]], list[Found] | None]


def kind_of(value: Any, otherwise: str) -> str:
    """Name what stands where something else should; null and lists are the common cases."""
    if value is None:
        return "null-value"
    return "list-not-expected" if type(value) is list else otherwise


def below(prefix: str, inner: Iterable[Found]) -> list[Found]:
    """Return findings with their paths begun higher up."""
    return [(prefix + path, key, arguments) for path, key, arguments in inner]


def joined(found: list[Found] | None, more: Iterable[Found]) -> list[Found] | None:
    """Add findings; the list is made when the first one comes."""
    if found is None:
        return list(more) or None
    found.extend(more)
    return found
