"""The national code lists are whole, unique, and say how sure we are of them."""

import pytest

from conformance.cphc.code_systems import CONFIDENCE, code_systems, value_sets


def codes_of(concepts: list[dict]) -> list[str]:
    return [c["code"] for c in concepts] + [
        code for c in concepts for code in codes_of(c.get("concept", []))
    ]


@pytest.mark.parametrize("system", code_systems(), ids=lambda system: system["id"])
def test_each_list_is_whole_and_unique(system: dict) -> None:
    codes = codes_of(system["concept"])
    assert len(codes) == system["count"], "a row names a parent that is not there"
    assert len(set(codes)) == len(codes)
    assert system["extension"][0]["valueCode"] in CONFIDENCE


def test_the_counts_that_are_known() -> None:
    counts = {system["id"]: system["count"] for system in code_systems()}
    assert counts["cphc-gbt-3304"] == 56
    assert counts["cphc-gbt-2261-1"] == 4
    assert counts["cphc-gbt-4658"] == 9


def test_each_list_has_a_value_set_of_all_its_codes() -> None:
    whole = {system["valueSet"]: [{"system": system["url"]}] for system in code_systems()}
    composed = {one["url"]: one["compose"]["include"] for one in value_sets()}
    assert composed | whole == composed
