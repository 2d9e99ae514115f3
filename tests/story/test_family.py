"""A family's year with its doctor, told through the REST API alone; the hospital speaks HL7.

The province's own ledger shows what it registered: institution, doctors, team and
resident first, then each step of the contract's life, each with a receipt.
"""

import asyncio
import contextlib
import datetime

import httpx
import pytest
from days import today

from adapters.port import Outgoing
from adapters.province.ledger import read_ledger
from adapters.province.simulator import running as province_running
from adapters.province.simulator import simulator_at
from adapters.transport.mllp_client import MllpSender
from care.fulfilment.items import SERVICE_ITEM
from conformance.cphc import BASE
from conformance.identity_numbers import check_character_of_id_card
from ops.settings import Settings
from ops.wiring import running_hub

ZONE = datetime.timezone(datetime.timedelta(hours=8))
DAY = datetime.timedelta(days=1)
HASH = "c" * 64
ID_SYSTEM = "urn:oid:2.16.156.10011.1.3"
ID_CARD = "99900119600501002"
ID_CARD += check_character_of_id_card(ID_CARD)
EXTENSION = f"{BASE}/StructureDefinition/cphc-"
ROLES = f"{BASE}/CodeSystem/cphc-fd-role"
KINDS = "http://terminology.hl7.org/CodeSystem/organization-type"
PRICE = 60.00


@pytest.fixture
def database_url(used_database_url: str) -> str:
    """With the package, as each start of a hub but the first finds it."""
    return used_database_url


@pytest.fixture
def anyio_backend():
    return "asyncio"


def doctor(id_):
    return {
        "resourceType": "Practitioner",
        "id": id_,
        "active": True,
        "identifier": [{"system": "urn:oid:2.16.156.10011.1.7", "value": f"S-{id_}"}],
        "name": [{"text": id_}],
        "qualification": [{"code": {"text": "全科医师"}}],
    }


def registration(id_):
    return {
        "resourceType": "PractitionerRole",
        "id": f"{id_}-family-doctor",
        "extension": [{"url": f"{EXTENSION}registration-state", "valueCode": "approved"}],
        "active": True,
        "practitioner": {"reference": f"Practitioner/{id_}"},
        "organization": {"reference": "Organization/centre"},
        "code": [{"coding": [{"system": ROLES, "code": "family-doctor"}]}],
    }


def activity(name, quota):
    return {
        "resourceType": "ActivityDefinition",
        "id": name,
        "url": f"{BASE}/ActivityDefinition/{name}",
        "version": "1",
        "status": "active",
        "title": name,
        "code": {"coding": [{"system": SERVICE_ITEM, "code": name}]},
        "extension": [{"url": f"{EXTENSION}service-quota", "valueInteger": quota}],
    }


def package(id_, price, *items):
    return {
        "resourceType": "PlanDefinition",
        "id": id_,
        "url": f"{BASE}/PlanDefinition/{id_}",
        "version": "1",
        "status": "draft",
        "title": id_,
        "extension": [
            {"url": f"{EXTENSION}package-price", "valueMoney": {"value": price, "currency": "CNY"}}
        ],
        "action": [{"definitionCanonical": f"{BASE}/ActivityDefinition/{one}|1"} for one in items],
    }


WORLD = [
    {
        "resourceType": "Organization",
        "id": "centre",
        "identifier": [{"system": "urn:oid:2.16.156.10011.1.5", "value": "999001-centre"}],
        "type": [{"coding": [{"system": KINDS, "code": "prov"}]}],
        "name": "桥南社区卫生服务中心",
    },
    {
        "resourceType": "Patient",
        "id": "p1",
        "active": True,
        "identifier": [{"use": "official", "system": ID_SYSTEM, "value": ID_CARD}],
        "name": [{"text": "王秀英", "family": "王", "given": ["秀英"]}],
        "gender": "female",
        "birthDate": "1960-05-01",
    },
    doctor("d1"),
    doctor("d2"),
    registration("d1"),
    registration("d2"),
    {
        "resourceType": "CareTeam",
        "id": "t1",
        "status": "active",
        "name": "桥南家庭医生团队",
        "managingOrganization": [{"reference": "Organization/centre"}],
        "participant": [{"member": {"reference": f"Practitioner/{one}"}} for one in ("d1", "d2")],
    },
    activity("bp", 4),
    activity("education", 2),
    package("basic", PRICE, "bp"),
    package("elderly", 40.00, "education"),
    {
        "resourceType": "ConceptMap",
        "id": "hospital-services",
        "status": "active",
        "group": [
            {
                "source": "urn:oid:1.2.3.4.5",
                "target": SERVICE_ITEM,
                "element": [
                    {"code": "HTN", "target": [{"code": "bp", "equivalence": "equivalent"}]}
                ],
            }
        ],
    },
]


