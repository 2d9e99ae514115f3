"""Publishing and retiring a package: what is published is whole, and one version is in force."""

import datetime
from collections.abc import Iterable, Sequence

from care.effects import Effect, Hold, LetGo, Put, Resource, refuse
from care.package.content import (
    PRICE,
    canonical_of,
    item_canonicals,
    items_among,
    populations_of,
)
from care.package.population import rules
from care.periods import day_of, end_of, start_of
from conformance.problem import Issue

VERSION = "package-version"
"""The claim that a `url|version` is published once."""
PUBLISHED_BEFORE = Issue(
    code="conflict",
    key="package-version-published",
    text_en="This version of the package has been published before",
    text_zh="该服务包的这一版本已发布过",
    fix_en="Give PlanDefinition.version a higher number.",
    fix_zh="请提高 PlanDefinition.version 版本号。",
    expression="PlanDefinition.version",
)
ITEM = "package-item"
"""The claim on the `url|version` of an item that a published package names."""
ITEM_VERSION = "item-version"
"""The claim that a `url|version` is one item."""
ITEM_PINNED = Issue(
    code="business-rule",
    key="package-item-published",
    text_en="The item is in a published package that contracts have pinned: it only retires",
    text_zh="该服务项目属于已发布的服务包并被签约协议引用，只能停用，不能修改或删除",
    fix_en="Write it under another id with a higher version, and name that version in a new draft "
    "of the package.",
    fix_zh="请以新的 id、更高的 version 另存该项目，并在服务包的新草稿中引用该版本。",
    expression="ActivityDefinition",
)
ITEM_EXISTS = Issue(
    code="conflict",
    key="item-version-exists",
    text_en="Another ActivityDefinition has this url and version",
    text_zh="已有其他 ActivityDefinition 使用该 url 与 version",
    fix_en="Give ActivityDefinition.version a higher number, or change the one that is there.",
    fix_zh="请提高 ActivityDefinition.version 版本号，或修改已有的定义。",
    expression="ActivityDefinition.version",
)
_ITEM_BUSY = Issue(
    code="conflict",
    key="package-item-busy",
    text_en="An item of the package is being changed or published at this moment",
    text_zh="服务包中的服务项目正在被修改或发布",
    fix_en="Send the same request again.",
    fix_zh="请原样重新提交。",
    expression="PlanDefinition.action",
)
_PINNED = frozenset({"active", "retired"})
_FREE = frozenset({"meta", "text", "date", "status", "publisher", "contact"})


def publish(
    plan: Resource,
    activities: Iterable[Resource],
    others: Iterable[Resource],
    now: datetime.datetime,
) -> list[Effect]:
    """Return what publishing a draft writes: it is in force, an earlier version retires.

    `activities` are the definitions its items name, `others` the active plans of the same url.
    Contracts go on with the version they pinned.
    """
    if plan.get("status") != "draft":
        raise refuse(
            "package-not-draft",
            "Only a draft can be published",
            "只有草稿（draft）可以发布",
            "Copy the package under another id with a higher version and status draft.",
            "请以新的 id、更高的 version 复制为草稿后发布。",
            "PlanDefinition.status",
        )
    missing = _missing(plan, list(activities), day_of(now))
    if missing:
        raise refuse(
            "package-not-whole",
            f"The package cannot be published: {'; '.join(en for en, _ in missing)}",
            f"服务包不能发布：{'；'.join(zh for _, zh in missing)}",
            "Complete these and publish again.",
            "请补全后重新发布。",
            "PlanDefinition",
        )
    own = f"PlanDefinition/{plan['id']}"
    claim = Hold(kind=VERSION, key=canonical_of(plan), holder=own, taken=PUBLISHED_BEFORE)
    retired = [Put(_as(other, "retired", now)) for other in others if other["id"] != plan["id"]]
    return [claim, *retired, Put(_as(plan, "active", now))]


def retire(plan: Resource, now: datetime.datetime) -> list[Effect]:
    """Return what retiring a published package writes; contracts on it go on to their end."""
    if plan.get("status") != "active":
        raise refuse(
            "package-not-active",
            "Only a published package can be retired",
            "只有已发布的服务包可以停用",
            "Read PlanDefinition.status.",
            "请查看 PlanDefinition.status。",
            "PlanDefinition.status",
        )
    return [Put(_as(plan, "retired", now))]


def require_kept(before: Resource | None, after: Resource | None) -> None:
    """Refuse a change of what contracts have pinned: a published version only retires.

    It is for every writer; `before` and `after` are the PlanDefinition, None where there is none.
    """
    if before is None or not is_published(before):
        return
    changed = _changed(before, after)
    if after is not None and not changed and _only_retires(str(before["status"]), after):
        return
    raise refuse(
        "package-published",
        "The package is published, and contracts have pinned this version: it only retires"
        + (f" (changed: {', '.join(changed)})" if changed and after is not None else ""),
        "该服务包已发布并被签约协议引用，只能停用，不能修改或删除",
        "Copy it under another id with a higher version and status draft, then $publish-package; "
        "or $retire-package.",
        "请以新的 id、更高的 version 复制为草稿后发布（$publish-package），或停用"
        "（$retire-package）。",
        f"PlanDefinition.{changed[0]}" if changed and after is not None else "PlanDefinition",
    )


