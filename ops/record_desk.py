"""The records that a batch of messages is about, and what the messages make of them.

A record is found by any of its business identifiers. The first message of an unknown one makes it;
later messages of the same batch find it here, those of other batches in the store.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from care.identity.matching import replaced_by
from care.identity.merging import related, retired, surviving
from conformance.problem import DuplicateFound, InvalidContent, Issue
from fhir_store.operations import Create, Operation, Origin, Update
from fhir_store.transaction import Transaction
from mappings.translated import Match, Merge, Relation, TranslatedMessage, TranslatedResource
from ops.resource_merge import joined_identifiers, merged, with_references

Key = tuple[str, str]
Pair = tuple[str, str]
Resource = Mapping[str, Any]
Met = tuple[Resource, Key, str]  # what was translated, the record it is about, the reference to it


@dataclass(slots=True, kw_only=True)
class Desk:
    """The records a batch is about: as stored, and as the messages so far have made them.

    `made` says of each message, by its `id`, what its `urn:uuid:` references became.
    """

    known: dict[tuple[str, Pair], list[str]]
    current: dict[Key, Resource]
    made: dict[int, Mapping[str, str]] = field(default_factory=dict)
    told: dict[Key, Resource] = field(default_factory=dict)
    # Wards and doctors come as the very same object as long as their words are the same.
    _met: dict[int, Met] = field(default_factory=dict)

    @classmethod
    async def prepare(
        cls, transaction: Transaction, messages: Sequence[TranslatedMessage]
    ) -> "Desk":
        """Find and lock the records, and lock the identifiers nobody has yet."""
        groups = _identities_of(messages)
        wanted = sorted({identity for group in groups for identity in group})
        known = {one: list(ids) for one, ids in (await transaction.find_identities(wanted)).items()}
        missing = sorted(
            {one for group in groups if not any(one in known for one in group) for one in group}
        )
        if missing:
            # One statement locks them all in one order: batches never wait in a circle.
            late = await transaction.find_identities(missing, lock=True)
            known |= {one: list(ids) for one, ids in late.items()}
        keys = sorted({(type_, id_) for (type_, _), ids in known.items() for id_ in ids})
        current = dict(await transaction.read_current(keys)) if keys else {}
        known = {
            (type_, pair): [id_ for id_ in ids if (type_, id_) in current]
            for (type_, pair), ids in known.items()
        }
        while beyond := _successors(current):
            found_beyond = await transaction.read_current(beyond)
            current |= found_beyond
            if len(found_beyond) < len(beyond):
                break  # a record was deleted after it took another's place
        return cls(known=known, current=current)

    def operations_of(self, message: TranslatedMessage, origin: Origin) -> list[Operation]:
        """Return what one message does to the records, and remember it for the next."""
        keys: list[Key] = []
        references = self.made[id(message)] = {}
        for one in message.resources:
            met = self._met.get(id(one.resource)) or self._found(one)
            keys.append(met[1])
            references["urn:uuid:" + one.key] = met[2]
        contents: dict[Key, Resource] = {}
        survivors = {(merge.type, merge.prior): merge.surviving for merge in message.merges}
        for one, key in zip(message.resources, keys, strict=True):
            pairs = survivors.get((one.type, one.identity)) if survivors else None
            if pairs is not None and key == self._first(one.type, pairs):
                continue  # stored as one record under both numbers: it stays as PID says
            told = self.told.get(key)
            if (told is one.resource or told == one.resource) and key not in contents:
                continue  # wards and doctors come with every message, mostly as they were
            incoming = with_references(one.resource, references)
            stored = contents.get(key) or self.current.get(key)
            contents[key] = {**_content(one.match, stored, incoming), "id": key[1]}
            self.told[key] = one.resource
            self._learn(key, one.identity)
        for merge in message.merges:
            self._merge(merge, contents)
        for relation in message.relations:
            self._relate(relation, contents)
        return [
            operation
            for key, content in contents.items()
            if (operation := self._operation(key, content, origin)) is not None
        ]

    def _operation(self, key: Key, content: Resource, origin: Origin) -> Operation | None:
        stored = self.current.get(key)
        self.current[key] = content
        if stored is None:
            return Create(resource=content, id=key[1], origin=origin)
        if _without_meta(stored) == _without_meta(content):
            self.current[key] = stored
            return None
        # Read without a lock: whoever changed it meanwhile has made this plan void.
        read = stored.get("meta", {}).get("versionId")
        return Update(resource=content, if_match=int(read) if read else None, origin=origin)

    def _found(self, one: TranslatedResource) -> Met:
        """Return what a resource is stored as; this batch need not look again for the same."""
        key = self._key_of(one)
        met = one.resource, key, f"{key[0]}/{key[1]}"
        if one.identity and one.match is not Match.CREATE:
            self._met[id(one.resource)] = met
        return met

    def _key_of(self, one: TranslatedResource) -> Key:
        if one.match is not Match.CREATE:
            for pair in one.identity:
                ids = self._ids_of(one.type, pair)
                if len(ids) > 1 and one.type != "Patient":
                    ids = self._known_by_no_other(one, ids)
                if len(ids) > 1:
                    raise DuplicateFound(_ambiguous(one.type, pair[0]))
                if ids:
                    return one.type, ids.pop()
        key = (one.type, str(uuid.uuid4()))
        self._learn(key, one.identity)
        return key

    def _known_by_no_other(self, one: TranslatedResource, ids: set[str]) -> set[str]:
        """Return the records without an identifier that the message does not name.

        Two fillers' orders may carry one placer's number; each is another order than the one that
        a message names by the placer's number alone.
        """
        named = _pairs_of(one.resource) | set(one.identity)
        return {id_ for id_ in ids if _pairs_of(self.current.get((one.type, id_), {})) <= named}

    def _ids_of(self, type_: str, pair: Pair) -> set[str]:
        ids = self.known.get((type_, pair))
        return {self._successor(type_, id_) for id_ in ids} if ids else set()

    def _id_of(self, type_: str, pair: Pair) -> str | None:
        ids = self._ids_of(type_, pair)
        if len(ids) > 1:
            raise DuplicateFound(_ambiguous(type_, pair[0]))
        return next(iter(ids), None)

    def _successor(self, type_: str, id_: str) -> str:
        """Return the record that stands for this one after all merges."""
        if "link" not in self.current.get((type_, id_), ()):
            return id_
        seen = {id_}
        while (record := self.current.get((type_, id_))) and (target := replaced_by(record)):
            following = target.rpartition("/")[2]
            if following in seen:
                break
            seen.add(following)
            id_ = following
        return id_

    def _learn(self, key: Key, identity: Sequence[Pair]) -> None:
        for pair in identity:
            ids = self.known.setdefault((key[0], pair), [])
            if key[1] not in ids:
                if ids:
                    self._met.clear()  # whoever was found by this pair may be another now
                ids.append(key[1])

    def _merge(self, merge: Merge, contents: dict[Key, Resource]) -> None:
        """Let the surviving record take the prior one's place and identifiers."""
        self._met.clear()
        stays = self._first(merge.type, merge.surviving)
        if stays is None:
            raise InvalidContent(_nobody_survives())
        goes = self._first(merge.type, merge.prior)
        record = contents.get(stays) or self.current[stays]
        identifiers = [{"system": system, "value": value} for system, value in merge.prior]
        if goes is None or goes == stays:
            contents[stays] = surviving(record, None, identifiers)
        else:
            prior = contents.get(goes) or self.current[goes]
            identifiers = joined_identifiers(prior.get("identifier", ()), identifiers)
            reference = f"{goes[0]}/{goes[1]}"
            contents[stays] = surviving(record, reference, identifiers)
            contents[goes] = retired(prior, f"{stays[0]}/{stays[1]}")
            self.told.pop(goes, None)
        self.told.pop(stays, None)
        self._learn(stays, merge.prior)

    def _relate(self, relation: Relation, contents: dict[Key, Resource]) -> None:
        """Link two records of one person in both, or take the link out of both."""
        self._met.clear()
        keys = [self._first(relation.type, pairs) for pairs in relation.ends]
        one, other = keys
        if one is None or other is None:
            raise InvalidContent(_nobody_to_relate())
        if one == other:
            return  # merged meanwhile: nothing is left to link
        for here, there in ((one, other), (other, one)):
            record = contents.get(here) or self.current[here]
            reference = f"{there[0]}/{there[1]}"
            contents[here] = related(record, reference, is_linked=relation.is_linked)
            self.told.pop(here, None)

    def _first(self, type_: str, pairs: Sequence[Pair]) -> Key | None:
        for pair in pairs:
            id_ = self._id_of(type_, pair)
            if id_ is not None:
                return type_, id_
        return None


