"""What exists is documented, and what is documented exists."""

import pathlib
import re

from ops.settings import Settings

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_every_setting_stands_in_the_reference_with_its_description() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()
    rows = {
        cells[1].strip(" `"): cells[3].strip()
        for line in page.splitlines()
        if line.startswith("| `QIAO_") and (cells := line.split("|"))
    }
    expected = {
        f"QIAO_{name.upper()}": field.description for name, field in Settings.model_fields.items()
    }
    assert rows == expected


def linked_from(page: pathlib.Path) -> set[pathlib.Path]:
    targets = re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text("utf-8"))
    return {(page.parent / target).resolve() for target in targets}


def test_every_page_is_found_from_the_first_and_no_link_leads_nowhere() -> None:
    pages = {page.resolve() for page in (ROOT / "docs").rglob("*.md")}
    outside = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    broken = {
        (page.name, target.name)
        for page in (*pages, *outside)
        for target in linked_from(page)
        if not target.exists()
    }
    assert broken == set()
    start = (ROOT / "docs/README.md").resolve()
    decisions = (ROOT / "docs/decisions/README.md").resolve()
    assert pages - linked_from(start) - linked_from(decisions) == {start}
    assert start in linked_from(ROOT / "README.md")
