"""Value sets, code systems and maps beyond the public cases: national lists, limits, refusals."""

import datetime
from typing import Any

import pytest

from conformance.cphc import BASE
from conformance.cphc.code_systems import code_systems, value_sets
from conformance.problem import InvalidContent, NotFound, Problem
from conformance.terminology.library import Library
from conformance.terminology.operations import OPERATIONS
from conformance.terminology.port import terminology_of

NOW = datetime.datetime(2026, 11, 21, 8, 0, tzinfo=datetime.UTC)
ETHNIC = f"{BASE}/CodeSystem/cphc-gbt-3304"
RELATION = f"{BASE}/CodeSystem/cphc-gbt-4761"
NATIONAL = Library([*code_systems(), *value_sets()])


def run(type_: str, name: str, library: Library = NATIONAL, **values: Any) -> dict[str, Any]:
    parameter = []
    for key, value in values.items():
        kind = "resource" if isinstance(value, dict) and "resourceType" in value else "valueString"
        kind = "valueBoolean" if isinstance(value, bool) else kind
        kind = "valueInteger" if type(value) is int else kind
        parameter.append({"name": key, kind: value})
    request = {"resourceType": "Parameters", "parameter": parameter}
    return OPERATIONS[(type_, name)](request, library, NOW)


def part(answer: dict[str, Any], name: str) -> Any:
    found = next(p for p in answer["parameter"] if p["name"] == name)
    return next(v for k, v in found.items() if k.startswith("value"))


def test_a_national_list_expands_whole_and_by_page() -> None:
    url = f"{BASE}/ValueSet/cphc-gbt-3304"
    assert run("ValueSet", "expand", url=url)["expansion"]["total"] == 56
    page = run("ValueSet", "expand", url=url, offset=10, count=5)["expansion"]
    assert [c["code"] for c in page["contains"]] == ["11", "12", "13", "14", "15"]
    assert page["total"] == 56


def test_a_list_is_filtered_by_either_language() -> None:
    url = f"{BASE}/ValueSet/cphc-gbt-3304"
    for words in ("维吾尔", "uygur"):
        found = run("ValueSet", "expand", url=url, filter=words)["expansion"]["contains"]
        assert [c["code"] for c in found] == ["05"]


def test_the_display_comes_in_the_language_asked_for() -> None:
    looked = run("CodeSystem", "lookup", system=ETHNIC, code="04", displayLanguage="en-GB")
    assert part(looked, "display") == "Zang"
    assert part(run("CodeSystem", "lookup", system=ETHNIC, code="04"), "display") == "藏族"


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ("2", "22", "subsumes"),
        ("22", "2", "subsumed-by"),
        ("22", "22", "equivalent"),
        ("22", "32", "not-subsumed"),
    ],
)
def test_one_code_stands_to_another(a: str, b: str, outcome: str) -> None:
    answer = run("CodeSystem", "subsumes", system=RELATION, codeA=a, codeB=b)
    assert part(answer, "outcome") == outcome


def test_a_code_is_checked_against_a_code_system() -> None:
    good = run("CodeSystem", "validate-code", url=ETHNIC, code="01", display="汉族")
    assert part(good, "result") is True
    bad = run("CodeSystem", "validate-code", url=ETHNIC, code="57")
    assert part(bad, "result") is False


def test_a_code_of_the_published_r4_lists_is_known() -> None:
    url = "http://hl7.org/fhir/ValueSet/administrative-gender"
    system = "http://hl7.org/fhir/administrative-gender"
    assert part(run("ValueSet", "validate-code", url=url, system=system, code="male"), "result")
    wrong = run("ValueSet", "validate-code", url=url, system=system, code="alien")
    assert part(wrong, "result") is False


def circle(*urls: str) -> Library:
    return Library(
        {
            "resourceType": "ValueSet",
            "url": url,
            "compose": {"include": [{"valueSet": [urls[(place + 1) % len(urls)]]}]},
        }
        for place, url in enumerate(urls)
    )


def test_value_sets_in_a_circle_are_refused_by_name() -> None:
    with pytest.raises(InvalidContent, match="circle: urn:a → urn:b → urn:a"):
        run("ValueSet", "expand", circle("urn:a", "urn:b"), url="urn:a")


def test_a_very_long_chain_of_imports_is_refused() -> None:
    with pytest.raises(InvalidContent, match="circle"):
        run("ValueSet", "expand", circle(*(f"urn:{n}" for n in range(40))), url="urn:0")


