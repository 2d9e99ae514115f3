"""Who may see and change what: every role, type, path and owner, over real HTTP.

Two patients, `own` and `other`. Each role should see what its rights cover and nothing else, by
whatever path it asks; then, for each path alone, the same questions are put to a hub without the
filter, and must then find leaks, or the questions would prove nothing.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from fhir_store.authorization import EVERYTHING, Authorization
from routes import writing
from routes.bearer import ANYBODY, Caller, Emergency, not_authenticated
from routes.consents import PROXY_SCOPES
from routes.scopes import parse_scopes

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}
TYPES: dict[str, dict[str, Any]] = {
    "Patient": {},
    "Observation": {"status": "final", "code": {"coding": [{"code": "x"}]}},
    "Condition": {},
    "Encounter": {"status": "finished", "class": {"code": "AMB"}},
    "Procedure": {"status": "completed"},
    "MedicationRequest": {
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"text": "a"},
    },
    "Immunization": {
        "status": "completed",
        "vaccineCode": {"text": "a"},
        "occurrenceDateTime": "2026",
    },
    "AllergyIntolerance": {
        "clinicalStatus": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
                    "code": "active",
                }
            ]
        }
    },
}
SUBJECT = {"Immunization": "patient", "AllergyIntolerance": "patient"}
OWNERS = ("own", "other")
Cell = tuple[str, str, str, bool]  # role, type, owner, whether it should be seen


def caller(scope: str, **more: Any) -> Caller:
    return Caller(subject=scope.split("/")[0], client="test", scopes=parse_scopes(scope), **more)


EMERGENCY = Emergency(patient="Patient/own", reason="unconscious")
BY_IDENTIFIER = Emergency(patient="urn:m|own", reason="unconscious")
ROLES: dict[str, Caller] = {
    "patient": caller("patient/*.cruds", patient="own"),
    "patient v1": caller("patient/*.read", patient="own"),
    "patient one type": caller("patient/Observation.rs", patient="own"),
    "patient granular": caller("patient/Observation.rs?code=y", patient="own"),
    "patient without launch": caller("patient/*.cruds"),
    "user patient": caller("user/*.cruds", fhir_user="Patient/own"),
    "user relative": caller("user/*.rs", fhir_user="RelatedPerson/mother"),
    "clinician by organisation": caller("user/*.cruds", fhir_user="Practitioner/d1"),
    "clinician by team": caller("user/*.cruds", fhir_user="Practitioner/d2"),
    "launched relative": caller("patient/*.rs", patient="own", fhir_user="RelatedPerson/mother"),
    "relative launched elsewhere": caller(
        "patient/*.rs", patient="other", fhir_user="RelatedPerson/mother"
    ),
    "relative without consent": caller("user/*.rs", fhir_user="RelatedPerson/aunt"),
    "relative of an ended consent": caller("user/*.rs", fhir_user="RelatedPerson/uncle"),
    "relative of a withdrawn consent": caller("user/*.rs", fhir_user="RelatedPerson/cousin"),
    "relative who may pay": caller("user/*.rs", fhir_user="RelatedPerson/grandmother"),
    "relative no longer": caller("user/*.rs", fhir_user="RelatedPerson/former"),
    "relative refused": caller("user/*.rs", fhir_user="RelatedPerson/refused"),
    "clinician refused": caller("user/*.cruds", fhir_user="Practitioner/d4"),
    "clinician refused at patient level": caller(
        "patient/*.rs", patient="own", fhir_user="Practitioner/d4"
    ),
    "clinician of a refused organisation": caller("user/*.cruds", fhir_user="Practitioner/d5"),
    "clinician of a refused team": caller("user/*.cruds", fhir_user="Practitioner/d7"),
    "clinician refused inside": caller("user/*.cruds", fhir_user="Practitioner/d8"),
    "clinician once refused": caller("user/*.cruds", fhir_user="Practitioner/d9"),
    "clinician refused for research": caller("user/*.cruds", fhir_user="Practitioner/d10"),
    "clinician in an emergency": caller(
        "user/*.cruds", fhir_user="Practitioner/d6", emergency=EMERGENCY
    ),
    "refused clinician in an emergency": caller(
        "user/*.cruds", fhir_user="Practitioner/d5", emergency=BY_IDENTIFIER
    ),
    "emergency without a role": caller(
        "user/*.cruds", fhir_user="Practitioner/d3", emergency=EMERGENCY
    ),
    "emergency of a relative": caller(
        "user/*.cruds", fhir_user="RelatedPerson/aunt", emergency=EMERGENCY
    ),
    "clinician of nobody": caller("user/*.cruds", fhir_user="Practitioner/d3"),
    "user without name": caller("user/*.cruds"),
    "writer only": caller("system/*.cud"),
    "patient writer": caller("patient/*.cud", patient="own"),
    "patient writer v1": caller("patient/*.write", patient="own"),
    "user writer": caller("user/*.cud", fhir_user="Patient/own"),
    "clinician writer by organisation": caller("user/*.cud", fhir_user="Practitioner/d1"),
    "clinician writer by team": caller("user/*.cud", fhir_user="Practitioner/d2"),
    "creator only": caller("system/*.c"),
    "system": caller("system/*.cruds"),
    "no scope": caller("openid"),
}
# What consents and emergencies change, and who may only write; asked at a type of each way to
# belong to a patient.
CONSENT_ROLES = {
    one
    for one in ROLES
    if any(word in one for word in ("relative ", "refuse", "emergency", "writer", "creator"))
}
CONSENT_TYPES = {"Patient", "Observation", "Immunization"}
OWN_ROLES = {
    *("patient", "patient v1", "user patient", "user relative"),
    *("clinician by organisation", "clinician by team", "launched relative"),
    *("clinician once refused", "clinician refused for research"),
    *("clinician in an emergency", "refused clinician in an emergency"),
}


def may_see(role: str, type_: str, owner: str) -> bool:
    """What the rights should mean, written down a second time and otherwise."""
    if role == "system":
        return True
    if role == "patient one type":
        return owner == "own" and type_ == "Observation"
    return role in OWN_ROLES and owner == "own"


def id_of(type_: str, owner: str) -> str:
    return owner if type_ == "Patient" else f"{type_.lower()}-{owner}"


def resource_of(type_: str, owner: str) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": type_,
        "id": id_of(type_, owner),
        **TYPES[type_],
        "identifier": [{"system": "urn:m", "value": id_of(type_, owner)}],
    }
    if type_ == "Patient":
        organization = "child" if owner == "own" else "elsewhere"
        resource["managingOrganization"] = {"reference": f"Organization/{organization}"}
    else:
        resource[SUBJECT.get(type_, "subject")] = {"reference": f"Patient/{owner}"}
    return resource


def role_of(practitioner: str, organization: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "PractitionerRole",
        "id": f"{practitioner}-{organization}",
        "practitioner": {"reference": f"Practitioner/{practitioner}"},
        "organization": {"reference": f"Organization/{organization}"},
        **more,
    }


def team(id_: str, patient: str, practitioner: str, status: str) -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "id": id_,
        "status": status,
        "subject": {"reference": f"Patient/{patient}"},
        "participant": [{"member": {"reference": f"Practitioner/{practitioner}"}}],
    }


def relative(id_: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "RelatedPerson",
        "id": id_,
        "patient": {"reference": "Patient/own"},
        **more,
    }


def consent(id_: str, provision: dict[str, Any], status: str = "active") -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": id_,
        "status": status,
        "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        "category": [{"text": "授权 (authorisation)"}],
        "patient": {"reference": "Patient/own"},
        "policy": [{"uri": "urn:example:policy"}],
        "provision": provision,
    }


def rule(kind: str, actor: str, **more: Any) -> dict[str, Any]:
    role = {"text": "被授权人 (actor)"}
    return {"type": kind, "actor": [{"role": role, "reference": {"reference": actor}}], **more}


def proxy(id_: str, scope: str, status: str = "active", **more: Any) -> dict[str, Any]:
    action = [{"coding": [{"system": PROXY_SCOPES, "code": scope}]}]
    return consent(
        f"proxy-{id_}", rule("permit", f"RelatedPerson/{id_}", action=action, **more), status
    )


SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
PAST = {"start": "2001-01-01", "end": "2002-01-01"}
RESEARCH = [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}]
CONSENTS: list[dict[str, Any]] = [
    *(relative(one) for one in ("mother", "aunt", "uncle", "cousin", "grandmother", "refused")),
    relative("former", active=False),
    proxy("mother", "view", period={"start": "2001-01-01", "end": "2999-01-01"}),
    proxy("uncle", "view", period=PAST),
    proxy("cousin", "view", status="inactive"),
    proxy("grandmother", "pay"),
    proxy("former", "view"),
    proxy("refused", "view"),
    consent("no-1", rule("deny", "RelatedPerson/refused")),
    consent("no-2", rule("deny", "Practitioner/d4")),
    consent("no-3", rule("deny", "Organization/block")),
    consent("no-4", rule("deny", "CareTeam/t7")),
    consent("no-5", {"provision": [rule("deny", "Practitioner/d8")]}),
    consent("no-6", rule("deny", "Practitioner/d9", period=PAST)),
    consent("no-7", rule("deny", "Practitioner/d10", purpose=RESEARCH)),
]
BACKGROUND: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "root", "name": "r"},
    {
        "resourceType": "Organization",
        "id": "child",
        "name": "c",
        "partOf": {"reference": "Organization/root"},
    },
    {"resourceType": "Organization", "id": "elsewhere", "name": "e"},
    *(
        {"resourceType": "Organization", "id": id_, "name": id_, **more}
        for id_, more in (
            ("block", {}),
            ("annex", {"partOf": {"reference": "Organization/block"}}),
            ("remote", {}),
        )
    ),
    *({"resourceType": "Practitioner", "id": f"d{number}"} for number in range(1, 11)),
    role_of("d1", "root", active=True),
    # None of these gives anything: ended, or not active.
    role_of("d3", "root", active=False),
    role_of("d3", "child", period={"end": "2001-01-01"}),
    role_of("d5", "annex"),
    role_of("d6", "remote"),
    team("t1", "own", "d2", "active"),
    team("t2", "other", "d2", "inactive"),
    *(team(f"t{number}", "own", f"d{number}", "active") for number in (4, 5, 7, 8, 9, 10)),
    *CONSENTS,
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way to ask: the address, whether the answer shows the target, and who may see that."""

    url: Callable[[str, str], str]
    shows: Callable[[httpx.Response, str, str], bool]
    also_patient: bool = False
    types: tuple[str, ...] = tuple(TYPES)


