"""What is agreed with one sender of messages."""

from dataclasses import dataclass, field
from typing import Literal

from mappings.channels.profile import ChannelProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One inlet: its profile (charset, order, maps) and how it is answered.

    MLLP senders wait for an answer, so MSH-15 = NE is obeyed only with `answers="as-asked"`.
    Application acknowledgements of the enhanced mode go to the destination `application_acks`,
    if one is named.
    """

    name: str
    profile: ChannelProfile = field(default_factory=ChannelProfile)
    answers: Literal["always", "as-asked"] = "always"
    application_acks: str | None = None