def _content(match: Match, stored: Resource | None, incoming: Resource) -> Resource:
    if stored is None:
        return incoming
    if match is Match.MERGE:
        return merged(stored, incoming)
    if "identifier" not in stored:
        return incoming
    joined = joined_identifiers(stored["identifier"], incoming.get("identifier", ()))
    return {**incoming, "identifier": joined}


def _identities_of(messages: Sequence[TranslatedMessage]) -> list[list[tuple[str, Pair]]]:
    """Return, for each record the messages speak of, the identities it may be found by."""
    groups: dict[tuple[str, tuple[Pair, ...]], None] = {}
    for message in messages:
        for one in message.resources:
            if one.match is not Match.CREATE:
                groups[one.type, one.identity] = None
        for merge in message.merges:
            groups[merge.type, merge.surviving] = None
            groups[merge.type, merge.prior] = None
        for relation in message.relations:
            groups |= dict.fromkeys((relation.type, end) for end in relation.ends)
    return [[(type_, pair) for pair in pairs] for type_, pairs in groups]


def _successors(current: Mapping[Key, Resource]) -> list[Key]:
    """Return the records that merged ones point to and that are not read yet."""
    found: set[Key] = set()
    for record in current.values():
        target = replaced_by(record)
        if target is not None:
            type_, _, id_ = target.rpartition("/")
            found.add((type_.rpartition("/")[2], id_))
    return sorted(found - set(current))