def visit(control_id="V1"):
    now = datetime.datetime.now(ZONE).strftime("%Y%m%d%H%M%S+0800")
    return (
        f"MSH|^~\\&|HIS|H1|QIAO|HUB|{now}||ADT^A04^ADT_A01|{control_id}|P|2.5.1"
        "||||||UNICODE UTF-8\r"
        f"EVN|A04|{now}\r"
        f"PID|1||{ID_CARD}^^^CN^NNCHN||王^秀英||19600501|F\r"
        f"PV1|1|O|||||||||||||||||{control_id}^^^H1^VN|||||||||||||||||||||||||{now}\r"
        "PV2|||HTN^高血压随访^1.2.3.4.5\r"
    ).encode()


def asked(*packages, **named):
    parts = []
    for name, value in named.items():
        if isinstance(value, bool):
            parts.append({"name": name, "valueBoolean": value})
        elif isinstance(value, dict):
            parts.append({"name": name, "valueSignature": value})
        elif isinstance(value, str) and value.partition("/")[0] in REFERENCED:
            parts.append({"name": name, "valueReference": {"reference": value}})
        else:
            parts.append({"name": name, "valueString": str(value)})
    for id_, price in packages:
        definition = {
            "name": "definition",
            "valueReference": {"reference": f"PlanDefinition/{id_}"},
        }
        part = [definition, {"name": "price", "valueDecimal": price}]
        parts.append({"name": "package", "part": part})
    return {"resourceType": "Parameters", "parameter": parts}


REFERENCED = {"Patient", "Practitioner", "CareTeam", "Invoice", "Task"}


def signature(who):
    return {
        "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
        "when": datetime.datetime.now(ZONE).isoformat(),
        "who": {"reference": who},
        "data": "iVBORw0KGgo=",
    }


def signing(doctor_="Practitioner/d1"):
    return {
        "residentParty": "Patient/p1",
        "doctorParty": doctor_,
        "residentSignature": signature("Patient/p1"),
        "doctorSignature": signature(doctor_),
        "agreementHash": HASH,
    }


class Teller:
    """The story's voice: each step is a request that must be answered well.

    `ledger` is the province's own file of what it registered.
    """

    def __init__(self, client, ledger):
        self.client = client
        self.ledger = ledger

    async def registered(self, kind, number="", step="", times=1):
        """Wait until the province has registered it so often (None: at all); return the last."""

        async def is_there():
            found = [
                one
                for one in read_ledger(self.ledger)
                if (one.business_type, one.step) == (kind, step) and number in ("", one.number)
            ]
            return found[-1] if found and times in (None, len(found)) else None

        entry = await self.until(is_there)
        assert entry.registration_no
        assert entry.digest
        return entry

    async def post(self, path, body, status=200):
        answer = await self.client.post(path, json=body)
        assert answer.status_code == status, f"{path}: {answer.text}"
        return answer.json()

    async def get(self, path):
        answer = await self.client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer.json()

    async def services(self, contract="c1"):
        found = await self.get(f"/Task?based-on=Contract/{contract}&_count=100")
        tasks = [entry["resource"] for entry in found.get("entry", ())]
        return [one for one in tasks if "instantiatesCanonical" in one]

    async def until(self, condition, seconds=30):
        for _ in range(int(seconds * 10)):
            if found := await condition():
                return found
            await asyncio.sleep(0.1)
        raise AssertionError("it did not happen in time")


@contextlib.asynccontextmanager
async def district(database_url, folder):
    province = simulator_at(folder, key=b"story")
    async with province_running(province) as url:
        settings = Settings(
            auth="off",
            http_port=0,
            mllp_port=0,
            doctor_review="recorded",
            province_url=url,
            province_key="story",
        )
        async with (
            running_hub(settings, database_url) as hub,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=30
            ) as client,
        ):
            yield Teller(client, folder / "province-ledger.jsonl"), hub.mllp_port


