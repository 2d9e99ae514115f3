"""Whose doctor a clinician is through teams: read at the time of the request, delegations included.

A participant counts while its `period` lasts, to the instant, so that a delegation ends by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from care.periods import bounds_of, holds_at
from conformance import resource_json
from conformance.problem import Issue, TooCostly
from fhir_store.permits import conditions_of
from fhir_store.search.query import (
    AllOf,
    Condition,
    HasTest,
    IdTest,
    NotOf,
    QueryRules,
    parse_query,
)
from fhir_store.store import Store

_PAGE = 1_000
_PAGES = 20
# What a team must see: applications to review, what it signed, and what is in dispute.
_STATUSES = "offered,negotiable,executable,executed,disputed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Teams:
    """The active teams a practitioner is named in: in which now, in which not.

    `until` is the next instant at which that changes by itself.
    """

    current: tuple[str, ...]
    lapsed: tuple[str, ...]
    until: datetime | None


async def teams_of(store: Store, practitioner: str, now: datetime) -> Teams:
    """Return the teams of a practitioner, those that a team of theirs stands in for included."""
    own = await _teams_with(store, [practitioner])
    first = _sorted_out(own, {practitioner}, now)
    if not first.current:
        return first
    members = {f"CareTeam/{id_}" for id_ in first.current}
    further = _sorted_out(await _teams_with(store, sorted(members)), members, now)
    current = tuple(dict.fromkeys((*first.current, *further.current)))
    ends = [one for one in (first.until, further.until) if one is not None]
    return Teams(
        current=current,
        lapsed=tuple(id_ for id_ in first.lapsed if id_ not in current),
        until=min(ends, default=None),
    )


def patients_of_teams(store: Store, practitioner: str, teams: Teams) -> list[Condition]:
    """Return the conditions on patients of teams: their subjects, and residents under contract."""
    (has,) = conditions_of("Patient", [("_has:CareTeam:patient:participant", practitioner)])
    assert isinstance(has, HasTest)
    active = conditions_of("CareTeam", [("status", "active")])
    named: tuple[Condition, ...] = (has.condition, *active)
    if teams.lapsed:
        named = (*named, NotOf(IdTest(teams.lapsed)))
    ways: list[Condition] = [
        HasTest(source=has.source, parameter=has.parameter, condition=AllOf(named))
    ]
    if not teams.current:
        return ways
    others = HasTest(source=has.source, parameter=has.parameter, condition=IdTest(teams.current))
    ways.append(others)
    lookup = store.parameters.lookup
    if "care-team" in lookup("Contract"):
        references = ",".join(f"CareTeam/{id_}" for id_ in teams.current)
        (subject,) = conditions_of("Patient", [("_has:Contract:subject:status", _STATUSES)])
        assert isinstance(subject, HasTest)
        served = conditions_of("Contract", [("care-team", references)], lookup)
        ways.append(
            HasTest(
                source=subject.source,
                parameter=subject.parameter,
                condition=AllOf((*served, subject.condition)),
            )
        )
    return ways


def _sorted_out(teams: Sequence[Mapping[str, Any]], members: set[str], now: datetime) -> Teams:
    current: list[str] = []
    lapsed: list[str] = []
    changes: list[datetime] = []
    for team in teams:
        periods = [
            one.get("period", {})
            for one in team.get("participant", ())
            if one.get("member", {}).get("reference") in members
        ]
        (current if any(holds_at(one, now) for one in periods) else lapsed).append(str(team["id"]))
        changes += [
            bound
            for one in periods
            for bound in bounds_of(one)
            if bound is not None and bound > now
        ]
    return Teams(current=tuple(current), lapsed=tuple(lapsed), until=min(changes, default=None))


async def _teams_with(store: Store, members: Sequence[str]) -> list[dict[str, Any]]:
    """Return the active teams that name one of the members."""
    pairs = [("participant", ",".join(members)), ("status", "active"), ("_count", str(_PAGE))]
    found: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(_PAGES):
        asked = [*pairs, ("_cursor", cursor)] if cursor else pairs
        page = await store.search(parse_query("CareTeam", asked, QueryRules()))
        found += [resource_json.parse(version.body) for version in page.matches]
        if page.next is None:
            return found
        cursor = page.next
    raise TooCostly(
        Issue(
            code="too-costly",
            key="teams-too-many",
            text_en=f"You take part in more than {_PAGE * _PAGES} active teams",
            text_zh=f"您参与的有效团队超过 {_PAGE * _PAGES} 个",
            fix_en="Close the teams whose work is done (CareTeam.status inactive).",
            fix_zh="请关闭已结束工作的团队（CareTeam.status 设为 inactive）。",
            expression="CareTeam.participant",
        )
    )
