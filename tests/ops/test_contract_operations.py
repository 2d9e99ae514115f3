"""A family signs: the steps of a contract over HTTP, conflicts and repeats included."""

import asyncio
import datetime
from typing import Any

import httpx
import pytest
from contracting import (
    APPROVE,
    SIGNING,
    WORLD,
    application,
    asked,
    other_packages,
    signing,
    to_be_signed,
    world,
)
from days import next_year, today


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_family_applies_is_reviewed_and_signs(database_url: str) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        signed = await client.post("/Contract/c1/$sign", json=SIGNING)
        assert signed.status_code == 200, signed.text
        assert signed.json()["status"] == "executed"
        assert [s["party"]["reference"] for s in signed.json()["signer"]] == [
            "Patient/p1", "Practitioner/d1",
        ]  # fmt: skip
        versions = (await client.get("/Contract/c1/_history")).json()
        assert [e["resource"]["status"] for e in versions["entry"]] == [
            "executed", "executable", "offered",
        ]  # fmt: skip
        tasks = (await client.get("/Task?focus=Contract/c1")).json()
        assert {
            e["resource"]["code"]["coding"][0]["code"]: e["resource"]["status"]
            for e in tasks["entry"]
        } == {"review-contract": "accepted", "sign-contract": "completed"}
        signings = (await client.get("/Provenance?target=Contract/c1")).json()
        evidence = [e["resource"] for e in signings["entry"] if "signature" in e["resource"]]
        assert len(evidence) == 1


@pytest.mark.anyio
async def test_of_two_contracts_signed_at_once_exactly_one_wins(database_url: str) -> None:
    async with world(database_url) as client:
        names = [f"c{n}" for n in range(6)]
        for name in names:
            await to_be_signed(client, name)
        answers = await asyncio.gather(
            *(client.post(f"/Contract/{name}/$sign", json=SIGNING) for name in names)
        )
        codes = sorted(answer.status_code for answer in answers)
        assert codes.count(200) == 1, [a.text for a in answers]
        assert all(code in (200, 409, 412, 422) for code in codes)
        for name, answer in zip(names, answers, strict=True):
            contract = (await client.get(f"/Contract/{name}")).json()
            is_winner = answer.status_code == 200
            assert contract["status"] == ("executed" if is_winner else "executable")
            work = (await client.get(f"/Task/{name}-sign-contract")).json()
            assert work["status"] == ("completed" if is_winner else "requested")
            who = (await client.get(f"/Provenance?target=Contract/{name}")).json()["entry"]
            assert len(who) == (3 if is_winner else 2), "nothing is half-written"


@pytest.mark.anyio
async def test_after_an_early_end_the_resident_may_sign_again(database_url: str) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        await client.post("/Contract/c1/$sign", json=SIGNING)
        await to_be_signed(client, "c2")
        taken = await client.post("/Contract/c2/$sign", json=SIGNING)
        assert taken.status_code in (409, 412, 422)
        reason = asked({"name": "reason", "valueCode": "05"})
        ended = await client.post("/Contract/c1/$terminate", json=reason)
        assert ended.json()["status"] == "cancelled"
        signed = await client.post("/Contract/c2/$sign", json=SIGNING)
        assert signed.json()["status"] == "executed"


@pytest.mark.anyio
async def test_a_repeat_from_a_device_that_was_offline_changes_nothing(database_url: str) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        key = {"Idempotency-Key": "tablet-7-0001"}
        first = await client.post("/Contract/c1/$sign", json=SIGNING, headers=key)
        again = await client.post("/Contract/c1/$sign", json=SIGNING, headers=key)
        assert (first.status_code, first.content) == (again.status_code, again.content)
        unkeyed = await client.post("/Contract/c1/$sign", json=SIGNING)
        assert unkeyed.status_code == 422
        assert "Possible now" in unkeyed.json()["issue"][0]["diagnostics"]


@pytest.mark.anyio
async def test_a_wrong_price_and_missing_words_are_refused_with_advice(database_url: str) -> None:
    async with world(database_url) as client:
        cheap = await client.post("/Contract/$submit-application", json=application("c1", 1.00))
        assert cheap.status_code == 422
        assert cheap.json()["issue"][0]["details"]["coding"][0]["code"] == "contract-price"
        empty = await client.post("/Contract/$submit-application", json=asked())
        assert empty.status_code == 400
        unknown = await client.post("/Contract/none/$sign", json=SIGNING)
        assert unknown.status_code == 404


