"""The page of the forms is the one that the Questionnaires render to."""

import pathlib

from conformance.forms.page import page

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_the_page_is_up_to_date() -> None:
    written = (ROOT / "docs/reference/forms.md").read_text()
    assert written == page() + "\n", "run: .venv/bin/qiao forms > docs/reference/forms.md"
