"""Changes of a message's resources, written into the message and read again.

A change stays in the message only where reading the message gives what FHIR says, and nothing else
has become different but constants of the rows that read it (PID-13 is a home number). Every value
that FHIR and the message then say differently is named. Fields, segments and spelling that no
change concerns keep their bytes.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mappings.bundles import leaves
from mappings.channels.profile import ChannelProfile
from mappings.engine.library import Library
from mappings.hl7.message import Message, parse
from mappings.put_back import Patch, PutBack, without_derived_keys
from mappings.translate import Translator
from mappings.translated import TranslatedMessage, TranslatedResource, Unmapped

Resources = Mapping[str, Mapping[str, Any]]
_Place = tuple[str, str, int]  # the map, what it was made of, and which of several
_Leaves = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPutBack:
    """A value of FHIR that the message does not say: `stays` is what it says instead.

    `row` is the one that wrote the value forward, where one did.
    """

    resource: str
    path: str
    wanted: str | None
    stays: str | None
    row: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedMessage:
    """The message with the changes it can say, and those it cannot."""

    data: bytes
    missing: tuple[NotPutBack, ...]


class ChangesBack:
    """Writes changes of resources into the messages that they came from."""

    def __init__(self, library: Library) -> None:
        self._translator = Translator(library)
        self._put_back = PutBack(library)
        rows = [row for row_map in library.maps.values() for row in row_map.rows]
        given = {row.id for row in rows if row.value is None}
        self._constants = frozenset({row.id for row in rows} - given)

    def write(self, data: bytes, after: Resources, channel: ChannelProfile) -> ChangedMessage:
        """Put resources as they are now, by `TranslatedResource.key`, into their message.

        A resource that is not in `after` has not changed; one that the message never made is
        among the `missing`. A message that no map covers has no resources.
        """
        before = self._read(data, channel)
        wanted = _Wanted(before, after, self._constants)
        patches = self._put_back.patches(
            parse(data, channel.charset), before, wanted.resources, channel.sender
        )
        data = self._written(data, patches, wanted, channel)
        now = _by_place(self._read(data, channel))
        return ChangedMessage(data=data, missing=tuple(wanted.missing(now)))

    def _read(self, data: bytes, channel: ChannelProfile) -> Sequence[TranslatedResource]:
        result = self._translator.translate(data, channel)
        return () if isinstance(result, Unmapped) else result.resources

    def _written(
        self, data: bytes, patches: Sequence[Patch], wanted: "_Wanted", channel: ChannelProfile
    ) -> bytes:
        """Return the message with the patches that say what is wanted, alone or with others."""
        whole = self._tried(data, patches, wanted, channel)
        if whole is not None:
            return whole
        waiting = list(patches)
        while waiting:
            left = []
            for patch in waiting:
                tried = self._tried(data, [patch], wanted, channel)
                if tried is None:
                    left.append(patch)
                else:
                    data = tried
            if len(left) == len(waiting):
                break
            waiting = left  # one may be readable beside another that is written now
        return data

    def _tried(
        self, data: bytes, patches: Sequence[Patch], wanted: "_Wanted", channel: ChannelProfile
    ) -> bytes | None:
        """Return the message with the patches, None where it then says what nobody wants."""
        message: Message = parse(data, channel.charset)
        for patch in patches:
            self._put_back.patch(message, patch)
        try:
            tried = message.encode()
        except UnicodeEncodeError:
            return None  # the message's charset has no such letter
        result = self._translator.translate(tried, channel)
        if not isinstance(result, TranslatedMessage) or not wanted.allows(result.resources):
            return None
        return tried


class _Wanted:
    """What each resource of a message said, and what it shall say."""

    def __init__(
        self, before: Sequence[TranslatedResource], after: Resources, constants: Container[str]
    ) -> None:
        self._constants = constants
        self.resources = {one.key: after.get(one.key, one.resource) for one in before}
        self._given = after
        self._before = before
        self._was = {place: _leaves(one.resource) for place, one in _by_place(before).items()}
        self._is = {
            place: _leaves(self.resources[one.key]) for place, one in _by_place(before).items()
        }

    def allows(self, now: Sequence[TranslatedResource]) -> bool:
        """Whether each value is the wanted one, or the former one where another is wanted."""
        found = _by_place(now)
        for place, was in self._was.items():
            wanted = self._is[place]
            if place not in found:
                return False
            has = _leaves(found[place].resource)
            for path in {*wanted, *has}:
                value, wish, former = has.get(path), wanted.get(path), was.get(path)
                if value == wish or (value == former and wish != former):
                    continue
                if wish is former is None and self._is_constant(path, found[place]):
                    continue
                return False
        return True

    def _is_constant(self, path: str, one: TranslatedResource) -> bool:
        """Whether a value is the map's own and not the message's."""
        # What stands beside a value is traced to the whole segment or part that the map reads.
        return all(
            row in self._constants or source == one.origin or "-" not in source
            for target, source, row in one.trace
            if target.partition(".")[2] == path
        )

    def missing(self, now: Mapping[_Place, TranslatedResource]) -> Iterator[NotPutBack]:
        """Yield each wanted value that the message does not say."""
        for place, one in _by_place(self._before).items():
            name = f"{one.type} {one.origin}"
            wanted, has = self._is[place], _leaves(now[place].resource)
            rows = {target.partition(".")[2]: row for target, _, row in one.trace}
            for path in sorted({*wanted, *has}):
                if wanted.get(path) != has.get(path):
                    yield NotPutBack(
                        resource=name,
                        path=path,
                        wanted=wanted.get(path),
                        stays=has.get(path),
                        row=_row_of(path, rows),
                    )
        for key in self._given.keys() - self.resources.keys():
            kind = str(self._given[key].get("resourceType", "resource"))
            yield NotPutBack(resource=f"{kind} urn:uuid:{key}", path="", wanted=kind, stays=None)


def _row_of(path: str, rows: Mapping[str, str]) -> str:
    """Return the row that wrote the path, or an element around it."""
    while path:
        if path in rows:
            return rows[path]
        path = path.rpartition(".")[0]
    return ""


def _by_place(resources: Sequence[TranslatedResource]) -> dict[_Place, TranslatedResource]:
    """Return the resources by where in the message they were made, whatever identifies them."""
    found: dict[_Place, TranslatedResource] = {}
    for one in resources:
        number = 0
        while (one.map_name, one.origin, number) in found:
            number += 1
        found[one.map_name, one.origin, number] = one
    return found


def _leaves(resource: Mapping[str, Any]) -> _Leaves:
    """Return every value by path; which resource a reference means follows from its identity."""
    return {
        path: value
        for path, value in leaves(without_derived_keys(resource))
        if not (path.endswith("reference") and value.startswith("urn:uuid:"))
    }
