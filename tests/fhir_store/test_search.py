"""Searching a real database: pages, totals, includes, modifiers the oracle does not know."""

import asyncio
from datetime import UTC, datetime

import pytest

from conformance.problem import InvalidContent, NotSupported, TooCostly, UnknownParameter
from fhir_store import flush
from fhir_store.authorization import Authorization, Criterion
from fhir_store.operations import Create, Delete, Update, WriteContext
from fhir_store.page_token import PageTokens
from fhir_store.search.query import parse_query
from fhir_store.search.searcher import Searcher
from fhir_store.search.text_index import index_words, words_behind
from fhir_store.store import Store, make_pool


class Library:
    """A store with resources, asked in one line."""

    def __init__(self, url):
        self.url = url

    async def __aenter__(self):
        self.pool = make_pool(self.url, size=4)
        await self.pool.open()
        self.store = Store(self.pool, searcher=Searcher(tokens=PageTokens(b"k"), terminology=terms))
        return self

    async def __aexit__(self, *_):
        await self.pool.close()

    async def put(self, *resources):
        context = WriteContext(actor="t", at=datetime.now(UTC), trace_id="t")
        operations = [Update(resource=r) if "id" in r else Create(resource=r) for r in resources]
        return await self.store.write(operations, context=context)

    async def delete(self, type_, id_):
        context = WriteContext(actor="t", at=datetime.now(UTC), trace_id="t")
        await self.store.write([Delete(type=type_, id=id_)], context=context)

    async def page(self, type_, *pairs, **more):
        return await self.store.search(parse_query(type_, list(pairs)), **more)

    async def ids(self, type_, *pairs, **more):
        return [v.id for v in (await self.page(type_, *pairs, **more)).matches]


async def terms(relation, value):
    """A terminology of one value set and one hierarchy."""
    known = {
        ("in", "http://e.org/vs"): [("urn:a", "x"), ("urn:a", "unused"), ("urn:b", "y")],
        ("below", "urn:a|x"): [("urn:a", "x"), ("urn:a", "xx")],
        ("above", "urn:a|xx"): [("urn:a", "x"), ("urn:a", "xx")],
    }
    if (relation, value) not in known:
        raise NotSupported
    return known[relation, value]


def patient(id_, family="Test", **more):
    return {"resourceType": "Patient", "id": id_, "name": [{"family": family}], **more}


def observation(id_, subject="Patient/p1", code="x", **more):
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": "urn:a", "code": code}]},
        "subject": {"reference": subject},
        **more,
    }


@pytest.fixture
def library(database_url):
    def run(scenario):
        async def inside():
            async with Library(database_url) as opened:
                return await scenario(opened)

        return asyncio.run(inside())

    return run


def test_pages_neither_skip_nor_repeat_while_others_write(library):
    async def scenario(lib):
        await lib.put(*(patient(f"p{n}") for n in range(30)))
        for pairs in (
            [],
            [("family", "test")],
            [("_sort", "family")],
            [("_sort", "-_lastUpdated")],
        ):
            seen, cursor, rounds = [], "", 0
            while cursor is not None:
                asked = [*pairs, ("_count", "4"), *([("_cursor", cursor)] if cursor else [])]
                page = await lib.page("Patient", *asked)
                seen += [v.id for v in page.matches]
                cursor = page.next
                rounds += 1
                if "_lastUpdated" not in str(pairs):  # a change moves a resource in that order
                    await lib.put(patient(f"p{rounds}", birthDate=f"19{60 + rounds}"))
                await lib.put(patient(f"new{len(seen)}-{len(pairs)}"))
            assert len(seen) == len(set(seen))
            assert {f"p{n}" for n in range(30)} <= set(seen)

    library(scenario)


