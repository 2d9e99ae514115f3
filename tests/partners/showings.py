"""What shows each requirement of family-doctor contracting: requests, and the state they leave."""

import asyncio
import base64
import csv
import datetime
import io
import secrets
import uuid
from collections.abc import Callable
from typing import Any

import httpx
from days import today
from district import (
    DAY,
    HASH,
    ID_CARD,
    LOCAL,
    District,
    activity,
    doctor,
    flag,
    package,
    text,
    token,
)
from PIL import Image

from care.fulfilment.schedule import tasks_for
from care.periods import start_of
from conformance.cphc import BASE
from fhir_store.store import make_pool
from ops.flow_contracts import ContractCalendar
from ops.flow_notices import Notices as Reminders
from ops.laws import lawful_store
from routes.operations.contract_writing import Following

SHOWINGS: dict[str, Callable[[District], None]] = {}
Resource = dict[str, Any]


def showing(function: Callable[[District], None]) -> Callable[[District], None]:
    """Put a showing under its name."""
    SHOWINGS[function.__name__.replace("_", "-")] = function
    return function


def ids(resources: list[Resource]) -> set[str]:
    return {one["id"] for one in resources}


def level_of(resource: Resource) -> str:
    url = f"{BASE}/StructureDefinition/cphc-verification-level"
    return next(e["valueCode"] for e in resource["extension"] if e["url"] == url)


# --- G01 identity -------------------------------------------------------------------------------


@showing
def guardian_signs(d: District) -> None:
    child = d.resident(f"{today().year - 5}-01-01")
    guardian = d.relative(child)
    contract = d.approved(child)
    alone = d.signing(f"Patient/{child}")
    assert d.refused(f"/Contract/{contract}/$sign", *alone) == "guardian-required"
    signed = d.post(f"/Contract/{contract}/$sign", *d.signing(f"RelatedPerson/{guardian}"))
    assert signed["status"] == "executed"
    assert signed["signer"][0]["party"]["reference"] == f"RelatedPerson/{guardian}"


@showing
def consent_refuses(d: District) -> None:
    resident = d.resident()
    assert d.get(f"/Patient/{resident}", "Practitioner/d1")["id"] == resident
    d.deny(resident, "Practitioner/d1")
    assert d.ask(f"/Patient/{resident}", "Practitioner/d1").status_code == 404
    assert d.get(f"/Patient/{resident}", "Practitioner/d2")["id"] == resident
    assert resident not in ids(d.found("/Patient?_count=1000", "Practitioner/d1"))


@showing
def import_residents(d: District) -> None:
    card = d.card()
    out = io.StringIO()
    csv.writer(out).writerows([["姓名", "证件号码"], ["李雷", card], ["无号", ""]])
    answer = d.http.post(
        "/Patient/$import-residents",
        content=out.getvalue().encode(),
        headers={"content-type": "text/csv"},
    )
    counts = {p["name"]: p.get("valueInteger") for p in answer.json()["parameter"]}
    assert (counts["created"], counts["refused"]) == (1, 1)
    (one,) = d.found(f"/Patient?identifier={ID_CARD}|{card}")
    sex = "male" if int(card[16]) % 2 else "female"
    assert (one["gender"], one["birthDate"], one["name"][0]["text"]) == (sex, "1960-05-01", "李雷")
    assert level_of(one) == "1"


def _verify(d: District, path: str) -> None:
    assert d.refused(f"{path}/$verify", text("level", "3")) == "verification-evidence"
    proof = d.id("proof")
    content = [{"attachment": {"title": "人脸比对结果"}}]
    d.put(
        {
            "resourceType": "DocumentReference",
            "id": proof,
            "status": "current",
            "content": content,
        }
    )
    evidence = text("evidence", f"DocumentReference/{proof}")
    d.post(f"{path}/$verify", text("level", "3"), evidence)
    assert level_of(d.get(path)) == "3"
    (told,) = d.found(f"/Provenance?target={path[1:]}&_sort=-recorded&_count=1")
    assert told["entity"][0]["what"]["reference"] == f"DocumentReference/{proof}"


@showing
def verify_resident(d: District) -> None:
    _verify(d, f"/Patient/{d.resident()}")


@showing
def verify_doctor(d: District) -> None:
    id_ = d.id("dr")
    d.put({"resourceType": "Practitioner", "id": id_, "name": [{"text": "张医生"}]})
    _verify(d, f"/Practitioner/{id_}")


def _prove(d: District, path: str, user: str) -> None:
    data = base64.b64encode(b"\x89PNG" + d.id("face").encode()).decode()
    photo = {"name": "photo", "valueAttachment": {"contentType": "image/png", "data": data}}
    seen = d.post_as(user, f"{path}/$prove-identity", photo)
    assert seen.status_code == 200, seen.text
    assert level_of(d.get(path)) == "3"
    (kept,) = d.found(f"/DocumentReference?related={path[1:]}")
    assert "96.5" in kept["description"]
    assert data not in str(kept), "the result is kept, the face is not"
    told = d.found(f"/Provenance?target={path[1:]}")
    assert f"DocumentReference/{kept['id']}" in str(told)
    other = {**photo, "valueAttachment": {"contentType": "image/png", "data": "iVBORwBB"}}
    assert d.refused(f"{path}/$prove-identity", other) == "identity-differs"


@showing
def prove_resident(d: District) -> None:
    """A resident proves who he is by his own app; nobody else's record is touched by it."""
    resident, other = d.resident(), d.resident()
    user = f"Patient/{resident}"
    assert d.post_as(user, f"/Patient/{other}/$prove-identity").status_code == 404
    _prove(d, f"/Patient/{resident}", user)


@showing
def prove_doctor(d: District) -> None:
    id_ = d.id("dr")
    card = [{"system": ID_CARD, "value": d.card("19800101")}]
    name = [{"text": "张医生"}]
    d.put({"resourceType": "Practitioner", "id": id_, "name": name, "identifier": card})
    _prove(d, f"/Practitioner/{id_}", f"Practitioner/{id_}")


@showing
def verify_relative(d: District) -> None:
    _verify(d, f"/RelatedPerson/{d.relative(d.resident(), level='0')}")


@showing
def unproven_relative_waits(d: District) -> None:
    """A family member is added by the resident, and acts once the ID card was seen."""
    resident, relative = d.resident(), d.id("r")
    mine = token("patient/*.cruds", patient=f"Patient/{resident}", fhirUser=f"Patient/{resident}")
    path, user = f"/RelatedPerson/{relative}", f"RelatedPerson/{relative}"
    person = {
        "resourceType": "RelatedPerson",
        "id": relative,
        "active": True,
        "patient": {"reference": f"Patient/{resident}"},
        "name": [{"text": "王建国"}],
        "birthDate": "1980-01-01",
    }
    level = {"url": f"{BASE}/StructureDefinition/cphc-verification-level", "valueCode": "4"}

    def written(one: Resource) -> int:
        return httpx.put(f"{d.guarded}{path}", json=one, headers=mine).status_code

    assert written({**person, "extension": [level]}) == 403, "nobody proves it for oneself"
    assert written(person) == 201
    d.proxy(resident, relative, "view")
    assert d.ask(f"/Patient/{resident}", user).status_code == 404
    _verify(d, path)
    assert d.get(f"/Patient/{resident}", user)["id"] == resident
    other = {**d.get(path), "name": [{"text": "别人"}]}
    assert written(other) == 403, "who is proven is no other person from then on"
    assert written({**d.get(path), "telecom": [{"system": "phone", "value": "10000000003"}]}) == 200
    reason = text("reason", "证件过期")
    d.post(f"{path}/$verify", text("level", "1"), reason)
    assert d.ask(f"/Patient/{resident}", user).status_code == 404


@showing
def match_health_card(d: District) -> None:
    card = {"system": "urn:oid:2.16.156.10011.1.19", "value": d.id("HC")}
    resident = d.resident(identifier=[card])
    sought = {"resourceType": "Patient", "identifier": [card], "name": [{"text": "王秀英"}]}
    found = d.post("/Patient/$match", {"name": "resource", "resource": sought}, flag(
        "onlyCertainMatches"))  # fmt: skip
    assert [e["resource"]["id"] for e in found["entry"]] == [resident]


@showing
def relative_views_and_books(d: District) -> None:
    resident = d.resident()
    relative = d.relative(resident)
    user = f"RelatedPerson/{relative}"
    assert d.ask(f"/Patient/{resident}", user).status_code == 404
    d.proxy(resident, relative, "view", "book")
    assert d.get(f"/Patient/{resident}", user)["id"] == resident
    appointment = d.id("a")
    who = [{"actor": {"reference": f"Patient/{resident}"}, "status": "accepted"}]
    d.put(
        {
            "resourceType": "Appointment",
            "id": appointment,
            "status": "proposed",
            "participant": who,
        },
        user=user,
    )
    assert d.get(f"/Appointment/{appointment}")["participant"] == who