@pytest.mark.anyio
async def test_a_doctor_beside_the_resident_signs_in_one_step(database_url: str) -> None:
    async with world(database_url) as client:
        both = application("c1")["parameter"] + [
            one for one in SIGNING["parameter"] if one["name"] != "agreementHash"
        ]
        signed = await client.post("/Contract/$sign", json=asked(*both))
        assert signed.status_code == 201, signed.text
        assert signed.json()["status"] == "executed"
        assert (await client.get("/Task/c1-sign-contract")).json()["status"] == "completed"


@pytest.mark.anyio
async def test_an_offline_signing_that_came_too_late_keeps_its_proof(database_url: str) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        await client.post("/Contract/c1/$sign", json=SIGNING)
        await to_be_signed(client, "c2")
        online = await client.post("/Contract/c2/$sign", json=SIGNING)
        assert online.status_code == 409
        assert online.json()["issue"][0]["details"]["coding"][0]["code"] == "contract-overlap"
        offline = signing(
            "Patient/p1",
            {"name": "signedOffline", "valueBoolean": True},
            {"name": "photo", "valueAttachment": {"contentType": "image/jpeg", "data": "/9j/"}},
        )
        late = await client.post("/Contract/c2/$sign", json=offline)
        assert late.status_code == 200, late.text
        assert late.json()["status"] == "rejected"
        work = (await client.get("/Task/c2-sign-contract")).json()
        assert work["status"] == "rejected"
        assert "签约" in work["statusReason"]["text"]
        who = (await client.get("/Provenance?target=Contract/c2")).json()["entry"]
        (proof,) = [e["resource"] for e in who if "signature" in e["resource"]]
        kept = proof["extension"][0]["valueReference"]["reference"]
        photo = (await client.get(f"/{kept}")).json()
        assert photo["content"][0]["attachment"]["contentType"] == "image/jpeg"
        assert (await client.get("/Contract/c1")).json()["status"] == "executed"


@pytest.mark.anyio
async def test_a_family_applies_by_the_code_that_a_doctor_shows(database_url: str) -> None:
    async with world(database_url) as client:
        doctor = {"name": "doctor", "valueReference": {"reference": "Practitioner/d1"}}
        shown = await client.post("/CareTeam/t1/$invitation-code", json=asked(doctor))
        assert shown.status_code == 200, shown.text
        values = {part["name"]: part for part in shown.json()["parameter"]}
        assert values["image"]["valueAttachment"]["data"].startswith("iVBORw0KGgo")
        token = values["invitation"]["valueString"]
        by_code = application("c1", 60.00, "p1", {"name": "invitation", "valueString": token})
        by_code["parameter"] = [p for p in by_code["parameter"] if p["name"] != "team"]
        made = await client.post("/Contract/$submit-application", json=by_code)
        assert made.status_code == 201, made.text
        modes = [e for e in made.json()["extension"] if e["url"].endswith("cphc-sign-mode")]
        assert modes[0]["valueCode"] == "qr"
        forged = application("c2", 60.00, "p1", {"name": "invitation", "valueString": token + "x"})
        refused = await client.post("/Contract/$submit-application", json=forged)
        assert refused.status_code == 422
        assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "qr-forged"
        stranger = {"name": "doctor", "valueReference": {"reference": "Practitioner/d9"}}
        nobody = await client.post("/CareTeam/t1/$invitation-code", json=asked(stranger))
        assert nobody.status_code == 422


@pytest.mark.anyio
async def test_a_contract_that_is_paid_first_waits_for_its_invoice(database_url: str) -> None:
    async with world(database_url) as client:
        wish = application("c1", 60.00, "p1", {"name": "payFirst", "valueBoolean": True})
        await client.post("/Contract/$submit-application", json=wish)
        await client.post("/Contract/c1/$review", json=APPROVE)
        signed = await client.post("/Contract/c1/$sign", json=SIGNING)
        assert signed.json()["status"] == "executable"
        invoice = {
            "resourceType": "Invoice",
            "id": "i1",
            "status": "issued",
            "subject": {"reference": "Patient/p1"},
            "totalNet": {"value": 60.00, "currency": "CNY"},
        }
        await client.put("/Invoice/i1", json=invoice)
        named = asked({"name": "invoice", "valueReference": {"reference": "Invoice/i1"}})
        early = await client.post("/Contract/c1/$confirm-payment", json=named)
        assert early.status_code == 422
        await client.put("/Invoice/i1", json={**invoice, "status": "balanced"})
        paid = await client.post("/Contract/c1/$confirm-payment", json=named)
        assert paid.json()["status"] == "executed", paid.text
        assert (await client.get("/Task/c1-collect-payment")).json()["status"] == "completed"


