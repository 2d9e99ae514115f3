"""When a contract ends: who is reminded, and who is renewed by a consent that is on record.

Nothing is extended in silence: without a consent a reminder is all there is, and with one the
resident is told of the renewal in the commit that makes it.
"""

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from care.contract import content
from care.contract.states import Event, State, require_lawful, state_of
from care.contract.steps import hold
from care.contract.surroundings import (
    ADULT_YEARS,
    Surroundings,
    age_of,
    require_alive,
    require_packages_valid,
    require_prices,
    require_suits,
    require_team,
)
from care.effects import Decision, Put, Resource, refuse
from care.package.content import canonical_of, is_paid_first
from care.periods import holds_at
from conformance.cphc import BASE

DAYS_BEFORE = (30, 7, 0)
"""T-30, T-7 and the last day."""
CONSENT_CATEGORY = f"{BASE}/CodeSystem/cphc-consent-category"
AUTO_RENEWAL = "auto-renewal"
_NAMES = uuid.UUID("7d7f2a0c-6f0e-5b3e-9d55-0f6c5b1a4e21")


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalReminder:
    """One reminder: whom it is for, on which local day, how many days are left."""

    contract: str
    resident: str
    team: str
    on: datetime.date
    days_left: int


def renewal_reminders(contract: Resource) -> tuple[RenewalReminder, ...]:
    """Return the reminders of a contract in effect; none for one that is not."""
    if state_of(contract) is not State.EFFECTIVE:
        return ()
    _, end = content.period_of(contract)
    return tuple(
        RenewalReminder(
            contract=content.reference_to(contract),
            resident=content.resident_of(contract),
            team=content.team_of(contract),
            on=end - datetime.timedelta(days=days),
            days_left=days,
        )
        for days in DAYS_BEFORE
    )


def consent_to_renew(
    contract: Resource, consents: Iterable[Resource], now: datetime.datetime
) -> Resource | None:
    """Return the resident's consent that this contract may be renewed, None where there is none.

    A Consent of category `auto-renewal`, active, in its period, that refuses nothing; where its
    `provision.data` names contracts, this one is among them.
    """
    for consent in consents:
        rule = consent.get("provision", {})
        named = {one.get("reference", {}).get("reference") for one in rule.get("data", ())}
        codes = {
            coding.get("code")
            for category in consent.get("category", ())
            for coding in category.get("coding", ())
            if coding.get("system") == CONSENT_CATEGORY
        }
        if (
            AUTO_RENEWAL in codes
            and consent.get("status") == "active"
            and consent.get("patient", {}).get("reference") == content.resident_of(contract)
            and rule.get("type") != "deny"
            and holds_at(rule.get("period", {}), now)
            and (not named or content.reference_to(contract) in named)
        ):
            return consent
    return None


def renew_by_consent(around: Surroundings, contract: Resource, consent: Resource) -> Decision:
    """Renew a contract on the same terms by the resident's recorded consent; the resident is told.

    Refused where the terms cannot be the same (package, price, team), where payment comes first,
    or where the consent is not the resident's own to give.
    """
    require_lawful(contract, Event.RENEW)
    require_alive(around.resident)
    _require_giver(around, consent)
    require_team(around)
    begin, old_end = content.period_of(contract)
    first = old_end + datetime.timedelta(days=1)
    agreed = content.prices_of(contract)
    require_packages_valid(around, list(agreed), first)
    require_prices(around, agreed)
    override = content.extension_value(contract, "suitability-override")
    require_suits(around, list(agreed), str(override or ""))
    if any(is_paid_first(around.packages[one]) for one in agreed):
        raise refuse(
            "renewal-payment",
            "The package is paid before it takes effect, so it is not renewed by itself",
            "该服务包须先付费后生效，不能自动续约",
            "Renew it with $renew and collect the payment.",
            "请用 $renew 续约并收费。",
            "PlanDefinition.extension",
        )
    following = _following(around, contract, consent, first, first + (old_end - begin))
    reference = {"reference": f"Consent/{consent['id']}"}
    who = content.provenance(
        around,
        "renew",
        [following],
        more={"entity": [{"role": "source", "what": reference}]},
    )
    following["relevantHistory"] = [{"reference": content.reference_to(who.resource)}]
    done = content.task(around, "renew-contract", contract, "completed")
    return Decision(
        contract=following,
        effects=(hold(following), Put(following), done, who, _told(around, following)),
        topics=("contract-state-changed",),
        begun=tuple(agreed),
    )


def not_renewed(around: Surroundings, contract: Resource, reason: str) -> Put:
    """Return the Task that tells the team why a consent to renewal could not be followed."""
    return content.task(around, "renew-contract", contract, "requested", reason)


def _following(
    around: Surroundings,
    contract: Resource,
    consent: Resource,
    first: datetime.date,
    last: datetime.date,
) -> dict[str, Any]:
    """Return the following contract; nobody signed it: it has no signer and names the consent."""
    left_out = ("meta", "signer", "relevantHistory", "supportingInfo")
    id_ = str(uuid.uuid5(_NAMES, f"{content.reference_to(contract)} {first}"))
    following: dict[str, Any] = {
        **{k: v for k, v in contract.items() if k not in left_out},
        "id": id_,
        "identifier": [{"system": content.NUMBER, "value": id_}],
        "issued": around.now.isoformat(),
        "applies": {"start": first.isoformat(), "end": last.isoformat()},
        "supportingInfo": [{"reference": f"Consent/{consent['id']}"}],
        "term": [
            content.term(
                package,
                content.team_of(contract),
                price,
                canonical_of(around.packages[package]),
            )
            for package, price in content.prices_of(contract).items()
        ],
    }
    following = content.with_extension(following, "auto-renew-consent", "valueBoolean", True)
    before = {"reference": content.reference_to(contract)}
    following = content.with_extension(following, "renews", "valueReference", before)
    return content.with_status(following, "executed", "renewed")


def _told(around: Surroundings, following: Resource) -> Put:
    _, last = content.period_of(following)
    own = {"reference": content.reference_to(following)}
    resident = {"reference": content.resident_of(following)}
    words = (
        f"按您登记的同意，家庭医生签约协议已自动续约至 {last}。如不同意，请联系签约团队解约，"
        "并可随时撤回该同意。"
    )
    return Put(
        {
            "resourceType": "CommunicationRequest",
            "id": around.new_id(),
            "basedOn": [own],
            "status": "active",
            "category": [{"coding": [{"system": content.TASK, "code": "renew-contract"}]}],
            "priority": "routine",
            "subject": resident,
            "about": [own],
            "recipient": [resident],
            "payload": [{"contentString": words}, {"contentString": last.isoformat()}],
            "occurrenceDateTime": around.now.isoformat(),
            "authoredOn": around.now.isoformat(),
        }
    )


def _require_giver(around: Surroundings, consent: Resource) -> None:
    """Refuse a guardian's consent for who is grown up since, and a minor's own."""
    givers = [str(one.get("reference", "")) for one in consent.get("performer", ())]
    is_guardians = any(one.startswith("RelatedPerson/") for one in givers)
    age = age_of(around.resident, around.today)
    is_adult = age is not None and age >= ADULT_YEARS
    if is_guardians == is_adult:
        raise refuse(
            "renewal-consent-giver",
            "The consent was not given by who signs for the resident today",
            "该同意并非由目前有权签约的人作出",
            "Ask the resident (or the guardian of a minor) to sign with $renew.",
            "请由居民本人（未成年人由监护人）用 $renew 签署续约。",
            "Consent.performer",
        )
