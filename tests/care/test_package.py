"""Key populations by dated rules, and what may be published."""

import datetime
from typing import Any

import pytest

from care.effects import Hold, Put
from care.package.population import KEY_POPULATION, applicable, populations_on, rules
from care.package.publishing import publish, retire
from conformance.cphc.service_packages import service_packages
from conformance.problem import BusinessRule

DAY = datetime.date(2026, 3, 2)
NOW = datetime.datetime(2026, 3, 2, 10, tzinfo=datetime.UTC)
PRICE = {
    "url": "https://fhir.qiao.example/cphc/StructureDefinition/cphc-package-price",
    "valueMoney": {"value": 0, "currency": "CNY"},
}
ITEM = {
    "resourceType": "ActivityDefinition", "id": "bp", "url": "urn:bp", "version": "1",
    "status": "active",
}  # fmt: skip


def plan(**changed: Any) -> dict[str, Any]:
    whole = {
        "resourceType": "PlanDefinition", "id": "p", "url": "urn:p", "version": "1",
        "title": "基础包", "status": "draft", "extension": [PRICE],
        "action": [{"definitionCanonical": "urn:bp|1"}],
    }  # fmt: skip
    return {**whole, **changed}


def condition(code: str, clinical: str = "active") -> dict[str, Any]:
    return {
        "id": "c1",
        "clinicalStatus": {"coding": [{"code": clinical}]},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cn", "code": code}]},
    }


def test_the_ten_groups_have_rules_that_are_data() -> None:
    assert set(rules()) == {
        "elderly", "pregnant", "child", "hypertension", "diabetes", "tuberculosis", "smi",
        "disabled", "family-planning", "low-income",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("birth", "expected"),
    [
        ("1961-03-02", {"elderly": "age"}),
        ("1961-03-03", {}),
        ("2019-03-03", {"child": "age"}),
        ("2019-03-02", {}),
        ("1961", {}),
    ],
)
def test_a_population_of_age_begins_and_ends_with_a_birthday(
    birth: str, expected: dict[str, str]
) -> None:
    assert populations_on({"birthDate": birth}, [], [], DAY) == expected


def test_illness_programme_and_record_put_a_resident_into_a_population() -> None:
    flagged = {
        "birthDate": "1990-01-01",
        "extension": [
            {"url": KEY_POPULATION, "valueCodeableConcept": {"coding": [{"code": "disabled"}]}}
        ],
    }
    episode = {
        "id": "e1",
        "status": "active",
        "type": [{"coding": [{"code": "dm2"}]}],
        "period": {"start": "2025-01-01"},
    }
    found = populations_on(flagged, [condition("I10.x00")], [episode], DAY)
    assert found == {
        "disabled": "record",
        "hypertension": "Condition/c1",
        "diabetes": "EpisodeOfCare/e1",
    }
    over = {**episode, "period": {"start": "2025-01-01", "end": "2026-03-01"}}
    assert populations_on({}, [condition("I10", "resolved")], [over], DAY) == {}
    before = datetime.date(2009, 9, 30)
    assert populations_on({}, [condition("I10")], [], before) == {}


def test_packages_are_offered_to_those_they_are_for() -> None:
    focus = {
        "code": {"code": "focus"},
        "valueCodeableConcept": {"coding": [{"code": "elderly"}]},
    }
    basic = plan(status="active")
    elderly = plan(id="e", status="active", useContext=[focus], title="老年人包")
    over = plan(id="o", status="active", effectivePeriod={"end": "2026-03-01"})
    draft, other = plan(id="d"), plan(id="x", status="active", extension=[])
    every = [elderly, basic, over, draft, other]
    assert [p["id"] for p in applicable(every, ["elderly"], DAY)] == ["p", "e"]
    assert [p["id"] for p in applicable(every, [], DAY)] == ["p"]


def test_a_draft_that_is_whole_is_published_and_its_forerunner_retires() -> None:
    old = plan(id="old", version="0", status="active")
    claim, before, now = publish(plan(), [ITEM], [old], NOW)
    assert isinstance(claim, Hold)
    assert claim.key == "urn:p|1"
    assert isinstance(before, Put)
    assert isinstance(now, Put)
    assert (before.resource["id"], before.resource["status"]) == ("old", "retired")
    assert (now.resource["id"], now.resource["status"]) == ("p", "active")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": None}, "version"),
        ({"title": ""}, "title"),
        ({"extension": []}, "package-price"),
        ({"action": []}, "no items"),
        ({"action": [{"definitionCanonical": "urn:bp|2"}]}, "urn:bp|2"),
        ({"effectivePeriod": {"end": "2026-03-01"}}, "effectivePeriod"),
        (
            {
                "useContext": [
                    {
                        "code": {"code": "focus"},
                        "valueCodeableConcept": {"coding": [{"code": "giants"}]},
                    }
                ]
            },
            "giants",
        ),
    ],
)
def test_a_package_that_is_not_whole_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BusinessRule) as caught:
        publish(plan(**changed), [ITEM], [], NOW)
    (issue,) = caught.value.issues
    assert (issue.key, said in issue.text_en) == ("package-not-whole", True)


def test_what_is_in_force_is_not_published_again_and_only_that_retires() -> None:
    with pytest.raises(BusinessRule):
        publish(plan(status="active"), [ITEM], [], NOW)
    with pytest.raises(BusinessRule):
        retire(plan(), NOW)
    (put,) = retire(plan(status="active"), NOW)
    assert isinstance(put, Put)
    assert put.resource["status"] == "retired"


def test_the_packages_to_start_from_can_be_published_once_priced() -> None:
    shipped = list(service_packages())
    items = [one for one in shipped if one["resourceType"] == "ActivityDefinition"]
    plans = [one for one in shipped if one["resourceType"] == "PlanDefinition"]
    assert len(plans) == 5
    for one in plans:
        with pytest.raises(BusinessRule):
            publish(one, items, [], NOW)
        priced = {**one, "extension": [*one["extension"], PRICE]}
        assert publish(priced, items, [], NOW)
