"""Demonstration data: valid, in every state, marked, delivered to nobody, the same again."""

import datetime
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from care.contract.states import State, state_of
from care.fulfilment.items import SERVICE_ITEM
from conformance import resource_json
from conformance.identity_numbers import ID_CARD_SYSTEM, TEST_REGION, read_id_card
from conformance.problem import Problem
from conformance.structure import require_valid
from fhir_store.operations import Update, WriteContext
from fhir_store.store import Store, make_pool
from ops.demo import seed
from ops.demo.data import demo_data
from ops.demo.seed import seed_district
from ops.demo.synthetic_contracts import packages
from ops.laws import lawful_store

QIAO = Path(sys.executable).with_name("qiao")
TODAY = datetime.date(2026, 11, 21)


def resources(residents: int) -> list[Any]:
    return [one for found, _ in demo_data(1, residents, TODAY) for one in found]


def test_contracts_are_in_every_state_with_two_years_of_services() -> None:
    found = resources(200)
    states = Counter(state_of(one) for one in found if one["resourceType"] == "Contract")
    assert set(states) == set(State)
    assert states[State.EFFECTIVE] > sum(states.values()) / 3
    done = [
        one["executionPeriod"]["start"][:10]
        for one in found
        if one["resourceType"] == "Task" and one["status"] == "completed" and "output" in one
        and one["output"][0].get("valueReference", {}).get("reference", "").startswith("Enc")
    ]  # fmt: skip
    assert min(done) < "2025-06-01"
    assert max(done) > "2026-05-01"
    assert max(done) < TODAY.isoformat(), "nothing is done in the future"


def test_every_service_of_the_demonstration_is_one_that_is_counted() -> None:
    """Counts and matching go by the codes of `cphc-service-item` alone."""
    services = [
        one
        for one in resources(60)
        if one["resourceType"] == "Task" and "instantiatesCanonical" in one
    ]
    assert len(services) > 60
    assert {one["code"]["coding"][0]["system"] for one in services} == {SERVICE_ITEM}


def test_everything_is_valid_and_nobody_exists() -> None:
    found = resources(60)
    known = {f"{one['resourceType']}/{one['id']}" for one in found}
    assert len(known) == len(found)
    for one in found:
        require_valid(resource_json.parse(resource_json.dump(one)))
        for reference in references(one):
            assert reference in known, reference
    cards = {
        number["value"]
        for one in found
        if one["resourceType"] == "Patient"
        for number in one["identifier"]
        if number["system"] == ID_CARD_SYSTEM
    }
    assert len(cards) == 60
    for card in cards:
        assert read_id_card(card, today=TODAY, test_regions=[TEST_REGION]).region == TEST_REGION


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["reference"]] if isinstance(value.get("reference"), str) else []
        return own + [one for part in value.values() for one in references(part)]
    if isinstance(value, list):
        return [one for part in value for one in references(part)]
    return []


@pytest.fixture
def database_url(fresh_database_url: str) -> str:
    """Without the package: what is written here is counted."""
    return fresh_database_url


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_an_interrupted_start_goes_on_and_a_second_one_writes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_pool(database_url, size=2) as pool:
        store = Store(pool)

        async def interrupted(*_: object, **__: object) -> int:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(seed, "write_demo_data", interrupted)
            with pytest.raises(KeyboardInterrupt):
                await seed_district(store, 20)
        assert await seed_district(store, 20) > 100
        assert await seed_district(store, 20) == 0


@pytest.mark.anyio
async def test_a_later_version_of_the_demonstration_leaves_the_published_one_alone(
    database_url: str,
) -> None:
    context = WriteContext(actor="t", at=datetime.datetime.now(datetime.UTC))
    async with make_pool(database_url, size=2) as pool:
        store = lawful_store(pool)

        async def written(version: str, **change: Any) -> None:
            made = [Update(resource={**one, **change}) for one in packages(version)]
            await store.write(made, context=context)

        await written("1.0.0", title="从前的")
        await written("1.1.0")
        with pytest.raises(Problem):  # the twin: under the same version it is refused
            await written("1.0.0", title="现在的")


def run(database_url: str, count: int) -> dict[str, Any]:
    done = subprocess.run(
        [QIAO, "demo-data", "--residents", f"{count}", "--json"],
        env={**os.environ, "QIAO_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_command_writes_marks_and_delivers_nothing_and_the_same_again(
    database_url: str,
) -> None:
    first = run(database_url, 40)
    with psycopg.connect(database_url, autocommit=True) as connection:

        def one(statement: str) -> int:
            row = connection.execute(statement.encode()).fetchone()
            assert row is not None
            return int(row[0])

        assert one("SELECT count(*) FROM resource") == first["resources"]
        assert one("SELECT count(*) FROM outbox") == 0
        claims = one("SELECT count(*) FROM claim WHERE kind = 'family-doctor'")
        in_effect = sum(
            json.loads(body)["status"] in ("executed", "disputed")
            for (body,) in connection.execute(
                "SELECT body FROM resource WHERE fid LIKE 'contract-%'"
            )
            if json.loads(body)["resourceType"] == "Contract"
        )
        assert claims >= in_effect > 0
        marked: set[str] = set()
        for (body,) in connection.execute(
            "SELECT body FROM resource WHERE body LIKE '%demo-data%'"
        ):
            provenance = json.loads(body)
            marked |= {target["reference"] for target in provenance.get("target", ())}
        assert len(marked) == first["resources"] - one(
            "SELECT count(*) FROM resource WHERE body LIKE '%qiao demo-data%'"
        )
        run(database_url, 40)
        assert one("SELECT count(*) FROM resource_history") == 0, "a repeat changes nothing"
        assert one("SELECT count(*) FROM claim WHERE kind = 'family-doctor'") == claims
