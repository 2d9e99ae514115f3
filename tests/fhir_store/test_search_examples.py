"""Every official example is found by each value it offers to each search parameter."""

import asyncio
from datetime import UTC, datetime

import pytest

from conformance import resource_json
from conformance.date_ranges import ALWAYS, NEVER
from conformance.index_values import extract
from conformance.problem import Problem
from conformance.search_parameters import parameters_of
from fhir_store.operations import Update, WriteContext
from fhir_store.search.query import parse_query
from fhir_store.store import Store, make_pool

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def escaped(text):
    for special in "\\,$|":
        text = text.replace(special, "\\" + special)
    return text


def question_of(kind, value):
    """Return (modifier, text) of a search that must find the value, None where there is none."""
    if kind == "token" and value[1] is not None:
        return "", f"{escaped(value[0])}|{escaped(value[1])}" if value[0] else escaped(value[1])
    if kind == "token":
        return ":text", escaped(value[2]) if value[2].strip() else None
    if kind == "string":
        return "", escaped(value) if value.strip() else None
    if kind == "uri":
        return "", escaped(value)
    if kind == "reference":
        if value[0] == "identifier":
            return ":identifier", f"{escaped(value[1])}|{escaped(value[2])}"
        return "", f"{value[1]}/{value[2]}" if value[0] == "literal" else escaped(value[1])
    if kind == "number":
        return "", f"ge{value[0]}" if value[0] is not None else f"le{value[1]}"
    if kind == "quantity":
        unit = f"|{escaped(value[2])}|{escaped(value[3])}" if value[3] else ""
        return "", (f"ge{value[0]}" if value[0] is not None else f"le{value[1]}") + unit
    if kind == "date":
        low, high = value
        moment = low if low != ALWAYS else high
        if moment in (ALWAYS, NEVER):
            return None
        text = datetime.fromtimestamp(moment / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return "", ("ge" if low != ALWAYS else "le") + text
    if kind == "special":
        return "", f"{value[0]}|{value[1]}|1|km"
    return None


def question_of_composite(parameter, value):
    texts = []
    for component, values in zip(parameter.components, value, strict=True):
        asked = question_of(component.type, values[0])
        if asked is None or asked[0] or asked[1] is None:
            return None
        texts.append(asked[1])
    return "", "$".join(texts)


def questions(resource):
    """Yield (name, text) for the first values of every parameter of the resource."""
    parameters = parameters_of(resource["resourceType"])
    for code, values in extract(resource).items():
        parameter = parameters[code]
        for value in values[:2]:
            if parameter.type == "composite":
                asked = question_of_composite(parameter, value)
            else:
                asked = question_of(parameter.type, value)
            if asked is not None and asked[1]:
                yield code + asked[0], asked[1]


@pytest.mark.slow
def test_every_example_is_found_by_each_of_its_values(database_url, shared_data):
    async def run():
        async with make_pool(database_url, size=2) as pool:
            store = Store(pool)
            kept, asked, lost = [], 0, []
            for path in sorted((shared_data / "r4-examples").rglob("*.json")):
                resource = resource_json.parse(path.read_bytes())
                context = WriteContext(actor="t", at=datetime.now(UTC), trace_id="t")
                try:
                    await store.write([Update(resource=resource)], context=context)
                except Problem:
                    continue
                kept.append(resource)
            for resource in kept:
                type_, id_ = resource["resourceType"], resource["id"]
                for name, text in questions(resource):
                    asked += 1
                    pairs = [(name, text), ("_id", id_)]
                    page = await store.search(parse_query(type_, pairs))
                    if [version.id for version in page.matches] != [id_]:
                        lost.append((type_, id_, name))
            assert lost == []
            assert len(kept) > 700
            assert asked > 5000

    asyncio.run(run())