@pytest.mark.anyio
async def test_two_versions_at_once_exactly_one_is_open(database_url: str) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        await client.post("/Contract/c1/$sign", json=SIGNING)
        extra = {**WORLD[-1], "id": "extra"}
        await client.put("/PlanDefinition/extra", json=extra)
        wish = other_packages()
        for part in wish["parameter"]:
            if part["name"] == "package":
                part["part"][0]["valueReference"]["reference"] = "PlanDefinition/extra"
        answers = await asyncio.gather(
            *(client.post("/Contract/c1/$amend", json=wish) for _ in range(3))
        )
        assert sorted(one.status_code for one in answers) == [200, 409, 409]
        (draft,) = [one.json() for one in answers if one.status_code == 200]
        signed = await client.post(f"/Contract/{draft['id']}/$sign", json=SIGNING)
        assert signed.json()["id"] == "c1", signed.text
        assert signed.json()["legalState"]["coding"][0]["code"] == "amended"
        again = await client.post("/Contract/c1/$amend", json=wish)
        assert again.status_code == 200


@pytest.mark.anyio
async def test_a_delegation_is_written_into_the_team_and_taken_back(database_url: str) -> None:
    async with world(database_url) as client:
        await client.put("/Practitioner/d2", json={**WORLD[2], "id": "d2"})
        await to_be_signed(client, "c1")
        await client.post("/Contract/c1/$sign", json=SIGNING)
        wish = asked(
            {"name": "from", "valueReference": {"reference": "Practitioner/d1"}},
            {"name": "to", "valueReference": {"reference": "Practitioner/d2"}},
            {"name": "end", "valueDate": (today() + datetime.timedelta(days=7)).isoformat()},
        )
        made = await client.post("/Contract/c1/$delegate", json=wish)
        assert made.status_code == 200, made.text
        team = (await client.get("/CareTeam/t1")).json()
        standing_in = team["participant"][1]
        assert standing_in["member"]["reference"] == "Practitioner/d2"
        await to_be_signed(client, "c2")
        task = f"Task/{standing_in['id']}"
        assert (await client.get(f"/{task}")).json()["status"] == "in-progress"
        back = await client.post(
            "/Contract/c1/$cancel-delegation",
            json=asked({"name": "task", "valueReference": {"reference": task}}),
        )
        assert back.status_code == 200, back.text
        assert (await client.get(f"/{task}")).json()["status"] == "cancelled"
        await client.put("/Patient/p2", json={**WORLD[1], "id": "p2"})
        other = await client.post(
            "/Contract/$submit-application", json=application("c3", 60.0, "p2")
        )
        assert other.status_code == 201
        await client.post("/Contract/c3/$review", json=APPROVE)
        gone = signing("Patient/p2", doctor="Practitioner/d2")
        refused = await client.post("/Contract/c3/$sign", json=gone)
        assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "signer-not-qualified"


@pytest.mark.anyio
async def test_death_closes_the_contract_and_stops_all_messages(database_url: str) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        await client.post("/Contract/c1/$sign", json=SIGNING)
        service = {
            "resourceType": "Task",
            "id": "s1",
            "status": "requested",
            "intent": "order",
            "basedOn": [{"reference": "Contract/c1"}],
            "for": {"reference": "Patient/p1"},
        }
        await client.put("/Task/s1", json=service)
        await client.put("/Task/s2", json={**service, "id": "s2", "status": "completed"})
        message = {
            "resourceType": "CommunicationRequest",
            "id": "m1",
            "status": "active",
            "subject": {"reference": "Patient/p1"},
            "payload": [{"contentString": "请来复诊"}],
        }
        await client.put("/CommunicationRequest/m1", json=message)
        await client.put("/Patient/p1", json={**WORLD[1], "deceasedBoolean": True})
        dead = asked({"name": "reason", "valueCode": "03"})
        closed = await client.post("/Contract/c1/$terminate", json=dead)
        assert closed.json()["status"] == "revoked", closed.text
        assert (await client.get("/Task/s1")).json()["status"] == "cancelled"
        assert (await client.get("/Task/s2")).json()["status"] == "completed"
        assert (await client.get("/CommunicationRequest/m1")).json()["status"] == "revoked"


