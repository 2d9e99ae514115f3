"""What is registered at the province reaches it after its parents, or says why it does not."""

import asyncio
import contextlib
import datetime
import json
from dataclasses import replace

import httpx
import pytest
from days import today
from district import DAY, parameters, signature, text

from adapters.province.ledger import read_ledger
from adapters.province.simulator import running as province_running
from adapters.province.simulator import simulator_at
from conformance.cphc import BASE
from conformance.identity_numbers import check_character_of_id_card
from ops import wiring
from ops.province_choice import choose_province
from ops.settings import Settings

HASH = "c" * 64
pytestmark = pytest.mark.slow  # each starts a hub beside a province
EXTENSION = f"{BASE}/StructureDefinition/cphc-"
CARD = "99900119600501002"
CARD += check_character_of_id_card(CARD)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def organization(id_="centre", **more):
    kind = "http://terminology.hl7.org/CodeSystem/organization-type"
    return {
        "resourceType": "Organization",
        "id": id_,
        "identifier": [{"system": "urn:oid:2.16.156.10011.1.5", "value": f"999001-{id_}"}],
        "type": [{"coding": [{"system": kind, "code": "prov"}]}],
        "name": "桥南社区卫生服务中心",
        **more,
    }


def practitioner(id_="d1"):
    return {
        "resourceType": "Practitioner",
        "id": id_,
        "active": True,
        "identifier": [{"system": "urn:oid:2.16.156.10011.1.7", "value": f"S-{id_}"}],
        "name": [{"text": id_}],
        "qualification": [{"code": {"text": "全科医师"}}],
    }


def registration(id_="d1", state="approved"):
    return {
        "resourceType": "PractitionerRole",
        "id": f"{id_}-family-doctor",
        "extension": [{"url": f"{EXTENSION}registration-state", "valueCode": state}],
        "active": state == "approved",
        "practitioner": {"reference": f"Practitioner/{id_}"},
        "organization": {"reference": "Organization/centre"},
        "code": [{"coding": [{"system": f"{BASE}/CodeSystem/cphc-fd-role", "code": "leader"}]}],
    }


def team(**more):
    return {
        "resourceType": "CareTeam",
        "id": "t1",
        "status": "active",
        "name": "桥南家庭医生团队",
        "managingOrganization": [{"reference": "Organization/centre"}],
        "participant": [{"member": {"reference": "Practitioner/d1"}}],
        **more,
    }


def patient(id_="p1", card=CARD, **more):
    system = "urn:oid:2.16.156.10011.1.3"
    return {
        "resourceType": "Patient",
        "id": id_,
        "active": True,
        "identifier": [{"system": system if card else "urn:local", "value": card or "L1"}],
        "name": [{"text": "王秀英"}],
        "gender": "female",
        "birthDate": "1960-05-01",
        **more,
    }


def package():
    price = {"url": f"{EXTENSION}package-price", "valueMoney": {"value": 60.00, "currency": "CNY"}}
    return [
        {
            "resourceType": "ActivityDefinition",
            "id": "bp",
            "url": f"{BASE}/ActivityDefinition/bp",
            "version": "1",
            "status": "active",
            "title": "血压",
            "code": {"text": "bp"},
        },
        {
            "resourceType": "PlanDefinition",
            "id": "basic",
            "url": f"{BASE}/PlanDefinition/basic",
            "version": "1",
            "status": "draft",
            "title": "基础包",
            "extension": [price],
            "action": [{"definitionCanonical": f"{BASE}/ActivityDefinition/bp|1"}],
        },
    ]


PARENTS = [organization(), practitioner(), registration(), team(), *package()]


class Site:
    """A hub beside a province, and short words for both."""

    def __init__(self, client, hub, ledger):
        self.client, self.hub, self.ledger = client, hub, ledger

    async def put(self, *resources):
        for one in resources:
            answer = await self.client.put(f"/{one['resourceType']}/{one['id']}", json=one)
            assert answer.status_code in (200, 201), answer.text

    async def post(self, path, *parts):
        answer = await self.client.post(path, json=parameters(*parts))
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def sign(self, contract="c1", resident="p1"):
        """Apply and sign in one step beside the doctor."""

        def ref(name, reference):
            return {"name": name, "valueReference": {"reference": reference}}

        def day(name, on):
            return {"name": name, "valueDate": str(on)}

        part = [ref("definition", "PlanDefinition/basic"), {"name": "price", "valueDecimal": 60.00}]
        return await self.post(
            "/Contract/$sign",
            text("contractId", contract),
            ref("resident", f"Patient/{resident}"),
            ref("team", "CareTeam/t1"),
            {"name": "package", "part": part},
            day("start", today()),
            day("end", today() + 364 * DAY),
            text("agreementHash", HASH),
            text("mode", "consulting-room"),
            ref("residentParty", f"Patient/{resident}"),
            ref("doctorParty", "Practitioner/d1"),
            {"name": "residentSignature", "valueSignature": signature(f"Patient/{resident}")},
            {"name": "doctorSignature", "valueSignature": signature("Practitioner/d1")},
        )

    async def tasks(self, of):
        answer = await self.client.get(f"/{of}/$submissions")
        assert answer.status_code == 200, answer.text
        return [entry["resource"] for entry in answer.json().get("entry", ())]

    async def until(self, of, *states):
        """Wait until the submissions about it have these states; return their Tasks.

        What a newer one stands for, or nothing came of, counts only where it is asked for.
        """
        quiet = {"superseded", "withdrawn"} - {*states}
        for _ in range(150):
            told = [
                (one["businessStatus"]["text"].partition(" ")[0], one)
                for one in await self.tasks(of)
            ]
            found = [(word, one) for word, one in told if word not in quiet]
            if [word for word, _ in found] == list(states):
                return [one for _, one in found]
            await asyncio.sleep(0.1)
        raise AssertionError(json.dumps(await self.tasks(of), ensure_ascii=False, indent=1))

    def steps(self):
        return [one.step for one in read_ledger(self.ledger) if one.business_type == "contract"]


