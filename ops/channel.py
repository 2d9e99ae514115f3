"""What is agreed with one sender of messages."""

from dataclasses import dataclass, field
from typing import Literal

from mappings.channels.profile import ChannelProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One inlet: its profile (charset, order, maps) and how it is answered.

    MLLP senders wait for an answer, so MSH-15 = NE is obeyed only with `answers="as-asked"`.
    Application acknowledgements of the enhanced mode go to the destination `application_acks`,
    if the profile names an address for them.
    """

    name: str
    profile: ChannelProfile = field(default_factory=ChannelProfile)
    answers: Literal["always", "as-asked"] = "always"
    application_acks: str | None = None

    @classmethod
    def of(cls, profile: ChannelProfile) -> "Channel":
        """Return the channel that a profile declares."""
        answers: Literal["always", "as-asked"] = (
            "as-asked" if profile.reply == "as-asked" else "always"
        )
        acks = f"{profile.name}-acks" if profile.application_acks else None
        return cls(name=profile.name, profile=profile, answers=answers, application_acks=acks)

    @property
    def answers_when_applied(self) -> bool:
        """Whether AA says that the message took effect."""
        return self.profile.acknowledge == "applied"
