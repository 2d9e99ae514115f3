"""Transaction bundles: order, references of every form, identities, all or nothing."""

import asyncio
import json

import pytest

from conformance.problem import DuplicateFound, InvalidContent, VersionConflict
from conformance.r4 import tables
from fhir_store.bundle import entries_of, plan_transaction, refuse_change
from fhir_store.operations import Create, Delete, Update
from fhir_store.references import URI_NAMES, rewrite

SYSTEM = "urn:oid:2.16.156.10011.1.3"


def entry(method, url, resource=None, full_url=None, **request):
    found = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        found["resource"] = resource
    if full_url is not None:
        found["fullUrl"] = full_url
    return found


def bundle(*entries):
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def plan_of(*entries, base=""):
    return plan_transaction(entries_of(bundle(*entries), base=base), change_of=refuse_change)


async def apply(store, context, *entries):
    plan = plan_of(*entries)
    return await store.write(plan.operations, context=context, link=True, distinct=True)


def patient(value="a", **more):
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": value}],
        **more,
    }


def test_deletes_come_first_then_creates_then_updates_and_reads_last():
    plan = plan_of(
        entry("GET", "Patient/1"),
        entry("PUT", "Patient/2", patient(id="2")),
        entry("POST", "Patient", patient()),
        entry("DELETE", "Patient/3"),
    )
    assert [type(one) for one in plan.operations] == [Delete, Create, Update]
    assert [one.position for one in plan.writes] == [3, 2, 1]
    assert [one.position for one in plan.others] == [0]


@pytest.mark.parametrize(
    ("bad", "expression"),
    [
        (entry("FETCH", "Patient"), "Bundle.entry[0].request.method"),
        (entry("PUT", "Patient", patient()), "Bundle.entry[0].request.url"),
        (entry("PUT", "Patient/1/2", patient()), "Bundle.entry[0].request.url"),
        (entry("DELETE", "Nothing/1"), "Bundle.entry[0].request.url"),
        (entry("DELETE", "http://else.example/Patient/1"), "Bundle.entry[0].request.url"),
        (entry("POST", "Patient", {"resourceType": "Basic"}), "Bundle.entry[0].resource"),
        (entry("POST", "Patient"), "Bundle.entry[0].resource"),
        (entry("PUT", "Patient/1", patient(id="2")), "Bundle.entry[0].resource.id"),
        (entry("DELETE", "Patient/1", ifMatch="x"), "Bundle.entry[0].request.ifMatch"),
    ],
)
def test_an_entry_that_cannot_be_is_refused_with_its_place(bad, expression):
    with pytest.raises(InvalidContent) as caught:
        plan_of(bad)
    assert caught.value.issues[0].expression == expression
    assert caught.value.issues[0].fix_en


def test_two_entries_under_one_full_url_are_refused():
    with pytest.raises(InvalidContent):
        plan_of(
            entry("POST", "Patient", patient(), "urn:uuid:1"),
            entry("POST", "Patient", patient(), "urn:uuid:1"),
        )


def test_an_url_may_repeat_the_base():
    plan = plan_of(
        entry("PUT", "http://own.example/fhir/Patient/1", patient()),
        base="http://own.example/fhir",
    )
    assert plan.operations[0].resource["id"] == "1"


def test_references_uris_and_narrative_follow_the_new_ids_and_canonicals_do_not():
    links = {"urn:uuid:p": "Patient/7", "http://a.example/fhir/Patient/1": "Patient/8"}
    resource = {
        "resourceType": "DocumentReference",
        "text": {"div": '<div><a href="urn:uuid:p#x">P</a><p title="urn:uuid:p"/></div>'},
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": "urn:uuid:p"}],
        "subject": {"reference": "urn:uuid:p", "display": "urn:uuid:p"},
        "author": [{"reference": "Patient/1"}, {"reference": "#contained"}],
        "content": [{"attachment": {"url": "urn:uuid:p"}}],
        "extension": [
            {"url": "http://x.example", "valueUri": "urn:uuid:p"},
            {"url": "http://x.example", "valueCanonical": "urn:uuid:p"},
        ],
    }
    final = rewrite(resource, links, "http://a.example/fhir/DocumentReference/9")
    assert final["subject"] == {"reference": "Patient/7", "display": "urn:uuid:p"}
    assert final["author"] == [{"reference": "Patient/8"}, {"reference": "#contained"}]
    assert final["content"][0]["attachment"]["url"] == "Patient/7"
    assert final["identifier"] == resource["identifier"]
    assert final["text"]["div"] == '<div><a href="Patient/7#x">P</a><p title="urn:uuid:p"/></div>'
    assert [one.get("valueUri") for one in final["extension"]] == ["Patient/7", None]
    assert final["extension"][1]["valueCanonical"] == "urn:uuid:p"


