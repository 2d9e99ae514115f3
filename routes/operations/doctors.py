"""Doctors and teams as operations: registration, review, the insurance's list, invitations."""

import datetime
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from care import qualification, team
from care.effects import Put, Resource
from care.identity.verification import verify
from care.qualification import INSURANCE_CODE, Listed
from conformance.cphc.operations import definition_of
from fhir_store.operations import Written
from fhir_store.permits import conditions_of
from fhir_store.search.query import SearchQuery
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.hub import Hub
from routes.operations.contract_facts import MaySign, key_of, unknown
from routes.operations.contract_parameters import Given, given_in
from routes.operations.contract_writing import operations_of
from routes.operations.parameters import bad_parameter, parameters_answer, parts_of
from routes.registry import Handler, Level
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import apply_permitted, context_of, once

MOST_LISTED = 20_000
_PAGE = 1000
_ROLES = ("leader", "general-practitioner", "public-health", "nurse", "village-doctor",
          "specialist", "pharmacist", "assistant")  # fmt: skip
Key = tuple[str, str]


def may_sign_by_registration(*, is_review_required: bool) -> MaySign:
    """Return the guard of signing: who is registered and, where required, reviewed."""

    async def may_sign(
        transaction: Transaction, practitioners: Sequence[str], now: datetime.datetime
    ) -> frozenset[str]:
        keys = {one: ("Practitioner", one.partition("/")[2]) for one in practitioners}
        roles = {
            one: ("PractitionerRole", qualification.registration_id(one)) for one in practitioners
        }
        found = await transaction.read_current([*keys.values(), *roles.values()])
        return frozenset(
            one
            for one in practitioners
            if keys[one] in found
            and qualification.may_sign(
                found[keys[one]],
                found.get(roles[one]),
                now,
                is_review_required=is_review_required,
            )
        )

    return may_sign


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOperations:
    """The operations; `may_sign` is the guard that contracts ask, too."""

    may_sign: MaySign

    def promises(self) -> tuple[Promise, ...]:
        """Return the operations as the registry wants them."""
        rows: tuple[tuple[str, str, Level, Handler], ...] = (
            ("Practitioner", "register-family-doctor", "instance", register),
            ("Practitioner", "review-family-doctor", "instance", review),
            ("Practitioner", "reconcile-insurance-doctors", "type", reconcile),
            ("CareTeam", "activate-family-doctor", "type", self.activate),
            ("CareTeam", "invite", "instance", invite),
            ("CareTeam", "answer-invitation", "instance", answer_invitation),
            ("Patient", "verify", "instance", verify_person),
            ("RelatedPerson", "verify", "instance", verify_person),
            ("Practitioner", "verify", "instance", verify_person),
        )
        return tuple(
            Promise(
                code=code,
                definition=definition_of(type_, code),
                levels=frozenset({level}),
                types=frozenset({type_}),
                handler=handler,
                affects_state=True,
            )
            for type_, code, level, handler in rows
        )

    async def activate(self, hub: Hub, request: Request) -> Answer:
        """Open a team: leader, name, organization, service areas; the id may be the client's."""
        given = given_in(hub, request)
        leader = given.text("leader")
        key_of(leader, "Practitioner", "leader")
        organization = given.text("organization")

        async def work(transaction: Transaction) -> Answer:
            await _known(
                transaction, [key_of(organization, "Organization", "organization")], "organization"
            )
            now = datetime.datetime.now(datetime.UTC)
            effect = team.activate(
                await _free_id(transaction, given, "CareTeam", "id"),
                leader=leader,
                name=given.text("name"),
                organization=organization,
                areas=given.texts("serviceArea"),
                is_qualified=bool(await self.may_sign(transaction, [leader], now)),
                now=now,
            )
            return await _written(hub, request, transaction, [effect], 201)

        return await once(hub, request, work)


async def register(hub: Hub, request: Request) -> Answer:
    """Apply for a doctor to be a family doctor at an institution."""

    async def decide(given: Given, transaction: Transaction) -> list[Put]:
        organization = given.text("organization")
        doctor = f"Practitioner/{request.address.id}"
        found = await _locked(transaction, doctor)
        await _known(
            transaction, [key_of(organization, "Organization", "organization")], "organization"
        )
        return qualification.apply_for(
            found[key_of(doctor, "Practitioner", "id")],
            found.get(("PractitionerRole", qualification.registration_id(doctor))),
            organization=organization,
            insurance_code=given.maybe("insuranceDoctorCode"),
            actor=context_of(request).actor,
            now=datetime.datetime.now(datetime.UTC),
        )

    return await _step(hub, request, decide)