def _pairs_of(resource: Resource) -> set[Pair]:
    found = resource.get("identifier", ())
    identifiers = found if isinstance(found, list | tuple) else (found,)
    return {(one.get("system", ""), one.get("value", "")) for one in identifiers}


def _without_meta(resource: Resource) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name != "meta"}


def _ambiguous(type_: str, system: str) -> Issue:
    return Issue(
        code="multiple-matches",
        key="identity-ambiguous",
        text_en=f"Two {type_} records carry the same identifier of {system}",
        text_zh=f"两个 {type_} 记录带有 {system} 的同一标识",
        fix_en="Merge the two records, then replay the entry.",
        fix_zh="请先合并这两个记录，再重放本条目。",
        expression="PID[1]-3",
    )


def _nobody_to_relate() -> Issue:
    return Issue(
        code="invalid",
        key="link-without-record",
        text_en="The message links two records and one of them has no number (PID-3 is empty)",
        text_zh="关联报文中有一个记录没有标识（PID-3 为空）",
        fix_en="Ask the sender to fill PID-3 of both patients and resend.",
        fix_zh="请发送方填写两位患者的 PID-3 后重发。",
        expression="PID-3",
    )


def _nobody_survives() -> Issue:
    return Issue(
        code="invalid",
        key="merge-without-survivor",
        text_en="The merge names no surviving record (PID-3 is empty)",
        text_zh="合并报文未指明保留的记录（PID-3 为空）",
        fix_en="Ask the sender to fill PID-3 and resend.",
        fix_zh="请发送方填写 PID-3 后重发。",
        expression="PID[1]-3",
    )
