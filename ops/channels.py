"""The channels of this deployment: read whole or not at all, also while messages flow."""

import asyncio
import pathlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from mappings.channels.loader import load_channels
from mappings.channels.profile import ChannelProfile
from mappings.engine.library import load
from mappings.engine.rows import Fault, FaultyMaps
from mappings.translate import Translator
from mappings.translated import TranslatedMessage, Unmapped
from ops.channel import Channel
from ops.flow_translation import translator_of

DEFAULT = "his"
"""The one channel of a hub for which none is declared."""

Overlays = Mapping[str, Mapping[str, Mapping[str, str]]]
"""channel -> table -> the sender's code -> ours: what people have resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Channels and compiled maps that were found right; nothing of them is in force yet."""

    profiles: Mapping[str, ChannelProfile]
    translators: Mapping[str, Translator]


def read_channels(folder: pathlib.Path | None, partners: Collection[str] = ()) -> Reading:
    """Return the channels of a folder with the maps they are read by; None has one channel.

    `partners` are the destinations there are. Raises `FaultyMaps` with the faults of all files.
    """
    profiles: Mapping[str, ChannelProfile] = {DEFAULT: ChannelProfile(name=DEFAULT)}
    faults: list[Fault] = []
    if folder is not None:
        try:
            profiles = load_channels(folder)
        except FaultyMaps as faulty:
            raise FaultyMaps([*faulty.faults]) from None
        faults += _unserved(folder, profiles, partners)
    translators: dict[str, Translator] = {}
    for maps in sorted({profile.maps for profile in profiles.values()} | {""}):
        try:
            library = load(pathlib.Path(maps) if maps else None)
        except FaultyMaps as faulty:
            faults += faulty.faults
        else:
            translators[maps] = translator_of(library)
    if faults:
        raise FaultyMaps(faults)
    return Reading(profiles=profiles, translators=translators)


def _unserved(
    folder: pathlib.Path, profiles: Mapping[str, ChannelProfile], partners: Collection[str]
) -> list[Fault]:
    """Return what is declared and cannot be kept by this hub."""
    faults = []

    def fault(row: str, text: str, fix: str) -> None:
        faults.append(Fault(file=folder.name, line=1, row=row, text=text, fix=fix))

    if not profiles:
        fault("channel", "no *.yaml declares a channel", "Add one, or unset QIAO_CHANNELS.")
    unported = [name for name, profile in profiles.items() if profile.port is None]
    if len(unported) > 1:
        names = ", ".join(unported)
        fix = "Give each a port; one alone may use QIAO_MLLP_PORT."
        fault("transport", f"the channels {names} name no port", fix)
    for name, profile in profiles.items():
        for partner in sorted(set(profile.destinations) - set(partners)):
            known = ", ".join(sorted(partners)) or "none"
            fix = f"Name a partner of this hub ({known})."
            fault("destinations", f"channel {name} names {partner!r}, which is no partner", fix)
    return faults


@dataclass(slots=True, kw_only=True)
class ChannelBook:
    """The channels in force; `channels` is one mapping for ever, changed in place.

    A channel that is taken out of the files stays known here: messages it brought may still wait.
    """

    folder: pathlib.Path | None
    partners: Collection[str] = ()
    channels: dict[str, Channel] = field(default_factory=dict)
    listening: dict[str, ChannelProfile] = field(default_factory=dict)
    _translators: dict[str, Translator] = field(default_factory=dict)
    _overlays: Overlays = field(default_factory=dict)

    def read(self) -> Reading:
        """Read the files; raises `FaultyMaps`, and then nothing has changed."""
        return read_channels(self.folder, self.partners)

    async def read_beside(self) -> Reading:
        """Read the files in a thread, so that messages flow meanwhile."""
        return await asyncio.to_thread(self.read)

    def take(self, reading: Reading) -> None:
        """Let what was read be in force from the next message on."""
        self.listening = dict(reading.profiles)
        self._translators = {**self._translators, **reading.translators}
        self._put_in_force(reading.profiles)

    def in_force(self) -> Reading:
        """Return what is in force, to go back to."""
        return Reading(profiles=dict(self.listening), translators=dict(self._translators))

    def overlay(self, overlays: Overlays) -> None:
        """Lay codes that people resolved over those of the files."""
        self._overlays = overlays
        self._put_in_force(self.listening)

    def profiles(self) -> Mapping[str, ChannelProfile]:
        """Return every channel in force by name."""
        return {name: channel.profile for name, channel in self.channels.items()}

    def translator(self, profile: ChannelProfile) -> Translator:
        """Return the compiled maps that a channel is read by."""
        return self._translators[profile.maps]

    def translate(self, message: bytes, profile: ChannelProfile) -> TranslatedMessage | Unmapped:
        """Translate a message by its channel's maps."""
        return self._translators[profile.maps].translate(message, profile)

    def _put_in_force(self, profiles: Mapping[str, ChannelProfile]) -> None:
        for name, profile in profiles.items():
            codes = {table: dict(rows) for table, rows in profile.sender.code_overlay.items()}
            for table, rows in self._overlays.get(name, {}).items():
                codes[table] = {**codes.get(table, {}), **rows}
            sender = replace(profile.sender, code_overlay=codes)
            self.channels[name] = Channel.of(replace(profile, sender=sender))