def has_target(answer: httpx.Response, type_: str, owner: str) -> bool:
    return f'"id":"{id_of(type_, owner)}"' in answer.text


def has_patient(answer: httpx.Response, _type: str, owner: str) -> bool:
    return answer.is_success and f'"id":"{owner}"' in answer.text


def counts(answer: httpx.Response, _type: str, _owner: str) -> bool:
    return answer.is_success and answer.json().get("total", 0) > 0


def succeeds(answer: httpx.Response, _type: str, _owner: str) -> bool:
    return answer.is_success


NOT_PATIENT = tuple(type_ for type_ in TYPES if type_ != "Patient")
PATHS: dict[str, Path] = {
    "read": Path(url=lambda t, o: f"/{t}/{id_of(t, o)}", shows=has_target),
    "vread": Path(url=lambda t, o: f"/{t}/{id_of(t, o)}/_history/1", shows=has_target),
    "history-instance": Path(url=lambda t, o: f"/{t}/{id_of(t, o)}/_history", shows=has_target),
    "history-type": Path(url=lambda t, _: f"/{t}/_history?_count=1000", shows=has_target),
    "history-system": Path(url=lambda *_: "/_history?_count=1000", shows=has_target),
    "search": Path(url=lambda t, _: f"/{t}?_count=1000", shows=has_target),
    "search by identifier": Path(
        url=lambda t, o: f"/{t}?identifier=urn:m|{id_of(t, o)}", shows=has_target
    ),
    "search-system": Path(url=lambda t, _: f"/?_type={t}&_count=1000", shows=has_target),
    "total": Path(url=lambda t, o: f"/{t}?_id={id_of(t, o)}&_summary=count", shows=counts),
    "negation": Path(
        url=lambda t, o: f"/{t}?_id={id_of(t, o)}&identifier:not=z&_total=accurate", shows=counts
    ),
    "chain": Path(
        url=lambda t, o: f"/{t}?patient.identifier=urn:m|{o}&_summary=count",
        shows=counts,
        also_patient=True,
        types=NOT_PATIENT,
    ),
    "_has": Path(
        url=lambda t, o: f"/Patient?_has:{t}:patient:_id={id_of(t, o)}&_summary=count",
        shows=counts,
        also_patient=True,
        types=NOT_PATIENT,
    ),
    "_include": Path(
        url=lambda t, o: f"/{t}?_id={id_of(t, o)}&_include={t}:patient",
        shows=has_patient,
        also_patient=True,
        types=NOT_PATIENT,
    ),
    "_revinclude": Path(
        url=lambda t, o: f"/Patient?_id={o}&_revinclude={t}:patient",
        shows=has_target,
        also_patient=True,
        types=NOT_PATIENT,
    ),
    "compartment": Path(url=lambda t, o: f"/Patient/{o}/{t}", shows=has_target),
    "$everything": Path(
        url=lambda _, o: f"/Patient/{o}/$everything?_count=100", shows=has_target, also_patient=True
    ),
    "$everything of all": Path(
        url=lambda *_: "/Patient/$everything?_count=1000", shows=has_target, also_patient=True
    ),
    "$meta": Path(url=lambda t, o: f"/{t}/{id_of(t, o)}/$meta", shows=succeeds),
    "$validate": Path(url=lambda t, o: f"/{t}/{id_of(t, o)}/$validate", shows=succeeds),
}


