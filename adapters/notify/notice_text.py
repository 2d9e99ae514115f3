"""What every channel is given: whom, which template of the provider's, and the words."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeText:
    """One notice; `to` is the channel's address of a person, `template` the provider's own id."""

    to: str
    template: str
    parameters: tuple[str, ...] = ()
    text: str = ""

    def to_bytes(self) -> bytes:
        """Return it as an outgoing payload."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()


def read_notice(payload: bytes) -> NoticeText:
    """Return the notice of a payload; ValueError where it is none."""
    try:
        found = json.loads(payload)
        return NoticeText(
            to=str(found["to"]),
            template=str(found["template"]),
            parameters=tuple(str(one) for one in found["parameters"]),
            text=str(found["text"]),
        )
    except (KeyError, TypeError, json.JSONDecodeError) as wrong:
        raise ValueError("no notice") from wrong
