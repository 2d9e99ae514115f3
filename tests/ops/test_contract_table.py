"""Every step in every state over HTTP: what the table forbids is refused and leaves nothing."""

import datetime
from typing import Any

import httpx
import pytest
from contracting import APPROVE, NEXT_YEAR, SIGNING, TODAY, WORLD, application, asked, world

from care.fulfilment.schedule import tasks_for
from care.periods import end_of
from fhir_store.store import Store, make_pool
from ops.flow_contracts import ContractCalendar
from routes.operations.contract_writing import Following

pytestmark = pytest.mark.anyio
REASON = asked({"name": "reason", "valueString": "原因"})
AFTER = (NEXT_YEAR + datetime.timedelta(days=300)).isoformat()
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
    "amend": ("amend", application("x")),
    "delegate": (
        "delegate",
        asked(
            {"name": "from", "valueString": "Practitioner/d1"},
            {"name": "to", "valueString": "Practitioner/d2"},
            {"name": "end", "valueDate": (TODAY + datetime.timedelta(days=3)).isoformat()},
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
    "supplement": (["supplement"], "resubmit reject terminate void"),
    "approved": (["approve"], "sign reject terminate void"),
    "rejected": (["reject"], ""),
    "signed": (["approve", "sign"], "pay terminate void"),
    "effective": (
        ["approve", "sign"],
        "amend delegate reassign renew terminate dispute void",
    ),
    "amending": (["approve", "sign", "amend"], "sign reject terminate void"),
    "amended": (["approve", "sign", "amend", "sign"], ""),
    "disputed": (["approve", "sign", "dispute"], "resolve terminate"),
    "revoked": (["approve", "sign", "terminate"], ""),
    "void": (["approve", "sign", "void"], ""),
    "ended": (["approve", "sign", "expiry"], ""),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def reach(client: httpx.AsyncClient, url: str, state: str, steps: list[str]) -> str:
    """Bring a contract of a resident of its own into the state; return its id."""
    await client.put(f"/Patient/p-{state}", json={**WORLD[1], "id": f"p-{state}"})
    more = [{"name": "payFirst", "valueBoolean": True}] if state == "signed" else []
    wish = application(f"c-{state}", 60.00, f"p-{state}", *more)
    made = await client.post("/Contract/$submit-application", json=wish)
    assert made.status_code == 201, made.text
    id_ = f"c-{state}"
    for step in steps:
        if step == "expiry":
            async with make_pool(url, size=2) as pool:
                store = Store(pool)
                following = Following(store.searcher, tasks_for=tasks_for)
                calendar = ContractCalendar(store=store, following=following)
                assert (await calendar.look(end_of(NEXT_YEAR))).expired
            continue
        code, body = STEPS[step]
        answer = await client.post(f"/Contract/{id_}/${code}", json=of_resident(body, state))
        assert answer.status_code == 200, (state, step, answer.text)
        if step == "amend":
            id_ = answer.json()["id"]
    return id_


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
            after = (await client.get(f"/Contract/{id_}")).json()["meta"]["versionId"]
            again = (await client.get(f"/Task?focus=Contract/{id_}&_total=accurate")).json()[
                "total"
            ]
            assert (after, again) == (before, tasks), state