def test_what_is_not_known_is_named_with_the_fix() -> None:
    for type_, name, values in [
        ("ValueSet", "expand", {"url": "urn:none"}),
        ("CodeSystem", "lookup", {"system": "urn:none", "code": "1"}),
        ("CodeSystem", "lookup", {"system": ETHNIC, "code": "99"}),
        ("ConceptMap", "translate", {"url": "urn:none", "code": "1"}),
    ]:
        with pytest.raises(NotFound) as caught:
            run(type_, name, **values)
        assert all(issue.fix_en and issue.fix_zh for issue in caught.value.issues)


@pytest.mark.parametrize("name", [name for _, name in OPERATIONS])
def test_a_missing_parameter_is_named(name: str) -> None:
    type_ = next(t for t, n in OPERATIONS if n == name)
    with pytest.raises(Problem, match="needs the parameter"):
        run(type_, name)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(", r"(a)\1", "a" * 300])
def test_a_filter_pattern_that_could_run_for_ever_is_refused(pattern: str) -> None:
    value_set = {
        "resourceType": "ValueSet",
        "compose": {
            "include": [
                {
                    "system": ETHNIC,
                    "filter": [{"property": "code", "op": "regex", "value": pattern}],
                }
            ]
        },
    }
    with pytest.raises(InvalidContent, match="regex"):
        run("ValueSet", "expand", valueSet=value_set)


def test_a_negative_page_is_refused() -> None:
    with pytest.raises(InvalidContent, match="below zero"):
        run("ValueSet", "expand", url=f"{BASE}/ValueSet/cphc-gbt-3304", offset=-1)


MAP = {
    "resourceType": "ConceptMap",
    "url": "urn:map",
    "group": [
        {
            "source": "urn:his-sex",
            "target": "http://hl7.org/fhir/administrative-gender",
            "element": [
                {"code": "1", "target": [{"code": "male", "equivalence": "equivalent"}]},
                {"code": "9", "target": [{"code": "unknown", "equivalence": "wider"}]},
            ],
            "unmapped": {"mode": "fixed", "code": "other"},
        }
    ],
}


def test_a_map_is_read_both_ways() -> None:
    library = Library([MAP])
    there = run("ConceptMap", "translate", library, url="urn:map", code="1", system="urn:his-sex")
    assert there["parameter"][1]["part"][1]["valueCoding"]["code"] == "male"
    back = run("ConceptMap", "translate", library, url="urn:map", code="unknown", reverse=True)
    match = {p["name"]: p for p in back["parameter"][1]["part"]}
    assert match["concept"]["valueCoding"]["code"] == "9"
    assert match["source"]["valueUri"] == "urn:map"
    assert match["equivalence"]["valueCode"] == "narrower"


def test_backwards_the_system_given_is_that_of_the_code_given() -> None:
    library = Library([MAP])
    target = MAP["group"][0]["target"]
    asked = {"url": "urn:map", "code": "male", "reverse": True}
    back = run("ConceptMap", "translate", library, system=target, **asked)
    match = {p["name"]: p for p in back["parameter"][1]["part"]}
    assert match["concept"]["valueCoding"] == {"system": "urn:his-sex", "code": "1"}
    other = run("ConceptMap", "translate", library, system="urn:his-sex", **asked)
    assert other["parameter"][0]["valueBoolean"] is False


def test_an_unmapped_code_takes_the_fixed_one() -> None:
    answer = run(
        "ConceptMap", "translate", Library([MAP]), url="urn:map", code="7", system="urn:his-sex"
    )
    assert answer["parameter"][1]["part"][1]["valueCoding"]["code"] == "other"


SPECIMEN = "http://example.org/property/specimen"
LAB_MAP = {
    "resourceType": "ConceptMap",
    "url": "urn:lab",
    "group": [
        {
            "source": "urn:his-lab",
            "target": "http://loinc.org",
            "element": [
                {
                    "code": "GLU",
                    "target": [
                        {
                            "code": code,
                            "equivalence": "equivalent",
                            "dependsOn": [
                                {"property": SPECIMEN, "system": "urn:specimen", "value": specimen}
                            ],
                            "product": [{"property": "urn:unit", "value": "mmol/L"}],
                        }
                        for code, specimen in (("14749-6", "serum"), ("15076-3", "urine"))
                    ],
                }
            ],
        }
    ],
}


def translated(*dependencies: dict[str, Any], library: Library, **named: Any) -> dict[str, Any]:
    parameter = [
        {"name": "dependency", "part": [{"name": "element", "valueUri": SPECIMEN}, one]}
        for one in dependencies
    ]
    for name, value in named.items():
        kind = "valueBoolean" if isinstance(value, bool) else "valueString"
        parameter.append({"name": name, kind: value})
    return OPERATIONS[("ConceptMap", "translate")]({"parameter": parameter}, library, NOW)


def matched(answer: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    found = []
    for match in answer["parameter"]:
        if match["name"] == "match":
            (concept,) = [p["valueCoding"]["code"] for p in match["part"] if p["name"] == "concept"]
            products = [
                {part["name"]: part for part in p["part"]}
                for p in match["part"]
                if p["name"] == "product"
            ]
            found.append((concept, products))
    return found


def specimen(code: str, system: str = "urn:specimen") -> dict[str, Any]:
    coding = {"system": system, "code": code}
    return {"name": "concept", "valueCodeableConcept": {"coding": [coding]}}


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        (specimen("serum"), ["14749-6"]),
        (specimen("urine"), ["15076-3"]),
        (specimen("hair"), []),
        (specimen("serum", "urn:other"), []),
    ],
)
def test_what_another_element_says_decides_the_translation(
    given: dict[str, Any], codes: list[str]
) -> None:
    answer = translated(given, library=Library([LAB_MAP]), url="urn:lab", code="GLU")
    found = matched(answer)
    assert [code for code, _ in found] == codes
    for _, (product,) in found:
        assert product["element"]["valueUri"] == "urn:unit"
        assert product["concept"]["valueCoding"] == {"code": "mmol/L"}