def pins_of(before: Resource | None, after: Resource | None) -> tuple[Hold | LetGo, ...]:
    """Return the claims on the items of a package that is published by a change.

    Several packages may name one item, so the claim belongs to its name and not to a package, and
    each of them renews it; it stays when a package retires, as contracts go on.
    """
    if after is None or (before is not None and is_published(before)):
        return ()
    return pins_of_published(after)


def pins_of_published(plan: Resource) -> tuple[Hold | LetGo, ...]:
    """Return the claims on the items of a package, none where it is not published."""
    if not is_published(plan):
        return ()
    claims: list[Hold | LetGo] = []
    for name in sorted(set(item_canonicals(plan))):
        claims.append(LetGo(kind=ITEM, holder=name))
        claims.append(Hold(kind=ITEM, key=name, holder=name, taken=_ITEM_BUSY))
    return tuple(claims)


def claims_of_item(before: Resource | None, after: Resource | None) -> tuple[Hold | LetGo, ...]:
    """Return the claims of a change of an item: that its version is its own, and pinned by nobody.

    It is for every writer; `before` and `after` are the ActivityDefinition, None where there is
    none. The second claim is given up at once: it is there to meet that of a published package.
    """
    held, wanted = _version_held(before), _version_held(after)
    claims: list[Hold | LetGo] = []
    if before is not None and _is_more_than_retiring(before, after):
        own = f"ActivityDefinition/{before['id']}"
        for name in dict.fromkeys((canonical_of(before), str(before.get("url", "")))):
            if name:
                claims.append(Hold(kind=ITEM, key=name, holder=own, taken=ITEM_PINNED))
        claims.append(LetGo(kind=ITEM, holder=own))
    if held != wanted:
        claims += [LetGo(kind=ITEM_VERSION, holder=held.holder)] if held else []
        claims += [wanted] if wanted else []
    return tuple(claims)


def is_package(plan: Resource) -> bool:
    """Say whether a PlanDefinition is a package of services: it names a price."""
    return any(one.get("url") == PRICE for one in plan.get("extension", ()))


def is_published(plan: Resource) -> bool:
    """Say whether contracts may have pinned a package as it is."""
    return is_package(plan) and plan.get("status") in _PINNED


def _changed(before: Resource, after: Resource | None) -> list[str]:
    """Return the elements that differ and that contracts rely on, in their order."""
    said = {} if after is None else after
    names = sorted(n for n in before.keys() | said.keys() if before.get(n) != said.get(n))
    return [name for name in names if name not in _FREE]


def _is_more_than_retiring(before: Resource, after: Resource | None) -> bool:
    if after is None or _changed(before, after):
        return True
    return not _only_retires(str(before.get("status")), after)


def _version_held(item: Resource | None) -> Hold | None:
    """Return the claim of an item on its `url|version`, None where it has none."""
    if item is None or not (item.get("url") and item.get("version")):
        return None
    own = f"ActivityDefinition/{item['id']}"
    return Hold(kind=ITEM_VERSION, key=canonical_of(item), holder=own, taken=ITEM_EXISTS)


def _only_retires(before: str, after: Resource) -> bool:
    return after.get("status") in (before, "retired")


def _as(plan: Resource, status: str, now: datetime.datetime) -> Resource:
    kept = {k: v for k, v in plan.items() if k != "meta"}
    return {**kept, "status": status, "date": now.isoformat()}


def _missing(
    plan: Resource, activities: Sequence[Resource], today: datetime.date
) -> list[tuple[str, str]]:
    found = []
    for name, zh in (("url", "规范地址"), ("version", "版本"), ("title", "名称")):
        if not plan.get(name):
            found.append((f"{name} is absent", f"缺少{zh}（{name}）"))
    if not is_package(plan):
        found.append(("package-price is absent (0 for a free one)", "缺少价格（免费请填 0）"))
    active = [one for one in activities if one.get("status") == "active"]
    known = {str(action["definitionCanonical"]) for action, _ in items_among(plan, active)}
    items = item_canonicals(plan)
    if not items:
        found.append(("it has no items (action.definitionCanonical)", "没有服务项目"))
    found += [
        (f"item {item} is not an active ActivityDefinition", f"服务项目 {item} 未启用或不存在")
        for item in items
        if item not in known
    ]
    found += [
        (f"population {code} is not known", f"重点人群 {code} 未定义")
        for code in sorted(populations_of(plan) - rules().keys())
    ]
    end = plan.get("effectivePeriod", {}).get("end")
    if end and end_of(datetime.date.fromisoformat(str(end)[:10])) <= start_of(today):
        found.append(("effectivePeriod is over", "有效期已过"))
    return found