async def identify(authorization: str | None) -> Caller:
    name = (authorization or "").removeprefix("Bearer ")
    if name == "setup":
        return ANYBODY
    if name not in ROLES:
        raise not_authenticated()
    return ROLES[name]


async def filled(client: httpx.AsyncClient) -> None:
    resources = [*BACKGROUND, *(resource_of(t, o) for t in TYPES for o in OWNERS)]
    entries = [
        {
            "resource": one,
            "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
        }
        for one in resources
    ]
    sent = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await client.post("", json=sent, headers={**JSON, **bearer("setup")})
    assert answer.status_code == 200, answer.text


def bearer(role: str) -> dict[str, str]:
    return {"authorization": f"Bearer {role}"}


def cells(path: Path) -> Iterator[Cell]:
    for role in ROLES:
        for type_ in path.types:
            if role in CONSENT_ROLES and type_ not in CONSENT_TYPES:
                continue
            for owner in OWNERS:
                expected = may_see(role, type_, owner)
                if path.also_patient:
                    expected = expected and may_see(role, "Patient", owner)
                yield role, type_, owner, expected


ALL = frozenset(range(3))


def part_of(cell: Cell) -> int:
    """Return 0, 1 or 2: thirds that favour no type or owner; consents all come first."""
    if "writer" in cell[0] and cell[0] != "writer only":
        return 1
    return 0 if cell[0] in CONSENT_ROLES else zlib.crc32(repr(cell).encode()) % len(ALL)