def test_a_translation_that_depends_on_what_is_not_said_names_it() -> None:
    answer = translated(library=Library([LAB_MAP]), url="urn:lab", code="GLU")
    assert part(answer, "result") is False
    assert SPECIMEN in part(answer, "message")
    plain = {"code": "GLU", "target": [{"code": "14749-6", "equivalence": "equivalent"}]}
    group = {**LAB_MAP["group"][0], "element": [plain]}
    answer = translated(library=Library([{**LAB_MAP, "group": [group]}]), url="urn:lab", code="GLU")
    assert matched(answer) == [("14749-6", [])]


def test_backwards_a_dependency_is_what_comes_beside_the_code() -> None:
    library = Library([LAB_MAP])
    asked = {"url": "urn:lab", "code": "14749-6", "reverse": True}
    ((code, (product,)),) = matched(translated(library=library, **asked))
    assert code == "GLU"
    assert product["element"]["valueUri"] == SPECIMEN
    assert product["concept"]["valueCoding"] == {"system": "urn:specimen", "code": "serum"}
    assert matched(translated(specimen("serum"), library=library, **asked)) != []
    assert matched(translated(specimen("urine"), library=library, **asked)) == []


def test_a_dependency_that_is_not_whole_is_refused() -> None:
    with pytest.raises(InvalidContent, match="element and concept"):
        translated({"name": "what"}, library=Library([LAB_MAP]), url="urn:lab", code="GLU")


def test_products_of_the_published_maps_are_told() -> None:
    url = "http://hl7.org/fhir/ConceptMap/102"
    ((code, (product,)),) = matched(translated(library=Library(), url=url, code="ALL"))
    assert code == "119376003"
    assert product["element"]["valueUri"] == "TypeModifier"
    assert product["concept"]["valueCoding"]["code"] == "7970006"


def test_a_code_that_a_map_lacks_is_looked_for_in_the_map_it_names() -> None:
    def leading(url: str, other: str, code: str) -> dict[str, Any]:
        element = {"code": code, "target": [{"code": code.upper(), "equivalence": "equal"}]}
        unmapped = {"mode": "other-map", "url": other}
        group = {"source": "urn:a", "target": "urn:b", "element": [element], "unmapped": unmapped}
        return {"resourceType": "ConceptMap", "url": url, "group": [group]}

    circle = Library([leading("urn:1", "urn:2", "x"), leading("urn:2", "urn:1", "y")])
    asked = {"url": "urn:1", "system": "urn:a"}
    assert matched(translated(library=circle, code="x", **asked)) == [("X", [])]
    assert matched(translated(library=circle, code="y", **asked)) == [("Y", [])]
    for library, named in ((circle, "urn:1"), (Library([leading("urn:1", "urn:9", "x")]), "urn:9")):
        lost = translated(library=library, code="z", **asked)
        assert matched(lost) == []
        assert named in part(lost, "message")


