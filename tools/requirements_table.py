"""Writes docs/reference/requirements.md from requirements.yaml, the checked list beside it."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from conformance.yaml_text import read_yaml

SOURCE = pathlib.Path(__file__).with_name("requirements.yaml")
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "reference" / "requirements.md"
GROUPS = {
    "G01": "Identity, accounts, family members, consent",
    "G02": "Organisations, practitioners, teams",
    "G03": "Service packages and agreements",
    "G04": "Contract lifecycle",
    "G05": "Fulfilment (履约), tasks, reminders",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One requirement: what it asks, whether it is built, what shows it, what is missing."""

    id: str
    group: str
    term: str
    what: str
    state: str  # built, partly, not built
    show: str = ""
    showing: str = ""
    missing: str = ""

    @property
    def showings(self) -> tuple[str, ...]:
        """Return the names of what shows it."""
        return tuple(filter(None, (one.strip() for one in self.showing.split(","))))


def rows() -> Iterator[Row]:
    """Yield the rows of the list in its order."""
    for group, entries in read_yaml(SOURCE.read_text("utf-8")).items():
        for id_, entry in entries.items():
            yield Row(id=id_, group=group, **entry)


def render() -> str:
    """Return the page."""
    found = list(rows())
    built = sum(row.state == "built" for row in found)
    partly = sum(row.state == "partly" for row in found)
    lines = [
        "# Requirements of family-doctor contracting",
        "",
        "Written by `python -m tools.requirements_table` from `tools/requirements.yaml`;",
        "`tests/requirements` runs what each line shows and looks at the state it leaves.",
        f"Of {len(found)} requirements {built} are built, {partly} partly, "
        f"{len(found) - built - partly} not.",
    ]
    for group, title in GROUPS.items():
        lines += ["", f"## {group} {title}", ""]
        lines += ["| id | asks for | state | shown by | missing |", "|---|---|---|---|---|"]
        lines += [
            f"| {row.id} | {row.term}: {row.what} | {row.state} | "
            f"{_code(row.show)} | {row.missing or '–'} |"
            for row in found
            if row.group == group
        ]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    if not text:
        return "–"
    return "; ".join(f"`{one.strip()}`" for one in text.replace("|", "\\|").split(";"))


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), "utf-8")


if __name__ == "__main__":
    main()
