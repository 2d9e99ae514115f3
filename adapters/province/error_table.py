"""What each code of the province, of HTTP and of the connection means, and what a person does."""

import csv
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.port import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """One row of errors.csv; `settles` says that as a query's answer it decides the message.

    `error_class` is a code of the hub's list of partners' errors; empty where nothing went wrong.
    """

    code: str
    verdict: Verdict
    settles: bool
    error_class: str
    meaning_en: str
    meaning_zh: str
    action_en: str
    action_zh: str

    @property
    def text(self) -> str:
        """Meaning and action in both languages."""
        return f"{self.meaning_zh}：{self.action_zh} / {self.meaning_en}: {self.action_en}"


ErrorTable = Mapping[str, Meaning]


def read_error_table() -> ErrorTable:
    """Return the packaged table by code."""
    file = importlib.resources.files("adapters.province").joinpath("errors.csv")
    rows = csv.DictReader(file.read_text("utf-8").splitlines())
    return {
        row["code"]: Meaning(
            code=row["code"],
            verdict=Verdict(row["verdict"]),
            settles=row["settles"] == "yes",
            error_class=row["class"],
            meaning_en=row["meaning_en"],
            meaning_zh=row["meaning_zh"],
            action_en=row["action_en"],
            action_zh=row["action_zh"],
        )
        for row in rows
    }