def test_a_reference_finds_what_is_below_or_above_at_any_level(library):
    def place(id_, inside=None):
        part = {"partOf": {"reference": f"Location/{inside}"}} if inside else {}
        return {"resourceType": "Location", "id": id_, "status": "active", **part}

    def stay(id_, *places):
        found = [{"location": {"reference": f"Location/{place}"}} for place in places]
        return {
            "resourceType": "Encounter",
            "id": id_,
            "status": "finished",
            "class": {"code": "AMB"},
            "location": found,
        }

    async def scenario(lib):
        await lib.put(
            *(place("site"), place("ward", "site"), place("bed", "ward"), place("annex")),
            *(place("ring1", "ring2"), place("ring2", "ring1")),
            *(stay("a", "site"), stay("b", "ward"), stay("c", "bed", "annex"), stay("d", "annex")),
            *(stay("e", "ring1"), stay("f", "unknown")),
        )
        for asked, expected in (
            (("location:below", "Location/site"), "abc"),
            (("location:below", "ward"), "bc"),
            (("location:below", "bed,annex"), "cd"),
            (("location:above", "Location/bed"), "abc"),
            (("location:above", "ward"), "ab"),
            (("location:below", "ring2"), "e"),
            (("location:below", "unknown"), "f"),
            (("location:below", "http://other.org/Location/site"), ""),
            (("_filter", "location ss Location/ward"), "bc"),
        ):
            assert sorted(await lib.ids("Encounter", asked)) == list(expected), asked
        found = await lib.ids("Location", ("partof:below", "site"))
        assert sorted(found) == ["bed", "ward"]
        assert await lib.ids("Location", ("_has:Encounter:location:location:below", "bed")) != []
        await lib.put(place("ward"))
        assert await lib.ids("Encounter", ("location:below", "site")) == ["a"]
        with pytest.raises(UnknownParameter):
            parse_query("Observation", [("patient:below", "p1")])

    library(scenario)


def test_a_level_the_caller_may_not_see_leads_no_further(library):
    async def scenario(lib):
        part = {"partOf": {"reference": "Organization/secret"}}
        await lib.put(
            {"resourceType": "Organization", "id": "top", "name": "seen"},
            {
                "resourceType": "Organization",
                "id": "secret",
                "name": "hidden",
                "partOf": {"reference": "Organization/top"},
            },
            {"resourceType": "Organization", "id": "leaf", "name": "seen", **part},
            patient("p", managingOrganization={"reference": "Organization/leaf"}),
        )
        named = parse_query("Organization", [("name", "seen")]).conditions
        rights = Authorization(
            by_type={"Organization": (Criterion(conditions=named),)}, default=None
        )
        for asked in (("organization:below", "top"), ("organization:below", "secret")):
            assert await lib.ids("Patient", asked) == ["p"]
        asked = ("organization:below", "top")
        assert await lib.ids("Patient", asked, authorization=rights) == []
        asked = ("organization:above", "leaf")
        assert await lib.ids("Patient", asked, authorization=rights) == ["p"]

    library(scenario)


def test_a_page_link_is_bound_to_its_search_and_expires(library):
    async def scenario(lib):
        await lib.put(*(patient(f"p{n}") for n in range(3)))
        page = await lib.page("Patient", ("_count", "1"), ("family", "Test"))
        same = ("_count", "1"), ("family", "Test"), ("_cursor", page.next)
        assert len(await lib.ids("Patient", *same)) == 1
        for pairs in (
            [("_cursor", page.next)],
            [("family", "Other"), ("_cursor", page.next)],
            [("family", "Test"), ("_cursor", page.next[:-4] + "AAAA")],
            [("family", "Test"), ("_cursor", "x")],
            [("family", "Test"), ("_cursor", "é")],
        ):
            with pytest.raises(InvalidContent) as refusal:
                await lib.page("Patient", *pairs)
            assert refusal.value.issues[0].key == "search-page-invalid"
        later = Searcher(tokens=PageTokens(b"k", clock=lambda: 2e10))
        async with lib.pool.connection() as connection:
            query = parse_query("Patient", [("family", "Test"), ("_cursor", page.next)])
            with pytest.raises(InvalidContent) as refusal:
                await later.search(connection, query)
            assert refusal.value.issues[0].key == "search-page-expired"

    library(scenario)


def test_totals_are_exact_or_estimated_and_absent_by_default(library):
    async def scenario(lib):
        await lib.put(*(patient(f"p{n}", "A" if n % 2 else "B") for n in range(9)))
        assert (await lib.page("Patient")).total is None
        for total in ("accurate", "estimate"):
            page = await lib.page("Patient", ("family", "a"), ("_total", total), ("_count", "2"))
            assert page.total == 4
        page = await lib.page("Patient", ("_summary", "count"))
        assert (page.total, page.matches) == (9, ())
        await lib.delete("Patient", "p1")
        assert (await lib.page("Patient", ("family", "a"), ("_total", "accurate"))).total == 3

    library(scenario)


