"""How the simulator misbehaves: drawn from a seed, so that a run can be repeated."""

import random
from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "delay": "answers late",
    "timeout": "takes the document and never answers",
    "fault": "answers a SOAP fault and takes nothing",
    "refuse": "refuses with a field error, at every attempt of the message",
    "twice": "answers with the same receipt twice",
    "busy": "answers 503 and takes nothing",
    "garbage": "takes the document and answers broken XML",
    "pending": "takes the document and gives the receipt at the first query",
}

PRESETS: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "some": dict.fromkeys(KINDS, 0.02),
    "many": dict.fromkeys(KINDS, 0.08),
}


def parse_faults(text: str) -> Mapping[str, float]:
    """Read `some`, `many`, `none` or `timeout=0.2,twice=0.1`; ValueError says what is allowed."""
    if text in PRESETS:
        return PRESETS[text]
    faults: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.partition("=")
        if name.strip() not in KINDS:
            raise ValueError(f"no fault {name.strip()!r}; there are {', '.join(KINDS)}")
        try:
            faults[name.strip()] = float(share)
        except ValueError:
            raise ValueError(f"write {name.strip()}=0.1, a share between 0 and 1") from None
    if any(share < 0 for share in faults.values()) or sum(faults.values()) > 1:
        raise ValueError("the shares must be at least 0 and together at most 1")
    return faults


class Mischief:
    """Draws what happens to each attempt of each message, whatever order they come in."""

    def __init__(self, faults: Mapping[str, float], seed: int) -> None:
        self._faults = faults
        self._seed = seed
        self._attempts: dict[str, int] = {}

    def draw(self, msg_id: str) -> str:
        """Return the kind for the next attempt of a message, or "" for good behaviour."""
        if not self._faults:
            return ""
        if self._refuses(msg_id):
            return "refuse"
        attempt = self._attempts[msg_id] = self._attempts.get(msg_id, 0) + 1
        point = _draw(f"{self._seed} {msg_id} {attempt}")
        for kind, share in self._faults.items():
            if kind == "refuse":
                continue
            if point < share:
                return kind
            point -= share
        return ""

    def _refuses(self, msg_id: str) -> bool:
        return _draw(f"{self._seed} {msg_id} refuse") < self._faults.get("refuse", 0.0)


def _draw(text: str) -> float:
    return random.Random(text).random()  # noqa: S311 (a mood, not a secret)
