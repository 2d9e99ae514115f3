"""What one MLLP listener bears, and the words for what ended a connection."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class MllpLimits:
    """What one listener bears; every breach ends the connection with a log line.

    `frames_in_flight` above 1 lets a sender that does not wait for its ACKs go faster; where
    keeping one of those frames fails, the next may already be kept, so its order may change.
    """

    frame_bytes: int = 16 * 2**20
    frame_seconds: float = 15.0  # from the first byte of a frame to its last
    opening_seconds: float = 60.0  # from connecting to the first byte of a frame
    idle_seconds: float = 3600.0  # without a frame on a connection that has had one
    reply_seconds: float = 30.0  # for the sender to read what we answered
    handshake_seconds: float = 10.0
    connections: int = 1000
    connections_per_peer: int = 50
    frames_in_flight: int = 1
    held_bytes: int = 256 * 2**20  # unfinished frames of all connections together
    garbage: Literal["close", "log"] = "close"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who called: the address that is counted, and the name for logs."""

    host: str
    name: str


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection ended: a word that is counted, and words for the log."""

    reason: str
    text: str = ""
