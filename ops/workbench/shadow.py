"""What two versions of the maps make of the same messages, grouped by the row that differs."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from conformance.problem import Problem
from mappings.bundles import differences
from mappings.channels.profile import ChannelProfile
from mappings.hl7.message import Message
from mappings.translate import Translator
from mappings.translated import TranslatedMessage, Unmapped


@dataclass(slots=True, kw_only=True)
class Shadow:
    """Translates messages by both versions and keeps each difference with its row.

    `by_row` has `name: path: was -> becomes` under `map/row`, under `-` what no row tells.
    """

    before: Translator
    after: Translator
    by_row: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    def compare(self, name: str, message: bytes | Message, profile: ChannelProfile) -> None:
        """Compare one message as its channel reads it; raises where neither version can read it."""
        one, two = (_outcome(translator, message, profile) for translator in self._both())
        if isinstance(one, Problem) and isinstance(two, Problem) and one.issues == two.issues:
            raise two
        self.count += 1
        rows = {**_rows(one), **_rows(two)}
        for path, was, becomes in differences(_content(one), _content(two)):
            self.by_row[rows.get(path, "-")].append(f"{name}: {path}: {was} -> {becomes}")

    def _both(self) -> tuple[Translator, Translator]:
        return self.before, self.after


_Outcome = TranslatedMessage | Unmapped | Problem


def _outcome(translator: Translator, message: bytes | Message, profile: ChannelProfile) -> _Outcome:
    try:
        return translator.translate(message, profile)
    except Problem as problem:
        return problem


def _content(outcome: _Outcome) -> dict[str, Any]:
    if isinstance(outcome, Unmapped):
        return {"unmapped": outcome.event}
    if isinstance(outcome, Problem):
        return {"refused": "; ".join(issue.text_en for issue in outcome.issues)}
    found: dict[str, Any] = {}
    for number, one in enumerate(outcome.resources):
        found[f"{one.map_name} {one.origin or number}"] = one.resource
    return found


def _rows(outcome: _Outcome) -> dict[str, str]:
    if not isinstance(outcome, TranslatedMessage):
        return {}
    return {
        f"{one.map_name} {one.origin or number}.{target.partition('.')[2]}": f"{one.map_name}/{row}"
        for number, one in enumerate(outcome.resources)
        for target, _, row in one.trace
    }