async def wrong_cells(
    client: httpx.AsyncClient, name: str, roles: set[str], parts: frozenset[int] = ALL
) -> list[Cell]:
    """Ask the cells of a path; return those where what is shown is not what should be."""
    path = PATHS[name]
    turns = asyncio.Semaphore(8)
    answers: dict[tuple[str, str], asyncio.Task[httpx.Response]] = {}

    async def ask(role: str, url: str) -> httpx.Response:
        async with turns:
            return await client.get(url, headers=bearer(role))

    async def is_wrong(role: str, type_: str, owner: str, expected: bool) -> bool:
        url = path.url(type_, owner)
        # What several cells ask by one address is asked once; each looks for its own in the answer.
        if (role, url) not in answers:
            answers[role, url] = asyncio.create_task(ask(role, url))
        answer = await answers[role, url]
        assert answer.status_code < 500, answer.text
        return path.shows(answer, type_, owner) is not expected

    asked = [cell for cell in cells(path) if cell[0] in roles and part_of(cell) in parts]
    found = await asyncio.gather(*(is_wrong(*cell) for cell in asked))
    return [cell for cell, wrong in zip(asked, found, strict=True) if wrong]


def test_the_matrix_is_large_enough() -> None:
    quick = [cell for path in PATHS.values() for cell in cells(path) if part_of(cell) == 0]
    assert len(quick) >= 1_000
    assert {cell[0] for cell in quick} | set(WRITE_ONLY) == set(ROLES)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(frozenset({0}), id="a third"),
        pytest.param(frozenset({1, 2}), id="the rest", marks=pytest.mark.slow),
    ],
)
async def test_every_cell_shows_what_it_should_and_nothing_else(
    serve: Any, parts: frozenset[int]
) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        wrong = {name: await wrong_cells(client, name, set(ROLES), parts) for name in PATHS}
    assert {name: found for name, found in wrong.items() if found} == {}


