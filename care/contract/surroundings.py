"""What a decision is given beside the contract: the resident, the package, the team, the clock."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from care.effects import Resource, refuse
from care.package.content import populations_of
from care.periods import day_of, holds_at, holds_on
from conformance.cphc import BASE

ADULT_YEARS = 18
LONGEST_YEARS = 3
DELEGATED_FROM = f"{BASE}/StructureDefinition/cphc-delegated-from"
SERVICE_AREA = f"{BASE}/StructureDefinition/cphc-service-area"
REGION = f"{BASE}/StructureDefinition/cphc-region-code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Facts read under lock before a decision.

    `packages` are PlanDefinitions by reference, `qualified` the practitioners who take part in
    the team now and may sign, `prices` the lawful price of each package, `tasks` the contract's
    own Tasks by code, `relative` the RelatedPerson who signs, `predecessor` the contract that a
    new version belongs to, `acting_for` the doctor whom the actor stands in for, `evidence` the
    DocumentReference that a step names as its proof. `populations` are
    those of the resident, read where a package is for some. `authority` is the organisation above
    the team's own, and `stands_above` says that the actor works there or higher.
    """

    now: datetime.datetime
    actor: str
    resident: Resource
    packages: Mapping[str, Resource]
    team: Resource
    qualified: frozenset[str]
    prices: Mapping[str, Decimal]
    new_id: Callable[[], str]
    tasks: Mapping[str, Resource] = field(default_factory=dict)
    relative: Resource | None = None
    predecessor: Resource | None = None
    acting_for: str | None = None
    evidence: Resource | None = None
    populations: frozenset[str] = frozenset()
    authority: str | None = None
    stands_above: bool = False

    @property
    def today(self) -> datetime.date:
        """The local calendar day: a term ends at local midnight."""
        return day_of(self.now)


def age_of(resident: Resource, on: datetime.date) -> int | None:
    """Return full years of age, the fewest that are possible; None without a birth date."""
    parts = [int(part) for part in str(resident.get("birthDate", "")).split("-") if part.isdigit()]
    if not parts:
        return None
    year, month, day = [*parts, 12, 31][:3] if len(parts) < 2 else [*parts, 31][:3]
    return on.year - year - ((on.month, on.day) < (month, day))


def is_deceased(resident: Resource) -> bool:
    """Say whether the record says that the resident has died."""
    return bool(resident.get("deceasedBoolean")) or "deceasedDateTime" in resident


def members_at(team: Resource, now: datetime.datetime) -> frozenset[str]:
    """Return who takes part in a team at an instant; a delegation counts while it runs."""
    return frozenset(
        str(participant["member"]["reference"])
        for participant in team.get("participant", ())
        if participant.get("member", {}).get("reference")
        and holds_at(participant.get("period", {}), now)
    )


def stands_in_for(team: Resource, actor: str, now: datetime.datetime) -> str | None:
    """Return the doctor for whom an actor stands in at this instant, None for a plain member."""
    found = None
    for participant in team.get("participant", ()):
        is_actor = participant.get("member", {}).get("reference") == actor
        if not is_actor or not holds_at(participant.get("period", {}), now):
            continue
        delegator = next(
            (
                str(one["valueReference"]["reference"])
                for one in participant.get("extension", ())
                if one.get("url") == DELEGATED_FROM
            ),
            None,
        )
        if delegator is None:
            return None
        found = delegator
    return found


def require_alive(resident: Resource) -> None:
    """Refuse anything new for a deceased resident."""
    if is_deceased(resident):
        raise refuse(
            "resident-deceased",
            "The resident has died, so nothing new can be agreed",
            "居民已死亡，不能办理新的签约事项",
            "Correct Patient.deceased if the record is wrong.",
            "如档案有误，请更正 Patient.deceased。",
            "Patient.deceased[x]",
        )
    if resident.get("active") is False:
        raise refuse(
            "resident-merged",
            "The resident's record is not active: it was merged into another or closed",
            "居民档案已合并或停用",
            "Use the record that Patient.link (replaced-by) names.",
            "请使用 Patient.link（replaced-by）所指的档案。",
            "Patient.active",
        )


def require_packages_valid(
    around: Surroundings, references: Sequence[str], on: datetime.date
) -> None:
    """Refuse packages that are not published, or not valid on the day."""
    for reference in references:
        package = around.packages.get(reference)
        if package is None or package.get("status") != "active":
            raise _package(reference, "is not published", "未发布或已停用")
        if not holds_on(package.get("effectivePeriod", {}), on):
            raise _package(reference, f"is not valid on {on}", f"在 {on} 不在有效期内")


def require_prices(around: Surroundings, quoted: Mapping[str, Decimal]) -> None:
    """Refuse a price that differs from its definition."""
    for reference, price in quoted.items():
        lawful = around.prices.get(reference, Decimal(0))
        if price != lawful:
            raise refuse(
                "contract-price",
                f"The price of {reference} differs from its definition",
                f"{reference} 的价格与收费定义不一致",
                "Read the price from the PlanDefinition (package-price) again and resubmit.",
                "请重新读取 PlanDefinition 中的价格（package-price）后提交。",
                "Contract.term.asset.valuedItem.net",
            )


