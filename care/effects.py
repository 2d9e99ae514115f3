"""What a decision asks to be written: care decides, others write."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.problem import BusinessRule, Issue

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Put:
    """Write this resource under its id."""

    resource: Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Claim `key` of `kind` for `holder` in the period; nobody else may overlap."""

    kind: str
    key: str
    holder: str
    start: datetime.datetime
    end: datetime.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """Give up everything of `kind` that `holder` holds."""

    kind: str
    holder: str


Effect = Put | Hold | LetGo


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A contract after an event, and all effects in the order they are to be written."""

    contract: Resource
    effects: tuple[Effect, ...]
    topics: tuple[str, ...] = ()


def refuse(
    key: str, text_en: str, text_zh: str, fix_en: str, fix_zh: str, expression: str | None = None
) -> BusinessRule:
    """Return the refusal of a lawful request that may not happen now."""
    return BusinessRule(
        Issue(
            code="business-rule",
            key=key,
            text_en=text_en,
            text_zh=text_zh,
            fix_en=fix_en,
            fix_zh=fix_zh,
            expression=expression,
        )
    )