async def test_each_path_leaks_without_its_filter(serve: Any) -> None:
    async def everything(_caller: Caller, _letter: str, _type: str) -> Authorization:
        return EVERYTHING

    async with serve(identify=identify, authorize=everything) as client:
        await filled(client)
        for name in PATHS:
            wrong = await wrong_cells(client, name, {"clinician of nobody"})
            assert [cell for cell in wrong if not cell[3]], name


async def test_labels_of_a_type_are_those_of_what_the_caller_may_see(serve: Any) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        for whose in ("own", "other"):
            meta = {"tag": [{"system": "urn:t", "code": whose}]}
            body = {
                "resourceType": "Parameters",
                "parameter": [{"name": "meta", "valueMeta": meta}],
            }
            path = f"/Observation/{id_of('Observation', whose)}/$meta-add"
            added = await client.post(path, json=body, headers=bearer("setup"))
            assert added.status_code == 200, added.text
        for path in ("/$meta", "/Observation/$meta"):
            seen = [
                {one["code"] for one in labels_in(answer)}
                for answer in (
                    await client.get(path, headers=bearer("setup")),
                    await client.get(path, headers=bearer("patient")),
                )
            ]
            assert seen == [{"own", "other"}, {"own"}], path


def labels_in(answer: httpx.Response) -> Any:
    return answer.json()["parameter"][0]["valueMeta"].get("tag", [])


async def test_what_is_hidden_is_answered_like_what_never_was(serve: Any) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        for path in ("", "/_history/1", "/_history", "/$meta", "/$validate"):
            hidden = await client.get(
                f"/Observation/observation-other{path}", headers=bearer("patient")
            )
            never = await client.get(
                f"/Observation/observation-never{path}", headers=bearer("patient")
            )
            assert hidden.status_code == never.status_code == 404
            assert hidden.text.replace("other", "never") == never.text
        deleted = await client.delete("/Observation/observation-other", headers=bearer("setup"))
        assert deleted.status_code == 204
        gone = await client.get("/Observation/observation-other", headers=bearer("patient"))
        assert gone.status_code == 404


