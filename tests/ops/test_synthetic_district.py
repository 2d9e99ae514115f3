"""The synthetic district is reproducible, lawful, and nobody real."""

import datetime

from conformance.identity_numbers import TEST_REGION, read_id_card
from ops.demo.synthetic_district import district, people


def test_the_same_seed_gives_the_same_district() -> None:
    assert list(district(7, 30)) == list(district(7, 30))
    assert list(district(7, 30)) != list(district(8, 30))


def test_every_resident_carries_a_valid_number_of_the_reserved_region() -> None:
    numbers = set()
    for person in people(3, 60000):
        card = read_id_card(
            person.id_card, today=datetime.date(2026, 11, 21), test_regions={TEST_REGION}
        )
        assert (card.birth_on, card.gender) == (person.birth_on, person.gender)
        numbers.add(person.id_card)
    assert len(numbers) == 60000


def test_persons_of_different_seeds_share_no_health_card() -> None:
    cards = [person.health_card for seed in (1, 101, 9001) for person in people(seed, 200)]
    assert len(set(cards)) == 600


def test_every_reference_points_to_something_earlier() -> None:
    seen = set()
    for resource in district(1, 20):
        for reference in references_in(resource):
            assert reference in seen
        seen.add(f"{resource['resourceType']}/{resource['id']}")


def references_in(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["reference"]] if "reference" in value else []
        return own + [r for v in value.values() for r in references_in(v)]
    if isinstance(value, list):
        return [r for item in value for r in references_in(item)]
    return []