@pytest.mark.anyio
async def test_a_family_signs_pays_is_served_delegated_amends_and_renews(database_url, tmp_path):
    async with district(database_url, tmp_path) as (tell, mllp_port):
        for resource in WORLD:
            path = f"/{resource['resourceType']}/{resource['id']}"
            made = await tell.client.put(path, json=resource)
            assert made.status_code == 201, made.text
        for id_ in ("basic", "elderly"):
            await tell.post(f"/PlanDefinition/{id_}/$publish-package", asked())
        for kind, number in (("institution", "999001-centre"), ("doctor", "S-d1"), ("team", "t1")):
            # A doctor whom the province has before the role is written is told it again.
            await tell.registered(kind, number, times=None)
        await tell.registered("resident")

        # The family scans the doctor's code and applies.
        code = await tell.post("/CareTeam/t1/$invitation-code", asked(doctor="Practitioner/d1"))
        token = next(p["valueString"] for p in code["parameter"] if p["name"] == "invitation")
        application = asked(
            ("basic", PRICE),
            contractId="c1",
            resident="Patient/p1",
            team="CareTeam/t1",
            start=today(),
            end=today() + 364 * DAY,
            agreementHash=HASH,
            mode="qr",
            payFirst=True,
            invitation=token,
        )
        applied = await tell.post("/Contract/$submit-application", application, 201)
        assert applied["status"] == "offered"
        number = applied["identifier"][0]["value"]
        await tell.registered("contract", number, "01")

        # It is reviewed and signed; it is not in effect before it is paid.
        await tell.post("/Contract/c1/$review", asked(verdict="approve"))
        await tell.registered("contract", number, "02")
        signed = await tell.post("/Contract/c1/$sign", asked(**signing()))
        assert signed["status"] == "executable"
        assert await tell.services() == []
        await tell.registered("contract", number, "03")

        # The family pays: an Invoice that is balanced stands for the payment port.
        invoice = {
            "resourceType": "Invoice",
            "id": "i1",
            "status": "balanced",
            "subject": {"reference": "Patient/p1"},
            "totalNet": {"value": PRICE, "currency": "CNY"},
        }
        await tell.client.put("/Invoice/i1", json=invoice)
        paid = await tell.post("/Contract/c1/$confirm-payment", asked(invoice="Invoice/i1"))
        assert paid["status"] == "executed"
        await tell.registered("contract", number, "04")
        services = await tell.services()
        assert sorted(one["status"] for one in services) == ["ready", *["requested"] * 3]

        # She is seen at the hospital: its HL7 message completes the service by itself.
        sender = MllpSender(host="127.0.0.1", port=mllp_port)
        receipt = await sender.send(_outgoing(visit()))
        await sender.close()
        assert receipt.verdict == "accepted", receipt

        async def is_served():
            return [one for one in await tell.services() if one["status"] == "completed"]

        (served,) = await tell.until(is_served)
        source = served["output"][0]["valueReference"]["reference"]
        encounter = await tell.get(f"/{source}")
        assert encounter["subject"] == {"reference": "Patient/p1"}

        # Her doctor is on leave; a colleague stands in and it ends by itself.
        start = datetime.datetime.now(ZONE)
        await tell.post(
            "/Contract/c1/$delegate",
            asked(
                to="Practitioner/d2",
                **{"from": "Practitioner/d1"},
                start=start.isoformat(),
                end=(start + 7 * DAY).isoformat(),
                kind="leave",
            ),
        )
        team = await tell.get("/CareTeam/t1")
        standing_in = [p for p in team["participant"] if "extension" in p]
        assert [p["member"]["reference"] for p in standing_in] == ["Practitioner/d2"]
        changed = await tell.registered("team", "t1", times=2)
        assert (changed.operation, changed.data_version) == ("U", str(team["meta"]["versionId"]))

        # She takes another package; the services of the new one are added.
        amended = await tell.post(
            "/Contract/c1/$amend",
            asked(("basic", PRICE), ("elderly", 40.00), agreementHash=HASH),
        )
        resigned = await tell.post(f"/Contract/{amended['id']}/$sign", asked(**signing()))
        assert resigned["status"] == "executable", "what it costs more is paid first"
        more = {**invoice, "id": "i2", "totalNet": {"value": 40.00, "currency": "CNY"}}
        await tell.client.put("/Invoice/i2", json=more)
        pay = f"/Contract/{amended['id']}/$confirm-payment"
        resigned = await tell.post(pay, asked(invoice="Invoice/i2"))
        assert (resigned["id"], resigned["status"]) == ("c1", "executed")
        codes = sorted(one["code"]["coding"][0]["code"] for one in await tell.services())
        assert codes == ["bp"] * 4 + ["education"] * 2
        await tell.registered("contract", number, "05")

        # She renews: a following contract, without a gap.
        renewed = await tell.post(
            "/Contract/c1/$renew",
            asked(
                ("basic", PRICE),
                ("elderly", 40.00),
                contractId="c2",
                end=today() + 729 * DAY,
                **signing(),
            ),
        )
        assert renewed["applies"]["start"][:10] == str(today() + 365 * DAY)
        assert (await tell.get("/Contract/c1"))["status"] == "executed"

        following = renewed["identifier"][0]["value"]
        await tell.registered("contract", following, "07")

        # She moves away before it begins.
        gone = await tell.post("/Contract/c2/$terminate", asked(reason="02", words="迁出"))
        assert gone["status"] == "revoked"
        await tell.registered("contract", following, "08")

        # Each step was one submission in its order; the receipts stand at the contract.
        steps = [(one.number, one.step) for one in read_ledger(tell.ledger) if one.number == number]
        assert steps == [(number, step) for step in ("01", "02", "03", "04", "05")]
        bundle = await tell.get("/Contract/c1/$submissions")
        tasks = [entry["resource"] for entry in bundle["entry"]]
        assert [(one["description"], one["status"]) for one in tasks] == [
            (step, "completed") for step in ("application", "review", "sign", "execute", "amend")
        ]
        receipts = {one["output"][0]["valueString"] for one in tasks}
        assert len(receipts) == 1, "one registration number for all steps of a contract"


def _outgoing(payload):
    return Outgoing(key="visit", payload=payload, content_type="x-application/hl7-v2+er7")
