"""What is said of operations whose resource cannot be told; each in English and Chinese."""

from conformance.problem import Issue
from fhir_store.conditional import Criteria

SEVERAL_LIMIT = 1_000
"""One conditional delete takes no more than this."""


def no_entry(urn: str) -> Issue:
    """Return what is wrong with a reference by `urn:uuid:` to no entry."""
    return Issue(
        code="not-found",
        key="reference-unresolved",
        text_en=f"No entry of the Bundle has the fullUrl {urn[:60]}, which a reference names",
        text_zh=f"Bundle 中没有 fullUrl 为 {urn[:60]} 的条目，但有引用指向它",
        fix_en="Give the entry that is meant this fullUrl, or add it.",
        fix_zh="请为所指条目设置该 fullUrl，或将其加入 Bundle。",
        expression="Bundle.entry",
    )


def unresolved(criteria: Criteria) -> Issue:
    """Return what is wrong with a conditional reference without a match."""
    return Issue(
        code="not-found",
        key="reference-unresolved",
        text_en=f"A conditional reference to {criteria.type} matches no resource",
        text_zh=f"指向 {criteria.type} 的条件引用没有匹配的资源",
        fix_en="Create the resource first, or put it into the same transaction.",
        fix_zh="请先创建该资源，或将其放入同一事务。",
    )


def twice(type_: str) -> Issue:
    """Return what is wrong with two writes of one resource."""
    return Issue(
        code="duplicate",
        key="entry-duplicate",
        text_en=f"Two entries of the transaction write the same {type_}",
        text_zh=f"事务中有两个条目写入同一个 {type_}",
        fix_en="Join the two entries into one, or send two requests.",
        fix_zh="请将两个条目合并为一个，或分两次提交。",
        expression="Bundle.entry",
    )


NO_SEARCH = Issue(
    code="not-supported",
    key="criteria-search",
    text_en="This condition needs the search, which is not wired here",
    text_zh="该条件需要检索功能，此处未启用",
    fix_en="Use identifier=system|value.",
    fix_zh="请使用 identifier=system|value。",
)
NO_ID = Issue(
    code="required",
    key="id-required",
    text_en="An update needs the id of the resource",
    text_zh="更新操作必须给出资源的 id",
    fix_en="Put the id into the resource and the address.",
    fix_zh="请在资源和地址中给出 id。",
    expression="id",
)
BAD_ID = Issue(
    code="value",
    key="id-format",
    text_en="An id has 1 to 64 letters, digits, '-' or '.'",
    text_zh="id 只能由 1 至 64 个字母、数字、“-”或“.”组成",
    fix_en="Choose another id, for example a UUID.",
    fix_zh="请改用其他 id，例如 UUID。",
    expression="id",
)
AUDIT_ID = Issue(
    code="business-rule",
    key="audit-event-id",
    text_en="Ids of this form belong to the hub's own audit",
    text_zh="此形式的 id 专用于本系统自身的审计",
    fix_en="Choose another id, for example a UUID, or let POST choose one.",
    fix_zh="请改用其他 id，例如 UUID，或用 POST 由服务器分配。",
    expression="AuditEvent.id",
)
OTHER_ID = Issue(
    code="value",
    key="id-differs",
    text_en="The resource carries another id than the one the condition found",
    text_zh="资源中的 id 与条件匹配到的资源不一致",
    fix_en="Leave the id out, or use the id of the match.",
    fix_zh="请去掉 id，或使用匹配资源的 id。",
    expression="id",
)
UNKNOWN_TYPE = Issue(
    code="not-supported",
    key="type-unknown",
    text_en="This is no resource type of FHIR R4",
    text_zh="不是 FHIR R4 的资源类型",
    fix_en="Check the spelling of resourceType.",
    fix_zh="请检查 resourceType 的拼写。",
    expression="resourceType",
)
TOO_MANY = Issue(
    code="too-costly",
    key="delete-too-many",
    text_en=f"The condition matches more than {SEVERAL_LIMIT} resources",
    text_zh=f"条件匹配的资源超过 {SEVERAL_LIMIT} 个",
    fix_en="Narrow the condition and repeat the request.",
    fix_zh="请缩小条件范围后重试。",
)
