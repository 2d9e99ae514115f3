"""What a decision asks to be written: care decides, others write."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.problem import BusinessRule, Issue

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Put:
    """Write this resource under its id.

    `is_new` says that the id was made for it, so that nothing can be there; `is_sound` that rules
    made it whole from parts that were checked, so that it needs no check of its own.
    """

    resource: Resource
    is_new: bool = False
    is_sound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Claim `key` of `kind` for `holder` in the period; nobody else may overlap.

    A bound that is None is open; `taken` is what is told where somebody does.
    """

    kind: str
    key: str
    holder: str
    start: datetime.datetime | None = None
    end: datetime.datetime | None = None
    taken: Issue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """Give up everything of `kind` that `holder` holds."""

    kind: str
    holder: str


Effect = Put | Hold | LetGo


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A contract after an event, and all effects in the order they are to be written.

    `begun` are the packages (`PlanDefinition/id`) whose services begin now, `ended` those whose
    open services end now; `closes_messages` stops everything still to be said to the resident.
    """

    contract: Resource
    effects: tuple[Effect, ...]
    topics: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    reason: str = ""
    new_team: str | None = None
    closes_messages: bool = False


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
