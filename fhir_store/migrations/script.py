"""Finds the .sql file that belongs to a revision."""

import pathlib


def statements_of(module_file: str) -> str:
    """Return the text of the .sql file beside a revision's module."""
    return pathlib.Path(module_file).with_suffix(".sql").read_text(encoding="utf-8")
