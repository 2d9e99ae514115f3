"""What a message does to records beside their content: merges, links, and what is left undone."""

from collections.abc import Mapping

from conformance.problem import Issue
from mappings.engine.context import Made
from mappings.engine.rows import MessageMap
from mappings.engine.scopes import Scope
from mappings.translated import Merge, Relation


def merges_of(
    message_map: MessageMap, root: Scope, by_key: Mapping[str, Made]
) -> tuple[Merge, ...]:
    """Return which records take the place of which, by the `merges` of the message map."""
    merges: list[Merge] = []
    for rule in message_map.merges:
        for scope in root.all():
            if scope.group != rule.get("in", ""):
                continue
            surviving = by_key.get(scope.made.get(rule["surviving"], ""))
            prior = by_key.get(scope.made.get(rule["prior"], ""))
            if surviving is not None and prior is not None and surviving is not prior:
                merges.append(
                    Merge(
                        type=str(surviving.resource["resourceType"]),
                        surviving=tuple(surviving.identity),
                        prior=tuple(prior.identity),
                    )
                )
    return tuple(merges)


def relations_of(
    message_map: MessageMap, root: Scope, by_key: Mapping[str, Made]
) -> tuple[Relation, ...]:
    """Return the links between the first record of a kind in the message and each further one."""
    relations: list[Relation] = []
    for rule in message_map.relations:
        found = [
            by_key[key]
            for scope in root.all()
            if scope.group == rule.get("in", "")
            and (key := scope.made.get(rule["each"], "")) in by_key
        ]
        relations.extend(
            Relation(
                type=str(other.resource["resourceType"]),
                ends=(tuple(found[0].identity), tuple(other.identity)),
                is_linked=rule["are"] == "linked",
            )
            for other in found[1:]
        )
    return tuple(relations)


def notes_of_undone(message_map: MessageMap, event: str) -> list[Issue]:
    """Return what this event asks for and the hub leaves to a person."""
    return [
        Issue(
            severity="warning",
            code="incomplete",
            key="map-undone",
            text_en=undone.text_en,
            text_zh=undone.text_zh,
            fix_en="Compare the records that PID and MRG name, and correct them by hand.",
            fix_zh="请核对 PID 与 MRG 所指的记录，并人工更正。",
            expression="MSH[1]-9",
        )
        for undone in message_map.undone
        if not undone.events or event in undone.events
    ]
