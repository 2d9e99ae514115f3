"""The whole life of a contract with everybody's own token, and what other people's tokens get."""

from typing import Any

import httpx
from days import today
from district import District, text, token
from showings import invitation, paid_bill, token_in

from care.subscription import wish_of
from care.topics import TOPICS
from conformance.cphc import BASE

DOCTOR = "Practitioner/d1"


def launched(patient: str) -> dict[str, str]:
    """Return the token of the resident's own app: launched for this patient."""
    return token("patient/*.cruds", patient=f"Patient/{patient}", fhirUser=f"Patient/{patient}")


def key_of(answer: httpx.Response) -> tuple[int, str]:
    issue = answer.json()["issue"][0]
    return answer.status_code, issue["details"]["coding"][0]["code"]


def sealed(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the parameters of a signing without what the application has said already."""
    return [one for one in parts if one["name"] != "agreementHash"]


def test_a_resident_applies_by_code_and_everybody_does_their_part(district: District) -> None:
    d = district
    resident, stranger = d.resident(), d.resident()
    mine, theirs = launched(resident), launched(stranger)
    contract = d.id("c")
    scanned = text("invitation", token_in(invitation(d)))
    wish = d.wish(resident, contract, scanned, text("mode", "qr"), package="paid", price=60)
    asked = [one for one in wish if one["name"] != "team"]
    path = f"/Contract/{contract}"

    # Somebody else's token cannot apply for the resident: the record is not there for it.
    assert key_of(d.post_as(theirs, "/Contract/$submit-application", *asked))[0] == 400
    assert d.get_with(mine, path).status_code == 404
    read_only = token("patient/*.rs", patient=f"Patient/{resident}")
    assert d.post_as(read_only, "/Contract/$submit-application", *asked).status_code == 403
    made = d.post_as(mine, "/Contract/$submit-application", *asked)
    assert (made.status_code, made.json()["status"]) == (201, "offered")

    # The resident reads it and cannot review or sign for the team; a stranger sees nothing.
    assert d.get_with(mine, path).json()["subject"] == [{"reference": f"Patient/{resident}"}]
    assert d.get_with(theirs, path).status_code == 404
    approve = text("verdict", "approve")
    assert key_of(d.post_as(mine, f"{path}/$review", approve)) == (422, "staff-only")
    assert d.post_as(theirs, f"{path}/$review", approve).status_code == 404
    outsider = d.id("dr")
    d.put({"resourceType": "Practitioner", "id": outsider})
    assert d.post_as(f"Practitioner/{outsider}", f"{path}/$review", approve).status_code == 404
    assert d.post_as(DOCTOR, f"{path}/$review", approve).json()["status"] == "executable"

    signing = d.signing(f"Patient/{resident}")
    assert key_of(d.post_as(mine, f"{path}/$sign", *signing)) == (422, "staff-only")
    signed = d.post_as(DOCTOR, f"{path}/$sign", *signing)
    assert signed.json()["status"] == "executable", "it waits for its payment"
    bill = paid_bill(d, resident, 60)
    assert d.post_as(theirs, f"{path}/$confirm-payment", bill).status_code == 404
    paid = d.post_as(mine, f"{path}/$confirm-payment", bill)
    assert paid.json()["status"] == "executed", paid.text
    who = {
        one["activity"]["coding"][0]["code"]: one["agent"][0]["who"]["reference"]
        for one in d.found(f"/Provenance?target=Contract/{contract}&_count=50")
    }
    assert who == {
        "application": f"Patient/{resident}",
        "review": DOCTOR,
        "sign": DOCTOR,
        "payment": f"Patient/{resident}",
    }

    # A plain write is no way around the steps, and nobody ends another's contract.
    found = d.get(path)
    for header in (mine, theirs):
        url = f"{d.guarded}{path}"
        changed = {**found, "status": "terminated"}
        assert httpx.put(url, json=changed, headers=header).status_code in (403, 404)
    early = text("reason", "04")
    assert d.post_as(theirs, f"{path}/$terminate", early).status_code == 404
    assert key_of(d.post_as(mine, f"{path}/$terminate", text("reason", "02")))[1] == "staff-only"
    assert d.post_as(mine, f"{path}/$terminate", early).json()["status"] == "cancelled"


def test_a_guardian_acts_for_a_minor_and_no_other_relative_does(district: District) -> None:
    d = district
    child = d.resident(f"{today().year - 6}-01-01")
    guardian, aunt = d.relative(child), d.relative(child)
    d.proxy(child, guardian, "view")
    mine, hers = (
        token("user/*.cruds", fhirUser=f"RelatedPerson/{one}") for one in (guardian, aunt)
    )
    contract = d.id("c")
    wish = d.wish(child, contract, text("mode", "resident-app"))
    assert d.post_as(hers, "/Contract/$submit-application", *wish).status_code in (400, 403)
    made = d.post_as(mine, "/Contract/$submit-application", *wish)
    assert (made.status_code, made.json()["status"]) == (201, "offered")
    path = f"/Contract/{contract}"
    assert d.get_with(mine, path).status_code == 200
    assert d.get_with(hers, path).status_code == 404
    d.post_as(DOCTOR, f"{path}/$review", text("verdict", "approve"))
    alone = d.signing(f"Patient/{child}")
    assert key_of(d.post_as(DOCTOR, f"{path}/$sign", *alone)) == (422, "guardian-required")
    other = d.relative(d.resident())
    strange = d.signing(f"RelatedPerson/{other}")
    assert key_of(d.post_as(DOCTOR, f"{path}/$sign", *strange)) == (422, "signer-not-related")
    signed = d.post_as(DOCTOR, f"{path}/$sign", *d.signing(f"RelatedPerson/{guardian}"))
    assert signed.json()["status"] == "executed"


def test_the_token_of_a_resident_opens_the_own_record_alone(district: District) -> None:
    """The twin of the refusals above: with a system's token the same requests go through."""
    d = district
    resident, stranger = d.resident(), d.resident()
    contract = d.signed(resident)
    theirs, systems = launched(stranger), token("system/*.cruds")
    for path in (
        f"/Contract/{contract}",
        f"/Patient/{resident}",
        f"/Patient/{resident}/$timeline",
        f"/Patient/{resident}/$my-family-doctor",
        f"/Contract/{contract}/_history",
    ):
        assert d.get_with(theirs, path).status_code == 404, path
        assert d.get_with(systems, path).status_code == 200, path
    query = f"/Contract?patient={resident}"
    assert "entry" not in d.get_with(theirs, query).json()
    assert len(d.get_with(systems, query).json()["entry"]) == 1


def test_an_app_finds_the_topics_it_can_subscribe_to(district: District) -> None:
    rest = district.get("/metadata")["rest"][0]
    (kind,) = (one for one in rest["resource"] if one["type"] == "Subscription")
    told = [one["valueCanonical"] for one in kind["extension"]]
    backport = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
    assert kind["supportedProfile"] == [f"{backport}backport-subscription"]
    assert {one["url"] for one in kind["extension"]} == {
        f"{backport}capabilitystatement-subscriptiontopic-canonical"
    }
    assert len(told) == len(set(told)) == len(TOPICS)
    for canonical in told:
        channel = {"type": "websocket"}
        assert wish_of({"criteria": canonical, "channel": channel}).topic.canonical == canonical


def subscription(d: District, who: str | None, topic: str = "followup-result") -> dict[str, Any]:
    named = {"contact": [{"system": "other", "value": who}]} if who else {}
    return {
        "resourceType": "Subscription",
        "id": d.id("sub"),
        "status": "requested",
        "reason": "app",
        "criteria": f"{BASE}/SubscriptionTopic/{topic}",
        "channel": {"type": "websocket", "payload": "application/fhir+json"},
        **named,
    }


def told(d: District, header: dict[str, str], id_: str) -> list[str]:
    """Return what the events are about, as far as the caller is told."""
    answer = d.get_with(header, f"/Subscription/{id_}/$events")
    if answer.status_code != 200:
        return []
    return [one["fullUrl"].partition("/fhir/")[2] for one in answer.json()["entry"][1:]]


def test_staff_hear_of_what_they_may_see_and_of_nothing_else(district: District) -> None:
    d = district
    outside = {"managingOrganization": {"reference": f"Organization/{d.id('elsewhere')}"}}
    d.put({"resourceType": "Organization", "id": outside["managingOrganization"]["reference"][13:],
           "name": "别处"})  # fmt: skip
    mine, other = d.resident(), d.resident(**outside)
    doctor, colleague = (
        token("user/*.cruds", fhirUser=f"Practitioner/{one}") for one in ("d1", "d2")
    )
    system = token("system/*.cruds")

    def write(header: dict[str, str], one: dict[str, Any]) -> httpx.Response:
        return httpx.put(f"{d.guarded}/Subscription/{one['id']}", json=one, headers=header)

    # Whoever names nobody, or somebody else, is told what to write; as advised it goes in.
    own = subscription(d, DOCTOR)
    for contact in (None, "Practitioner/d2"):
        refused = write(doctor, {**subscription(d, contact), "id": own["id"]})
        assert key_of(refused) == (403, "subscription-contact")
    assert write(doctor, own).status_code == 201
    patient = token("patient/*.cruds", patient=f"Patient/{mine}", fhirUser=f"Patient/{mine}")
    assert write(patient, subscription(d, f"Patient/{mine}")).status_code == 403
    whole = subscription(d, None)
    assert write(system, whole).status_code == 201

    # It is the doctor's alone.
    path = f"/Subscription/{own['id']}"
    assert d.get_with(doctor, path).status_code == 200
    assert d.get_with(colleague, path).status_code == 404
    assert "entry" not in d.get_with(colleague, "/Subscription").json()
    assert write(colleague, {**own, "reason": "x"}).status_code == 403
    d.until(lambda: d.get_with(doctor, f"{path}/$events").status_code == 200)
    d.until(lambda: d.get_with(system, f"/Subscription/{whole['id']}/$events").status_code == 200)

    forms = {}
    for resident in (other, mine):
        forms[resident] = d.id("form")
        d.put(
            {
                "resourceType": "QuestionnaireResponse",
                "id": forms[resident],
                "status": "completed",
                "subject": {"reference": f"Patient/{resident}"},
            }
        )
    about = [f"QuestionnaireResponse/{forms[one]}" for one in (other, mine)]
    d.until(lambda: told(d, system, whole["id"]) == about)  # the twin: who may see all hears all
    d.until(lambda: told(d, doctor, own["id"]) == about[1:])
    # What may no longer be seen is not told again, whatever was numbered.
    d.deny(mine, DOCTOR)
    d.until(lambda: told(d, doctor, own["id"]) == [])
    assert told(d, system, whole["id"]) == about


def test_a_death_is_put_on_record_by_who_may_change_the_record(district: District) -> None:
    d = district
    resident = d.resident()
    contract = d.signed(resident)
    proof = d.id("proof")
    d.put(
        {
            "resourceType": "DocumentReference",
            "id": proof,
            "status": "current",
            "subject": {"reference": f"Patient/{resident}"},
            "content": [{"attachment": {"title": "死亡医学证明"}}],
        }
    )
    path, day = f"/Contract/{contract}/$terminate", today().isoformat()
    died = [
        text("reason", "03"),
        {"name": "deceased", "valueDateTime": day},
        {"name": "evidence", "valueReference": {"reference": f"DocumentReference/{proof}"}},
    ]
    scopes = "user/Contract.cruds user/Patient.rs user/Task.cruds"
    reader = token(scopes, fhirUser=DOCTOR)
    assert d.post_as(reader, path, *died).status_code == 403
    assert key_of(d.post_as(f"Patient/{resident}", path, *died)) == (422, "staff-only")
    assert "deceasedDateTime" not in d.get(f"/Patient/{resident}")
    assert d.post_as(DOCTOR, path, *died).json()["status"] == "revoked"
    assert d.get(f"/Patient/{resident}")["deceasedDateTime"] == day