async def review(hub: Hub, request: Request) -> Answer:
    """Decide on a registration: approve, reject, suspend, resume, end."""

    async def decide(given: Given, transaction: Transaction) -> list[Put]:
        doctor = f"Practitioner/{request.address.id}"
        found = await _locked(transaction, doctor)
        return qualification.review(
            found.get(("PractitionerRole", qualification.registration_id(doctor))),
            given.text("verdict"),
            reason=given.maybe("reason") or "",
            actor=context_of(request).actor,
            now=datetime.datetime.now(datetime.UTC),
        )

    return await _step(hub, request, decide)


async def reconcile(hub: Hub, request: Request) -> Answer:
    """Compare our family doctors with the insurance's list; with `apply` suspend who is off it.

    Parameters `doctor` with parts `code`, `name`, `state` (active or suspended); `apply`.
    """
    given = given_in(hub, request)
    listed = _listed(given)
    is_applied = given.flag("apply")

    async def work(transaction: Transaction) -> Answer:
        now, actor = datetime.datetime.now(datetime.UTC), context_of(request).actor
        roles = await _registered(hub, transaction)
        ours = {code: (doctor, name, "approved") for code, (doctor, name, _) in roles.items()}
        differences = qualification.compare_lists(listed, ours)
        effects: list[Put] = []
        for one in differences if is_applied else ():
            if one.kind in qualification.SUSPENDING:
                reason = f"医保医师名单：{one.kind} (list of insurance doctors)"
                role = roles[one.code][2]
                effects += qualification.review(
                    role, "suspend", reason=reason, actor=actor, now=now
                )
        if effects:
            await _apply(hub, request, transaction, effects)
        counts: dict[str, int] = {"listed": len(listed), "registered": len(roles)}
        for one in differences:
            counts[one.kind] = counts.get(one.kind, 0) + 1
        parts: list[dict[str, Any]] = [
            {"name": name, "valueInteger": count} for name, count in counts.items()
        ]
        parts += [_told(one, is_applied=is_applied) for one in differences]
        return parameters_answer(parts)

    return await once(hub, request, work)


async def invite(hub: Hub, request: Request) -> Answer:
    """Ask a doctor to join the team."""

    async def decide(given: Given, transaction: Transaction) -> list[Put]:
        found = await _one(transaction, "CareTeam", request.address.id)
        doctor = given.text("doctor")
        await _known(transaction, [key_of(doctor, "Practitioner", "doctor")], "doctor")
        role = given.maybe("role") or "general-practitioner"
        if role not in _ROLES:
            raise bad_parameter("role", f"Use {', '.join(_ROLES)}.", f"可用：{'、'.join(_ROLES)}。")
        effect = team.invite(
            found,
            doctor=doctor,
            role=role,
            actor=request.caller.fhir_user or "",
            task_id=await _free_id(transaction, given, "Task", "taskId"),
            now=datetime.datetime.now(datetime.UTC),
        )
        return [effect]

    return await _step(hub, request, decide, 201)


async def answer_invitation(hub: Hub, request: Request) -> Answer:
    """Accept or decline an invitation to the team."""

    async def decide(given: Given, transaction: Transaction) -> list[Put]:
        found = await _one(transaction, "CareTeam", request.address.id)
        type_, id_ = key_of(given.text("task"), "Task", "task")
        task = await _one(transaction, type_, id_)
        if task.get("focus", {}).get("reference") != f"CareTeam/{request.address.id}":
            raise bad_parameter("task", "Name an invitation to this team.", "请指定本团队的邀请。")
        return team.answer(
            found,
            task,
            accepts=given.flag("accept"),
            actor=request.caller.fhir_user or "",
            now=datetime.datetime.now(datetime.UTC),
        )

    return await _step(hub, request, decide)


async def verify_person(hub: Hub, request: Request) -> Answer:
    """Record to which level a person's identity was verified, and by what evidence."""

    async def decide(given: Given, transaction: Transaction) -> list[Put]:
        person = await _one(transaction, request.address.type, request.address.id)
        evidence = given.maybe("evidence")
        if evidence is not None:
            await _known(
                transaction, [key_of(evidence, "DocumentReference", "evidence")], "evidence"
            )
        return verify(
            person,
            given.text("level"),
            evidence=evidence,
            reason=given.maybe("reason") or "",
            actor=context_of(request).actor,
            now=datetime.datetime.now(datetime.UTC),
        )

    return await _step(hub, request, decide)


Decide = Callable[[Given, Transaction], Any]


async def _step(hub: Hub, request: Request, decide: Decide, status: int = 200) -> Answer:
    given = given_in(hub, request)

    async def work(transaction: Transaction) -> Answer:
        effects = await decide(given, transaction)
        return await _written(hub, request, transaction, effects, status)

    return await once(hub, request, work)


