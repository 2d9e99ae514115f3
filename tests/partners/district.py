"""A hub that runs for all showings, and short words for what they ask of it."""

import asyncio
import datetime
import itertools
import json
import pathlib
import queue
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from days import today
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from adapters.identity_proof.simulator import FaceidSimulator
from adapters.notify.simulators import SmsSimulator, WechatSimulator
from adapters.transport.http_serving import serving_on_socket
from conformance.cphc import BASE
from conformance.identity_numbers import TEST_REGION, check_character_of_id_card
from ops.settings import Settings
from ops.wiring import running_hub

HASH = "c" * 64
ISSUER, AUDIENCE = "https://login.example", "https://hub.example/fhir"
_KEY = RSAKey.generate_key(2048, parameters={"kid": "district"})
LOCAL = datetime.timezone(datetime.timedelta(hours=8))
DAY = datetime.timedelta(days=1)
ITEM = f"{BASE}/CodeSystem/cphc-service-item"
ID_CARD = "urn:oid:2.16.156.10011.1.3"
_EXTENSION = f"{BASE}/StructureDefinition/cphc-"

Resource = dict[str, Any]


def text(name: str, value: str) -> Resource:
    return {"name": name, "valueString": value}


def flag(name: str) -> Resource:
    return {"name": name, "valueBoolean": True}


def parameters(*parts: Resource) -> Resource:
    return {"resourceType": "Parameters", "parameter": list(parts)}


def signature(who: str) -> Resource:
    return {
        "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
        "when": datetime.datetime.now(LOCAL).isoformat(),
        "who": {"reference": who},
        "data": "iVBORw0KGgo=",
    }


