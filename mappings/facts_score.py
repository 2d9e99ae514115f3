"""Facts of our translations beside those of another converter's Bundles of the same messages.

A ledger names the differences that are not a fault of ours: `convention` (both say it, in another
form), `guide` (the v2-to-FHIR guide says what we say), `ours` (the other converter is wrong or
says less), `theirs` (they are right: counted against us). Raw figures leave the ledger out.
"""

import json
import pathlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from mappings.channels.profile import ChannelProfile
from mappings.engine.context import Context
from mappings.engine.library import default_folder
from mappings.facts import Fact, facts_of
from mappings.facts_source import Origin, Sources, origins_of
from mappings.hl7.message import parse
from mappings.translate import Translator
from mappings.translated import DERIVED_KEY, TranslatedMessage, Unmapped

_VERDICTS = ("convention", "guide", "ours", "theirs")
_WHOLE_TYPE = re.compile(r"\^\(?[A-Z][A-Za-z|]*\)?\s?")
_SIDES = ("surplus", "missing", "both")
_KEYS = frozenset({"match", "side", "verdict", "why", "fields", "values", "events", "messages"})
_DROPPED = frozenset({"Provenance"})  # who converted it and when


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the ledger: facts `Type path` (and value) that match, on one side or both.

    It excuses a fact whose value stands in one of `fields` of the message (`ACC`, `PID-10`), of
    ours in the field that the trace names, or is one of `values`: no other value, no other field,
    and where it names `events` (MSH-9.2) or `messages`, in no other message.
    """

    match: re.Pattern[str]
    verdict: str
    side: str
    why: str
    fields: frozenset[str] = frozenset()
    values: re.Pattern[str] | None = None
    events: frozenset[str] = frozenset()
    messages: frozenset[str] = frozenset()

    def is_about(self, message: str, event: str) -> bool:
        """Whether the line holds for a message of a name and a trigger event (`A40`)."""
        return (not self.events or event in self.events) and (
            not self.messages or message in self.messages
        )

    def names(self, field_name: str) -> bool:
        """Whether the line is about a field; `*` is every field that the trace names."""
        return (
            "*" in self.fields
            or field_name in self.fields
            or field_name.partition("-")[0] in self.fields
        )


class FaultyLedger(Exception):
    """What is wrong in a ledger, one sentence for each line of it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def read_ledger(path: pathlib.Path | None = None) -> list[Entry]:
    """Return the ledger's lines in their order; the first that matches a fact counts.

    Raises `FaultyLedger` for a line that is none or excuses whatever matches it.
    """
    file = path or default_folder() / "facts_ledger.yaml"
    lines = yaml.safe_load(file.read_text(encoding="utf-8"))
    faults = [
        f"{file.name}: line {number} ({given.get('match', '?')}): {fault}"
        for number, given in enumerate(lines, 1)
        for fault in _faults(given)
    ]
    if faults:
        raise FaultyLedger(faults)
    return [
        Entry(
            match=re.compile(given["match"]),
            verdict=given["verdict"],
            side=given.get("side", "both"),
            why=given["why"],
            fields=frozenset(given.get("fields", "").split()),
            values=re.compile(given["values"]) if "values" in given else None,
            events=frozenset(given.get("events", "").split()),
            messages=frozenset(given.get("messages", "").split()),
        )
        for given in lines
    ]


def _faults(given: dict[str, str]) -> Iterator[str]:
    for name in ("match", "verdict", "why"):
        if not given.get(name):
            yield f"has no {name}; write one"
    if given.get("verdict", "ours") not in _VERDICTS:
        yield f"has the verdict {given['verdict']}; use one of {', '.join(_VERDICTS)}"
    if given.get("side", "both") not in _SIDES:
        yield f"has the side {given['side']}; use one of {', '.join(_SIDES)}"
    if not given.get("fields") and not given.get("values"):
        yield "excuses nothing; name the fields or values that it is about"
    if _WHOLE_TYPE.fullmatch(given.get("match", "")):
        yield "is about all that a type says; name the elements"
    unknown = given.keys() - _KEYS
    if unknown:
        yield f"has the unknown key {min(unknown)}; use one of {', '.join(sorted(_KEYS))}"


@dataclass(slots=True, kw_only=True)
class Score:
    """Counts of facts by resource type; `apart` are differences that the ledger explains.

    `unlined` are the disagreements without a line in it, as `surplus Patient gender = male`, each
    with the messages it stands in; `used` counts what each line excuses.
    """

    ours: Counter[str] = field(default_factory=Counter)
    theirs: Counter[str] = field(default_factory=Counter)
    both: Counter[str] = field(default_factory=Counter)
    surplus: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)
    apart_ours: Counter[str] = field(default_factory=Counter)
    apart_theirs: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    unlined: dict[str, list[str]] = field(default_factory=dict)
    used: Counter[Entry] = field(default_factory=Counter)

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
            "unlined": self.unlined,
            "missing": {" ".join(fact): count for fact, count in self.missing.most_common(60)},
            "surplus": {" ".join(fact): count for fact, count in self.surplus.most_common(60)},
        }


