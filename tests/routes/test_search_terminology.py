"""Searches by value set and hierarchy, with the definitions that are stored."""

import asyncio
from datetime import UTC, datetime

import pytest

from conformance.problem import InvalidContent
from fhir_store.operations import Update, WriteContext
from fhir_store.search.query import parse_query
from fhir_store.store import Store, make_pool
from routes import definitions as definitions_module
from routes.definitions import Definitions
from routes.search_terminology import search_terminology

SYSTEM = {
    "resourceType": "CodeSystem",
    "id": "s",
    "url": "urn:animals",
    "status": "active",
    "content": "complete",
    "concept": [{"code": "animal", "concept": [{"code": "bird"}, {"code": "fish"}]}],
}

ALL_OF_NOTHING = {"include": [{"system": "urn:unknown"}]}


def value_set(*codes):
    include = {"system": "urn:animals", "concept": [{"code": code} for code in codes]}
    return {
        "resourceType": "ValueSet",
        "id": "v",
        "url": "urn:pets",
        "status": "active",
        "compose": {"include": [include]},
    }


def observation(code):
    coding = {"system": "urn:animals", "code": code}
    return {
        "resourceType": "Observation",
        "id": code,
        "status": "final",
        "code": {"coding": [coding]},
    }


def test_value_sets_and_hierarchies_are_those_stored_now(database_url, monkeypatch):
    monkeypatch.setattr(definitions_module, "LOOK_SECONDS", 0.0)

    async def run():
        async with make_pool(database_url) as pool:
            store = Store(pool)
            store.searcher.terminology = search_terminology(Definitions(store))

            async def write(*resources):
                context = WriteContext(actor="t", at=datetime.now(UTC), trace_id="t")
                await store.write([Update(resource=r) for r in resources], context=context)

            async def find(name, value):
                page = await store.search(parse_query("Observation", [(name, value)]))
                return sorted(version.id for version in page.matches)

            await write(SYSTEM, value_set("bird"), *map(observation, ("animal", "bird", "fish")))
            assert await find("code:in", "urn:pets") == ["bird"]
            assert await find("code:not-in", "urn:pets") == ["animal", "fish"]
            assert await find("code:below", "urn:animals|animal") == ["animal", "bird", "fish"]
            assert await find("code:above", "urn:animals|fish") == ["animal", "fish"]
            await write(value_set("bird", "fish"))
            assert await find("code:in", "urn:pets") == ["bird", "fish"]
            await write({**value_set("x"), "id": "w", "url": "urn:all", "compose": ALL_OF_NOTHING})
            for name, value, key in (
                ("code:in", "urn:all", "code-system-not-found"),
                ("code:in", "urn:nothing", "search-value-set"),
                ("code:below", "bird", "search-code-system"),
            ):
                with pytest.raises(InvalidContent) as refusal:
                    await find(name, value)
                assert refusal.value.issues[0].key == key

    asyncio.run(run())