@showing
def both_confirm_by_telephone(d: District) -> None:
    """Each side reads the code off the telephone; the last one lets the relative see the record."""
    resident = d.resident()
    numbers = {side: f"13{secrets.randbelow(10**9):09d}" for side in ("resident", "relative")}
    telecom = {
        side: [{"system": "phone", "use": "mobile", "value": number}]
        for side, number in numbers.items()
    }
    d.put({**d.get(f"/Patient/{resident}"), "telecom": telecom["resident"]})
    relative = d.relative(resident, telecom=telecom["relative"])
    path, user = f"/RelatedPerson/{relative}", f"RelatedPerson/{relative}"
    assert d.ask(f"/Patient/{resident}", user).status_code == 404
    task = d.post(f"{path}/$request-relation", text("scope", "view"))["id"]
    codes = {one["to"]: one["parameters"][0] for one in d.sms()}
    mine = text("residentCode", codes[f"+86{numbers['resident']}"])
    theirs = text("relativeCode", codes[f"+86{numbers['relative']}"])
    named = text("task", f"Task/{task}")
    assert d.post(f"{path}/$confirm-relation", named, mine)["status"] == "in-progress"
    answer = d.post_as(user, f"{path}/$confirm-relation", named, theirs)
    assert answer.json()["resourceType"] == "Consent", answer.text
    d.soon(f"/Patient/{resident}", user, 200)


@showing
def relative_fills_in(d: District) -> None:
    resident = d.resident()
    relative = d.relative(resident)
    d.proxy(resident, relative, "fill")
    id_ = d.id("qr")
    answers = {
        "resourceType": "QuestionnaireResponse",
        "id": id_,
        "status": "completed",
        "subject": {"reference": f"Patient/{resident}"},
        "source": {"reference": f"RelatedPerson/{relative}"},
    }
    d.put(answers, user=f"RelatedPerson/{relative}")
    assert d.get(f"/QuestionnaireResponse/{id_}")["source"] == answers["source"]
    assert d.ask(f"/Patient/{resident}", f"RelatedPerson/{relative}").status_code == 404


def _patched(d: District, path: str) -> None:
    body = [{"op": "add", "path": "/photo", "value": [{"title": "头像"}]}]
    answer = d.http.patch(path, json=body, headers={"content-type": "application/json-patch+json"})
    assert answer.status_code == 200, answer.text
    assert d.get(path)["photo"] == [{"title": "头像"}]
    assert len(d.found(f"{path}/_history")) == 2, "the earlier version is kept"


@showing
def patch_resident(d: District) -> None:
    _patched(d, f"/Patient/{d.resident()}")


@showing
def edit_own_profile(d: District) -> None:
    """What is the resident's own is changed field by field; what is not stays as it is."""
    resident, other = d.resident(), d.resident()
    path = f"/Patient/{resident}"
    before = d.get(path)
    mine = token("patient/*.cruds", patient=f"Patient/{resident}", fhirUser=f"Patient/{resident}")

    def patched(where: str, name: str, value: Any) -> httpx.Response:
        body = [{"op": "add", "path": f"/{name}", "value": value}]
        headers = {**mine, "content-type": "application/json-patch+json"}
        return httpx.patch(f"{d.guarded}{where}", json=body, headers=headers)

    nickname = [*before["name"], {"use": "nickname", "text": "秀英"}]
    for name, value in (("photo", [{"title": "头像"}]), ("name", nickname)):
        assert patched(path, name, value).status_code == 200
    for name, value in (
        ("birthDate", "1970-01-01"),
        ("name", [{"text": "别人"}]),
        ("active", False),
    ):
        answer = patched(path, name, value)
        assert answer.status_code == 403
        issue = answer.json()["issue"][0]
        assert issue["details"]["coding"][0]["code"] == "staff-field"
        assert issue["expression"] == [f"Patient.{name}"]
    assert patched(f"/Patient/{other}", "photo", []).status_code == 404
    found = d.get(path)
    assert (found["photo"], found["name"]) == ([{"title": "头像"}], nickname)
    assert (found["birthDate"], found["identifier"]) == (before["birthDate"], before["identifier"])
    assert len(d.found(f"{path}/_history")) == 3, "each earlier version is kept, with who wrote it"


# --- G02 organisations, doctors, teams ----------------------------------------------------------


@showing
def activate_doctor(d: District) -> None:
    team, dr = d.id("team"), d.id("dr")
    asked = (
        text("id", team),
        text("leader", f"Practitioner/{dr}"),
        text("organization", "Organization/centre"),
        text("name", "新团队"),
        text("serviceArea", "440303"),
    )
    assert d.refused("/CareTeam/$activate-family-doctor", *asked) == "leader-not-qualified"
    doctor(d, dr, int(uuid.uuid4().int % 900_000) + 1000)
    d.post("/CareTeam/$activate-family-doctor", *asked)
    found = d.get(f"/CareTeam/{team}")
    assert found["participant"][0]["role"][0]["coding"][0]["code"] == "leader"
    assert found["extension"][0]["valueCode"] == "440303"


@showing
def invite_doctor(d: District) -> None:
    team, dr = _team(d)
    other = d.id("dr")
    d.put({"resourceType": "Practitioner", "id": other, "active": True})
    task = d.post(f"/CareTeam/{team}/$invite", text("doctor", f"Practitioner/{other}"))
    members = [p["member"]["reference"] for p in d.get(f"/CareTeam/{team}")["participant"]]
    assert members == [f"Practitioner/{dr}"]
    named = text("task", f"Task/{task['id']}")
    d.post(f"/CareTeam/{team}/$answer-invitation", named, flag("accept"))
    members = [p["member"]["reference"] for p in d.get(f"/CareTeam/{team}")["participant"]]
    assert members == [f"Practitioner/{dr}", f"Practitioner/{other}"]


def _team(d: District) -> tuple[str, str]:
    team, dr = d.id("team"), d.id("dr")
    doctor(d, dr, int(uuid.uuid4().int % 900_000) + 1000)
    d.post(
        "/CareTeam/$activate-family-doctor",
        text("id", team),
        text("leader", f"Practitioner/{dr}"),
        text("organization", "Organization/centre"),
        text("name", team),
    )
    return team, dr


@showing
def organisation_tree(d: District) -> None:
    id_ = d.id("village")
    above = {"reference": "Organization/station"}
    d.put({"resourceType": "Organization", "id": id_, "name": "村卫生室", "partOf": above})
    assert id_ in ids(d.found("/Organization?partof=Organization/station"))
    resident = d.resident(managingOrganization={"reference": f"Organization/{id_}"})
    # A doctor of the centre looks after the residents of all below it.
    assert d.get(f"/Patient/{resident}", "Practitioner/d1")["id"] == resident
    stranger = d.id("dr")
    d.put({"resourceType": "Practitioner", "id": stranger})
    assert d.ask(f"/Patient/{resident}", f"Practitioner/{stranger}").status_code in (403, 404)


@showing
def authority_sees_its_institutions(d: District) -> None:
    official = d.id("official")
    d.put(
        {"resourceType": "Practitioner", "id": official},
        {
            "resourceType": "PractitionerRole",
            "id": official,
            "practitioner": {"reference": f"Practitioner/{official}"},
            "organization": {"reference": "Organization/authority"},
        },
    )
    resident = d.resident()
    assert d.get(f"/Patient/{resident}", f"Practitioner/{official}")["id"] == resident


@showing
def team_history(d: District) -> None:
    team, _ = _team(d)
    d.put({**d.get(f"/CareTeam/{team}"), "name": "改名团队"})
    names = [one["name"] for one in d.found(f"/CareTeam/{team}/_history")]
    assert names == ["改名团队", team]


@showing
def patch_doctor(d: District) -> None:
    id_ = d.id("dr")
    d.put({"resourceType": "Practitioner", "id": id_, "name": [{"text": "张医生"}]})
    _patched(d, f"/Practitioner/{id_}")


@showing
def my_team_as_doctor(d: District) -> None:
    found = d.found("/CareTeam?participant=Practitioner/d1&_id=team&_include=CareTeam:participant")
    phones = [o["telecom"][0]["value"] for o in found if o["resourceType"] == "Practitioner"]
    assert phones == ["10000000002"]