@pytest.fixture
def database_url(used_database_url: str) -> str:
    """With the package, as each start of a hub but the first finds it."""
    return used_database_url


@contextlib.asynccontextmanager
async def site(database_url, folder):
    province = simulator_at(folder, key=b"key")
    async with province_running(province) as url:
        settings = Settings(
            auth="off", http_port=0, mllp_port=0, province_url=url, province_key="key"
        )
        async with (
            wiring.running_hub(settings, database_url) as hub,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=30
            ) as client,
        ):
            yield Site(client, hub, folder / "province-ledger.jsonl")


@pytest.mark.anyio
async def test_a_contract_waits_for_its_resident_and_goes_when_the_advice_is_followed(
    database_url, tmp_path
):
    async with site(database_url, tmp_path) as here:
        await here.put(*PARENTS, patient(card=""))
        await here.post("/PlanDefinition/basic/$publish-package")
        (refused,) = await here.until("Patient/p1", "rejected")
        assert "Resident/IdCard" in refused["statusReason"]["text"]
        await here.sign()
        await here.until("CareTeam/t1", "accepted")
        (waiting,) = await here.until("Contract/c1", "queued")
        assert waiting["input"][1]["valueString"].split()[0] == "Patient/p1"
        assert here.steps() == []
        # The resident's number is filled in, as the refusal said.
        await here.put(patient())
        (done,) = await here.until("Contract/c1", "accepted")
        assert done["output"][0]["valueString"].startswith("P")
        assert done["focus"]["reference"] == "Contract/c1/_history/1"
        assert here.steps() == ["03"]


@pytest.mark.anyio
async def test_without_the_wait_the_province_refuses_the_contract(
    database_url, tmp_path, monkeypatch
):
    """The twin: where nothing waits, the contract comes before its resident."""

    def hasty(written):
        is_contract = written.version.type == "Contract"
        return tuple(
            replace(one, depends_on=None) if is_contract else one
            for one in choose_province(written)
        )

    monkeypatch.setattr(wiring, "choose_province", hasty)
    async with site(database_url, tmp_path) as here:
        await here.put(*PARENTS, patient(card=""))
        await here.post("/PlanDefinition/basic/$publish-package")
        await here.sign()
        (refused,) = await here.until("Contract/c1", "rejected")
        assert "Resident" in refused["statusReason"]["text"]


@pytest.mark.anyio
async def test_a_death_and_a_term_that_is_over_are_told_and_nothing_after_them(
    database_url, tmp_path
):
    async with site(database_url, tmp_path) as here:
        await here.put(*PARENTS, patient())
        await here.post("/PlanDefinition/basic/$publish-package")
        await here.sign()
        await here.until("Contract/c1", "accepted")
        await here.put(patient(deceasedBoolean=True))
        _, ended = await here.until("Contract/c1", "accepted", "accepted")
        assert ended["description"] == "terminate"
        assert here.steps() == ["03", "08"]
        # A doctor who is suspended is told as a change of his registration.
        await here.put(registration(state="suspended"))
        await here.until("Practitioner/d1", "accepted", "accepted")
        (last,) = [one for one in read_ledger(here.ledger) if one.business_type == "doctor"][-1:]
        assert (last.operation, last.number) == ("U", "S-d1")


@pytest.mark.anyio
async def test_demonstration_data_goes_to_nobody_whoever_changes_it(database_url, tmp_path):
    marked = {
        "resourceType": "Provenance",
        "id": "demo",
        "target": [{"reference": "CareTeam/t1"}],
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(),
        "activity": {
            "coding": [{"system": f"{BASE}/CodeSystem/cphc-identity-activity", "code": "demo"}]
        },
        "agent": [{"who": {"display": "qiao demo-data"}}],
    }
    async with site(database_url, tmp_path) as here:
        await here.put(marked, *PARENTS, patient())
        await here.post("/PlanDefinition/basic/$publish-package")
        (withheld,) = await here.until("CareTeam/t1", "withdrawn")
        assert "demonstration data" in withheld["statusReason"]["text"]
        await here.sign()
        await here.until("Contract/c1", "withdrawn")
        await here.until("Patient/p1", "accepted")
        kinds = {one.business_type for one in read_ledger(here.ledger)}
        assert not kinds & {"team", "contract"}


@pytest.mark.anyio
async def test_who_is_only_named_in_messages_is_registered_by_nobody(database_url, tmp_path):
    async with site(database_url, tmp_path) as here:
        await here.put(
            {"resourceType": "Organization", "id": "ward", "name": "内科"},
            {"resourceType": "Practitioner", "id": "named", "name": [{"text": "李医生"}]},
            practitioner("d9"),
        )
        await here.until("Practitioner/d9", "withdrawn")
        assert await here.tasks("Organization/ward") == []
        assert await here.tasks("Practitioner/named") == []
        assert (await here.client.get("/Patient/nobody/$submissions")).status_code == 404
