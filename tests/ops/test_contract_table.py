"""Every step in every state over HTTP: what the table forbids is refused and leaves nothing."""

import datetime
import json
from typing import Any

import httpx
import pytest
from contracting import APPROVE, HASH, SIGNING, WORLD, application, asked, other_packages, world
from days import next_year, today

from care.fulfilment.schedule import tasks_for
from care.periods import end_of
from fhir_store.store import Store, make_pool
from ops.flow_contracts import ContractCalendar
from routes.operations.contract_writing import Following

pytestmark = pytest.mark.anyio
REASON = asked({"name": "reason", "valueString": "原因"})
PRICE, STAGES = (
    f"https://fhir.qiao.example/cphc/StructureDefinition/cphc-{one}"
    for one in ("package-price", "review-stages")
)
DEAR = {
    **WORLD[-1],
    "id": "dear",
    "extension": [{"url": PRICE, "valueMoney": {"value": 120.00, "currency": "CNY"}}],
}
STRICT = {
    **WORLD[-1],
    "id": "strict",
    "extension": [*WORLD[-1]["extension"], {"url": STAGES, "valueInteger": 2}],
}
AFTER = (next_year() + datetime.timedelta(days=300)).isoformat()
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "approve": ("review", APPROVE),
    "supplement": (
        "review",
        asked({"name": "verdict", "valueCode": "supplement"}, REASON["parameter"][0]),
    ),
    "reject": (
        "review",
        asked({"name": "verdict", "valueCode": "reject"}, REASON["parameter"][0]),
    ),
    "resubmit": ("submit-application", asked({"name": "agreementHash", "valueString": "c" * 64})),
    "sign": ("sign", SIGNING),
    "pay": ("confirm-payment", asked({"name": "invoice", "valueString": "Invoice/i1"})),
    "amend": ("amend", other_packages()),
    "delegate": (
        "delegate",
        asked(
            {"name": "from", "valueString": "Practitioner/d1"},
            {"name": "to", "valueString": "Practitioner/d2"},
            {"name": "end", "valueDate": (today() + datetime.timedelta(days=3)).isoformat()},
        ),
    ),
    "reassign": ("reassign", asked({"name": "team", "valueString": "CareTeam/t2"})),
    "renew": ("renew", asked(*SIGNING["parameter"], {"name": "end", "valueDate": AFTER})),
    "terminate": ("terminate", asked({"name": "reason", "valueCode": "02"})),
    "dispute": ("dispute", asked({"name": "complaint", "valueString": "投诉"})),
    "resolve": ("resolve", asked({"name": "outcome", "valueString": "已处理"})),
    "void": ("void", REASON),
}
# Written from docs/reference/contracts.md: how each state is reached, and what may happen in it.
TABLE: dict[str, tuple[list[str], str]] = {
    "applied": ([], "approve supplement reject terminate void"),
    "second-review": (["approve"], "approve supplement reject terminate void"),
    "supplement": (["supplement"], "resubmit reject terminate void"),
    "approved": (["approve"], "sign reject terminate void"),
    "rejected": (["reject"], ""),
    "signed": (["approve", "sign"], "pay terminate void"),
    "effective": (
        ["approve", "sign"],
        "amend delegate reassign renew terminate dispute void",
    ),
    "amending": (["approve", "sign", "amend"], "sign reject terminate void"),
    "amendment-unpaid": (
        ["approve", "sign", "paid", "amend-dearer", "sign"],
        "pay reject terminate void",
    ),
    "amended": (["approve", "sign", "amend", "sign"], ""),
    "disputed": (["approve", "sign", "dispute"], "resolve terminate"),
    "revoked": (["approve", "sign", "terminate"], ""),
    "void": (["approve", "sign", "void"], ""),
    "ended": (["approve", "sign", "expiry"], ""),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _key(answer: httpx.Response) -> str:
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])