STEPS = (
    "submit-application", "review", "sign", "confirm-payment", "amend", "delegate",
    "reassign", "renew", "terminate", "dispute", "resolve", "void",
)  # fmt: skip


@pytest.mark.anyio
async def test_what_is_no_agreement_is_refused_by_every_step(database_url: str) -> None:
    odd_ones: tuple[dict[str, Any], ...] = (
        {"status": "policy"},
        {"status": "executed"},
        {"status": "executed", "subject": [{"display": "?"}]},
        {"status": "executed", "applies": {"start": "2026"}},
    )
    lenient = {"prefer": "handling=lenient"}
    async with world(database_url) as client:
        for number, odd in enumerate(odd_ones):
            made = {"resourceType": "Contract", "id": f"odd{number}", **odd}
            assert (await client.put(f"/Contract/odd{number}", json=made)).status_code == 201
            for code in STEPS:
                path = f"/Contract/odd{number}/${code}"
                answer = await client.post(path, json=SIGNING, headers=lenient)
                assert answer.status_code in (400, 422), (code, answer.text)


@pytest.mark.anyio
async def test_the_services_of_a_package_begin_and_end_with_the_contract(database_url: str) -> None:
    plan = {**WORLD[-1], "action": [{"definitionCanonical": "urn:item:bp|1"}]}
    async with world(database_url, plan) as client:
        item = {
            "resourceType": "ActivityDefinition",
            "id": "bp",
            "url": "urn:item:bp",
            "version": "1",
            "status": "active",
            "title": "测血压",
            "code": {"coding": [{"code": "bp"}]},
            "extension": [
                {
                    "url": "https://fhir.qiao.example/cphc/StructureDefinition/cphc-service-quota",
                    "valueInteger": 4,
                }
            ],
        }
        made = await client.put("/ActivityDefinition/bp", json=item)
        assert made.status_code == 201, made.text
        await to_be_signed(client, "c1")
        assert (await client.get("/Task?code=bp")).json().get("entry", []) == []
        await client.post("/Contract/c1/$sign", json=SIGNING)
        tasks = (await client.get("/Task?code=bp&based-on=Contract/c1")).json()["entry"]
        assert len(tasks) == 4
        reason = asked({"name": "reason", "valueCode": "02"})
        await client.post("/Contract/c1/$terminate", json=reason)
        tasks = (await client.get("/Task?code=bp&based-on=Contract/c1")).json()["entry"]
        assert {e["resource"]["status"] for e in tasks} == {"cancelled"}


@pytest.mark.anyio
async def test_many_contracts_are_given_to_another_team_each_or_not_at_all(
    database_url: str,
) -> None:
    async with world(database_url) as client:
        await client.put("/CareTeam/t2", json={**WORLD[3], "id": "t2", "name": "第二团队"})
        for number in range(3):
            person = f"q{number}"
            await client.put(f"/Patient/{person}", json={**WORLD[1], "id": person})
            wish = application(f"c{number}", 60.00, person)
            await client.post("/Contract/$submit-application", json=wish)
            await client.post(f"/Contract/c{number}/$review", json=APPROVE)
            if number < 2:
                signed = signing(f"Patient/{person}")
                await client.post(f"/Contract/c{number}/$sign", json=signed)
        named = [
            {"name": "contract", "valueReference": {"reference": f"Contract/{id_}"}}
            for id_ in ("c0", "c1", "c2", "none")
        ]
        team = {"name": "team", "valueReference": {"reference": "CareTeam/t2"}}
        answer = await client.post("/Contract/$reassign", json=asked(*named, team))
        assert answer.status_code == 200, answer.text
        done, *refused = answer.json()["parameter"]
        assert done["valueInteger"] == 2
        assert [one["part"][0]["valueReference"]["reference"] for one in refused] == [
            "Contract/c2", "Contract/none",
        ]  # fmt: skip
        for id_, expected in (("c0", "t2"), ("c1", "t2"), ("c2", "t1")):
            contract = (await client.get(f"/Contract/{id_}")).json()
            performer = contract["term"][0]["action"][0]["performer"]["reference"]
            assert performer == f"CareTeam/{expected}"
        told = (await client.get("/CommunicationRequest?based-on=Contract/c0")).json()["entry"]
        assert "第二团队" in told[0]["resource"]["payload"][0]["contentString"]
        assert (await client.post("/Contract/$reassign", json=asked(team))).status_code == 400