async def test_types_without_a_person_are_open_and_other_types_are_not(serve: Any) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        for role in ("patient", "clinician by organisation"):
            found = await client.get("/Organization/elsewhere", headers=bearer(role))
            assert found.status_code == 200
            basic = {"resourceType": "Basic", "id": "x", "code": {"text": "a"}}
            await client.put("/Basic/x", json=basic, headers={**JSON, **bearer("setup")})
            assert (await client.get("/Basic/x", headers=bearer(role))).status_code == 404
        refused = await client.get("/Condition/condition-own", headers=bearer("patient one type"))
        assert refused.status_code == 403
        assert (await client.get("/Patient/own")).status_code == 401


WRITES: dict[str, Callable[[str, str], tuple[str, str, Any, dict[str, str]]]] = {
    "update": lambda t, o: ("PUT", f"/{t}/{id_of(t, o)}", _changed(t, o), JSON),
    "conditional update": lambda t, o: (
        "PUT",
        f"/{t}?identifier=urn:m|{id_of(t, o)}",
        _changed(t, o),
        JSON,
    ),
    "patch": lambda t, o: (
        "PATCH",
        f"/{t}/{id_of(t, o)}",
        [{"op": "add", "path": "/language", "value": "en"}],
        {"content-type": "application/json-patch+json"},
    ),
    "conditional patch": lambda t, o: (
        "PATCH",
        f"/{t}?identifier=urn:m|{id_of(t, o)}",
        [{"op": "add", "path": "/language", "value": "fr"}],
        {"content-type": "application/json-patch+json"},
    ),
    "transaction": lambda t, o: (
        "POST",
        "",
        {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {
                    "resource": {**_changed(t, o), "language": "de"},
                    "request": {"method": "PUT", "url": f"{t}/{id_of(t, o)}"},
                }
            ],
        },
        JSON,
    ),
    "$meta-add": lambda t, o: (
        "POST",
        f"/{t}/{id_of(t, o)}/$meta-add",
        {
            "resourceType": "Parameters",
            "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "a"}]}}],
        },
        JSON,
    ),
    "delete": lambda t, o: ("DELETE", f"/{t}/{id_of(t, o)}", None, {}),
    "conditional delete": lambda t, o: (
        "DELETE",
        f"/{t}?identifier=urn:m|{id_of(t, o)}",
        None,
        {},
    ),
}
WRITERS = ("patient", "user patient", "clinician by organisation", "clinician by team")
# They may write and not read: of their own, and the last of everybody's.
WRITE_ONLY = (
    *("patient writer", "patient writer v1", "user writer", "clinician writer by organisation"),
    *("clinician writer by team", "writer only"),
)
FOREIGN = (
    *WRITERS,
    *WRITE_ONLY[:-1],
    "creator only",
    "patient v1",
    "patient without launch",
    "clinician of nobody",
    "no scope",
)


def _changed(type_: str, owner: str) -> dict[str, Any]:
    return {**resource_of(type_, owner), "language": "zh"}


async def tried(client: httpx.AsyncClient, role: str, kind: str, type_: str, owner: str) -> Any:
    method, path, body, headers = WRITES[kind](type_, owner)
    return await client.request(method, path, json=body, headers={**headers, **bearer(role)})


async def test_nobody_changes_what_is_anothers(serve: Any) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        for type_ in TYPES:
            for kind in WRITES:
                asked = (tried(client, role, kind, type_, "other") for role in FOREIGN)
                for role, answer in zip(FOREIGN, await asyncio.gather(*asked), strict=True):
                    assert answer.status_code in {403, 404}, (role, kind, type_, answer.text)
            path = f"/{type_}/{id_of(type_, 'other')}/_history"
            history = (await client.get(path, headers=bearer("setup"))).json()
            assert len(history["entry"]) == 1, type_


