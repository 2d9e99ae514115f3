"""Facts of our translations beside those of another converter's Bundles of the same messages.

A ledger names the differences that are not a fault of ours: `convention` (both say it, in another
form), `guide` (the v2-to-FHIR guide says what we say), `ours` (the other converter is wrong or
says less), `theirs` (they are right: counted against us). Raw figures leave the ledger out.
"""

import json
import pathlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import yaml

from mappings.channels.profile import ChannelProfile
from mappings.engine.library import default_folder
from mappings.facts import Fact, facts_of
from mappings.translate import Translator
from mappings.translated import DERIVED_KEY, TranslatedMessage, Unmapped

_DROPPED = frozenset({"Provenance"})  # who converted it and when


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the ledger: facts `Type path` (and value) that match, on one side or both."""

    match: re.Pattern[str]
    verdict: str
    side: str
    why: str


def read_ledger(path: pathlib.Path | None = None) -> list[Entry]:
    """Return the ledger's lines in their order; the first that matches a fact counts."""
    file = path or default_folder() / "facts_ledger.yaml"
    return [
        Entry(
            match=re.compile(given["match"]),
            verdict=given["verdict"],
            side=given.get("side", "both"),
            why=given["why"],
        )
        for given in yaml.safe_load(file.read_text(encoding="utf-8"))
    ]


@dataclass(slots=True, kw_only=True)
class Score:
    """Counts of facts by resource type; `apart` are differences that the ledger explains."""

    ours: Counter[str] = field(default_factory=Counter)
    theirs: Counter[str] = field(default_factory=Counter)
    both: Counter[str] = field(default_factory=Counter)
    surplus: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)
    apart_ours: Counter[str] = field(default_factory=Counter)
    apart_theirs: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        """Return precision and recall, raw and without what the ledger sets apart."""
        both = self.both.total()
        return {
            "precision": _part(both, self.ours.total() - self.apart_ours.total()),
            "recall": _part(both, self.theirs.total() - self.apart_theirs.total()),
            "raw_precision": _part(both, self.ours.total()),
            "raw_recall": _part(both, self.theirs.total()),
            "by_resource": {
                kind: {
                    "precision": _part(self.both[kind], self.ours[kind] - self.apart_ours[kind]),
                    "recall": _part(self.both[kind], count - self.apart_theirs[kind]),
                    "raw_precision": _part(self.both[kind], self.ours[kind]),
                    "raw_recall": _part(self.both[kind], count),
                    "ours": self.ours[kind],
                    "expected": count,
                    "both": self.both[kind],
                }
                for kind, count in self.theirs.most_common()
            },
            "verdicts": dict(self.verdicts.most_common()),
            "missing": {" ".join(fact): count for fact, count in self.missing.most_common(60)},
            "surplus": {" ".join(fact): count for fact, count in self.surplus.most_common(60)},
        }


def score(
    folder: pathlib.Path,
    translator: Translator,
    channel: ChannelProfile,
    ledger: list[Entry] | None = None,
) -> Score:
    """Compare every message of a folder that has an expected Bundle."""
    lines = read_ledger() if ledger is None else ledger
    found = Score()
    verdicts: dict[tuple[str, str], Entry | None] = {}
    for file in sorted((folder / "expected").rglob("*-expected.json")):
        name = file.name.removesuffix("-expected.json")
        data = (folder / "messages" / f"{name}.hl7").read_bytes()
        result = translator.translate(data, channel)
        ours = set() if isinstance(result, Unmapped) else set(facts_of(_plain(result)))
        bundle = json.loads(file.read_text(encoding="utf-8"))
        theirs = set(facts_of([entry["resource"] for entry in bundle["entry"]]))
        ours = {fact for fact in ours if fact[0] not in _DROPPED}
        theirs = {fact for fact in theirs if fact[0] not in _DROPPED}
        found.ours.update(kind for kind, _, _ in ours)
        found.theirs.update(kind for kind, _, _ in theirs)
        found.both.update(kind for kind, _, _ in ours & theirs)
        for side, facts in (("surplus", ours - theirs), ("missing", theirs - ours)):
            for fact in facts:
                _judge(fact, side, lines, verdicts, found)
    return found


def _judge(
    fact: Fact,
    side: str,
    lines: list[Entry],
    verdicts: dict[tuple[str, str], Entry | None],
    found: Score,
) -> None:
    kind, path, value = fact
    text = f"{kind} {path} = {value}"
    if (side, text) not in verdicts:
        verdicts[side, text] = next(
            (one for one in lines if one.side in {side, "both"} and one.match.search(text)), None
        )
    entry = verdicts[side, text]
    if entry is not None:
        found.verdicts[f"{entry.verdict} {side}"] += 1
    if entry is None or entry.verdict == "theirs":
        (found.surplus if side == "surplus" else found.missing)[(kind, path)] += 1
    elif side == "surplus":
        found.apart_ours[kind] += 1
    else:
        found.apart_theirs[kind] += 1


def _part(count: int, whole: int) -> float:
    return round(count / whole, 4) if whole else 1.0


def _plain(result: TranslatedMessage) -> list[dict[str, Any]]:
    """Return the resources with references that name their type."""
    types = {f"urn:uuid:{one.key}": f"{one.type}/{one.key}" for one in result.resources}

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            if str(value.get("system", "")).endswith(f"/{DERIVED_KEY}"):
                return None  # made by the hub, said by nobody
            return {
                name: types.get(item, item)
                if name == "reference" and isinstance(item, str)
                else named(item)
                for name, item in value.items()
            }
        return [named(item) for item in value] if isinstance(value, list) else value

    return [{**named(one.resource), "id": one.key} for one in result.resources]