class District:
    """What the showings share: institutions, two reviewed doctors, a team, two packages."""

    def __init__(self, base: str, guarded: str, database_url: str, cloud: SmsSimulator) -> None:
        self.cloud = cloud
        self.http = httpx.Client(base_url=base, timeout=30)
        self.guarded = guarded
        self.database_url = database_url
        self._numbers = itertools.count(1)

    def sms(self) -> list[Resource]:
        """Return the messages that telephones have received, in their order."""
        return self.cloud.entries()

    # --- requests ----------------------------------------------------------------------------

    def soon(self, path: str, user: str, status: int) -> None:
        """Fail where the answer does not become this status; rights are remembered for 3 s."""
        end = time.monotonic() + 10
        while (answer := self.ask(path, user)).status_code != status:
            assert time.monotonic() < end, f"{path}: {answer.status_code}, not {status}"
            time.sleep(0.1)

    def get(self, path: str, user: str | None = None) -> Resource:
        """Return what is there; fail where it is not."""
        answer = self.ask(path, user)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        found: Resource = answer.json()
        return found

    def ask(self, path: str, user: str | None = None) -> httpx.Response:
        """Ask as anybody, or as `Type/id` with the rights of that person."""
        if user is None:
            return self.http.get(path)
        return httpx.get(f"{self.guarded}{path}", headers=_as(user), timeout=30)

    def found(self, path: str, user: str | None = None) -> list[Resource]:
        """Return the matches of a search, without what it has to say of itself."""
        entries = self.get(path, user).get("entry", ())
        return [e["resource"] for e in entries if e.get("search", {}).get("mode") != "outcome"]

    def put(self, *resources: Resource, user: str | None = None) -> None:
        """Write resources."""
        for one in resources:
            path = f"/{one['resourceType']}/{one['id']}"
            if user is None:
                answer = self.http.put(path, json=one)
            else:
                url = f"{self.guarded}{path}"
                answer = httpx.put(url, json=one, headers=_as(user), timeout=30)
            assert answer.status_code in (200, 201), answer.text

    def post(self, path: str, *parts: Resource) -> Resource:
        """Ask for an operation that succeeds."""
        answer = self.http.post(path, json=parameters(*parts))
        assert answer.status_code in (200, 201), f"{path}: {answer.text}"
        found: Resource = answer.json()
        return found

    def post_as(self, user: str | dict[str, str], path: str, *parts: Resource) -> httpx.Response:
        """Ask for an operation as `Type/id`, or with the header of a token."""
        headers = _as(user) if isinstance(user, str) else user
        url = f"{self.guarded}{path}"
        return httpx.post(url, json=parameters(*parts), headers=headers, timeout=30)

    def get_with(self, header: dict[str, str], path: str) -> httpx.Response:
        """Read with the header of a token."""
        return httpx.get(f"{self.guarded}{path}", headers=header, timeout=30)

    def refused(self, path: str, *parts: Resource) -> str:
        """Ask for an operation that is refused; return the code of the refusal."""
        answer = self.http.post(path, json=parameters(*parts))
        assert 400 <= answer.status_code < 500, answer.text
        return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])

    def until(self, condition: Callable[[], Any], seconds: float = 20) -> Any:
        """Wait for what follows by itself."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.1)
        return found

    # --- people ------------------------------------------------------------------------------

    def id(self, kind: str) -> str:
        """Return an id nobody has."""
        return f"{kind}-{next(self._numbers)}-{uuid.uuid4().hex[:6]}"

    def card(self, born: str = "19600501") -> str:
        """Return an ID card nobody has."""
        first = f"{TEST_REGION}{born}{next(self._numbers):03d}"
        return first + check_character_of_id_card(first)

    def resident(self, born: str = "1960-05-01", **more: Any) -> str:
        """Write a resident; return the id."""
        id_ = self.id("p")
        patient = {
            "resourceType": "Patient",
            "id": id_,
            "active": True,
            "name": [{"text": "王秀英"}],
            "birthDate": born,
            "identifier": [{"system": ID_CARD, "value": self.card(born.replace("-", ""))}],
            "managingOrganization": {"reference": "Organization/station"},
            **more,
        }
        self.put(patient)
        return id_

    def relative(self, resident: str, level: str = "3", **more: Any) -> str:
        """Write an adult relative of a resident, of a verified identity; return the id."""
        id_ = self.id("r")
        coding = {"system": f"{BASE}/CodeSystem/cphc-gbt-4761", "code": "5", "display": "父母"}
        self.put(
            {
                "resourceType": "RelatedPerson",
                "id": id_,
                "active": True,
                "patient": {"reference": f"Patient/{resident}"},
                "relationship": [{"coding": [coding]}],
                "name": [{"text": "王建国"}],
                "birthDate": "1980-01-01",
                "extension": [{"url": f"{_EXTENSION}verification-level", "valueCode": level}],
                **more,
            }
        )
        return id_

    def consent(
        self,
        resident: str,
        rule: Resource,
        *,
        system: str = "urn:example:category",
        code: str = "access",
        status: str = "active",
    ) -> None:
        """Write a Consent of a resident."""
        scopes = "http://terminology.hl7.org/CodeSystem/consentscope"
        self.put(
            {
                "resourceType": "Consent",
                "id": self.id("consent"),
                "status": status,
                "scope": {"coding": [{"system": scopes, "code": "patient-privacy"}]},
                "category": [{"coding": [{"system": system, "code": code}]}],
                "patient": {"reference": f"Patient/{resident}"},
                "policy": [{"uri": "urn:example:policy"}],
                "provision": rule,
            }
        )

    def proxy(self, resident: str, relative: str, *scopes: str) -> None:
        """Let a relative act for a resident."""
        system = f"{BASE}/CodeSystem/cphc-proxy-scope"
        action = [{"coding": [{"system": system, "code": scope}]} for scope in scopes]
        self.consent(resident, {**_rule("permit", f"RelatedPerson/{relative}"), "action": action})

    def deny(self, resident: str, actor: str) -> None:
        """Let a resident refuse somebody."""
        self.consent(resident, _rule("deny", actor))

    # --- contracts ---------------------------------------------------------------------------

    def wish(self, resident: str, contract: str, *more: Resource, package: str = "basic",
             price: float = 0, team: str = "team", start: datetime.date | None = None,
             days: int = 364) -> list[Resource]:  # fmt: skip
        """Return the parameters of an application, by default for a year from today."""
        start = start or today()
        return [
            text("contractId", contract),
            text("resident", f"Patient/{resident}"),
            text("team", f"CareTeam/{team}"),
            {
                "name": "package",
                "part": [
                    text("definition", f"PlanDefinition/{package}"),
                    {"name": "price", "valueDecimal": price},
                ],
            },
            {"name": "start", "valueDate": start.isoformat()},
            {"name": "end", "valueDate": (start + days * DAY).isoformat()},
            text("agreementHash", HASH),
            *more,
        ]

    def signing(self, party: str, *more: Resource, doctor: str = "d1") -> list[Resource]:
        """Return the parameters of a signing."""
        return [
            text("residentParty", party),
            text("doctorParty", f"Practitioner/{doctor}"),
            {"name": "residentSignature", "valueSignature": signature(party)},
            {"name": "doctorSignature", "valueSignature": signature(f"Practitioner/{doctor}")},
            text("agreementHash", HASH),
            *more,
        ]

    def applied(self, resident: str, **more: Any) -> str:
        """Apply; return the id of the contract."""
        contract = self.id("c")
        self.post("/Contract/$submit-application", *self.wish(resident, contract, **more))
        return contract

    def approved(self, resident: str, **more: Any) -> str:
        """Apply and be reviewed; return the id of the contract."""
        contract = self.applied(resident, **more)
        self.post(f"/Contract/{contract}/$review", text("verdict", "approve"))
        return contract

    def signed(self, resident: str, **more: Any) -> str:
        """Return the id of a contract in effect."""
        contract = self.approved(resident, **more)
        signed = self.post(f"/Contract/{contract}/$sign", *self.signing(f"Patient/{resident}"))
        assert signed["status"] == "executed"
        return contract

    def services(self, contract: str) -> list[Resource]:
        """Return the service Tasks of a contract, the earliest first."""
        found = self.found(f"/Task?based-on=Contract/{contract}&_count=100")
        services = [one for one in found if "restriction" in one]
        return sorted(services, key=lambda one: str(one["restriction"]["period"]["start"]))

    def visit(self, resident: str, code: str = "bp", **more: Any) -> str:
        """Write a visit of today; return the id."""
        id_ = self.id("visit")
        at = datetime.datetime.now(LOCAL) - datetime.timedelta(minutes=1)
        self.put(
            {
                "resourceType": "Encounter",
                "id": id_,
                "status": "finished",
                "class": {"code": "AMB"},
                "type": [{"coding": [{"system": ITEM, "code": code}]}],
                "subject": {"reference": f"Patient/{resident}"},
                "participant": [{"individual": {"reference": "Practitioner/d1"}}],
                "period": {"start": at.isoformat(), "end": at.isoformat()},
                **more,
            }
        )
        return id_


def _rule(kind: str, actor: str) -> Resource:
    return {"type": kind, "actor": [{"role": {"text": "actor"}, "reference": {"reference": actor}}]}


def token(scope: str, **claims: str) -> dict[str, str]:
    """Return the header of a token as an identity provider signs it.

    A subject of its own keeps rights from being remembered from one request to the next.
    """
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(uuid.uuid4()),
        "exp": int(time.time()) + 600,
        "scope": scope,
        **claims,
    }
    signed = jwt.encode({"alg": "RS256", "kid": "district"}, said, _KEY)
    return {"authorization": f"Bearer {signed}"}


def _as(user: str) -> dict[str, str]:
    return token("user/*.cruds", fhirUser=user)


async def _jwks(scope: Any, _receive: Any, send: Any) -> None:
    """Answer with the public keys, as the identity provider does."""
    if scope["type"] == "http":
        body = json.dumps(KeySet([_KEY]).as_dict(private=False)).encode()
        kind = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        await send({"type": "http.response.body", "body": body})


async def _serve(url: str, ready: "queue.Queue[Any]", stop: threading.Event) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sms = SmsSimulator(ledger=pathlib.Path(folder) / "sms.jsonl", moods={})
        register = FaceidSimulator(ledger=pathlib.Path(folder) / "faceid.jsonl")
        wechat = WechatSimulator(ledger=pathlib.Path(folder) / "wechat.jsonl")
        async with (
            serving_on_socket(register) as faceid_url,
            serving_on_socket(wechat) as wechat_url,
        ):
            services = {
                "wechat_url": wechat_url,
                "wechat_app_id": wechat.app_id,
                "wechat_secret": wechat.secret,
                "wechat_page": "pages/sign/index",
                "faceid_url": faceid_url,
                "faceid_secret_id": register.secret_id,
                "faceid_secret_key": register.secret_key,
            }
            await _serve_with(sms, url, ready, stop, services)


async def _serve_with(
    sms: SmsSimulator,
    url: str,
    ready: "queue.Queue[Any]",
    stop: threading.Event,
    others: dict[str, Any],
) -> None:
    try:
        async with serving_on_socket(sms) as sms_url:
            services = {
                **others,
                "sms_url": sms_url,
                "sms_secret_id": sms.secret_id,
                "sms_secret_key": sms.secret_key,
                "sms_app_id": "1400",
                "sms_sign_name": "桥南社区",
                "sms_templates": "*=1000",
            }
            settings = Settings(
                auth="off",
                http_port=0,
                mllp_port=0,
                test_regions=TEST_REGION,
                quiet_hours=_far_from_now(),
                **services,
            )
            await _serve_hub(settings, url, ready, stop, services, sms)
    except BaseException as failure:
        ready.put(failure)
        raise


async def _serve_hub(
    settings: Settings,
    url: str,
    ready: "queue.Queue[Any]",
    stop: threading.Event,
    services: dict[str, Any],
    sms: SmsSimulator,
) -> None:
    """Run a hub that lets everybody in, and beside it one that asks for tokens."""
    async with running_hub(settings, url) as running, serving_on_socket(_jwks) as issuer:
        asking = Settings(
            auth="on",
            http_port=0,
            mllp_port=0,
            issuer=ISSUER,
            audience=AUDIENCE,
            jwks_url=f"{issuer}/jwks",
            **services,
        )
        async with running_hub(asking, url, roles=frozenset({"http"})) as guarded:
            ready.put((running.http_port, guarded.http_port, sms))
            await asyncio.to_thread(stop.wait)


def _far_from_now() -> str:
    """Return quiet hours of a minute, half a day away: whoever is reminded now is not asleep."""
    hour = (datetime.datetime.now(LOCAL).hour + 12) % 24
    return f"{hour:02}:00-{hour:02}:01"


@contextmanager
def served(url: str) -> Iterator[District]:
    """Run a hub in a thread and give the district, filled."""
    ready: queue.Queue[Any] = queue.Queue()
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(url, ready, stop)))
    thread.start()
    try:
        ports = ready.get(timeout=60)
        assert isinstance(ports, tuple), ports
        base, guarded, cloud = ports
        district = District(
            f"http://127.0.0.1:{base}/fhir", f"http://127.0.0.1:{guarded}/fhir", url, cloud
        )
        _fill(district)
        yield district
        district.http.close()
    finally:
        stop.set()
        thread.join()


def _fill(district: District) -> None:
    kinds = "http://terminology.hl7.org/CodeSystem/organization-type"
    for id_, above in (("authority", None), ("centre", "authority"), ("station", "centre")):
        part = {"partOf": {"reference": f"Organization/{above}"}} if above else {}
        kind = {"coding": [{"system": kinds, "code": "prov" if above else "govt"}]}
        district.put(
            {"resourceType": "Organization", "id": id_, "name": id_, "type": [kind], **part}
        )
    for number, id_ in enumerate(("d1", "d2"), start=1):
        doctor(district, id_, number)
    district.post(
        "/CareTeam/$activate-family-doctor",
        text("id", "team"),
        text("leader", "Practitioner/d1"),
        text("organization", "Organization/centre"),
        text("name", "桥南团队"),
    )
    for code, quota, proofs in (("bp", 4, ()), ("visit", 2, ("location",))):
        district.put(activity(code, quota, *proofs))
    stages = {"url": f"{_EXTENSION}review-stages", "valueInteger": 2}
    packages = (
        ("basic", 0, ()),
        ("paid", 60, (_pay_first(),)),
        ("dear", 100, (_pay_first(),)),
        ("strict", 0, (stages,)),
    )
    for id_, price, more in packages:
        district.put(package(id_, price, *more))
        district.post(f"/PlanDefinition/{id_}/$publish-package")


def doctor(district: District, id_: str, number: int, verdict: str = "approve") -> None:
    """Write a doctor and let the registration be reviewed."""
    district.put(
        {
            "resourceType": "Practitioner",
            "id": id_,
            "active": True,
            "name": [{"text": f"医生{id_}"}],
            "telecom": [{"system": "phone", "value": "10000000002"}],
            "qualification": [{"code": {"text": "全科医师"}}],
        }
    )
    district.post(
        f"/Practitioner/{id_}/$register-family-doctor",
        text("organization", "Organization/centre"),
        text("insuranceDoctorCode", f"D{TEST_REGION}{number:06d}"),
    )
    district.post(
        f"/Practitioner/{id_}/$review-family-doctor", text("verdict", verdict),
        text("reason", "材料齐全"),
    )  # fmt: skip


def activity(code: str, quota: int, *proofs: str) -> Resource:
    """Return an item of a package."""
    rules = [{"url": f"{_EXTENSION}evidence-rule", "valueCode": proof} for proof in proofs]
    return {
        "resourceType": "ActivityDefinition",
        "id": code,
        "url": f"urn:item:{code}",
        "version": "1",
        "status": "active",
        "title": code,
        "code": {"coding": [{"system": ITEM, "code": code}]},
        "extension": [
            {"url": f"{_EXTENSION}service-quota", "valueInteger": quota},
            {
                "url": f"{_EXTENSION}package-price",
                "valueMoney": {"value": 15.00, "currency": "CNY"},
            },
            *rules,
        ],
    }


def package(id_: str, price: float, *more: Resource, version: str = "1") -> Resource:
    """Return the draft of a package."""
    return {
        "resourceType": "PlanDefinition",
        "id": id_,
        "url": f"urn:package:{id_}",
        "version": version,
        "status": "draft",
        "title": id_,
        "extension": [
            {
                "url": f"{_EXTENSION}package-price",
                "valueMoney": {"value": price, "currency": "CNY"},
            },
            *more,
        ],
        "action": [
            {"definitionCanonical": "urn:item:bp|1"},
            {"definitionCanonical": "urn:item:visit|1"},
        ],
    }


def _pay_first() -> Resource:
    return {"url": f"{_EXTENSION}effective-on-payment", "valueBoolean": True}


__all__ = ["District", "served"]