def test_deleted_and_changed_resources_leave_the_index(library):
    async def scenario(lib):
        await lib.put(patient("p1", "Old", birthDate="1990-01-01"), observation("o1"))
        await lib.put(patient("p1", "New", birthDate="1991-01-01"))
        assert await lib.ids("Patient", ("family", "old")) == []
        assert await lib.ids("Patient", ("birthdate", "1990")) == []
        assert await lib.ids("Patient", ("family", "new")) == ["p1"]
        await lib.delete("Patient", "p1")
        assert await lib.ids("Patient") == []
        assert await lib.ids("Patient", ("_id", "p1")) == []
        assert await lib.ids("Patient", ("deceased:missing", "false")) == []
        assert await lib.ids("Observation", ("patient.family", "new")) == []

    library(scenario)


def test_a_part_of_a_text_finds_what_has_it_at_the_moment(library):
    grams = "SELECT g.xmin::text, r.fid FROM ix_gram g JOIN resource r USING (rid) ORDER BY 2"

    async def scenario(lib):
        async def rows():
            async with lib.pool.connection() as connection:
                return await (await connection.execute(grams)).fetchall()

        await lib.put(patient("p1", "Rosenthal"), patient("p2", "李丰华"), observation("o1"))
        assert await lib.ids("Patient", ("family:contains", "senth")) == ["p1"]
        assert await lib.ids("Patient", ("name:contains", "丰")) == ["p2"]
        before = await rows()
        assert [fid for _, fid in before] == ["p1", "p2"]  # an observation has no texts
        await lib.put(patient("p1", "Rosenthal", gender="male"))
        assert await rows() == before  # other content leaves them alone
        await lib.put(patient("p1", "Rosental"))
        assert await lib.ids("Patient", ("family:contains", "senth")) == []
        assert await lib.ids("Patient", ("family:contains", "sent")) == ["p1"]
        assert [fid for _, fid in await rows()] == ["p1", "p2"]
        await lib.delete("Patient", "p1")
        assert await lib.ids("Patient", ("family:contains", "sent")) == []
        assert [fid for _, fid in await rows()] == ["p2"]
        await lib.put(patient("p1", "Rosenthal"))
        assert await lib.ids("Patient", ("family:contains", "senth")) == ["p1"]

    library(scenario)


def test_twin_unless_a_change_writes_the_grams_anew_a_part_of_a_text_is_not_found(
    library, monkeypatch
):
    async def scenario(lib):
        await lib.put(patient("p1", "Other"))
        monkeypatch.setattr(flush, "_gain_grams", lambda *_: None)
        await lib.put(patient("p1", "Rosenthal"))
        assert await lib.ids("Patient", ("family", "rosenthal")) == ["p1"]
        assert await lib.ids("Patient", ("family:contains", "senth")) == []

    library(scenario)


def test_includes_go_both_ways_iterate_and_bring_each_resource_once(library):
    async def scenario(lib):
        await lib.put(
            {"resourceType": "Organization", "id": "top", "name": "T"},
            {
                "resourceType": "Organization",
                "id": "o",
                "partOf": {"reference": "Organization/top"},
            },
            patient("p1", managingOrganization={"reference": "Organization/o"}),
            observation("a"),
            observation("b"),
        )

        async def included(*pairs):
            page = await lib.page("Observation", *pairs)
            assert {v.id for v in page.matches} == {"a", "b"}
            return sorted(f"{v.type}/{v.id}" for v in page.included)

        subject = ("_include", "Observation:subject")
        assert await included(subject) == ["Patient/p1"]
        assert await included(("_include", "Observation:patient:Patient")) == ["Patient/p1"]
        assert await included(("_include", "Observation:subject:Group")) == []
        assert await included(("_include", "*")) == ["Patient/p1"]
        iterated = ("_include:iterate", "Patient:organization")
        parents = ("_include:iterate", "Organization:partof")
        assert await included(subject, iterated, parents) == [
            "Organization/o",
            "Organization/top",
            "Patient/p1",
        ]
        page = await lib.page("Patient", ("_revinclude", "Observation:patient"))
        assert sorted(v.id for v in page.included) == ["a", "b"]
        page = await lib.page("Patient", ("_revinclude", "*"))
        assert sorted(v.id for v in page.included) == ["a", "b"]

    library(scenario)


