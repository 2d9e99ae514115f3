"""What R4's constraints mean and how to meet them, in English and Chinese."""

import csv
import functools
import importlib.resources
from collections.abc import Mapping
from typing import NamedTuple


class ConstraintText(NamedTuple):
    """The meaning of one constraint and the remedy."""

    en: str
    zh: str
    fix_en: str
    fix_zh: str


@functools.cache
def constraint_texts() -> Mapping[str, ConstraintText]:
    """Return the texts by the constraint's key; the rarer constraints have none."""
    file = importlib.resources.files("conformance").joinpath("constraint_texts.csv")
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return {row.pop("key"): ConstraintText(**row) for row in rows}
