"""Compiling the elements of a profile to closures that look only at what it adds to its base."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.nodes import Node, children
from conformance.profiles.bindings import binding_check
from conformance.profiles.references import target_check
from conformance.profiles.rules import rule_checks
from conformance.profiles.run import CheckRun
from conformance.profiles.shapes import RootOf, Shape, is_core
from conformance.profiles.slicing import Context, NodeCheck, compile_slicing, limit_of
from conformance.profiles.values import has_pattern, is_beyond, is_fixed, valued

Conforms = Callable[[Node, str, CheckRun], bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCompiler:
    """Compiles the tree of one profile; `conforms` judges a node against another profile."""

    url: str
    root_of: RootOf
    conforms: Conforms

    def root(self, shape: Shape) -> NodeCheck:
        """Compile the whole profile."""
        own = self.own_checks(shape, is_root=True)
        return _joined([*own, *self.child_checks(shape)]) or _nothing

    def item(self, shape: Shape) -> NodeCheck | None:
        """Compile what is asked of one item of an element or slice; None if nothing."""
        return _joined([*self.own_checks(shape), *self.child_checks(shape)])

    def own_checks(self, shape: Shape, *, is_root: bool = False) -> list[NodeCheck]:
        """Compile what is asked of the element itself."""
        found: list[NodeCheck] = []
        found += _value_checks(shape, self.url)
        found += self.type_checks(shape)
        if shape.facts.get("binding") != shape.base.get("binding"):
            check = binding_check(shape.facts.get("binding", {}), self.url)
            found += [check] if check is not None else []
        found += rule_checks(shape, self.url, is_root=is_root)
        return found

    def type_checks(self, shape: Shape) -> list[NodeCheck]:
        """Compile narrowed types, profiles on types and targets of references."""
        types, before = shape.types(), shape.base.get("type", [])
        if types == before or not types:
            return []
        found: list[NodeCheck] = []
        codes = {str(type_.get("code")) for type_ in types}
        if codes != {str(type_.get("code")) for type_ in before}:
            found.append(_type_check(codes, self.url))
        profiles = {
            str(type_["code"]): [str(p) for p in type_["profile"]]
            for type_ in types
            if type_.get("profile") and type_ not in before
        }
        if profiles and not (shape.name.endswith("xtension") and _is_extension(profiles)):
            found.append(self.type_profile_check(profiles))
        targets = [t for type_ in types for t in type_.get("targetProfile", ())]
        if targets and targets != [t for type_ in before for t in type_.get("targetProfile", ())]:
            check = target_check([str(t) for t in targets], self.url, self.root_of, self.conforms)
            found.append(check)
        return found

    def type_profile_check(self, profiles: dict[str, list[str]]) -> NodeCheck:
        """Compile `type.profile`: the value conforms to one of those of its type."""
        url, conforms = self.url, self.conforms

        def check(node: Node, run: CheckRun) -> None:
            wanted = [p for code, some in profiles.items() if model.is_kind_of(node.type, code)
                      for p in some]  # fmt: skip
            if not wanted:
                return
            if len(wanted) == 1:
                run.profiles.check_node(node, wanted[0], run)
                return
            verdicts = {profile: conforms(node, profile, run) for profile in wanted}
            if True in verdicts.values():
                return
            for profile, verdict in verdicts.items():
                if verdict is None:
                    run.add("profile-unchecked", node, profile)
            if None not in verdicts.values():
                run.add("type-profile", node, url, ", ".join(wanted))

        return check

    def child_checks(self, shape: Shape) -> list[NodeCheck]:
        """Compile what is asked of the children, those of a shape not walked into excepted."""
        checks = [self.child_check(child) for child in (shape.children or {}).values()]
        return [check for check in checks if check is not None]

    def child_check(self, child: Shape) -> NodeCheck | None:
        """Compile number, slices and items of one child; None if the profile adds nothing."""
        name = child.name.removesuffix("[x]")
        least, most = int(child.facts.get("min", 0)), limit_of(child)
        if least <= int(child.base.get("min", 0)):
            least = 0
        if str(child.facts.get("max")) == str(child.base.get("max")):
            most = None
        context = Context(url=self.url, name=name)
        slices = compile_slicing(child, context, self.root_of, self.conforms, self.item)
        item = self.item(child)
        if not least and most is None and slices is None and item is None:
            return None
        url, companion = self.url, "_" + name
        # Where the element may be absent, and is, there is nothing to judge.
        is_skipped = not least and slices is None and not child.name.endswith("[x]")

        def check(node: Node, run: CheckRun) -> None:
            value = node.value
            if is_skipped and type(value) is dict and name not in value and companion not in value:
                return
            found = children(node, name)
            if len(found) < least:
                run.add("min", node, least, name, len(found), url)
            if most is not None and len(found) > most:
                run.add("max", found[most], most, name, len(found), url)
            if item is not None:
                for one in found:
                    item(one, run)
            if slices is not None:
                slices(node, found, run)

        return check


def _nothing(_node: Node, _run: CheckRun) -> None:
    """Ask nothing."""


def _joined(checks: list[NodeCheck]) -> NodeCheck | None:
    if len(checks) < 2:
        return checks[0] if checks else None

    def check(node: Node, run: CheckRun) -> None:
        for one in checks:
            one(node, run)

    return check


def _is_extension(profiles: dict[str, list[str]]) -> bool:
    """Say whether the profiles are definitions of extensions, which are checked by their url."""
    return set(profiles) == {"Extension"}


def _type_check(codes: set[str], url: str) -> NodeCheck:
    names = ", ".join(sorted(codes))

    def check(node: Node, run: CheckRun) -> None:
        if node.type not in codes and not any(model.is_kind_of(node.type, code) for code in codes):
            run.add("type", node, url, node.type, names)

    return check


def _value_checks(shape: Shape, url: str) -> list[NodeCheck]:
    """Compile fixed[x], pattern[x], minValue[x], maxValue[x] and maxLength."""
    found: list[NodeCheck] = []
    facts, base = shape.facts, shape.base
    for prefix, holds in (("fixed", is_fixed), ("pattern", has_pattern)):
        wanted = valued(facts, prefix)
        if wanted is not None and wanted != valued(base, prefix):
            found.append(_equality_check(prefix, wanted[1], holds, url))
    for prefix, key in (("minValue", "min-value"), ("maxValue", "max-value")):
        wanted = valued(facts, prefix)
        if wanted is not None:
            found.append(_limit_check(key, wanted, url))
    if facts.get("mustHaveValue") and not base.get("mustHaveValue"):
        found.append(_presence_check(url))
    length = facts.get("maxLength")
    if isinstance(length, int) and length != base.get("maxLength"):
        found.append(_length_check(length, url))
    return found


def _equality_check(
    key: str, wanted: Any, holds: Callable[[Any, Any], bool], url: str
) -> NodeCheck:
    def check(node: Node, run: CheckRun) -> None:
        if not holds(node.value, wanted):
            run.add(key, node, url)

    return check


def _limit_check(key: str, wanted: tuple[str, Any], url: str) -> NodeCheck:
    suffix, limit = wanted

    def check(node: Node, run: CheckRun) -> None:
        if is_beyond(node, suffix, limit, is_least=key == "min-value"):
            run.add(key, node, url)

    return check


def _presence_check(url: str) -> NodeCheck:
    def check(node: Node, run: CheckRun) -> None:
        if node.value is None:
            run.add("value", node, url)

    return check


def _length_check(most: int, url: str) -> NodeCheck:
    def check(node: Node, run: CheckRun) -> None:
        if isinstance(node.value, str) and len(node.value) > most:
            run.add("max-length", node, url, most)

    return check


__all__ = ["Conforms", "ProfileCompiler", "is_core"]
