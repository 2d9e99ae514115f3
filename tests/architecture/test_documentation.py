"""What exists is documented, and what is documented exists."""

import pathlib

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
