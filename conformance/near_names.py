"""Names in messages: what may be shown of a wrong one, and which right one was meant."""

from collections.abc import Iterable


def printable(name: str) -> str:
    """Return a member's or type's name for a message, or dots where it may be data."""
    return name if name.isascii() and name.isidentifier() and len(name) <= 64 else "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that differs least, or nothing."""
    lowered = {candidate.lower(): candidate for candidate in known}
    if name.lower() in lowered:
        return lowered[name.lower()]
    close = [c for c in lowered.values() if _is_close(name, c)]
    return min(close, key=lambda c: abs(len(c) - len(name))) if close else ""


def _is_close(one: str, other: str) -> bool:
    """Say whether one edit, or a missing choice type, turns one name into the other."""
    if len(one) > 64:
        return False
    if other.startswith(one) and other[len(one) :][:1].isupper():
        return True
    if abs(len(one) - len(other)) > 1:
        return False
    front = 0
    while front < min(len(one), len(other)) and one[front] == other[front]:
        front += 1
    ends = {(1, 1), (1, 0), (0, 1)}
    return any(one[front + a :] == other[front + b :] for a, b in ends)