def test_includes_in_a_circle_end_and_too_many_are_cut_with_a_warning(library):
    async def scenario(lib):
        ring = [
            {
                "resourceType": "Organization",
                "id": f"o{n}",
                "partOf": {"reference": f"Organization/o{(n + 1) % 3}"},
            }
            for n in range(3)
        ]
        await lib.put(*ring, patient("p1"), *(observation(f"x{n}") for n in range(10)))
        page = await lib.page(
            "Organization", ("_id", "o0"), ("_include:iterate", "Organization:partof")
        )
        assert sorted(v.id for v in page.included) == ["o1", "o2"]
        few = Searcher(tokens=PageTokens(b"k"), max_included=4)
        async with lib.pool.connection() as connection:
            query = parse_query("Patient", [("_revinclude", "Observation:subject")])
            page = await few.search(connection, query)
        assert len(page.included) == 4
        assert [issue.key for issue in page.warnings] == ["search-includes-cut"]

    library(scenario)


def test_value_sets_and_hierarchies_shrink_to_the_codes_in_use(library):
    async def scenario(lib):
        await lib.put(
            observation("1", code="x"), observation("2", code="xx"), observation("3", code="z")
        )
        assert await lib.ids("Observation", ("code:in", "http://e.org/vs")) == ["1"]
        assert sorted(await lib.ids("Observation", ("code:not-in", "http://e.org/vs"))) == [
            "2",
            "3",
        ]
        assert sorted(await lib.ids("Observation", ("code:below", "urn:a|x"))) == ["1", "2"]
        assert sorted(await lib.ids("Observation", ("code:above", "urn:a|xx"))) == ["1", "2"]
        with pytest.raises(NotSupported):
            await lib.ids("Observation", ("code:in", "http://nowhere"))

    library(scenario)


def test_a_location_is_found_near_a_point(library):
    async def scenario(lib):
        for id_, latitude, longitude in (
            ("a", 39.90, 116.40),
            ("b", 39.99, 116.40),
            ("c", 31.2, 121.4),
        ):
            position = {"latitude": latitude, "longitude": longitude}
            await lib.put({"resourceType": "Location", "id": id_, "position": position})
        assert await lib.ids("Location", ("near", "39.9|116.4|5|km")) == ["a"]
        assert sorted(await lib.ids("Location", ("near", "39.9|116.4|11|km"))) == ["a", "b"]
        assert await lib.ids("Location", ("near", "39.9|116.4|1000|m")) == ["a"]

    library(scenario)


def test_chinese_names_are_found_by_pinyin_and_initials(library):
    async def scenario(lib):
        await lib.put(
            patient("1", name=[{"text": "张伟"}]), patient("2", name=[{"text": "单雄信"}])
        )
        for text in ("zhangwei", "zhang", "zw", "ZW"):
            assert await lib.ids("Patient", ("name-pinyin", text)) == ["1"]
        assert await lib.ids("Patient", ("name-pinyin", "shan")) == ["2"]

    library(scenario)


def test_last_updated_id_profile_source_and_security_are_searched(library):
    async def scenario(lib):
        meta = {
            "profile": ["http://e.org/p"],
            "source": "urn:src",
            "security": [{"system": "urn:s", "code": "R"}],
        }
        await lib.put(patient("1", meta=meta), patient("2"))
        assert await lib.ids("Patient", ("_profile", "http://e.org/p")) == ["1"]
        assert await lib.ids("Patient", ("_source", "urn:src")) == ["1"]
        assert await lib.ids("Patient", ("_security", "urn:s|R")) == ["1"]
        assert await lib.ids("Patient", ("_id", "2,3")) == ["2"]
        year = datetime.now(UTC).year
        assert len(await lib.ids("Patient", ("_lastUpdated", f"ge{year}"))) == 2
        assert await lib.ids("Patient", ("_lastUpdated", f"lt{year - 1}")) == []

    library(scenario)


def test_filters_combine_tests_with_and_or_and_not(library):
    async def scenario(lib):
        await lib.put(
            patient("1", "Peters", gender="male", birthDate="1990-01-01"),
            patient("2", "Petersen", gender="female", birthDate="1980-01-01"),
            patient("3", "Smith", gender="male"),
            observation("o", subject="Patient/1"),
        )

        async def ids(text, type_="Patient"):
            return sorted(await lib.ids(type_, ("_filter", text)))

        assert await ids('family eq "peters"') == ["1"]
        assert await ids('family sw "pet" and gender eq male') == ["1"]
        assert await ids('family co "eterse" or birthdate ge 1985') == ["1", "2"]
        assert await ids('not (family ew "s") and gender ne female') == ["3"]
        assert await ids("birthdate pr false") == ["3"]
        assert await ids('patient.family eq "peters"', "Observation") == ["o"]

    library(scenario)


