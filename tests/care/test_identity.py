"""Who is who, without a database: grades of a match, and merging there and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from care.identity import merging
from care.identity.matching import best_first, compare
from conformance.identity_numbers import ID_CARD_SYSTEM, check_character_of_id_card
from conformance.problem import BusinessRule


def card(serial: int, born: str = "19600501") -> str:
    first = f"999001{born}{serial:03d}"
    return first + check_character_of_id_card(first)


def person(id_: str = "a", *, cards: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    known = [{"system": ID_CARD_SYSTEM, "value": one} for one in cards]
    base = {
        "resourceType": "Patient",
        "id": id_,
        "name": [{"text": "王秀英"}],
        "gender": "female",
        "birthDate": "1960-05-01",
        "telecom": [{"system": "phone", "value": "10000000001"}],
        **more,
    }
    return {**base, **({"identifier": known} if known else {})}


def test_the_same_card_is_certain_and_contradictions_weaken_it() -> None:
    sought = person(cards=(card(2),))
    assert compare(sought, person("b", cards=(card(2),))).grade == "certain"
    renamed = person("b", cards=(card(2),), name=[{"text": "王秀兰"}])
    assert compare(sought, renamed).grade == "probable"
    other = person("b", cards=(card(2),), name=[{"text": "李强"}], gender="male")
    assert compare(sought, other).grade == "possible"


def test_twins_who_share_everything_but_the_card_are_two_persons() -> None:
    assert compare(person(cards=(card(2),)), person("b", cards=(card(4),))).grade == "certainly-not"
    # The twin of this test: without their cards nobody could tell them apart.
    assert compare(person(), person("b")).grade == "probable"
    named_otherwise = person("b", name=[{"text": "王秀兰"}])
    assert compare(person(), named_otherwise).grade == "certainly-not"


def test_a_number_of_the_first_generation_is_the_same_card() -> None:
    new = card(2)
    old = new[:6] + new[8:17]
    assert compare(person(cards=(old,)), person("b", cards=(new,))).grade == "certain"


def test_other_numbers_count_under_their_own_system_only() -> None:
    mine = person(identifier=[{"system": "urn:hospital-a", "value": "M1"}])
    same = person("b", identifier=[{"system": "urn:hospital-a", "value": "M1"}])
    elsewhere = person("c", identifier=[{"system": "urn:hospital-b", "value": "M1"}], telecom=[])
    assert compare(mine, same).grade == "certain"
    assert compare(mine, elsewhere).grade == "possible"


def test_only_certain_gives_one_record_or_none() -> None:
    sought = person(cards=(card(2),))
    twice = [person("b", cards=(card(2),)), person("c", cards=(card(2),))]
    assert best_first(sought, twice, only_certain=True) == []
    assert [r["id"] for r, _ in best_first(sought, twice[:1], only_certain=True)] == ["b"]
    gone = merging.retired(twice[1], "Patient/b")
    assert [r["id"] for r, _ in best_first(sought, [twice[0], gone])] == ["b"]


def test_two_cards_are_not_merged_but_one_marked_old_may_be() -> None:
    with pytest.raises(BusinessRule) as refused:
        merging.require_mergeable(person("a", cards=(card(2),)), person("b", cards=(card(4),)))
    assert refused.value.issues[0].key == "merge-two-persons"
    mistyped = person("a", cards=(card(2),))
    mistyped["identifier"][0]["use"] = "old"  # what the refusal advises
    merging.require_mergeable(mistyped, person("b", cards=(card(4),)))


REFERENCES = st.sampled_from(["Patient/a", "Patient/b", "Patient/c", "Patient/a/_history/2"])
TREES = st.recursive(
    REFERENCES.map(lambda r: {"reference": r}) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(TREES)
def test_what_was_moved_comes_back_and_nothing_else(tree: Any) -> None:
    there = merging.moved(tree, "Patient/a", "Patient/b")
    assert "Patient/a'" not in repr(there)
    assert merging.moved_back(there, tree, "Patient/a", "Patient/b") == tree
    # Without what was there before, the references of b itself could not be told from a's.
    assert merging.moved_back(there, None, "Patient/a", "Patient/b") == there
