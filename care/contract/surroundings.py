"""What a decision is given beside the contract: the resident, the package, the team, the clock."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from care.effects import Resource, refuse

LOCAL = datetime.timezone(datetime.timedelta(hours=8))
ADULT_YEARS = 18
LONGEST_YEARS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Facts read under lock before a decision.

    `packages` are PlanDefinitions by reference, `qualified` the practitioners who may sign,
    `price_of` the lawful price of each package, `new_id` makes ids (a client's own when offline).
    """

    now: datetime.datetime
    actor: str
    resident: Resource
    packages: Mapping[str, Resource]
    team: Resource
    qualified: frozenset[str]
    prices: Mapping[str, Decimal]
    ids: Sequence[str]

    @property
    def today(self) -> datetime.date:
        """The local calendar day: a term ends at local midnight."""
        return self.now.astimezone(LOCAL).date()


def start_of(day: datetime.date) -> datetime.datetime:
    """Return local midnight at the beginning of a day."""
    return datetime.datetime.combine(day, datetime.time(), LOCAL)


def age_of(resident: Resource, on: datetime.date) -> int | None:
    """Return full years of age; None where the birth date is not known to the day."""
    born = str(resident.get("birthDate", ""))
    if len(born) != 10:
        return None
    birth = datetime.date.fromisoformat(born)
    return on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))


def is_deceased(resident: Resource) -> bool:
    """Say whether the record says that the resident has died."""
    return bool(resident.get("deceasedBoolean")) or "deceasedDateTime" in resident


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


def require_packages_valid(
    around: Surroundings, references: Sequence[str], on: datetime.date
) -> None:
    """Refuse packages that are not published, or not valid on the day."""
    for reference in references:
        package = around.packages.get(reference)
        if package is None or package.get("status") != "active":
            raise _package(reference, "is not published", "未发布或已停用")
        period = package.get("effectivePeriod", {})
        if not _covers(period, on):
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
                "Read the price from ChargeItemDefinition again and resubmit.",
                "请重新读取收费定义中的价格后提交。",
                "Contract.term.asset.valuedItem.net",
            )


def require_team(around: Surroundings) -> None:
    """Refuse a team that is not active or has nobody who may sign."""
    members = {
        participant.get("member", {}).get("reference")
        for participant in around.team.get("participant", ())
        if _covers(participant.get("period", {}), around.today)
    }
    if around.team.get("status") != "active" or not members & around.qualified:
        raise refuse(
            "team-not-qualified",
            "The team is not active, or none of its doctors may sign",
            "团队未启用，或没有具备签约资格的医生",
            "Activate the team, or let a qualified doctor join it (CareTeam.participant).",
            "请启用团队，或加入具备签约资格的医生。",
            "Contract.term.action.performer",
        )


def require_signer(around: Surroundings, signers: Mapping[str, Any]) -> None:
    """Refuse a signing by a minor alone, or by a doctor who may not sign."""
    doctor = signers["doctor"]
    if doctor not in around.qualified:
        raise refuse(
            "signer-not-qualified",
            "The doctor may not sign: not qualified, suspended, or not of this team",
            "该医生无签约资格、已被暂停或不属于本团队",
            "Let a qualified doctor of the team sign.",
            "请由本团队具备资格的医生签约。",
            "Contract.signer.party",
        )
    age = age_of(around.resident, around.today)
    is_minor = age is not None and age < ADULT_YEARS
    if is_minor and not str(signers["resident"]).startswith("RelatedPerson/"):
        raise refuse(
            "guardian-required",
            "The resident is a minor, so a guardian must sign",
            "居民未满18岁，须由监护人签字",
            "Let a guardian sign as RelatedPerson.",
            "请由监护人（RelatedPerson）签字。",
            "Contract.signer.party",
        )


def _package(reference: str, en: str, zh: str) -> Exception:
    return refuse(
        "package-not-valid",
        f"The package {reference} {en}",
        f"服务包 {reference} {zh}",
        "Choose a package from PlanDefinition/$applicable-packages.",
        "请从可用服务包中选择。",
        "Contract.term.offer.topic",
    )


def _covers(period: Mapping[str, Any], on: datetime.date) -> bool:
    start, end = str(period.get("start", ""))[:10], str(period.get("end", ""))[:10]
    day = on.isoformat()
    return (not start or start <= day) and (not end or day <= end)