def test_a_code_system_without_an_address_is_refused_where_one_is_needed() -> None:
    bare = {"resourceType": "CodeSystem", "content": "complete", "concept": [{"code": "a"}]}
    with pytest.raises(InvalidContent, match=r"codeSystem\.url"):
        run("CodeSystem", "validate-code", codeSystem=bare, code="a")
    with pytest.raises(InvalidContent, match="url or system"):
        run("CodeSystem", "validate-code", code="a")
    addressed = {**bare, "url": "urn:bare"}
    answer = run("CodeSystem", "validate-code", codeSystem=addressed, code="a")
    assert part(answer, "result") is True
    library = Library([bare])
    assert library.code_system("") is None
    assert library.find("CodeSystem", "") is None


SPOKEN = Library([
    {"resourceType": "CodeSystem", "url": "urn:s", "version": "1", "status": "active",
     "content": "complete", "concept": [
         {"code": "a", "display": "Alpha", "designation": [
             {"language": "zh-Hant", "value": "甲（繁）"}, {"language": "zh", "value": "甲"},
             {"language": "de", "use": {"system": "urn:use", "code": "long"}, "value": "Alfa"}]},
         {"code": "top", "property": [{"code": "notSelectable", "valueBoolean": True}]}]},
    {"resourceType": "ValueSet", "url": "urn:v", "status": "active",
     "compose": {"include": [{"system": "urn:s"}]}},
    {"resourceType": "ConceptMap", "url": "urn:m", "version": "1", "status": "active"},
])  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "display"),
    [
        ("fr", "Alpha"),
        ("fr, de;q=0.5", "Alfa"),
        ("de;q=0.1, zh;q=0.9", "甲"),
        ("zh-Hant", "甲（繁）"),
        ("zh-CN", "甲（繁）"),  # of the same language, the first
        ("de;q=0, fr", "Alpha"),
        ("*, de;q=0.5", "Alpha"),
        (",;q=x,;;", "Alpha"),
    ],
)
def test_the_most_wanted_language_that_there_is_gives_the_wording(wish: str, display: str) -> None:
    looked = run("CodeSystem", "lookup", SPOKEN, system="urn:s", code="a", displayLanguage=wish)
    assert part(looked, "display") == display
    checked = run(
        "CodeSystem", "validate-code", SPOKEN, url="urn:s", code="a", displayLanguage=wish
    )
    assert part(checked, "display") == display
    expansion = run("ValueSet", "expand", SPOKEN, url="urn:v", displayLanguage=wish)["expansion"]
    assert expansion["contains"][0]["display"] == display


def test_an_own_language_is_kept_before_a_designation_wanted_less() -> None:
    wish = "zh-CN,zh;q=0.9,en;q=0.8"
    looked = run("CodeSystem", "lookup", system=ETHNIC, code="04", displayLanguage=wish)
    assert part(looked, "display") == "藏族"


def test_a_version_that_is_not_known_is_refused_everywhere() -> None:
    for type_, name, asked in (
        ("CodeSystem", "validate-code", {"url": "urn:s", "code": "a", "version": "9"}),
        ("ValueSet", "validate-code",
         {"url": "urn:v", "system": "urn:s", "systemVersion": "9", "code": "a"}),
        ("ConceptMap", "translate", {"url": "urn:m", "code": "a", "conceptMapVersion": "9"}),
    ):  # fmt: skip
        with pytest.raises(NotFound, match=r"\|9 is not known"):
            run(type_, name, SPOKEN, **asked)
        known = {key: value.replace("9", "1") for key, value in asked.items()}
        assert part(run(type_, name, SPOKEN, **known), "result") in (True, False)


def test_an_abstract_code_is_lawful_only_where_the_caller_does_not_exclude_it() -> None:
    def result(**more: bool) -> Any:
        asked = {"url": "urn:v", "system": "urn:s", "code": "top"}
        return part(run("ValueSet", "validate-code", SPOKEN, **asked, **more), "result")

    assert result() is True
    assert result(abstract=True) is True
    assert result(abstract=False) is False