def test_a_search_over_several_types_finds_each(library):
    async def scenario(lib):
        tag = {"tag": [{"system": "urn:t", "code": "k"}]}
        await lib.put(patient("1", meta=tag), observation("2", meta=tag), patient("3"))
        found = await lib.page(None, ("_type", "Patient,Observation"), ("_tag", "urn:t|k"))
        assert sorted(f"{v.type}/{v.id}" for v in found.matches) == ["Observation/2", "Patient/1"]
        assert len((await lib.page(None)).matches) == 3

    library(scenario)


def test_explain_shows_the_statement_and_its_plan_without_values(library):
    async def scenario(lib):
        await lib.put(patient("1", "Secret"))
        page = await lib.page("Patient", ("family", "Secret"), ("_explain", "true"))
        assert "ix_str" in page.explanation["statement"]
        assert any("Index" in line for line in page.explanation["plan"])
        assert "secret" not in page.explanation["statement"]

    library(scenario)


def test_a_search_that_takes_too_long_is_refused_with_advice(library):
    async def scenario(lib):
        query = parse_query("Observation", [("code", "x")])
        async with lib.pool.connection() as other, other.transaction():
            await other.execute("LOCK TABLE ix_token")  # as slow as a search can be
            async with lib.pool.connection() as connection:
                await connection.execute("SET statement_timeout = 50")
                with pytest.raises(TooCostly) as refusal:
                    await lib.store.searcher.search(connection, query)
        assert refusal.value.issues[0].key == "search-time-limit"
        assert "$export" in refusal.value.issues[0].fix_en

    library(scenario)


def test_words_of_narrative_and_content_are_found_once_indexed_and_the_lag_is_told(library):
    async def scenario(lib):
        div = '<div xmlns="http://www.w3.org/1999/xhtml"><b>Chronic</b> 高血压病</div>'
        narrative = {"status": "generated", "div": div}
        await lib.put(patient("1", "Okafor", text=narrative), patient("2", "Nowak"))
        page = await lib.page("Patient", ("_text", "chronic"))
        assert page.matches == ()
        late = await lib.page("Patient", ("_content", "okafor"), ("_id", "1"))
        assert late.matches == ()
        async with lib.pool.connection() as connection:
            assert await words_behind(connection) == 2
            while await index_words(connection, batch=1):
                pass
            assert await words_behind(connection) == 0
        assert await lib.ids("Patient", ("_text", "chronic")) == ["1"]
        assert await lib.ids("Patient", ("_text", "血压")) == ["1"]
        assert await lib.ids("Patient", ("_text", "血病")) == []
        assert await lib.ids("Patient", ("_content", "nowak")) == ["2"]
        assert sorted(await lib.ids("Patient", ("_content", "Okafor,Nowak"))) == ["1", "2"]
        assert await lib.ids("Patient", ("_text", "div")) == []
        await lib.delete("Patient", "1")
        async with lib.pool.connection() as connection:
            await index_words(connection)
        assert await lib.ids("Patient", ("_content", "okafor")) == []
        await lib.put(patient("2", "Renamed"))
        page = await lib.page("Patient", ("_content", "nowak"))
        assert [issue.key for issue in page.warnings] == ["search-words-behind"]

    library(scenario)


def test_pages_go_on_past_values_without_an_end(library):
    async def scenario(lib):
        for n, comparator in enumerate((">", ">", "<", "<", "")):
            quantity = {"value": 5, "unit": "mg"}
            quantity |= {"comparator": comparator} if comparator else {}
            await lib.put(observation(f"o{n}", valueQuantity=quantity))
        for wish, count in (
            (("value-quantity", "gt5"), 2),
            (("_sort", "value-quantity"), 5),
            (("_sort", "-value-quantity"), 5),
        ):
            seen, cursor = [], ""
            while cursor is not None:
                asked = [wish, ("_count", "1"), *([("_cursor", cursor)] if cursor else [])]
                page = await lib.page("Observation", *asked)
                seen += [v.id for v in page.matches]
                cursor = page.next
            assert len(seen) == len(set(seen)) == count

    library(scenario)


def test_too_many_matches_are_refused_rather_than_sorted_in_part(library):
    async def scenario(lib):
        await lib.put(*(patient(f"p{n}", gender="male") for n in range(6)))
        query = parse_query("Patient", [("_sort", "gender,family")])
        async with lib.pool.connection() as connection:
            page = await Searcher(sort_limit=6).search(connection, query)
            assert len(page.matches) == 6
            with pytest.raises(TooCostly) as refusal:
                await Searcher(sort_limit=5).search(connection, query)
        assert refusal.value.issues[0].key == "search-sort-limit"

    library(scenario)
