"""Each requirement of G01 to G05 that the table calls built or partly built is shown here."""

from pathlib import Path

import pytest
from district import District
from showings import SHOWINGS

from tools.requirements_table import PAGE, Row, render, rows

ROWS = {row.id: row for row in rows()}
GROUPS = {"G01": 14, "G02": 14, "G03": 9, "G04": 23, "G05": 16}


@pytest.mark.parametrize("showing", sorted({one for row in ROWS.values() for one in row.showings}))
def test_what_the_table_says_is_so(district: District, showing: str) -> None:
    SHOWINGS[showing](district)


def test_the_page_is_what_the_table_says() -> None:
    assert Path(PAGE).read_text("utf-8") == render(), "Next: python -m tools.requirements_table"


def test_every_requirement_is_there_and_none_is_called_built_without_a_showing() -> None:
    for group, count in GROUPS.items():
        assert sum(row.group == group for row in ROWS.values()) == count, group
    for row in ROWS.values():
        assert bool(row.showing) == (row.state != "not built"), row.id
        assert bool(row.missing) == (row.state != "built"), row.id
    assert {one for row in ROWS.values() for one in row.showings} == set(SHOWINGS)


def test_a_row_without_a_showing_would_be_seen() -> None:
    """The twin of the test above: a claim without proof does not pass it."""
    claim = Row(id="X", group="G01", term="x", what="x", state="built", show="GET /x")
    assert bool(claim.showing) != (claim.state != "not built")
