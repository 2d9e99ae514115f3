"""Each demonstration is about somebody else."""

import datetime

from mappings.hl7.message import parse
from ops.demo.first_message import FIRST_PERSON, admission
from ops.demo.synthetic_district import people

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


def test_two_demonstrations_share_no_identifier_with_each_other_or_the_district() -> None:
    taken: set[str] = set()
    for person in people(1, 200):
        taken |= {person.id_card, person.health_card}
    for number in (1, 101, 1001, 700_000):
        [person] = people(FIRST_PERSON + number, 1)
        message = parse(admission(person, "M1", NOW))
        identifiers = {one.split("^")[0] for one in message.segments[2].field(3).split("~")}
        assert len(identifiers) == 3
        assert not identifiers & taken
        taken |= identifiers