async def reach(client: httpx.AsyncClient, url: str, state: str, steps: list[str]) -> str:
    """Bring a contract of a resident of its own into the state; return its id."""
    await client.put(f"/Patient/p-{state}", json={**WORLD[1], "id": f"p-{state}"})
    more = []
    if state in ("signed", "amendment-unpaid"):
        more.append({"name": "payFirst", "valueBoolean": True})
    wish = application(f"c-{state}", 60.00, f"p-{state}", *more)
    if state == "second-review":
        wish = json.loads(json.dumps(wish).replace("PlanDefinition/basic", "PlanDefinition/strict"))
    made = await client.post("/Contract/$submit-application", json=wish)
    assert made.status_code == 201, made.text
    id_ = f"c-{state}"
    for step in steps:
        if step == "expiry":
            async with make_pool(url, size=2) as pool:
                store = Store(pool)
                following = Following(store.searcher, tasks_for=tasks_for)
                calendar = ContractCalendar(store=store, following=following)
                assert (await calendar.look(end_of(next_year()))).expired
            continue
        if step == "paid":
            await client.put(f"/Invoice/i-{state}", json=invoice(f"i-{state}", state))
        code, body = WAYS[step](state) if step in WAYS else STEPS[step]
        answer = await client.post(f"/Contract/{id_}/${code}", json=of_resident(body, state))
        assert answer.status_code == 200, (state, step, answer.text)
        if step.startswith("amend"):
            id_ = answer.json()["id"]
    return id_


def invoice(id_: str, state: str) -> dict[str, Any]:
    """Return the balanced invoice of the resident of a state, over what the basic package costs."""
    return {
        "resourceType": "Invoice",
        "id": id_,
        "status": "balanced",
        "subject": {"reference": f"Patient/p-{state}"},
        "totalNet": {"value": 60.00, "currency": "CNY"},
    }


def paid(state: str) -> tuple[str, dict[str, Any]]:
    """Return the step by which the basic package is paid."""
    return "confirm-payment", asked({"name": "invoice", "valueString": f"Invoice/i-{state}"})


def dearer(_state: str) -> tuple[str, dict[str, Any]]:
    """Return the step that asks for the package of twice the price."""
    definition = {"name": "definition", "valueString": "PlanDefinition/dear"}
    parts = [definition, {"name": "price", "valueDecimal": 120.00}]
    digest = {"name": "agreementHash", "valueString": HASH}
    return "amend", asked({"name": "package", "part": parts}, digest)


WAYS = {"paid": paid, "amend-dearer": dearer}


def of_resident(body: dict[str, Any], state: str) -> dict[str, Any]:
    """Return the parameters with the resident of the state as the one who signs."""
    parts = []
    for part in body["parameter"]:
        if part["name"] == "residentParty":
            part = {**part, "valueReference": {"reference": f"Patient/p-{state}"}}
        elif part["name"] == "residentSignature":
            signed = {**part["valueSignature"], "who": {"reference": f"Patient/p-{state}"}}
            part = {**part, "valueSignature": signed}
        parts.append(part)
    return asked(*parts)


async def test_what_the_table_forbids_is_refused_with_advice_and_leaves_nothing(
    database_url: str,
) -> None:
    async with world(database_url) as client:
        await client.put("/Practitioner/d2", json={**WORLD[2], "id": "d2"})
        await client.put("/CareTeam/t2", json={**WORLD[3], "id": "t2"})
        await client.put("/PlanDefinition/dear", json=DEAR)
        await client.put("/PlanDefinition/strict", json=STRICT)
        # The one that ends by the calendar goes first: the calendar ends whatever is due.
        order = sorted(TABLE, key=lambda state: state != "ended")
        for state in order:
            steps, lawful = TABLE[state]
            id_ = await reach(client, database_url, state, steps)
            before = (await client.get(f"/Contract/{id_}")).json()["meta"]["versionId"]
            tasks = (await client.get(f"/Task?focus=Contract/{id_}&_total=accurate")).json()[
                "total"
            ]
            for step in STEPS.keys() - set(lawful.split()):
                code, body = STEPS[step]
                sent = of_resident(body, state)
                answer = await client.post(f"/Contract/{id_}/${code}", json=sent)
                assert answer.status_code == 422, (state, step, answer.text)
                issue = answer.json()["issue"][0]
                key = issue["details"]["coding"][0]["code"]
                assert key == ("contract-state" if lawful else "contract-final"), (state, step)
                assert " / " in issue["diagnostics"], "advice in both languages"
            # Nor does an application under its id begin it anew, in whatever state it is.
            wish = application(id_, 60.00, f"p-{state}")["parameter"]
            at_once = [*wish, *of_resident(SIGNING, state)["parameter"][:-1]]
            for code, parts in (("submit-application", wish), ("sign", at_once)):
                answer = await client.post(f"/Contract/${code}", json=asked(*parts))
                assert answer.status_code == 409, (state, code, answer.text)
                assert _key(answer) == "contract-exists", (state, code)
            after = (await client.get(f"/Contract/{id_}")).json()["meta"]["versionId"]
            again = (await client.get(f"/Task?focus=Contract/{id_}&_total=accurate")).json()[
                "total"
            ]
            assert (after, again) == (before, tasks), state
