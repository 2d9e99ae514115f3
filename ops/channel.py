"""What is agreed with one sender of messages."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One inlet: how its bytes are read, answered and ordered.

    `charset` holds where MSH-18 is empty. `order_key` is the patient of PID-3, or nothing.
    `on_reused_id` says what happens to a known control id with another body. MLLP senders wait
    for an answer, so MSH-15 = NE is obeyed only with `acknowledge="as-asked"`. Application
    acknowledgements of the enhanced mode go to the destination `application_acks`, if one is named.
    """

    name: str
    charset: str = "utf-8"
    order_key: Literal["patient", "none"] = "patient"
    on_reused_id: Literal["process", "hold"] = "process"
    acknowledge: Literal["always", "as-asked"] = "always"
    application_acks: str | None = None
