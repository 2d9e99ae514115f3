"""The services of a package as Tasks: how many, when due, and never another set of ids."""

import datetime
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from care.fulfilment.items import ServiceItem, items_of
from care.fulfilment.schedule import tasks_for, windows_of
from care.fulfilment.telling import requests_of
from conformance.cphc import BASE
from conformance.resource_json import parse
from conformance.structure import require_valid

NOW = datetime.datetime(2026, 1, 1, 9, tzinfo=datetime.timezone(datetime.timedelta(hours=8)))
DAY = datetime.timedelta(days=1)
CONTRACT = {
    "resourceType": "Contract",
    "id": "c1",
    "applies": {"start": "2026-01-01", "end": "2026-12-31"},
    "subject": [{"reference": "Patient/p1"}],
    "term": [
        {
            "offer": {"topic": {"reference": "PlanDefinition/elderly"}},
            "action": [{"performer": {"reference": "CareTeam/t1"}}],
        }
    ],
}
ITEM = f"{BASE}/CodeSystem/cphc-service-item"


def activity(name, quota=None, repeat=None, evidence=()):
    extensions = [
        {"url": f"{BASE}/StructureDefinition/cphc-evidence-rule", "valueCode": code}
        for code in evidence
    ]
    if quota is not None:
        quota_url = f"{BASE}/StructureDefinition/cphc-service-quota"
        extensions.append({"url": quota_url, "valueInteger": quota})
    return {
        "resourceType": "ActivityDefinition",
        "url": f"{BASE}/ActivityDefinition/{name}",
        "version": "2026",
        "title": name,
        "code": {"coding": [{"system": ITEM, "code": name}]},
        **({"extension": extensions} if extensions else {}),
        **({"timingTiming": {"repeat": repeat}} if repeat else {}),
    }


def plan(*names):
    return {
        "resourceType": "PlanDefinition",
        "id": "elderly",
        "action": [{"definitionCanonical": f"{BASE}/ActivityDefinition/{n}|2026"} for n in names],
    }


def spans(item, first="2026-01-01", last="2026-12-31"):
    found = windows_of(item, *map(datetime.date.fromisoformat, (first, last)))
    return [(str(begin), str(end)) for begin, end in found]


def item(quota=None, every=None, frequency=1):
    return ServiceItem(
        canonical="u", code={}, title="", quota=quota, every=every, frequency=frequency
    )


QUARTERS = [
    ("2026-01-01", "2026-03-31"),
    ("2026-04-01", "2026-06-30"),
    ("2026-07-01", "2026-09-30"),
    ("2026-10-01", "2026-12-31"),
]


@pytest.mark.parametrize(
    "quarterly",
    [item(every=(3, "mo")), item(quota=4), item(every=(1, "a"), frequency=4)],
)
def test_four_a_year_fall_due_quarter_by_quarter_however_it_is_said(quarterly):
    assert spans(quarterly) == QUARTERS


def test_the_quota_limits_the_timing_and_counts_anew_each_year():
    twice = item(quota=2, every=(3, "mo"))
    assert spans(twice) == QUARTERS[:2]
    assert [begin for begin, _ in spans(twice, last="2027-12-31")] == [
        "2026-01-01", "2026-04-01", "2027-01-01", "2027-04-01",
    ]  # fmt: skip


def test_the_end_of_a_month_and_a_leap_day_shift_nothing():
    assert spans(item(every=(1, "mo")), "2027-12-31", "2028-05-30") == [
        ("2027-12-31", "2028-01-30"),
        ("2028-01-31", "2028-02-28"),
        ("2028-02-29", "2028-03-30"),
        ("2028-03-31", "2028-04-29"),
        ("2028-04-30", "2028-05-30"),
    ]


def test_a_last_period_cut_to_less_than_half_is_left_out():
    assert spans(item(every=(3, "mo")), last="2026-05-10") == QUARTERS[:1]
    assert spans(item(every=(3, "mo")), last="2026-05-20")[1] == ("2026-04-01", "2026-05-20")