async def test_without_the_guard_the_same_writes_go_through(serve: Any) -> None:
    async def everything(_caller: Caller, _letter: str, _type: str) -> Authorization:
        return EVERYTHING

    async with serve(identify=identify, authorize=everything) as client:
        await filled(client)
        for kind in WRITES:
            answer = await tried(client, "patient", kind, "Observation", "other")
            assert answer.is_success, kind
            if "delete" in kind:
                body = resource_of("Observation", "other")
                path = f"/Observation/{body['id']}"
                await client.put(path, json=body, headers={**JSON, **bearer("setup")})


async def test_everybody_changes_what_is_their_own(serve: Any) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        for role in WRITERS:
            for kind in WRITES:
                answer = await tried(client, role, kind, "Observation", "own")
                assert answer.is_success, (role, kind, answer.text)
                if "delete" in kind:
                    body = resource_of("Observation", "own")
                    path = f"/Observation/{body['id']}"
                    made = await client.put(path, json=body, headers={**JSON, **bearer(role)})
                    assert made.status_code == 201


async def shown_to_writers(client: httpx.AsyncClient) -> list[tuple[str, str, str]]:
    """Let those who may only write change what is their own; return where they were shown more.

    A write may answer with what its caller has sent, and with nothing else of what there was.
    """
    await filled(client)
    secret = {"name": "meta", "valueMeta": {"tag": [{"system": "urn:s", "code": "planted"}]}}
    planted = {"resourceType": "Parameters", "parameter": [secret]}
    found = []
    for type_ in ("Observation", "Immunization"):
        for kind in WRITES:
            for role in WRITE_ONLY:
                body = resource_of(type_, "own")
                place = f"/{type_}/{body['id']}"
                setup = {**JSON, **bearer("setup")}
                if (await client.get(place, headers=setup)).status_code == 410:
                    await client.put(place, json=body, headers=setup)
                added = await client.post(f"{place}/$meta-add", json=planted, headers=setup)
                assert added.status_code == 200, added.text
                for wish in ("", "return=representation"):
                    method, path, sent, headers = WRITES[kind](type_, "own")
                    headers = {**headers, **bearer(role), **({"prefer": wish} if wish else {})}
                    answer = await client.request(method, path, json=sent, headers=headers)
                    is_again = wish and "delete" in kind
                    assert answer.is_success or is_again, (role, kind, type_, answer.text)
                    if "planted" in answer.text:
                        found.append((role, kind, type_))
    return found


@pytest.mark.timeout(300)
async def test_who_may_only_write_is_shown_nothing_that_was_there(serve: Any) -> None:
    async with serve(identify=identify) as client:
        assert await shown_to_writers(client) == []


async def test_twin_unasked_every_writer_would_be_shown_it(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> bool:
        return False

    monkeypatch.setattr(writing, "shows_unread", never)
    async with serve(identify=identify) as client:
        shown = await shown_to_writers(client)
    kinds = {"patch", "conditional patch", "$meta-add"}
    assert {(role, kind) for role, kind, _ in shown} >= {(r, k) for r in WRITE_ONLY for k in kinds}


async def test_nothing_is_moved_out_of_or_into_anothers_record(serve: Any) -> None:
    async with serve(identify=identify) as client:
        await filled(client)
        for role in WRITERS:
            headers = {**JSON, **bearer(role)}
            moved = {**resource_of("Observation", "own"), "subject": {"reference": "Patient/other"}}
            answer = await client.put(f"/Observation/{moved['id']}", json=moved, headers=headers)
            assert answer.status_code == 403
            made = await client.post("/Observation", json=moved, headers=headers)
            assert made.status_code == 403
            keyed = {**headers, "idempotency-key": "k"}
            again = await client.post("/Observation", json=moved, headers=keyed)
            assert again.status_code == 403
            found = {**headers, "if-none-exist": "identifier=urn:m|observation-other"}
            existing = await client.post("/Observation", json=moved, headers=found)
            assert existing.status_code == 403
            assert "observation-other" not in existing.text
        page = await client.get("/Observation?patient=other", headers=bearer("setup"))
        assert [e["resource"]["id"] for e in page.json()["entry"]] == ["observation-other"]