def test_an_expansion_has_the_definition_designations_and_systems_that_are_asked_for() -> None:
    def expanded(**more: Any) -> dict[str, Any]:
        return run("ValueSet", "expand", SPOKEN, url="urn:v", **more)

    def designations(**more: Any) -> list[str]:
        first = expanded(includeDesignations=True, **more)["expansion"]["contains"][0]
        return [one["value"] for one in first.get("designation", ())]

    assert "compose" not in expanded()
    assert expanded(includeDefinition=True)["compose"]["include"] == [{"system": "urn:s"}]
    assert len(designations()) == 3
    assert designations(designation="de") == ["Alfa"]
    assert designations(designation="urn:use|long") == ["Alfa"]
    assert designations(designation="urn:ietf:bcp:47|zh") == ["甲"]
    assert expanded(**{"exclude-system": "urn:s"})["expansion"]["total"] == 0
    assert expanded(**{"exclude-system": "urn:s|1"})["expansion"]["total"] == 0
    assert expanded(**{"exclude-system": "urn:s|2"})["expansion"]["total"] == 2


def test_what_is_missing_is_named_in_both_languages() -> None:
    with pytest.raises(InvalidContent) as caught:
        run("ValueSet", "expand", SPOKEN)
    assert "url or valueSet" in caught.value.issues[0].text_en
    assert "url 或 valueSet" in caught.value.issues[0].text_zh


SNOMED = "http://snomed.info/sct"
ALL_SNOMED = {"include": [{"system": SNOMED}]}
LISTED = {"include": [{"system": SNOMED, "concept": [{"code": "73211009"}]}]}
IS_A = {"include": [{"system": SNOMED, "filter": [
    {"property": "concept", "op": "is-a", "value": "73211009"}]}]}  # fmt: skip


def value_set(url: str, compose: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "ValueSet", "url": url, "status": "active", "compose": compose}


@pytest.mark.parametrize("compose", [ALL_SNOMED, IS_A])
def test_codes_that_are_known_by_the_name_of_their_system_alone_are_not_none(
    compose: dict[str, Any],
) -> None:
    given = value_set("urn:v", compose)
    with pytest.raises(NotFound, match="only its name"):
        run("ValueSet", "expand", valueSet=given)
    with pytest.raises(NotFound, match="only its name"):
        run("ValueSet", "validate-code", valueSet=given, system=SNOMED, code="73211009")
    member_of = terminology_of(Library([given])).member_of
    assert member_of({"system": SNOMED, "code": "73211009"}, "urn:v") is None
    for operation in ("lookup", "validate-code"):
        asked = {"system": SNOMED, "url": SNOMED, "code": "73211009"}
        with pytest.raises(NotFound, match="only its name"):
            run("CodeSystem", operation, **asked)


def test_what_a_value_set_lists_itself_needs_no_content_of_the_system() -> None:
    given = value_set("urn:v", LISTED)
    listed = run("ValueSet", "expand", valueSet=given)["expansion"]
    assert [one["code"] for one in listed["contains"]] == ["73211009"]
    assert part(
        run("ValueSet", "validate-code", valueSet=given, system=SNOMED, code="1"), "result"
    ) is False  # fmt: skip
    member_of = terminology_of(Library([given])).member_of
    assert member_of({"system": SNOMED, "code": "73211009"}, "urn:v") is True
    assert member_of({"system": SNOMED, "code": "1"}, "urn:v") is False


@pytest.mark.parametrize(("content", "is_whole"), [("fragment", False), ("complete", True)])
def test_a_code_outside_a_part_of_its_system_is_left_open(content: str, is_whole: bool) -> None:
    system = {"resourceType": "CodeSystem", "url": "urn:p", "status": "active",
              "content": content, "concept": [{"code": "a"}]}  # fmt: skip
    given = value_set("urn:v", {"include": [{"system": "urn:p"}]})
    library = Library([system, given])
    unclosed = {"url": "http://hl7.org/fhir/StructureDefinition/valueset-unclosed",
                "valueBoolean": True}  # fmt: skip
    expansion = run("ValueSet", "expand", library, url="urn:v")["expansion"]
    assert (unclosed in expansion.get("extension", [])) is not is_whole
    member_of = terminology_of(library).member_of
    assert member_of({"system": "urn:p", "code": "a"}, "urn:v") is True
    assert member_of({"system": "urn:p", "code": "b"}, "urn:v") is (False if is_whole else None)
    for type_ in ("ValueSet", "CodeSystem"):
        url = "urn:v" if type_ == "ValueSet" else "urn:p"
        judged = run(type_, "validate-code", library, url=url, system="urn:p", code="b")
        assert part(judged, "result") is not is_whole
        (issues,) = [p["resource"] for p in judged["parameter"] if p["name"] == "issues"]
        assert issues["issue"][0]["severity"] == ("error" if is_whole else "warning")