class Ledger:
    """The ledger's lines, with those about a fact looked up once."""

    def __init__(self, lines: list[Entry]) -> None:
        self._lines = lines
        self._about: dict[tuple[Fact, str], list[Entry]] = {}

    def about(self, fact: Fact, side: str) -> list[Entry]:
        """Return the lines that match a fact of one side."""
        key = (fact, side)
        if key not in self._about:
            text = f"{fact[0]} {fact[1]} = {fact[2]}"
            self._about[key] = [
                one for one in self._lines if one.side in {side, "both"} and one.match.search(text)
            ]
        return self._about[key]


def score(
    folder: pathlib.Path,
    translator: Translator,
    channel: ChannelProfile,
    ledger: list[Entry] | None = None,
) -> Score:
    """Compare every message of a folder that has an expected Bundle."""
    lines = Ledger(read_ledger() if ledger is None else ledger)
    found = Score()
    for file in sorted((folder / "expected").rglob("*-expected.json")):
        name = file.name.removesuffix("-expected.json")
        data = (folder / "messages" / f"{name}.hl7").read_bytes()
        ours = Ours.of(translator, data, channel, name)
        bundle = json.loads(file.read_text(encoding="utf-8"))
        theirs = set(facts_of([entry["resource"] for entry in bundle["entry"]]))
        theirs = {fact for fact in theirs if fact[0] not in _DROPPED}
        found.ours.update(kind for kind, _, _ in ours.facts)
        found.theirs.update(kind for kind, _, _ in theirs)
        found.both.update(kind for kind, _, _ in ours.facts.keys() & theirs)
        for fact in ours.facts.keys() - theirs:
            _count(fact, ("surplus", name), ours.excuse_of_ours(fact, lines), found)
        for fact in theirs - ours.facts.keys():
            _count(fact, ("missing", name), ours.excuse_of_theirs(fact, lines), found)
    return found


@dataclass(slots=True, kw_only=True)
class Ours:
    """What we say of one message, each fact with where it came from."""

    name: str
    event: str
    sources: Sources
    facts: dict[Fact, set[Origin]]

    @classmethod
    def of(
        cls, translator: Translator, data: bytes, channel: ChannelProfile, name: str = ""
    ) -> "Ours":
        """Translate a message and trace its facts."""
        message = parse(data, channel.charset)
        result = translator.translate(message, channel)
        facility = message.segments[0].field(4).split(message.separators.component, 1)[0]
        context = Context(
            sender=channel.sender,
            separators=message.separators,
            codec=message.codec,
            facility=facility,
        )
        sources = Sources(message=message, context=context, library=translator.library)
        facts: dict[Fact, set[Origin]] = {}
        if not isinstance(result, Unmapped):
            for one, resource in zip(result.resources, _plain(result), strict=True):
                if one.type in _DROPPED:
                    continue
                origins = sources.origins(one, resource)
                for fact in facts_of([resource]):
                    facts.setdefault(fact, set()).update(origins_of(fact, origins))
        header = message.segments[0].field(9).split(message.separators.component)
        event = header[1] if len(header) > 1 else ""
        return cls(name=name, event=event, sources=sources, facts=facts)

    def excuse_of_ours(self, fact: Fact, ledger: Ledger) -> Entry | None:
        """Return the line that excuses a fact which only we say."""
        _, path, value = fact
        for line in ledger.about(fact, "surplus"):
            if not line.is_about(self.name, self.event):
                continue
            if line.values is not None and line.values.fullmatch(value):
                return line
            for origin in self.facts[fact]:
                if line.names(origin.field) and self.sources.is_said_by(value, path, origin):
                    return line
        return None

    def excuse_of_theirs(self, fact: Fact, ledger: Ledger) -> Entry | None:
        """Return the line that excuses a fact which only they say."""
        _, path, value = fact
        for line in ledger.about(fact, "missing"):
            if not line.is_about(self.name, self.event):
                continue
            if line.values is not None and line.values.fullmatch(value):
                return line
            if self.sources.is_in_fields(value, path, line.fields):
                return line
        return None


def _count(fact: Fact, where: tuple[str, str], entry: Entry | None, found: Score) -> None:
    kind, path, value = fact
    side, message = where
    if entry is None:
        found.unlined.setdefault(f"{side} {kind} {path} = {value}", []).append(message)
    else:
        found.verdicts[f"{entry.verdict} {side}"] += 1
        found.used[entry] += 1
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
