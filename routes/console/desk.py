"""What the console is given by wiring."""

import pathlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mappings.channels.profile import ChannelProfile
from mappings.translate import Translator
from routes.hub import Hub

Codes = Mapping[str, Mapping[str, str]]
"""table -> the sender's code -> ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """The built pages: their folder, or why there is none yet (in English and Chinese)."""

    folder: pathlib.Path | None
    why_en: str = ""
    why_zh: str = ""
    is_coming: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Everything the console's routes need beside the request.

    `profiles` and `translator` are the channels and maps in force. `rehearse` (entry, codes) says
    what a replay would do and undoes it. `resolved` lets every process know of a resolved code,
    `opened` that entries were opened. Cases are saved below `cases`; `maps` is the hub's own folder
    of maps and tables, which the playground may try out changed.
    """

    hub: Hub
    profiles: Callable[[], Mapping[str, ChannelProfile]]
    translator: Callable[[ChannelProfile], Translator]
    rehearse: Callable[[int, Codes], Awaitable[dict[str, Any]]]
    resolved: Callable[[], Awaitable[None]]
    opened: Callable[[], None]
    assets: Callable[[], Assets]
    cases: pathlib.Path
    maps: pathlib.Path