@given(
    quota=st.none() | st.integers(0, 40),
    every=st.none() | st.tuples(st.integers(1, 30), st.sampled_from(["d", "wk", "mo", "a"])),
    frequency=st.integers(1, 8),
    first=st.dates(datetime.date(2024, 1, 1), datetime.date(2030, 1, 1)),
    days=st.integers(0, 1100),
)
def test_periods_stay_in_the_term_in_order_and_within_the_quota(
    quota, every, frequency, first, days
):
    if quota is None and every is None:
        quota = 1
    last = first + days * DAY
    found = windows_of(item(quota, every, frequency), first, last)
    assert all(first <= begin <= end <= last for begin, end in found)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(found))
    if quota is not None:
        assert len(found) <= quota * (days // 365 + 1)


def test_tasks_carry_contract_resident_team_item_and_period_and_are_valid_r4():
    activities = [activity("bp", repeat={"frequency": 1, "period": 3, "periodUnit": "mo"})]
    tasks = tasks_for(CONTRACT, "PlanDefinition/elderly", plan("bp"), activities, now=NOW)
    assert len(tasks) == 4
    for task in tasks:
        require_valid(parse(json.dumps(task).encode()))
        assert task["basedOn"] == [{"reference": "Contract/c1"}]
        assert task["for"] == {"reference": "Patient/p1"}
        assert task["owner"] == {"reference": "CareTeam/t1"}
        assert task["code"]["coding"][0]["code"] == "bp"
    assert [(t["restriction"]["period"]["start"]) for t in tasks] == [q[0] for q in QUARTERS]


def test_the_same_contract_gives_the_same_ids_and_two_items_different_ones():
    activities = [activity("bp", quota=2), activity("ecg", quota=1)]

    def make():
        package = "PlanDefinition/elderly"
        return tasks_for(CONTRACT, package, plan("bp", "ecg"), activities, now=NOW)

    assert [t["id"] for t in make()] == [t["id"] for t in make()]
    assert len({t["id"] for t in make()}) == 3


def test_nothing_falls_due_before_the_contract_takes_effect():
    later = NOW + 100 * DAY
    tasks = tasks_for(
        CONTRACT, "PlanDefinition/elderly", plan("bp"), [activity("bp", quota=12)], now=later
    )
    assert tasks[0]["restriction"]["period"]["start"] == "2026-04-11"
    assert len(tasks) == 9


def test_an_action_may_ask_for_another_quota_than_its_definition():
    package = plan("bp")
    quota_url = f"{BASE}/StructureDefinition/cphc-service-quota"
    package["action"][0]["extension"] = [{"url": quota_url, "valueInteger": 6}]
    (found,) = items_of(package, [activity("bp", quota=4, evidence=["photo"])])
    assert found.quota == 6
    assert found.evidence == {"photo"}


def test_a_definition_of_another_version_is_not_taken():
    package = plan("bp")
    package["action"][0]["definitionCanonical"] += "-draft"
    assert items_of(package, [activity("bp", quota=4)]) == []


def test_what_an_item_tells_of_its_services() -> None:
    told = [
        {"url": f"{BASE}/StructureDefinition/cphc-service-notice", "valueCode": code}
        for code in ("due", "done")
    ]
    item_of = activity("bp", 2)
    item_of["extension"] = [*item_of["extension"], *told]
    first, later = tasks_for(CONTRACT, "PlanDefinition/elderly", plan("bp"), [item_of], now=NOW)
    due = requests_of(first, NOW)
    assert [one["category"][0]["coding"][0]["code"] for one in due] == ["service-due"]
    assert due == requests_of(first, NOW), "said once: the id is the same"
    done = requests_of({**first, "status": "completed"}, NOW)
    assert "about" not in done[0], "a message about what is settled would not be sent"
    for one in (*due, *done):
        require_valid(one)
        assert one["basedOn"][0] == {"reference": "Contract/c1"}
    assert requests_of(later, NOW) == []
    silent = tasks_for(CONTRACT, "PlanDefinition/elderly", plan("bp"), [activity("bp", 2)], now=NOW)
    assert [requests_of({**one, "status": "ready"}, NOW) for one in silent] == [[], []]