def require_suits(around: Surroundings, references: Sequence[str], override: str = "") -> None:
    """Refuse a package for a population that the resident is not of, unless staff say why."""
    if override:
        require_staff(around, "suitabilityOverride")
        return
    for reference in references:
        wanted = populations_of(around.packages.get(reference, {}))
        if wanted and not wanted & around.populations:
            raise refuse(
                "package-not-suitable",
                f"The package {reference} is for {', '.join(sorted(wanted))}, which the record of "
                "the resident does not show",
                f"服务包 {reference} 面向特定人群，居民档案中无相应依据",
                "Choose one of PlanDefinition/$applicable-packages, complete the record, or let "
                "the team give its reason in suitabilityOverride.",
                "请从适用服务包中选择、补全居民档案，或由团队在 suitabilityOverride 中说明理由。",
                "Contract.term.offer.topic",
            )


def require_team(around: Surroundings) -> None:
    """Refuse a team that is not active, has nobody who may sign, or does not cover the resident."""
    members = members_at(around.team, around.now)
    if around.team.get("status") != "active" or not members & around.qualified:
        raise refuse(
            "team-not-qualified",
            "The team is not active, or none of its doctors may sign",
            "团队未启用，或没有具备签约资格的医生",
            "Activate the team, or let a qualified doctor join it (CareTeam.participant).",
            "请启用团队，或加入具备签约资格的医生。",
            "Contract.term.action.performer",
        )
    areas = _codes(around.team, SERVICE_AREA)
    regions = [
        code for place in around.resident.get("address", ()) for code in _codes(place, REGION)
    ]
    if (
        areas
        and regions
        and not any(r.startswith(a.rstrip("0") or a) for r in regions for a in areas)
    ):
        raise refuse(
            "team-does-not-cover",
            "The team does not serve the area where the resident lives",
            "该团队的服务区域不包括居民居住地",
            "Choose a team of the resident's area, or correct Patient.address (region-code).",
            "请选择居民所在区域的团队，或更正居民地址的行政区划代码。",
            "Contract.term.action.performer",
        )


def require_signer(around: Surroundings, resident_party: str, doctor_party: str) -> None:
    """Refuse a signing by a minor alone, by a stranger, or by a doctor who may not sign."""
    if doctor_party not in around.qualified & members_at(around.team, around.now):
        raise refuse(
            "signer-not-qualified",
            "The doctor may not sign: not qualified, suspended, or not of this team now",
            "该医生无签约资格、已被暂停或目前不属于本团队",
            "Let a qualified doctor of the team sign.",
            "请由本团队具备资格的医生签约。",
            "Contract.signer.party",
        )
    own = f"Patient/{around.resident.get('id')}"
    if resident_party == own:
        _require_adult(around)
        return
    relative = around.relative
    is_theirs = (
        relative is not None
        and f"RelatedPerson/{relative.get('id')}" == resident_party
        and relative.get("patient", {}).get("reference") == own
        and relative.get("active") is not False
        and holds_at(relative.get("period", {}), around.now)
    )
    age = age_of(relative, around.today) if relative is not None else None
    if not is_theirs or (age is not None and age < ADULT_YEARS):
        raise refuse(
            "signer-not-related",
            "Who signs for the resident is not an adult relative or guardian on record",
            "代签人不是档案中登记的成年家属或监护人",
            "Register the guardian as RelatedPerson of the resident, active now, and sign as them.",
            "请先将监护人登记为该居民的 RelatedPerson（有效），再由其签字。",
            "Contract.signer.party",
        )


def require_staff(around: Surroundings, what: str) -> None:
    """Refuse a step of the institution's side to a resident or relative."""
    if around.actor.startswith(("Patient/", "RelatedPerson/")):
        raise refuse(
            "staff-only",
            f"{what} is for the team, not for the resident or relatives",
            f"{what} 须由签约团队办理",
            "Ask the team to do it.",
            "请联系签约团队办理。",
        )


def _require_adult(around: Surroundings) -> None:
    age = age_of(around.resident, around.today)
    if age is None or age < ADULT_YEARS:
        raise refuse(
            "guardian-required",
            "The resident is a minor, or of unknown age, so a guardian must sign",
            "居民未满18岁或出生日期不明，须由监护人签字",
            "Let a guardian sign as RelatedPerson, or complete Patient.birthDate.",
            "请由监护人（RelatedPerson）签字，或补全出生日期。",
            "Contract.signer.party",
        )


def _package(reference: str, en: str, zh: str) -> Exception:
    return refuse(
        "package-not-valid",
        f"The package {reference} {en}",
        f"服务包 {reference} {zh}",
        "Choose a package from PlanDefinition/$applicable-packages.",
        "请从可用服务包（PlanDefinition/$applicable-packages）中选择。",
        "Contract.term.offer.topic",
    )


def _codes(element: Resource, url: str) -> list[str]:
    return [
        str(one["valueCode"])
        for one in element.get("extension", ())
        if one.get("url") == url and "valueCode" in one
    ]
