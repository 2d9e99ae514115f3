"""What each of the province's documents is made of: the version that is owed, and who it names."""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from care import qualification
from care.contract.content import reference_to
from care.periods import day_of
from conformance.problem import Gone, NotFound
from conformance.resource_json import parse
from fhir_store.operations import Version
from fhir_store.outbox import Owed
from fhir_store.search.query import parse_query
from fhir_store.store import Store
from mappings.documents import Documents
from ops.flow_delivery import Document, Withheld

TEAM_CODE = "urn:qiao:team"
"""Identifier system of a team's code where the team has none of its own: its id here."""
_DEMO = (qualification.ACTIVITY, "demo")
_MANY = 200  # Provenances of one contract, team and resident that are looked through

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a map takes: content by name, resources by reference; `about` are who it is about."""

    content: Mapping[str, Any]
    resources: Mapping[str, Resource]
    about: tuple[str, ...]


class DocumentMaker:
    """Makes the documents of institutions, doctors, teams and contracts out of the record."""

    def __init__(self, store: Store, documents: Documents) -> None:
        self._store = store
        self._documents = documents
        self._by_type = {
            "Organization": ("institution", self._institution),
            "Practitioner": ("doctor", self._doctor),
            "PractitionerRole": ("doctor", self._doctor),
            "CareTeam": ("team", self._team),
            "Contract": ("contract", self._contract),
        }

    async def make(self, owed: Owed, version: Version) -> Document | Withheld:
        """Return the document of a version, or why nothing is due.

        Demonstration data goes to nobody, whoever changes it later. Raises `InvalidContent` naming
        what the record lacks.
        """
        kind, gather = self._by_type[version.type]
        found = await gather(owed, parse(version.body), version)
        if found is None:
            return Withheld(
                code="not-registered-here",
                detail="no registration as a family doctor at an institution; it is sent with one",
            )
        if await self._is_demo(found.about):
            return Withheld(code="demo", detail="demonstration data is delivered to nobody")
        made = self._documents.compose(
            f"{kind}-registration", found.content, resources=found.resources
        )
        facts = {
            "bizType": kind,
            "opType": _operation(owed, version),
            "dataVersion": str(version.version),
        }
        return Document(payload=made.payload, content_type=made.content_type, facts=facts)

    async def _institution(self, owed: Owed, organization: Resource, _: Version) -> Content:
        return Content(
            content={"organization": organization, "registeredOn": _day(owed.created_at)},
            resources=await self._named([organization.get("partOf")]),
            about=(reference_to(organization),),
        )

    async def _doctor(self, owed: Owed, source: Resource, _: Version) -> Content | None:
        practitioner: Resource | None
        role: Resource | None
        if source["resourceType"] == "PractitionerRole":
            role = source
            practitioner = await self._read(source["practitioner"]["reference"])
        else:
            practitioner, role = source, await self._role_of(reference_to(source))
        if practitioner is None or role is None:
            return None
        return Content(
            content={
                "practitioner": practitioner,
                "role": _with_state(role),
                "registeredOn": _day(owed.created_at),
            },
            resources=await self._named([role.get("organization")]),
            about=(reference_to(practitioner),),
        )

    async def _team(self, owed: Owed, team: Resource, _: Version) -> Content:
        references = list(team.get("managingOrganization", ()))
        for one in team.get("participant", ()):
            references.append(one.get("member"))
            references += [
                extension.get("valueReference") for extension in one.get("extension", ())
            ]
        return Content(
            content={"team": with_team_code(team), "registeredOn": _day(owed.created_at)},
            resources=await self._named(references),
            about=(reference_to(team),),
        )

    async def _contract(self, owed: Owed, contract: Resource, version: Version) -> Content:
        references = [*contract.get("subject", ())]
        references += [one.get("party") for one in contract.get("signer", ())]
        references += [one.get("valueReference") for one in contract.get("extension", ())]
        for term in contract.get("term", ()):
            references.append(term.get("offer", {}).get("topic"))
            references += [action.get("performer") for action in term.get("action", ())]
        named = await self._named(references)
        teams = [one for one in named.values() if one["resourceType"] == "CareTeam"]
        for team in teams:
            named |= await self._named(team.get("managingOrganization", ()))
        about = [reference_to(contract), *map(reference_to, teams)]
        about += [str(one.get("reference", "")) for one in contract.get("subject", ())]
        return Content(
            content={
                "contract": contract,
                "step": owed.part,
                "stepOn": _day(version.last_updated),
            },
            resources=named,
            about=tuple(about),
        )

    async def _role_of(self, practitioner: str) -> Resource | None:
        """Return the doctor's registration as family doctor, where there is one."""
        own = await self._read(f"PractitionerRole/{qualification.registration_id(practitioner)}")
        if own is not None:
            return own
        query = parse_query("PractitionerRole", [("practitioner", practitioner)])
        roles = [parse(one.body) for one in (await self._store.search(query)).matches]
        return next((one for one in roles if is_registration(one)), None)

    async def _named(self, references: Iterable[Any]) -> dict[str, Resource]:
        """Return what references name, by reference; what is not there is left out."""
        found: dict[str, Resource] = {}
        for one in references:
            text = str(one.get("reference", "")) if isinstance(one, Mapping) else ""
            if text and text not in found and (resource := await self._read(text)) is not None:
                found[text] = resource
        return found

    async def _read(self, reference: str) -> Resource | None:
        type_, _, id_ = reference.partition("/")
        try:
            resource: Resource = parse((await self._store.read(type_, id_)).body)
        except (NotFound, Gone):
            return None
        return with_team_code(resource) if type_ == "CareTeam" else resource

    async def _is_demo(self, references: Iterable[str]) -> bool:
        """Say whether a Provenance calls one of these demonstration data."""
        wanted = ",".join(filter(None, references))
        pairs = [("target", wanted), ("_sort", "recorded"), ("_count", str(_MANY))]
        page = await self._store.search(parse_query("Provenance", pairs))
        return any(
            (coding.get("system"), coding.get("code")) == _DEMO
            for version in page.matches
            for coding in parse(version.body).get("activity", {}).get("coding", ())
        )


def is_registration(role: Resource) -> bool:
    """Say whether a PractitionerRole registers a family doctor, and somebody has approved it."""
    codes = [
        coding.get("code")
        for concept in role.get("code", ())
        for coding in concept.get("coding", ())
        if coding.get("system") == qualification.ROLES
    ]
    return bool(codes) and qualification.state_of(role) not in ("applied", "rejected")


def with_team_code(team: Resource) -> Resource:
    """Return the team with a code: its own, else its id here."""
    known = team.get("identifier", ())
    if any(one.get("system") == TEAM_CODE for one in known):
        return team
    return {**team, "identifier": [*known, {"system": TEAM_CODE, "value": team["id"]}]}


def _with_state(role: Resource) -> Resource:
    """Return the registration with its state; one that was never reviewed follows `active`."""
    if qualification.state_of(role):
        return role
    state = "ended" if role.get("active") is False else "approved"
    extension = {"url": qualification.STATE, "valueCode": state}
    return {**role, "extension": [*role.get("extension", ()), extension]}


def _operation(owed: Owed, version: Version) -> str:
    """Return A for what is new there, U for a change, D for what is taken back."""
    if owed.part == "nullify":
        return "D"
    return "A" if version.version == 1 else "U"


def _day(moment: datetime.datetime) -> str:
    return day_of(moment).isoformat()