@pytest.mark.anyio
async def test_a_contract_is_never_begun_anew_under_its_id(database_url: str) -> None:
    async with world(database_url) as client:
        await client.put("/Patient/p2", json={**WORLD[1], "id": "p2"})
        await to_be_signed(client, "c1")
        before = (await client.post("/Contract/c1/$sign", json=SIGNING)).json()
        for wish in (application("c1"), application("c1", 60.00, "p2")):
            answer = await client.post("/Contract/$submit-application", json=wish)
            assert answer.status_code == 409, answer.text
            assert _key(answer) == "contract-exists"
        end = (next_year() + datetime.timedelta(days=300)).isoformat()
        renewal = asked(
            *SIGNING["parameter"],
            {"name": "contractId", "valueString": "c1"},
            {"name": "end", "valueDate": end},
        )
        assert _key(await client.post("/Contract/c1/$renew", json=renewal)) == "contract-exists"
        assert (await client.get("/Contract/c1")).json() == before
        # The advice: another id.
        other = await client.post("/Contract/$submit-application", json=application("c2"))
        assert other.status_code == 201


@pytest.mark.anyio
async def test_of_two_residents_who_apply_under_one_id_at_once_one_wins(database_url: str) -> None:
    async with world(database_url) as client:
        residents = [f"r{n}" for n in range(6)]
        for one in residents:
            await client.put(f"/Patient/{one}", json={**WORLD[1], "id": one})
        answers = await asyncio.gather(
            *(
                client.post("/Contract/$submit-application", json=application("c1", 60.00, one))
                for one in residents
            )
        )
        assert sorted(one.status_code for one in answers) == [201, 409, 409, 409, 409, 409]
        assert len((await client.get("/Contract/c1/_history")).json()["entry"]) == 1


@pytest.mark.anyio
async def test_no_way_of_signing_goes_without_its_proof(database_url: str) -> None:
    async with world(database_url) as client:
        odd = application("c1", 60.00, "p1", {"name": "mode", "valueCode": "moon"})
        answer = await client.post("/Contract/$submit-application", json=odd)
        assert (answer.status_code, _key(answer)) == (422, "sign-mode")
        advice = answer.json()["issue"][0]["diagnostics"]
        home = application("c1", 60.00, "p1", {"name": "mode", "valueCode": "home"})
        assert "home" in advice
        made = await client.post("/Contract/$submit-application", json=home)
        assert made.status_code == 201
        await client.post("/Contract/c1/$review", json=APPROVE)
        place = {
            "name": "place",
            "part": [
                {"name": "latitude", "valueDecimal": 22.5},
                {"name": "longitude", "valueDecimal": 114.0},
            ],
        }
        for no_photo in (
            {"contentType": "text/html", "data": "PGI+"},
            {"title": "照片"},
            {"contentType": "image/png"},
        ):
            photo = {"name": "photo", "valueAttachment": no_photo}
            body = signing("Patient/p1", photo, place)
            answer = await client.post("/Contract/c1/$sign", json=body)
            assert (answer.status_code, _key(answer)) == (422, "evidence-photo")
        photo = {"name": "photo", "valueAttachment": {"contentType": "image/png", "data": "iVBO"}}
        signed = await client.post("/Contract/c1/$sign", json=signing("Patient/p1", photo, place))
        assert signed.json()["status"] == "executed"


@pytest.mark.anyio
async def test_a_parameter_that_no_step_knows_is_said_out_loud(database_url: str) -> None:
    """A misspelt one would be left out in silence, and with it what somebody meant."""
    odd = {"name": "payfirst", "valueBoolean": True}
    async with world(database_url) as client:
        wish = application("c1", 60.00, "p1", odd)
        answer = await client.post("/Contract/$submit-application", json=wish)
        assert answer.status_code == 400
        issue = answer.json()["issue"][0]
        assert "'payfirst'" in issue["expression"][0]
        assert "payFirst" in issue["diagnostics"]
        twice = application(
            "c1", 60.00, "p1", {"name": "resident", "valueReference": {"reference": "Patient/p2"}}
        )
        answer = await client.post("/Contract/$submit-application", json=twice)
        assert (answer.status_code, _key(answer)) == (400, "operation-parameter")
        assert (await client.get("/Contract/c1")).status_code == 404
        lenient = {"prefer": "handling=lenient"}
        taken = await client.post("/Contract/$submit-application", json=wish, headers=lenient)
        assert taken.status_code == 201


def _key(answer: httpx.Response) -> str:
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])
