"""A death that ends a contract: known from the record, or put on record with its proof."""

import datetime
import re
from dataclasses import dataclass

from care.contract import content
from care.contract.surroundings import Surroundings, is_deceased
from care.effects import Effect, Put, Resource, refuse
from care.identity.verification import ACTIVITY
from care.periods import day_of, start_of
from conformance.problem import BusinessRule

_WRITTEN = re.compile(r"\d{4}-\d\d-\d\d(T\S+)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """What the team learned: `when` (FHIR date or dateTime), and the DocumentReference for it."""

    when: str
    evidence: Resource | None


def recorded(around: Surroundings, death: Death | None) -> tuple[Effect, ...]:
    """Return what puts a death on record; nothing where it is there, a refusal where it is not.

    A resident who is alive by the record would go on being written to and signed, so a contract
    does not end by a death that only the contract knows of.
    """
    resident = around.resident
    known = str(resident.get("deceasedDateTime", ""))
    if death is None:
        if not is_deceased(resident):
            raise _not_recorded()
        return ()
    _require_lawful(around, death)
    told = _provenance(around, death)
    if known:
        if _days(known) != _days(death.when)[: len(_days(known))]:
            raise refuse(
                "death-differs",
                "The record says another day of death",
                "与档案中的死亡日期不一致",
                "Leave deceased out, or correct Patient.deceasedDateTime first.",
                "请去掉 deceased，或先更正 Patient.deceasedDateTime。",
                "Patient.deceased[x]",
            )
        return (told,)
    changed = {k: v for k, v in resident.items() if k != "deceasedBoolean"}
    return Put({**changed, "deceasedDateTime": death.when}), told


def refuse_for_others(death: Death | None) -> None:
    """Refuse a death that is sent with another reason than death."""
    if death is not None:
        raise refuse(
            "death-reason",
            "A death was sent, and another reason of the end",
            "已给出死亡日期，但解约原因不是死亡",
            "Give reason 03, or leave deceased and evidence out.",
            "请将原因改为 03，或去掉 deceased 和 evidence。",
            "Contract.extension",
        )


def _require_lawful(around: Surroundings, death: Death) -> None:
    own = f"Patient/{around.resident.get('id')}"
    evidence = death.evidence or {}
    if evidence.get("subject", {}).get("reference") != own or evidence.get("status") != "current":
        raise refuse(
            "death-evidence",
            "A death is put on record with its proof",
            "登记死亡须附证明材料",
            "Name as evidence a DocumentReference (status current) of this very resident: the "
            "medical certificate of death (死亡医学证明), or the note of the home visit.",
            "请在 evidence 中给出该居民本人的 DocumentReference（status 为 current），"
            "如死亡医学证明或入户记录。",
            "Parameters.parameter.where(name = 'evidence')",
        )
    moment = _moment(death.when)
    born = str(around.resident.get("birthDate", ""))
    is_over = (
        moment is not None
        and moment <= around.now
        and day_of(moment).isoformat()[: len(born)] >= born
    )
    if not is_over:
        raise refuse(
            "death-when",
            "The day of death is no day between birth and today",
            "死亡日期应在出生日期与今天之间",
            "Write deceased as YYYY-MM-DD, or as a dateTime with its zone.",
            "请将 deceased 写成 YYYY-MM-DD，或带时区的时间。",
            "Parameters.parameter.where(name = 'deceased')",
        )


def _moment(text: str) -> datetime.datetime | None:
    """Return the instant, of a day its beginning; None where it is less than a day or no time."""
    if not _WRITTEN.fullmatch(text):
        return None
    try:
        if "T" not in text:
            return start_of(datetime.date.fromisoformat(text))
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _days(text: str) -> str:
    """Return the local day of a dateTime, or as much of a date as is written."""
    moment = _moment(text)
    return text if moment is None else day_of(moment).isoformat()


def _provenance(around: Surroundings, death: Death) -> Put:
    """Return who put the death on record, and by which proof."""
    assert death.evidence is not None
    proof = {"reference": content.reference_to(death.evidence)}
    more = {
        "activity": {"coding": [{"system": ACTIVITY, "code": "record-death"}]},
        "entity": [{"role": "source", "what": proof}],
    }
    return content.provenance(around, "", [around.resident], more=more)


def _not_recorded() -> BusinessRule:
    return refuse(
        "death-not-recorded",
        "The record says that the resident is alive",
        "居民档案中没有死亡记录",
        "Send deceased (the day) and evidence (a DocumentReference of the resident) and the death "
        "is put on record with it; or record Patient.deceased, and contracts end by themselves.",
        "请同时给出 deceased（死亡日期）和 evidence（该居民的 DocumentReference），系统将一并登记；"
        "或先在居民档案中登记 Patient.deceased，协议会自动终止。",
        "Patient.deceased[x]",
    )