def test_the_names_of_uri_elements_are_those_of_the_definitions():
    family = {"uri", "url", "oid", "uuid"}
    others = {"string", "code", "id", "markdown", "canonical"}
    uris, mixed = set(), set()
    for info in tables.load().types.values():
        for element in info.elements.values():
            for type_ in element.types:
                code = type_.code
                last = element.name.removesuffix("[x]")
                name = last + code[0].upper() + code[1:] if element.is_choice else last
                if code in family:
                    uris.add(name)
                elif code in others:
                    mixed.add(name)
    # What is also text or code elsewhere is left alone, but for the few where a link is meant.
    meant = {"address", "reference", "system", "uri", "url"}
    assert (uris - mixed) | meant >= URI_NAMES
    assert uris - mixed - URI_NAMES == {"fullUrl"}


def test_a_transaction_resolves_every_form_of_reference(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("known", id="k1"))], context=context)
            results = await apply(
                store,
                context,
                entry(
                    "PUT",
                    "Observation/o1",
                    {
                        "resourceType": "Observation",
                        "id": "o1",
                        "status": "final",
                        "code": {"text": "x"},
                        "subject": {"reference": "urn:uuid:p"},
                        "performer": [{"reference": f"Patient?identifier={SYSTEM}|known"}],
                        "focus": [{"reference": "urn:uuid:e"}, {"reference": "Patient/k1"}],
                    },
                ),
                entry("POST", "Patient", patient("new"), "urn:uuid:p"),
                entry(
                    "POST",
                    "Patient",
                    patient("known"),
                    "urn:uuid:e",
                    ifNoneExist=f"identifier={SYSTEM}|known",
                ),
            )
            new, existing, observation = results
            assert new.created
            assert not existing.created
            stored = json.loads(observation.version.body)
            assert stored["subject"]["reference"] == f"Patient/{new.version.id}"
            assert stored["performer"][0]["reference"] == "Patient/k1"
            assert [one["reference"] for one in stored["focus"]] == ["Patient/k1", "Patient/k1"]

    asyncio.run(run())


def test_a_transaction_that_writes_one_resource_twice_is_refused(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("a", id="p1"))], context=context)
            twice = [
                entry("PUT", "Patient/p1", patient("a", active=True)),
                entry("PUT", f"Patient?identifier={SYSTEM}|a", patient("a", active=False)),
            ]
            with pytest.raises(InvalidContent) as caught:
                await apply(store, context, *twice)
            assert caught.value.issues[0].key == "entry-duplicate"
            with pytest.raises(InvalidContent):
                await apply(
                    store, context, twice[0], entry("DELETE", f"Patient?identifier={SYSTEM}|a")
                )
            assert (await store.read("Patient", "p1")).version == 1

    asyncio.run(run())


def test_one_failing_entry_undoes_the_transaction(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("a", id="p1"))], context=context)
            with pytest.raises(VersionConflict):
                await apply(
                    store,
                    context,
                    entry("POST", "Patient", patient("b")),
                    entry("PUT", "Patient/p1", patient("a", active=True), ifMatch='W/"9"'),
                )
            async with store.pool.connection() as connection:
                cursor = await connection.execute("SELECT count(*) FROM resource")
                assert await cursor.fetchone() == (1,)

    asyncio.run(run())


def observed(reference):
    return {"resourceType": "Observation", "subject": {"reference": reference}}


def test_a_conditional_reference_finds_what_the_transaction_itself_writes(open_store, context):
    wanted = f"Patient?identifier={SYSTEM}|a"

    async def subjects(store, *entries):
        written = await apply(
            store, context, entry("POST", "Observation", observed(wanted)), *entries
        )
        return {
            json.loads(one.version.body)["subject"]["reference"]
            for one in written
            if one.version.type == "Observation"
        }

    async def run():
        async with open_store() as store:
            with pytest.raises(InvalidContent) as refused:
                await subjects(store)
            assert refused.value.issues[0].key == "reference-unresolved"
            (found,) = await subjects(store, entry("POST", "Patient", patient()))
            assert await subjects(store) == {found}  # what the commit has made
            with pytest.raises(DuplicateFound):
                await subjects(store, entry("POST", "Patient", patient()))
            moved = entry("PUT", found, patient("b", id=found.partition("/")[2]))
            new = entry("PUT", "Patient/n1", patient(id="n1"))
            assert await subjects(store, moved, new) == {"Patient/n1"}

    asyncio.run(run())
