"""SMART scopes, version 1 and 2; hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html."""

import re
import urllib.parse
from dataclasses import dataclass
from typing import Literal, cast

Level = Literal["patient", "user", "system"]
Letter = Literal["c", "r", "u", "d", "s"]

_SCOPE = re.compile(
    r"(?P<level>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]{1,63})"
    r"\.(?P<permissions>read|write|\*|c?r?u?d?s?)(?:\?(?P<parameters>[^\s]{1,1024}))?"
)
_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One permission: at a level, for a type or `*`, some of `cruds`, narrowed by a search."""

    level: Level
    type: str
    letters: frozenset[str]
    parameters: tuple[tuple[str, str], ...] = ()

    def covers(self, type_: str, letter: str) -> bool:
        """Tell whether the scope speaks of this type and this kind of access."""
        return letter in self.letters and self.type in {"*", type_}


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Read the space-separated scopes; those that are no resource scopes are left out.

    A malformed resource scope gives nothing, never more than was meant.
    """
    found = (_parse_scope(word) for word in text.split())
    return tuple(scope for scope in found if scope is not None)


def _parse_scope(word: str) -> Scope | None:
    match = _SCOPE.fullmatch(word)
    if not match or not match["permissions"]:
        return None
    permissions = match["permissions"]
    is_version_1 = permissions in _VERSION_1
    if is_version_1 and match["parameters"]:
        return None
    parameters: tuple[tuple[str, str], ...] = ()
    if match["parameters"]:
        try:
            parameters = tuple(
                urllib.parse.parse_qsl(
                    match["parameters"], strict_parsing=True, keep_blank_values=True
                )
            )
        except ValueError:
            return None
    return Scope(
        level=cast(Level, match["level"]),
        type=match["type"],
        letters=frozenset(_VERSION_1.get(permissions, permissions)),
        parameters=parameters,
    )