async def _written(
    hub: Hub, request: Request, transaction: Transaction, effects: Iterable[Put], status: int
) -> Answer:
    """Write the effects and answer with the first."""
    written = await _apply(hub, request, transaction, effects)
    version = written[0].version
    place = f"{request.base}/{version.type}/{version.id}/_history/{version.version}"
    headers = ((b"location", place.encode()),)
    return Answer(status=status, body=version.body, kind="resource", headers=headers)


async def _apply(
    hub: Hub, request: Request, transaction: Transaction, effects: Iterable[Put]
) -> list[Written]:
    operations = operations_of(effects)
    return await apply_permitted(hub, request, transaction, operations)


async def _locked(transaction: Transaction, doctor: str) -> Mapping[Key, Resource]:
    """Read a doctor and his registration, kept from other writers.

    One after the other: who waited for the doctor must see the registration that was written
    meanwhile.
    """
    key = ("Practitioner", doctor.partition("/")[2])
    found = await transaction.read_for_update([key])
    if key not in found:
        raise unknown(*key)
    role = ("PractitionerRole", qualification.registration_id(doctor))
    return {**found, **await transaction.read_for_update([role])}


async def _one(transaction: Transaction, type_: str, id_: str) -> Resource:
    found = await transaction.read_for_update([(type_, id_)])
    if (type_, id_) not in found:
        raise unknown(type_, id_)
    return found[(type_, id_)]


async def _free_id(transaction: Transaction, given: Given, type_: str, name: str) -> str:
    """Return the id that a client chose for something new, or one of ours."""
    chosen = given.maybe(name)
    if chosen is None:
        return str(uuid.uuid4())
    if await transaction.read_current([(type_, chosen)]):
        raise bad_parameter(name, "Choose one that is not taken.", "请使用未被占用的 id。")
    return chosen


async def _known(transaction: Transaction, keys: Sequence[Key], name: str) -> None:
    found = await transaction.read_current(keys)
    for type_, id_ in keys:
        if (type_, id_) not in found:
            raise bad_parameter(name, f"Name a {type_} that exists.", f"请指定已存在的 {type_}。")


async def _registered(hub: Hub, transaction: Transaction) -> dict[str, tuple[str, str, Resource]]:
    """Return the approved registrations by insurance code: doctor, name, registration."""
    conditions = conditions_of(
        "PractitionerRole",
        [("role", f"{qualification.ROLES}|{qualification.FAMILY_DOCTOR}"), ("active", "true")],
    )
    query = SearchQuery(types=("PractitionerRole",), conditions=conditions, count=_PAGE)
    roles: list[Resource] = []
    while True:
        page = await hub.store.searcher.search(transaction.connection, query)
        keys = [("PractitionerRole", version.id) for version in page.matches]
        roles += (await transaction.read_for_update(keys)).values() if keys else ()
        if page.next is None:
            break
        query = replace(query, cursor=page.next)
    doctors = sorted({key_of(r["practitioner"]["reference"], "Practitioner", "") for r in roles})
    people = await transaction.read_current(doctors) if doctors else {}
    found = {}
    for role in roles:
        doctor = role["practitioner"]["reference"]
        name: Resource = next(iter(people.get(tuple(doctor.split("/")), {}).get("name", ())), {})
        for one in role.get("identifier", ()):
            if one.get("system") == INSURANCE_CODE:
                found[str(one.get("value"))] = (doctor, str(name.get("text", "")), role)
    return found


def _listed(given: Given) -> list[Listed]:
    found = []
    for part in given.named("doctor"):
        inner = Given(parts_of(part.get("part")))
        state = inner.maybe("state") or "active"
        if state not in ("active", "suspended"):
            raise bad_parameter("state", "Write active or suspended.", "请写 active 或 suspended。")
        found.append(Listed(code=inner.text("code"), name=inner.maybe("name") or "", state=state))
    if not found or len(found) > MOST_LISTED:
        # An empty list would suspend everybody; it is a failed download rather than the truth.
        raise bad_parameter(
            "doctor",
            f"Send the whole list, 1 to {MOST_LISTED}.",
            f"请发送完整名单（1～{MOST_LISTED}）。",
        )
    return found


def _told(one: qualification.Difference, *, is_applied: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"name": "kind", "valueCode": one.kind},
        {"name": "code", "valueString": one.code},
    ]
    if one.name:
        parts.append({"name": "name", "valueString": one.name})
    if one.doctor is not None:
        parts.append({"name": "doctor", "valueReference": {"reference": one.doctor}})
    if one.kind in qualification.SUSPENDING:
        parts.append({"name": "suspended", "valueBoolean": is_applied})
    return {"name": "difference", "part": parts}