@showing
def my_team_as_resident(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    found = d.get(f"/Contract/{contract}", f"Patient/{resident}")
    team = found["term"][0]["action"][0]["performer"]["reference"]
    (leader,) = (p["member"]["reference"] for p in d.get(f"/{team}")["participant"])
    phone = d.get(f"/{leader}", f"Patient/{resident}")["telecom"][0]["value"]
    assert phone == "10000000002"


@showing
def review_doctor(d: District) -> None:
    dr = d.id("dr")
    doctor(d, dr, int(uuid.uuid4().int % 900_000) + 1000, "reject")
    assert d.get(f"/PractitionerRole/{dr}-family-doctor")["active"] is False
    assert d.get(f"/Task/{dr}-registration")["status"] == "rejected"
    path = f"/Practitioner/{dr}"
    d.post(f"{path}/$register-family-doctor", text("organization", "Organization/centre"))
    d.post(f"{path}/$review-family-doctor", text("verdict", "approve"))
    assert d.get(f"/PractitionerRole/{dr}-family-doctor")["active"] is True
    codes = [
        one["activity"]["coding"][0]["code"]
        for one in d.found(f"/Provenance?target=PractitionerRole/{dr}-family-doctor")
    ]
    assert sorted(codes) == ["approve", "register", "register", "reject"]


@showing
def close_team(d: District) -> None:
    team, _ = _team(d)
    d.put({**d.get(f"/CareTeam/{team}"), "status": "inactive"})
    wish = d.wish(d.resident(), d.id("c"), team=team)
    assert d.refused("/Contract/$submit-application", *wish) == "team-not-qualified"
    assert d.get(f"/CareTeam/{team}")["status"] == "inactive", "it is kept"


@showing
def directory(d: District) -> None:
    dr = d.id("dr")
    doctor(d, dr, int(uuid.uuid4().int % 900_000) + 1000, "reject")
    system = f"{BASE}/CodeSystem/cphc-fd-role"
    found = d.found(f"/PractitionerRole?role={system}|family-doctor&active=true&_count=1000")
    doctors = {one["practitioner"]["reference"] for one in found}
    assert "Practitioner/d1" in doctors
    assert f"Practitioner/{dr}" not in doctors
    contract = d.applied(d.resident(), start=today())
    assert d.get(f"/Contract/{contract}")["status"] == "offered"


@showing
def reconcile_insurance(d: District) -> None:
    dr, number = d.id("dr"), int(uuid.uuid4().int % 900_000) + 1000
    doctor(d, dr, number)
    system = f"{BASE}/NamingSystem/cphc-ns-insurance-doctor"
    listed = [
        {"name": "doctor", "part": [text("code", i["value"]), text("state", "suspended" if
         i["value"].endswith(f"{number:06d}") else "active")]}
        for role in d.found("/PractitionerRole?active=true&_count=1000")
        for i in role.get("identifier", ()) if i["system"] == system
    ]  # fmt: skip
    told = d.post("/Practitioner/$reconcile-insurance-doctors", *listed, flag("apply"))
    counts = {p["name"]: p.get("valueInteger") for p in told["parameter"]}
    assert counts["suspended-there"] == 1
    assert d.get(f"/PractitionerRole/{dr}-family-doctor")["active"] is False
    assert d.get("/PractitionerRole/d1-family-doctor")["active"] is True


@showing
def alliance(d: District) -> None:
    id_ = d.id("alliance")
    ends = {"organization": {"reference": "Organization/centre"},
            "participatingOrganization": {"reference": "Organization/station"}}  # fmt: skip
    d.put({"resourceType": "OrganizationAffiliation", "id": id_, "active": True, **ends})
    found = d.found("/OrganizationAffiliation?participating-organization=Organization/station")
    assert id_ in ids(found)


@showing
def alliance_opens_residents(d: District) -> None:
    unit, lead, below, dr = (d.id(kind) for kind in ("unit", "lead", "below", "dr"))
    for id_, above in ((unit, None), (lead, None), (below, lead)):
        part = {"partOf": {"reference": f"Organization/{above}"}} if above else {}
        d.put({"resourceType": "Organization", "id": id_, "name": id_, **part})
    user = f"Practitioner/{dr}"
    role = {
        "practitioner": {"reference": user},
        "organization": {"reference": f"Organization/{unit}"},
    }
    d.put({"resourceType": "Practitioner", "id": dr, "active": True})
    d.put({"resourceType": "PractitionerRole", "id": d.id("role"), "active": True, **role})
    path = f"/Patient/{d.resident(managingOrganization={'reference': f'Organization/{below}'})}"
    bond = {
        "resourceType": "OrganizationAffiliation",
        "id": d.id("alliance"),
        "active": True,
        "organization": {"reference": f"Organization/{lead}"},
        "participatingOrganization": {"reference": f"Organization/{unit}"},
    }
    code = {"system": f"{BASE}/CodeSystem/cphc-affiliation-right", "code": "residents"}
    right = {"code": [{"coding": [code]}]}
    d.put(bond)
    d.soon(path, user, 404)  # the register alone opens nothing
    d.put({**bond, **right})
    d.soon(path, user, 200)
    answer = httpx.put(f"{d.guarded}/OrganizationAffiliation/{d.id('own')}", json=bond,
                       headers=token("user/*.cruds", fhirUser=user))  # fmt: skip
    assert answer.status_code in (400, 403), "nobody of the staff grants it"
    d.put({**bond, **right, "period": {"end": (today() - 2 * DAY).isoformat()}})
    d.soon(path, user, 404)
    d.put({**bond, **right, "active": False})
    d.soon(path, user, 404)


# --- G03 packages and agreements ------------------------------------------------------------------


@showing
def publish_package(d: District) -> None:
    first, second = d.id("pkg"), d.id("pkg")
    url = f"urn:package:{first}"
    d.put({**package(first, 10), "url": url}, {**package(second, 20, version="2"), "url": url})
    assert d.get(f"/PlanDefinition/{first}")["status"] == "draft"
    d.post(f"/PlanDefinition/{first}/$publish-package")
    d.post(f"/PlanDefinition/{second}/$publish-package")
    assert d.get(f"/PlanDefinition/{first}")["status"] == "retired"
    assert d.get(f"/PlanDefinition/{second}")["status"] == "active"
    wish = d.wish(d.resident(), d.id("c"), package=first, price=10)
    assert d.refused("/Contract/$submit-application", *wish) == "package-not-valid"


@showing
def package_detail(d: District) -> None:
    id_ = d.id("pkg")
    d.put(package(id_, 0))
    d.post(f"/PlanDefinition/{id_}/$publish-package")
    d.signed(d.resident(), package=id_)

    def is_counted() -> bool:
        answer = d.ask(f"/PlanDefinition/{id_}/$package-detail")
        if answer.status_code != 200:
            return False
        parts = {p["name"]: p for p in answer.json()["parameter"]}
        assert parts["items"]["valueInteger"] == 2
        return 1 in [one["valueInteger"] for one in parts["contracts"]["part"]]

    d.until(is_counted, 60)


@showing
def what_a_resident_has(d: District) -> None:
    resident = d.resident()
    contract = d.get(f"/Contract/{d.signed(resident)}", f"Patient/{resident}")
    plan = d.get(f"/{contract['term'][0]['offer']['topic']['reference']}", f"Patient/{resident}")
    assert [one["definitionCanonical"] for one in plan["action"]] == [
        "urn:item:bp|1",
        "urn:item:visit|1",
    ]
    assert len(d.services(contract["id"])) == 6


def _for_the_elderly() -> Resource:
    kind = "http://terminology.hl7.org/CodeSystem/usage-context-type"
    return {
        "code": {"system": kind, "code": "focus"},
        "valueCodeableConcept": {"coding": [{"code": "elderly"}]},
    }


@showing
def my_family_doctor(d: District) -> None:
    resident, other = d.resident(), d.resident()
    contract = d.signed(resident)
    path = f"/Patient/{resident}/$my-family-doctor"
    (found,) = d.get(path, f"Patient/{resident}")["parameter"]
    parts: dict[str, list[Resource]] = {}
    for part in found["part"]:
        parts.setdefault(part["name"], []).append(part["resource"])
    assert ids(parts["resource"]) == {contract}
    assert ids(parts["package"]) == {"basic"}
    assert ids(parts["item"]) == {"bp", "visit"}
    assert ids(parts["member"]) == {"d1"}
    assert ids(parts["institution"]) == {"centre"}
    assert len(parts["service"]) == 6
    assert d.ask(path, f"Patient/{other}").status_code == 404


@showing
def reading_leaves_a_receipt(d: District) -> None:
    resident, contract, digest = _agreed(d)
    path, user = f"/Contract/{contract}/$confirm-reading", f"Patient/{resident}"
    wrong = d.post_as(user, path, text("agreementHash", HASH))
    assert "agreement-changed" in wrong.text
    receipt = d.post_as(user, path, text("agreementHash", digest)).json()
    assert (receipt["author"]["reference"], digest in str(receipt)) == (user, True)
    named = [one["reference"] for one in d.get(f"/Contract/{contract}")["supportingInfo"]]
    assert len(named) == 2, "the reading before the application, and this one"
    assert f"QuestionnaireResponse/{receipt['id']}" in named
    stranger = d.post_as(f"Patient/{d.resident()}", path, text("agreementHash", digest))
    assert stranger.status_code == 404


@showing
def applicable_packages(d: District) -> None:
    id_ = d.id("elderly")
    d.put({**package(id_, 0), "useContext": [_for_the_elderly()]})
    d.post(f"/PlanDefinition/{id_}/$publish-package")

    def offered(resident: str) -> set[str]:
        path = f"/PlanDefinition/$applicable-packages?patient=Patient/{resident}"
        found = d.get(path)["parameter"]
        return {p["resource"]["id"] for p in found if p["name"] == "package"}

    assert id_ in offered(d.resident("1940-01-01"))
    assert id_ not in offered(d.resident("1999-01-01"))


TEMPLATE = text("template", "Contract/cphc-agreement-template")


def _agreed(d: District) -> tuple[str, str, str]:
    """Return resident, contract and digest of an application for an agreement of ours."""
    resident, contract = d.resident(), d.id("c")
    wish = d.wish(resident, contract)
    shown = {p["name"]: p for p in d.post("/Contract/$agreement", *wish)["parameter"]}
    digest = shown["agreementHash"]["valueString"]
    kept = [one for one in wish if one["name"] != "agreementHash"]
    read = {"name": "readAt", "valueDateTime": datetime.datetime.now(LOCAL).isoformat()}
    agreed = (*kept, text("agreementHash", digest), TEMPLATE, read)
    d.post("/Contract/$submit-application", *agreed)
    return resident, contract, digest


@showing
def agreement_is_printed(d: District) -> None:
    resident, contract, digest = _agreed(d)
    d.post(f"/Contract/{contract}/$review", text("verdict", "approve"))
    signing = [p for p in d.signing(f"Patient/{resident}") if p["name"] != "agreementHash"]
    d.post(f"/Contract/{contract}/$sign", *signing, text("agreementHash", digest))
    binary = d.get(f"/Contract/{contract}/$agreement-pdf")
    assert base64.b64decode(binary["data"]).startswith(b"%PDF-")
    legal = d.get(f"/Contract/{contract}")["legal"][0]["contentReference"]["reference"]
    assert d.get(f"/{legal}")["resourceType"] == "DocumentReference"


@showing
def agreement_elements(d: District) -> None:
    resident = d.resident()
    contract = d.get(f"/Contract/{d.signed(resident)}")
    term = contract["term"][0]
    assert contract["subject"][0]["reference"] == f"Patient/{resident}"
    assert term["offer"]["topic"]["reference"] == "PlanDefinition/basic"
    assert term["action"][0]["performer"]["reference"] == "CareTeam/team"
    assert "net" in term["asset"][0]["valuedItem"][0]
    assert contract["applies"]["start"] == today().isoformat()


@showing
def reading_is_confirmed(d: District) -> None:
    _, contract, digest = _agreed(d)
    reference = d.get(f"/Contract/{contract}")["supportingInfo"][0]["reference"]
    answers = d.get(f"/{reference}")
    assert digest in str(answers["item"])
    wrong = d.wish(d.resident(), d.id("c"), TEMPLATE)
    assert d.refused("/Contract/$submit-application", *wrong) == "agreement-changed"


# --- G04 contracts --------------------------------------------------------------------------------


def invitation(d: District, *more: Resource) -> Resource:
    asked = text("doctor", "Practitioner/d1")
    answer = d.post("/CareTeam/team/$invitation-code", asked, *more)
    return {part["name"]: part for part in answer["parameter"]}


def token_in(parts: Resource) -> str:
    values = [v for part in parts.values() for k, v in part.items() if k == "valueString"]
    return str(max(values, key=len))


@showing
def scan_and_apply(d: District) -> None:
    token = token_in(invitation(d))
    contract = d.id("c")
    wish = d.wish(d.resident(), contract, text("invitation", token), text("mode", "qr"))
    d.post("/Contract/$submit-application", *[p for p in wish if p["name"] != "team"])
    assert d.get(f"/Contract/{contract}")["status"] == "offered"
    forged = d.wish(d.resident(), d.id("c"), text("invitation", token[:-2] + "xx"))
    assert d.refused("/Contract/$submit-application", *forged)


@showing
def invitation_image(d: District) -> None:
    images = [
        v
        for part in invitation(d).values()
        for k, v in part.items()
        if k in ("valueBase64Binary", "valueAttachment")
    ]
    data = images[0] if isinstance(images[0], str) else images[0]["data"]
    assert base64.b64decode(data).startswith(b"\x89PNG")


@showing
def mini_program_poster(d: District) -> None:
    """WeChat makes the mini program's code; the picture to share in a group shows it."""
    parts = invitation(
        d, flag("miniProgram"), flag("poster"), text("package", "PlanDefinition/basic")
    )
    code, poster = (
        base64.b64decode(parts[name]["valueAttachment"]["data"])
        for name in ("miniProgramCode", "poster")
    )
    assert (code[:2], poster[:4]) == (b"\xff\xd8", b"\x89PNG")
    with Image.open(io.BytesIO(poster)) as picture:
        assert picture.size == (750, 1200)


@showing
def mini_program_scene(d: District) -> None:
    """Who opens the mini program from a group applies by the scene of its page."""
    scene = invitation(d, flag("miniProgram"))["scene"]["valueString"]
    contract = d.id("c")
    wish = d.wish(d.resident(), contract, text("invitation", scene))
    d.post("/Contract/$submit-application", *[p for p in wish if p["name"] != "team"])
    found = d.get(f"/Contract/{contract}")
    assert found["term"][0]["action"][0]["performer"]["reference"] == "CareTeam/team"
    forged = d.wish(d.resident(), d.id("c"), text("invitation", "0" * 32))
    assert d.refused("/Contract/$submit-application", *forged) == "qr-forged"


@showing
def review_tasks(d: District) -> None:
    contract = d.applied(d.resident())
    task = d.get(f"/Task/{contract}-review-contract")
    assert (task["status"], task["focus"]["reference"]) == ("requested", f"Contract/{contract}")
    d.post(f"/Contract/{contract}/$review", text("verdict", "approve"))
    assert d.get(f"/Task/{contract}-review-contract")["status"] not in ("requested", "ready")
    assert d.get(f"/Contract/{contract}")["status"] == "executable"


@showing
def find_residents(d: District) -> None:
    coding = {"system": f"{BASE}/CodeSystem/cphc-key-population", "code": "elderly"}
    group = {
        "url": f"{BASE}/StructureDefinition/cphc-key-population",
        "valueCodeableConcept": {"coding": [coding]},
    }
    resident = d.resident("1941-01-01", name=[{"text": "尉迟龘"}], gender="male", extension=[group])
    d.signed(resident)
    for query in ("name-pinyin=yuchi", "gender=male", "birthdate=lt1950-01-01"):
        assert resident in ids(d.found(f"/Patient?{query}&_count=1000")), query
    has = f"/Patient?_has:Contract:patient:status=executed&_id={resident}"
    assert ids(d.found(has)) == {resident}

    def by_group() -> bool:
        answer = d.ask(f"/Patient?key-population=elderly&_id={resident}")
        return answer.status_code == 200 and resident in answer.text

    d.until(by_group, 60)


@showing
def sign_renew_cancel(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    following = d.id("c")
    end = {"name": "end", "valueDate": (today() + 700 * DAY).isoformat()}
    d.post(
        f"/Contract/{contract}/$renew",
        text("contractId", following),
        end,
        *d.signing(f"Patient/{resident}"),
    )
    renewed = d.get(f"/Contract/{following}")
    assert renewed["applies"]["start"] == (today() + 365 * DAY).isoformat(), "no gap"
    assert renewed["legalState"]["coding"][0]["code"] == "renewed"
    d.post(f"/Contract/{following}/$terminate", text("reason", "04"))
    assert d.get(f"/Contract/{following}")["status"] == "cancelled"
    assert d.get(f"/Contract/{contract}")["status"] == "executed"


@showing
def log_of_a_contract(d: District) -> None:
    contract = d.signed(d.resident())
    codes = {
        one["activity"]["coding"][0]["code"]
        for one in d.found(f"/Provenance?target=Contract/{contract}&_count=100")
    }
    assert {"application", "review", "sign"} <= codes
    events = d.until(lambda: d.found(f"/AuditEvent?entity=Contract/{contract}"))
    assert len(events) >= 3


@showing
def count_reviews(d: District) -> None:
    def reviewed() -> int:
        query = "/Task?code=review-contract&status=completed,accepted&_summary=count"
        return int(d.get(query)["total"])

    before = reviewed()
    d.approved(d.resident())
    assert reviewed() == before + 1


def _place() -> Resource:
    parts = [
        {"name": "latitude", "valueDecimal": 22.54},
        {"name": "longitude", "valueDecimal": 114.05},
    ]
    return {"name": "place", "part": parts}


def _photo() -> Resource:
    value = {"contentType": "image/png", "data": "iVBORw0KGgo="}
    return {"name": "photo", "valueAttachment": value}


@showing
def sign_on_site_with_proof(d: District) -> None:
    resident, contract = d.resident(), d.id("c")
    mode = text("mode", "home")
    signing = [p for p in d.signing(f"Patient/{resident}") if p["name"] != "agreementHash"]
    bare = (*d.wish(resident, contract, mode), *signing)
    assert d.refused("/Contract/$sign", *bare) == "evidence-missing"
    d.post("/Contract/$sign", *bare, _photo(), _place())
    assert d.get(f"/Contract/{contract}")["status"] == "executed"
    told = d.found(f"/Provenance?target=Contract/{contract}")
    assert "22.54,114.05" in str(told)


@showing
def supplement_and_reject(d: District) -> None:
    contract = d.applied(d.resident())
    assert d.refused(f"/Contract/{contract}/$review", text("verdict", "reject")) == "reason-missing"
    reason = text("reason", "照片不清晰")
    d.post(f"/Contract/{contract}/$review", text("verdict", "supplement"), reason)
    assert d.get(f"/Contract/{contract}")["status"] == "negotiable"
    d.post(f"/Contract/{contract}/$submit-application", text("agreementHash", HASH))
    d.post(f"/Contract/{contract}/$review", text("verdict", "reject"), reason)
    assert d.get(f"/Contract/{contract}")["status"] == "rejected"


@showing
def review_in_two_stages(d: District) -> None:
    official = d.id("official")
    place = {"organization": {"reference": "Organization/authority"}}
    d.put(
        {"resourceType": "Practitioner", "id": official},
        {
            "resourceType": "PractitionerRole",
            "id": official,
            "practitioner": {"reference": f"Practitioner/{official}"},
            **place,
        },
    )
    resident = d.resident()
    contract = d.applied(resident, package="strict")
    path, approve = f"/Contract/{contract}/$review", text("verdict", "approve")
    assert d.post_as("Practitioner/d1", path, approve).status_code == 200
    found = d.get(f"/Contract/{contract}")
    assert found["status"] == "offered", "one review is not enough"
    second = d.get(f"/Task/{contract}-second-review-contract")
    assert (second["status"], second["owner"]) == ("requested", place["organization"])
    for own in ("Practitioner/d1", "Practitioner/d2"):  # the same person, and the same institution
        refusal = d.post_as(own, path, approve)
        assert "second-review-authority" in refusal.text
    signing = d.signing(f"Patient/{resident}")
    assert d.refused(f"/Contract/{contract}/$sign", *signing) == "contract-state"
    reason = text("reason", "请补充照片")
    asked = d.post_as(f"Practitioner/{official}", path, text("verdict", "supplement"), reason)
    assert asked.json()["status"] == "negotiable"
    d.post(f"/Contract/{contract}/$submit-application", text("agreementHash", HASH))
    assert d.post_as("Practitioner/d1", path, approve).json()["status"] == "offered"
    passed = d.post_as(f"Practitioner/{official}", path, approve)
    assert passed.json()["status"] == "executable"
    assert d.post(f"/Contract/{contract}/$sign", *signing)["status"] == "executed"
    unsigned = [p for p in d.signing(f"Patient/{resident}") if p["name"] != "agreementHash"]
    at_once = (*d.wish(d.resident(), d.id("c"), package="strict"), *unsigned)
    assert d.refused("/Contract/$sign", *at_once) == "review-required"


@showing
def contracts_of_a_team(d: District) -> None:
    contract = d.signed(d.resident())

    def listed() -> bool:
        answer = d.ask("/Contract?care-team=CareTeam/team&_count=1000")
        return answer.status_code == 200 and contract in answer.text

    d.until(listed, 60)


@showing
def pay_before_effect(d: District) -> None:
    resident = d.resident()
    contract = d.approved(resident, package="paid", price=60)
    d.post(f"/Contract/{contract}/$sign", *d.signing(f"Patient/{resident}"))
    assert d.get(f"/Contract/{contract}")["status"] == "executable"
    assert d.get(f"/Task/{contract}-collect-payment")["status"] == "requested"
    bill = d.id("bill")
    invoice = {
        "resourceType": "Invoice",
        "id": bill,
        "status": "issued",
        "subject": {"reference": f"Patient/{resident}"},
        "totalNet": {"value": 60, "currency": "CNY"},
    }
    d.put(invoice)
    asked = text("invoice", f"Invoice/{bill}")
    assert d.refused(f"/Contract/{contract}/$confirm-payment", asked)
    d.put({**invoice, "status": "balanced"})
    d.post(f"/Contract/{contract}/$confirm-payment", asked)
    assert d.get(f"/Contract/{contract}")["status"] == "executed"


@showing
def pay_the_difference(d: District) -> None:
    resident = d.resident()
    contract = d.approved(resident, package="paid", price=60)
    d.post(f"/Contract/{contract}/$sign", *d.signing(f"Patient/{resident}"))
    d.post(f"/Contract/{contract}/$confirm-payment", paid_bill(d, resident, 60))
    parts = [text("definition", "PlanDefinition/dear"), {"name": "price", "valueDecimal": 100}]
    package = {"name": "package", "part": parts}
    draft = d.post(f"/Contract/{contract}/$amend", package, text("agreementHash", HASH))["id"]
    d.post(f"/Contract/{draft}/$sign", *d.signing(f"Patient/{resident}"))
    assert d.get(f"/Contract/{draft}")["status"] == "executable"
    assert "PlanDefinition/paid" in str(d.get(f"/Contract/{contract}")["term"]), "until it is paid"
    pay = f"/Contract/{draft}/$confirm-payment"
    assert d.refused(pay, paid_bill(d, resident, 100)) == "payment-differs"
    d.post(pay, paid_bill(d, resident, 40))
    found = d.get(f"/Contract/{contract}")
    assert "PlanDefinition/dear" in str(found["term"])
    assert found["status"] == "executed"
    assert d.get(f"/Contract/{draft}")["status"] == "amended"
    assert d.get(f"/Task/{draft}-collect-payment")["status"] == "completed"


def paid_bill(d: District, resident: str, amount: int) -> Resource:
    bill = d.id("bill")
    d.put(
        {
            "resourceType": "Invoice",
            "id": bill,
            "status": "balanced",
            "subject": {"reference": f"Patient/{resident}"},
            "totalNet": {"value": amount, "currency": "CNY"},
        }
    )
    return text("invoice", f"Invoice/{bill}")


@showing
def renewed_by_consent(d: District) -> None:
    agreeing, silent, signed_on = d.resident(), d.resident(), d.resident()
    contracts = [d.signed(one, days=0) for one in (agreeing, silent, signed_on)]
    for one in (agreeing, signed_on):
        _agrees_to_renewal(d, one)
    end = {"name": "end", "valueDate": (today() + 9 * DAY).isoformat()}
    by_hand = d.post(f"/Contract/{contracts[2]}/$renew", end, *d.signing(f"Patient/{signed_on}"))
    _night(d, today() + DAY)
    for one in contracts:
        assert d.get(f"/Contract/{one}")["status"] == "terminated"
    (renewed,) = d.found(f"/Contract?patient={agreeing}&status=executed")
    assert renewed["applies"]["start"] == (today() + DAY).isoformat(), "no gap"
    assert renewed["legalState"]["coding"][0]["code"] == "renewed"
    assert "signer" not in renewed, "nobody signed it"
    follows = [
        e["valueReference"] for e in renewed["extension"] if e["url"].endswith("cphc-renews")
    ]
    assert follows == [{"reference": f"Contract/{contracts[0]}"}]
    (told,) = d.found(f"/Provenance?target=Contract/{renewed['id']}")
    consent = renewed["supportingInfo"][0]["reference"]
    assert told["entity"][0]["what"]["reference"] == consent
    (message,) = d.found(f"/CommunicationRequest?based-on=Contract/{renewed['id']}")
    assert "自动续约" in message["payload"][0]["contentString"], "never in silence"
    assert d.found(f"/Contract?patient={silent}&status=executed") == [], "without a consent it ends"
    (other,) = d.found(f"/Contract?patient={signed_on}&status=executed,executable")
    assert other["id"] == by_hand["id"], "who signed is not renewed a second time"


def _agrees_to_renewal(d: District, resident: str, **more: Any) -> None:
    system = f"{BASE}/CodeSystem/cphc-consent-category"
    d.consent(resident, {"type": "permit"}, system=system, code="auto-renewal", **more)


@showing
def consent_without_effect(d: District) -> None:
    withdrawn, paying = d.resident(), d.resident()
    one = d.signed(withdrawn, days=0)
    _agrees_to_renewal(d, withdrawn, status="inactive")
    other = d.approved(paying, package="paid", price=60, days=0)
    d.post(f"/Contract/{other}/$sign", *d.signing(f"Patient/{paying}"))
    d.post(f"/Contract/{other}/$confirm-payment", paid_bill(d, paying, 60))
    _agrees_to_renewal(d, paying)
    _night(d, today() + DAY)
    for contract, resident in ((one, withdrawn), (other, paying)):
        assert d.get(f"/Contract/{contract}")["status"] == "terminated"
        assert d.found(f"/Contract?patient={resident}&status=executed,executable") == []
    task = d.get(f"/Task/{other}-renew-contract")
    assert (task["status"], "付费" in task["statusReason"]["text"]) == ("requested", True)


@showing
def package_suits(d: District) -> None:
    id_ = d.id("elderly")
    d.put({**package(id_, 0), "useContext": [_for_the_elderly()]})
    d.post(f"/PlanDefinition/{id_}/$publish-package")
    young = d.resident("1999-01-01")
    wish = d.wish(young, d.id("c"), package=id_)
    assert d.refused("/Contract/$submit-application", *wish) == "package-not-suitable"
    assert d.signed(d.resident("1940-01-01"), package=id_)
    reason = text("suitabilityOverride", "失能，按老年人服务包管理")
    refusal = d.post_as(f"Patient/{young}", "/Contract/$submit-application", *wish, reason)
    assert "staff-only" in refusal.text
    contract = d.post("/Contract/$submit-application", *wish, reason)["id"]
    d.post(f"/Contract/{contract}/$review", text("verdict", "approve"))
    signed = d.post(f"/Contract/{contract}/$sign", *d.signing(f"Patient/{young}"))
    assert signed["status"] == "executed"
    assert "失能" in str(signed["extension"]), "the reason stays on record"


@showing
def read_contract(d: District) -> None:
    resident, other = d.resident(), d.resident()
    contract = d.signed(resident)
    assert d.get(f"/Contract/{contract}", f"Patient/{resident}")["status"] == "executed"
    assert d.ask(f"/Contract/{contract}", f"Patient/{other}").status_code == 404


@showing
def sign_in_the_consulting_room(d: District) -> None:
    resident, contract = d.resident(), d.id("c")
    signing = [p for p in d.signing(f"Patient/{resident}") if p["name"] != "agreementHash"]
    d.post("/Contract/$sign", *d.wish(resident, contract), *signing)
    assert d.get(f"/Contract/{contract}")["status"] == "executed"
    again = (*d.wish(resident, d.id("c")), *signing)
    assert d.refused("/Contract/$sign", *again) == "contract-overlap"


@showing
def repeat_from_offline(d: District) -> None:
    resident, contract = d.resident(), d.id("c")
    signing = [p for p in d.signing(f"Patient/{resident}") if p["name"] != "agreementHash"]
    body = {
        "resourceType": "Parameters",
        "parameter": [*d.wish(resident, contract), *signing],
    }
    key = {"idempotency-key": contract}
    first, again = (d.http.post("/Contract/$sign", json=body, headers=key) for _ in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert len(d.found(f"/Contract/{contract}/_history")) == 1


@showing
def amend_and_sign_again(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    parts = [
        text("definition", "PlanDefinition/paid"),
        {"name": "price", "valueDecimal": 60},
    ]
    draft = d.post(
        f"/Contract/{contract}/$amend",
        {"name": "package", "part": parts},
        text("agreementHash", HASH),
    )
    assert draft["status"] == "negotiable"
    assert d.get(f"/Contract/{contract}")["status"] == "executed", "the old one stays"
    d.post(f"/Contract/{draft['id']}/$sign", *d.signing(f"Patient/{resident}"))
    pay = f"/Contract/{draft['id']}/$confirm-payment"
    d.post(pay, paid_bill(d, resident, 60))
    found = d.get(f"/Contract/{contract}")
    assert found["term"][0]["offer"]["topic"]["reference"] == "PlanDefinition/paid"
    assert len(d.found(f"/Contract/{contract}/_history")) >= 2, "both versions are kept"


@showing
def reassign(d: District) -> None:
    team, dr = _team(d)
    contract = d.signed(d.resident())
    reason = text("reason", "医生离岗")
    d.post(f"/Contract/{contract}/$reassign", text("team", f"CareTeam/{team}"), reason)
    found = d.get(f"/Contract/{contract}")
    assert found["term"][0]["action"][0]["performer"]["reference"] == f"CareTeam/{team}"
    owners = {one["owner"]["reference"] for one in d.services(contract)}
    assert owners == {f"CareTeam/{team}"}, "open services go along"
    resident = found["subject"][0]["reference"]
    assert d.found(f"/CommunicationRequest?subject={resident}") or dr


@showing
def delegate_and_return(d: District) -> None:
    team, dr = _team(d)
    stand_in = d.id("dr")
    doctor(d, stand_in, int(uuid.uuid4().int % 900_000) + 1000)
    resident = d.resident(managingOrganization={"reference": "Organization/authority"})
    contract = d.id("c")
    signing = [p for p in d.signing(f"Patient/{resident}", doctor=dr) if
               p["name"] != "agreementHash"]  # fmt: skip
    d.post("/Contract/$sign", *d.wish(resident, contract, team=team), *signing)
    user = f"Practitioner/{stand_in}"
    d.soon(f"/Patient/{resident}", user, 404)
    now = datetime.datetime.now(LOCAL)
    begun = d.post(
        f"/Contract/{contract}/$delegate",
        text("from", f"Practitioner/{dr}"),
        text("to", user),
        {"name": "start", "valueDateTime": now.isoformat()},
        {"name": "end", "valueDateTime": (now + 7 * DAY).isoformat()},
    )
    assert begun["resourceType"]
    d.soon(f"/Patient/{resident}", user, 200)
    (task,) = (
        one
        for one in d.found(f"/Task?focus=Contract/{contract}&_count=50")
        if "delegate" in str(one["code"]) or "delegat" in one["id"]
    )
    d.post(f"/Contract/{contract}/$cancel-delegation", text("task", f"Task/{task['id']}"))
    d.soon(f"/Patient/{resident}", user, 404)


@showing
def terminate(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    assert d.refused(f"/Contract/{contract}/$terminate", text("reason", "77"))
    d.post(f"/Contract/{contract}/$terminate", text("reason", "02"))
    assert d.get(f"/Contract/{contract}")["status"] == "revoked"
    assert {one["status"] for one in d.services(contract)} == {"cancelled"}
    assert d.signed(resident), "signing again is possible the same day"


def _night(d: District, day: datetime.date) -> None:
    """Let the calendar do what is due at the beginning of a day."""

    async def look() -> None:
        async with make_pool(d.database_url, size=2) as pool:
            store = lawful_store(pool)
            following = Following(store.searcher, tasks_for=tasks_for)
            await ContractCalendar(store=store, following=following).look(start_of(day))

    asyncio.run(look())


@showing
def expire_by_the_calendar(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident, days=0)
    other = d.signed(d.resident())

    _night(d, today() + DAY)
    found = d.get(f"/Contract/{contract}")
    assert (found["status"], found["applies"]["end"]) == ("terminated", today().isoformat())
    assert d.get(f"/Contract/{other}")["status"] == "executed"


@showing
def death_ends_everything(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    d.put({**d.get(f"/Patient/{resident}"), "deceasedBoolean": True})
    d.until(lambda: d.get(f"/Contract/{contract}")["status"] == "revoked", 60)
    wish = d.wish(resident, d.id("c"))
    assert d.refused("/Contract/$submit-application", *wish) == "resident-deceased"


@showing
def everything_of_a_resident(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    visit = d.visit(resident)
    found = ids(d.found(f"/Patient/{resident}/$everything?_count=100"))
    assert {resident, visit} <= found
    assert contract in ids(d.found(f"/Contract?patient={resident}"))
    assert d.services(contract)


@showing
def partner_app(d: District) -> None:
    """A partner's own client: a token of its own (client credentials), and no person behind it."""
    app = token("system/Contract.cru system/Patient.rs", client_id="partner", sub="partner")
    resident, contract = d.resident(), d.id("c")
    wish = d.wish(resident, contract, text("mode", "resident-app"))
    assert d.post_as(app, "/Contract/$submit-application", *wish).status_code == 201
    assert d.get_with(app, f"/Contract/{contract}").json()["status"] == "offered"
    assert d.get_with(app, f"/Task/{contract}-review-contract").status_code == 403, "no scope"
    reader = token("system/Contract.rs", client_id="partner")
    more = d.wish(d.resident(), d.id("c"))
    assert d.post_as(reader, "/Contract/$submit-application", *more).status_code == 403
    forged = {"authorization": app["authorization"][:-6] + "AAAAAA"}
    assert d.get_with(forged, f"/Contract/{contract}").status_code == 401
    others = token("system/*.cruds", aud="https://elsewhere.example")
    assert d.get_with(others, f"/Contract/{contract}").status_code == 401
    events = d.until(lambda: d.found(f"/AuditEvent?entity=Contract/{contract}"))
    assert any("partner" in str(one["agent"]) for one in events)


# --- G05 fulfilment -------------------------------------------------------------------------------


@showing
def visit_fulfils(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    visit = d.visit(resident)

    def done() -> list[Resource]:
        return [one for one in d.services(contract) if one["status"] == "completed"]

    (task,) = d.until(done)
    assert task["output"][0]["valueReference"]["reference"] == f"Encounter/{visit}"
    assert task == next(t for t in d.services(contract) if t["code"] == task["code"]), "earliest"
    d.http.delete(f"/Encounter/{visit}")
    d.until(lambda: not done())


@showing
def form_fulfils(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    group = {
        "source": f"{BASE}/Questionnaire",
        "target": f"{BASE}/CodeSystem/cphc-service-item",
        "element": [{"code": "demo-bp", "target": [{"code": "bp", "equivalence": "equivalent"}]}],
    }
    d.put({"resourceType": "ConceptMap", "id": "forms", "status": "active", "group": [group]})
    id_ = d.id("form")
    d.put(
        {
            "resourceType": "QuestionnaireResponse",
            "id": id_,
            "status": "completed",
            "questionnaire": f"{BASE}/Questionnaire/demo-bp",
            "subject": {"reference": f"Patient/{resident}"},
            "authored": datetime.datetime.now(LOCAL).isoformat(),
        }
    )

    def done() -> list[Resource]:
        return [one for one in d.services(contract) if one["status"] == "completed"]

    (task,) = d.until(done)
    assert task["output"][0]["valueReference"]["reference"] == f"QuestionnaireResponse/{id_}"


def _service(d: District, contract: str, code: str) -> Resource:
    found = (o for o in d.services(contract) if o["code"]["coding"][0]["code"] == code)
    return next(found)


@showing
def complete_with_proof(d: District) -> None:
    contract = d.signed(d.resident())
    task = _service(d, contract, "visit")
    path = f"/Task/{task['id']}/$complete-service"
    assert d.refused(path) == "evidence-missing"
    d.post(path, text("location", "22.54,114.05"))
    assert d.get(f"/Task/{task['id']}")["status"] == "completed"
    assert "22.54" in str(d.found(f"/Provenance?target=Task/{task['id']}"))


@showing
def count_services(d: District) -> None:
    team, dr = _team(d)
    resident, contract = d.resident(), d.id("c")
    signing = [p for p in d.signing(f"Patient/{resident}", doctor=dr) if
               p["name"] != "agreementHash"]  # fmt: skip
    d.post("/Contract/$sign", *d.wish(resident, contract, team=team), *signing)
    task = _service(d, contract, "bp")
    d.post(f"/Task/{task['id']}/$complete-service")
    year = f"start={today()}&end={today() + 364 * DAY}&step=year"
    counted = str(d.get(f"/Task/$service-counts?team=CareTeam/{team}&{year}"))
    assert "bp" in counted
    listed = f"/Task?owner=CareTeam/{team}&status=completed&_count=100"
    assert task["id"] in ids(d.found(listed))


@showing
def due_worklist(d: District) -> None:
    team, dr = _team(d)
    resident, contract = d.resident(), d.id("c")
    signing = [p for p in d.signing(f"Patient/{resident}", doctor=dr) if
               p["name"] != "agreementHash"]  # fmt: skip
    d.post("/Contract/$sign", *d.wish(resident, contract, team=team), *signing)
    path = f"/Task/$due-worklist?team=CareTeam/{team}"
    due = d.until(lambda: d.found(path))
    assert resident in ids(due)
    assert {"bp", "visit"} == {
        one["code"]["coding"][0]["code"] for one in due if one["resourceType"] == "Task"
    }


@showing
def keep_clinical_records(d: District) -> None:
    resident = d.resident()
    visit = d.visit(resident)
    about = {"subject": {"reference": f"Patient/{resident}"},
             "encounter": {"reference": f"Encounter/{visit}"}}  # fmt: skip
    condition = d.id("condition")
    d.put({"resourceType": "Condition", "id": condition, "code": {"text": "高血压"}, **about})
    found = d.found(f"/Encounter?_id={visit}&_revinclude=Condition:encounter")
    assert ids(found) == {visit, condition}


def _applied_for(d: District, resident: str, programme: str, user: str | None = None) -> str:
    """Apply for a programme of the district's team; return the id of the episode."""
    id_ = d.id("episode")
    asked = (
        text("resident", f"Patient/{resident}"),
        text("programme", programme),
        text("team", "CareTeam/team"),
        text("id", id_),
        text("reason", "家中卧床"),
    )
    path = "/EpisodeOfCare/$apply-for-programme"
    if user is None:
        assert d.post(path, *asked)["status"] == "planned"
    else:
        answer = d.post_as(user, path, *asked)
        assert answer.status_code == 201, answer.text
    return id_


@showing
def enrol_in_a_programme(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    applicable = f"/PlanDefinition/$applicable-packages?patient=Patient/{resident}"
    assert "hypertension" not in str(d.get(applicable))
    path, team = "/EpisodeOfCare/$apply-for-programme", text("team", "CareTeam/team")
    who = text("resident", f"Patient/{resident}")
    assert d.refused(path, text("programme", "x"), who, team) == "programme-unknown"
    episode = _applied_for(d, resident, "htn")
    d.post(f"/EpisodeOfCare/{episode}/$review-programme", text("verdict", "approve"))
    assert episode in ids(d.found(f"/EpisodeOfCare?type=htn&status=active&patient={resident}"))
    assert "hypertension" in str(d.get(applicable))
    plan = d.get(f"/CarePlan/plan-{episode}")
    named = {one["reference"]["reference"].partition("/")[2] for one in plan["activity"]}
    assert (plan["status"], named) == ("active", ids(d.services(contract)))
    assert d.refused(path, text("programme", "htn"), who, team) == "programme-enrolled"
    d.post(f"/EpisodeOfCare/{episode}/$close-programme", text("reason", "迁出"))
    assert d.get(f"/EpisodeOfCare/{episode}")["status"] == "finished"
    assert d.get(f"/CarePlan/plan-{episode}")["status"] == "completed"
    assert _applied_for(d, resident, "htn"), "as the advice says: closed, so it begins anew"


@showing
def record_education(d: District) -> None:
    resident, id_ = d.resident(), d.id("education")
    d.put(
        {
            "resourceType": "Procedure",
            "id": id_,
            "status": "completed",
            "category": {"text": "健康教育 (education)", "coding": [{"code": "education"}]},
            "subject": {"reference": f"Patient/{resident}"},
            "performedDateTime": today().isoformat(),
        }
    )
    total = d.get(f"/Procedure?category=education&patient={resident}&_summary=count")["total"]
    assert total == 1


@showing
def quota_is_checked(d: District) -> None:
    contract = d.signed(d.resident())
    task = _service(d, contract, "bp")
    d.post(f"/Task/{task['id']}/$complete-service")
    assert d.refused(f"/Task/{task['id']}/$complete-service")
    codes = [one["code"]["coding"][0]["code"] for one in d.services(contract)]
    assert (codes.count("bp"), codes.count("visit")) == (4, 2)


@showing
def beyond_the_quota_is_charged(d: District) -> None:
    resident, other = d.resident(), d.resident()
    contract = d.signed(resident)
    path, item = f"/Contract/{contract}/$charge-service", text("item", "urn:item:bp")

    def visited(whose: str) -> Resource:
        # Of no type that fulfils a service by itself.
        return text("source", f"Encounter/{d.visit(whose, type=[{'text': '加测血压'}])}")

    visit = visited(resident)
    assert d.refused(path, item, visit) == "quota-left"
    task = _service(d, contract, "bp")
    d.post(f"/Task/{task['id']}/$complete-service")  # the advice; the next one is not due yet
    charged = d.post(path, item, visit)
    assert (charged["status"], charged["priceOverride"]["value"]) == ("billable", 15)
    assert charged["subject"]["reference"] == f"Patient/{resident}"
    assert {"reference": f"Contract/{contract}"} in charged["supportingInformation"]
    assert d.refused(path, item, visit) == "service-source-used", "once for its source"
    late = {"name": "performed", "valueDateTime": (today() + 400 * DAY).isoformat()}
    assert d.refused(path, item, visited(resident), late) == "charge-not-possible"
    assert d.refused(path, item, visited(other)) == "operation-parameter"
    assert d.refused(path, text("item", "urn:item:none"), visit) == "operation-parameter"
    own = d.post_as(f"Patient/{resident}", path, item, visited(resident))
    assert own.json()["issue"][0]["details"]["coding"][0]["code"] == "staff-only"
    assert d.post_as(f"Patient/{other}", path, item, visit).status_code == 404
    (kept,) = d.found(f"/ChargeItem?subject=Patient/{resident}")
    assert kept["id"] == charged["id"]


@showing
def home_bed(d: District) -> None:
    resident, stranger = d.resident(), d.resident()
    mine, theirs = (
        token("patient/*.cruds", patient=f"Patient/{one}", fhirUser=f"Patient/{one}")
        for one in (resident, stranger)
    )
    episode = _applied_for(d, resident, "home-bed", mine)
    path, approve = f"/EpisodeOfCare/{episode}", text("verdict", "approve")
    assert d.get(f"/Task/review-{episode}")["status"] == "requested"
    assert d.post_as(theirs, f"{path}/$review-programme", approve).status_code == 404
    own = d.post_as(mine, f"{path}/$review-programme", approve)
    assert own.json()["issue"][0]["details"]["coding"][0]["code"] == "staff-only"
    assert d.refused(f"{path}/$close-programme", text("reason", "x")) == "programme-state"
    assert d.post_as("Practitioner/d1", f"{path}/$review-programme", approve).status_code == 200
    here = {"episodeOfCare": [{"reference": f"EpisodeOfCare/{episode}"}], "class": {"code": "HH"}}
    visit = d.visit(resident, **here)
    assert ids(d.found(f"/Encounter?episode-of-care={episode}&class=HH")) == {visit}
    assert d.refused(f"{path}/$close-programme") == "programme-reason"
    d.post(f"{path}/$close-programme", text("reason", "病情好转"))
    found = d.get(path)
    assert [one["status"] for one in found["statusHistory"]] == ["planned", "active", "finished"]
    assert d.get(f"/Task/review-{episode}")["status"] == "completed"
    done = {one["activity"]["coding"][0]["code"]: one["agent"][0]["who"]
            for one in d.found(f"/Provenance?target=EpisodeOfCare/{episode}")}  # fmt: skip
    assert done["apply"] == {"reference": f"Patient/{resident}"}
    assert done["approve"] == {"reference": "Practitioner/d1"}
    assert set(done) == {"apply", "approve", "close"}
    refused = _applied_for(d, resident, "home-bed")
    asked = (text("verdict", "reject"), text("reason", "不符合收治条件"))
    d.post(f"/EpisodeOfCare/{refused}/$review-programme", *asked)
    assert d.get(f"/EpisodeOfCare/{refused}")["status"] == "cancelled"
    assert d.get(f"/Task/review-{refused}")["statusReason"]["text"] == "不符合收治条件"


@showing
def record_consultation(d: District) -> None:
    resident = d.resident()
    visit = d.visit(resident, "advice", **{"class": {"code": "VR"}})
    id_ = d.id("talk")
    d.put(
        {
            "resourceType": "Communication",
            "id": id_,
            "status": "completed",
            "subject": {"reference": f"Patient/{resident}"},
            "encounter": {"reference": f"Encounter/{visit}"},
            "payload": [{"contentString": "饮食建议"}],
        }
    )
    assert ids(d.found(f"/Communication?encounter=Encounter/{visit}")) == {id_}


@showing
def patient_list(d: District) -> None:
    one, other, id_ = d.resident(), d.resident(), d.id("list")
    entries = [{"item": {"reference": f"Patient/{one}"}}]
    d.put({"resourceType": "List", "id": id_, "status": "current", "mode": "working",
           "entry": entries})  # fmt: skip
    found = ids(d.found(f"/Patient?_list={id_}"))
    assert found == {one}
    assert other not in found


@showing
def my_services(d: District) -> None:
    resident = d.resident()
    visit = d.visit(resident)
    query = f"/Encounter?participant=Practitioner/d1&date=ge{today() - DAY}&patient={resident}"
    assert ids(d.found(query)) == {visit}
    assert d.found(f"{query}&type=visit") == []


@showing
def all_services_of_a_resident(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    visit = d.visit(resident)
    user = f"Patient/{resident}"
    assert ids(d.found(f"/Encounter?patient={resident}", user)) == {visit}
    tasks = d.found(f"/Task?patient={resident}&_count=100", user)
    assert ids(d.services(contract)) <= ids(tasks)


@showing
def timeline(d: District) -> None:
    resident, other = d.resident(), d.resident()
    contract = d.signed(resident)
    task = _service(d, contract, "visit")
    d.post(f"/Task/{task['id']}/$complete-service", text("location", "22.54,114.05"))
    visit = d.visit(resident, "advice")
    before, user = d.id("procedure"), f"Patient/{resident}"
    d.put(
        {
            "resourceType": "Procedure",
            "id": before,
            "status": "completed",
            "subject": {"reference": user},
            "performedDateTime": (today() - 400 * DAY).isoformat(),
        }
    )
    path = f"/Patient/{resident}/$timeline"
    found = [one["id"] for one in d.found(path, user)]
    assert sorted(found[:2]) == sorted([task["id"], visit]), "open services are no history"
    assert found[2:] == [before], "the latest first"
    assert before not in ids(d.found(f"{path}?start={today() - DAY}", user))
    assert d.ask(path, f"Patient/{other}").status_code == 404


@showing
def reminded_before_the_end(d: District) -> None:
    resident = d.resident()
    contract = d.signed(resident)
    end = today() + 364 * DAY
    query = f"/CommunicationRequest?based-on=Contract/{contract}"

    def remind(day: datetime.date) -> Callable[[], bool]:
        """Let the reminders of a morning be made; the hub has set the timer by itself."""

        async def look() -> None:
            async with make_pool(d.database_url, size=2) as pool:
                reminders = Reminders(store=lawful_store(pool), channels=frozenset())
                async with reminders.store.begin() as transaction:
                    at = start_of(day) + datetime.timedelta(hours=9)
                    await reminders.remind_of_renewal(transaction, at)

        def is_made() -> bool:
            asyncio.run(look())
            return any(one["occurrenceDateTime"].startswith(str(day)) for one in d.found(query))

        return is_made

    for count, days in enumerate((30, 7, 0), start=1):
        d.until(remind(end - days * DAY))
        assert len(d.found(query)) == count
    texts = [one["payload"][0]["contentString"] for one in d.found(query)]
    assert all(str(end) in one for one in texts)
    assert sum("还有 30 天" in one for one in texts) == 1


@showing
def reminded_by_sms(d: District) -> None:
    phone = {"system": "phone", "value": "10000000009", "use": "mobile"}
    resident = d.resident(telecom=[phone])
    task = _service(d, d.signed(resident), "bp")
    request = d.id("request")
    d.put(
        {
            "resourceType": "CommunicationRequest",
            "id": request,
            "status": "active",
            "subject": {"reference": f"Patient/{resident}"},
            "about": [{"reference": f"Task/{task['id']}"}],
            "payload": [{"contentString": "请来测血压"}],
            "occurrenceDateTime": datetime.datetime.now(LOCAL).isoformat(),
        }
    )
    d.until(lambda: d.get(f"/CommunicationRequest/{request}")["status"] == "completed", 60)
    (attempt,) = d.found(f"/Communication?based-on=CommunicationRequest/{request}")
    assert attempt["status"] == "completed"
    assert attempt["medium"][0]["coding"][0]["code"] == "sms"


@showing
def told_of_a_service(d: District) -> None:
    """An item says what its resident is told: that it is due, again until done, and that it is."""
    item, plan = d.id("item"), d.id("pkg")
    extension = f"{BASE}/StructureDefinition/cphc-"
    repeat = {"repeat": {"period": 7, "periodUnit": "d", "count": 3}}
    wishes = [
        {"url": f"{extension}service-notice", "valueCode": "due"},
        {"url": f"{extension}service-notice", "valueCode": "done"},
        {"url": f"{extension}notice-repeat", "valueTiming": repeat},
    ]
    definition = activity("bp", 2)
    d.put({**definition, "id": item, "url": f"urn:item:{item}",
           "extension": [*definition["extension"], *wishes]})  # fmt: skip
    named = [{"definitionCanonical": f"urn:item:{item}|1"}]
    d.put({**package(plan, 0), "action": named})
    d.post(f"/PlanDefinition/{plan}/$publish-package")
    phone = {"system": "phone", "value": "10000000009", "use": "mobile"}
    resident = d.resident(telecom=[phone])
    contract = d.signed(resident, package=plan)
    ready, later = d.services(contract)
    assert (ready["status"], later["status"]) == ("ready", "requested")

    def asked(task: Resource) -> list[Resource]:
        return d.found(f"/CommunicationRequest?based-on=Task/{task['id']}&_sort=authored")

    def sent(request: Resource) -> list[Resource]:
        attempts = d.found(f"/Communication?based-on=CommunicationRequest/{request['id']}")
        return [one for one in attempts if one["status"] == "completed"]

    (due,) = d.until(lambda: asked(ready), 60)
    assert due["about"] == [{"reference": f"Task/{ready['id']}"}]
    first = today().isoformat()
    assert first in due["payload"][0]["contentString"]
    if due["occurrenceDateTime"] <= datetime.datetime.now(LOCAL).isoformat():  # else at 9:00
        d.until(lambda: sent(due), 60)
        assert d.get(f"/CommunicationRequest/{due['id']}")["status"] == "active", "again in a week"
    d.post(f"/Task/{ready['id']}/$complete-service")
    done = d.until(lambda: asked(ready)[1:], 60)[0]
    (attempt,) = d.until(lambda: sent(done), 60)
    assert "已于" in attempt["payload"][0]["contentString"]
    d.post(f"/Contract/{contract}/$terminate", text("reason", "02"))
    open_ = f"/CommunicationRequest?based-on=Contract/{contract}&status=active"
    d.until(lambda: d.found(open_) == [])
    assert asked(later) == [], "what is not due yet was never spoken of"
