"""What the profile check says, in English and Chinese, by its own stable key."""

from typing import NamedTuple

from conformance.problem import InvalidContent, Issue


class Text(NamedTuple):
    """IssueType, severity, and the two languages with their advice; {0}… take the arguments."""

    code: str
    severity: str
    en: str
    zh: str
    fix_en: str
    fix_zh: str


TEXTS: dict[str, Text] = {
    key: Text(*rest)
    for key, *rest in (
        ("profile-missing", "not-found", "error", "The profile {0} is not known here.",
         "未找到 profile {0}。", "Load its StructureDefinition, or correct the address.",
         "请装载其 StructureDefinition，或更正地址。"),
        ("profile-unchecked", "not-found", "warning",
         "The profile {0} is not known here, so nothing was checked against it.",
         "未找到 profile {0}，未据其校验。", "Load its StructureDefinition.",
         "请装载其 StructureDefinition。"),
        ("profile-cycle", "invalid", "error", "The profile {0} is based on itself.",
         "profile {0} 的基础定义循环引用自身。", "Correct baseDefinition.",
         "请更正 baseDefinition。"),
        ("profile-base", "not-found", "error",
         "The base definition {1} of the profile {0} is not known here.",
         "profile {0} 的基础定义 {1} 未找到。", "Load the base's StructureDefinition.",
         "请装载该基础 StructureDefinition。"),
        ("profile-element", "invalid", "error",
         "The profile {0} constrains an element {1} that its base does not have.",
         "profile {0} 约束了其基础中不存在的元素 {1}。", "Correct the path in the differential.",
         "请更正 differential 中的路径。"),
        ("profile-fixed", "invalid", "error",
         "The profile {0} fixes {1} to another value than its base.",
         "profile {0} 将 {1} 固定为与其基础不同的值。", "Keep the base's value.",
         "请保留基础定义中的值。"),
        ("profile-discriminator", "invalid", "error",
         "The profile {0} slices {1} by {2}, which is no element there.",
         "profile {0} 以 {2} 对 {1} 切片，但此处没有该元素。", "Correct the discriminator.",
         "请更正 discriminator。"),
        ("profile-widened", "invalid", "error",
         "The profile {0} lets {1} occur otherwise than the {2} of its base: it can only narrow.",
         "profile {0} 使 {1} 的基数超出其基础的 {2}：profile 只能收窄。",
         "Give min and max within those of the base.", "请使 min 与 max 在基础定义的范围内。"),
        ("profile-broken", "invalid", "error", "The profile {0} cannot be used: {1}",
         "profile {0} 无法使用：{1}", "Correct the StructureDefinition.",
         "请更正该 StructureDefinition。"),
        ("profile-type", "structure", "error",
         "The profile {0} is for {1}, and this is another type.",
         "profile {0} 适用于 {1}，与此资源类型不符。", "Claim a profile of this type.",
         "请引用适用于此类型的 profile。"),
        ("min", "required", "error", "At least {0} of {1} needed, found {2} ({3}).",
         "{1} 至少需要 {0} 个，实有 {2} 个（{3}）。", "Add what is missing.", "请补充缺少的内容。"),
        ("max", "structure", "error", "At most {0} of {1} allowed, found {2} ({3}).",
         "{1} 至多允许 {0} 个，实有 {2} 个（{3}）。", "Leave out what is too many.",
         "请去掉多余的内容。"),
        ("fixed", "value", "error", "The value must be exactly the one fixed by {0}.",
         "值必须与 {0} 规定的固定值完全一致。", "Give the fixed value.", "请填写规定的固定值。"),
        ("pattern", "value", "error", "The value must contain the pattern given by {0}.",
         "值必须包含 {0} 规定的模式。", "Give at least what the pattern has.",
         "请至少填写模式中的内容。"),
        ("min-value", "value", "error", "The value is below the least allowed by {0}.",
         "值小于 {0} 允许的最小值。", "Correct the value.", "请更正该值。"),
        ("max-value", "value", "error", "The value is above the greatest allowed by {0}.",
         "值大于 {0} 允许的最大值。", "Correct the value.", "请更正该值。"),
        ("value", "required", "error", "A value is needed, extensions alone do not do ({0}).",
         "必须有值，仅有扩展不够（{0}）。", "Give the value.", "请填写该值。"),
        ("max-length", "too-long", "error", "The text is longer than {1} characters ({0}).",
         "文本超过 {1} 个字符（{0}）。", "Shorten it.", "请缩短文本。"),
        ("type", "structure", "error", "The type {1} is not allowed here by {0}; allowed: {2}.",
         "{0} 不允许此处使用类型 {1}；允许：{2}。", "Use an allowed type.", "请使用允许的类型。"),
        ("binding", "code-invalid", "error", "The code is not in the value set {1} ({0}).",
         "代码不在值集 {1} 中（{0}）。", "Use a code of the value set.", "请使用值集中的代码。"),
        ("binding-extensible", "code-invalid", "warning",
         "The code is not in the value set {1}, which is to be used where it has one ({0}).",
         "代码不在值集 {1} 中；值集有合适代码时应使用之（{0}）。",
         "Use a code of the value set if one fits.", "如有合适的代码，请使用值集中的代码。"),
        ("binding-unchecked", "not-supported", "information",
         "Whether the code is in the value set {1} could not be told ({0}).",
         "无法判断代码是否在值集 {1} 中（{0}）。", "", ""),
        ("constraint", "invariant", "error", "The rule {1} of {0} does not hold: {2}",
         "不满足 {0} 的规则 {1}：{2}", "Change the element so that this holds: {3}",
         "请修改该元素，使下式成立：{3}"),
        ("constraint-warning", "invariant", "warning", "The rule {1} of {0} does not hold: {2}",
         "不满足 {0} 的规则 {1}：{2}", "Change the element so that this holds: {3}",
         "请修改该元素，使下式成立：{3}"),
        ("constraint-costly", "too-costly", "error",
         "The rule {1} of {0} asks for more than the limits allow, so it could not be judged.",
         "{0} 的规则 {1} 超出求值限制，无法判断。", "Simplify the rule's expression.",
         "请简化该规则的表达式。"),
        ("slice-closed", "structure", "error",
         "This matches none of the slices that {0} allows for {1}: {2}.",
         "与 {0} 对 {1} 规定的切片均不相符：{2}。", "Make it fit one slice, or leave it out.",
         "请使其符合某一切片，或将其去掉。"),
        ("slice-order", "structure", "error", "The slices of {1} are not in the order of {0}.",
         "{1} 的切片顺序与 {0} 规定的不符。", "Put them in order.", "请调整顺序。"),
        ("slice-end", "structure", "error",
         "Further items of {1} must stand behind the slices of {0}.",
         "{1} 的其余项须位于 {0} 的切片之后。", "Move it to the end.", "请移到末尾。"),
        ("slice-undecided", "incomplete", "warning",
         "Which slice of {1} this is could not be told ({0}).",
         "无法判断此项属于 {1} 的哪个切片（{0}）。", "", ""),
        ("type-profile", "structure", "error",
         "This conforms to none of the profiles that {0} allows here: {1}.",
         "不符合 {0} 在此允许的任何 profile：{1}。", "Make it conform to one of them.",
         "请使其符合其中之一。"),
        ("target", "structure", "error",
         "The reference points to what {0} does not allow here; allowed: {1}.",
         "引用指向 {0} 不允许的目标；允许：{1}。", "Refer to an allowed type.",
         "请引用允许的类型。"),
        ("target-profile", "structure", "error",
         "What the reference points to conforms to none of the profiles that {0} allows: {1}.",
         "引用的目标不符合 {0} 允许的任何 profile：{1}。",
         "Correct the target, or refer to another.",
         "请更正目标资源，或引用其他资源。"),
        ("extension-unknown", "informational", "information",
         "The extension {0} is not known here, so its content was not checked.",
         "未知扩展 {0}，未校验其内容。", "", ""),
        ("extension-refused", "extension", "error",
         "The extension {0} is not known here.", "未知扩展 {0}。",
         "Load its definition, or leave it out.", "请装载其定义，或将其去掉。"),
        ("modifier-unknown", "extension", "warning",
         "The modifier extension {0} is not known here, and may change the meaning.",
         "未知修饰扩展 {0}，可能改变含义。", "Load its definition, or leave it out.",
         "请装载其定义，或将其去掉。"),
        ("extension-part", "extension", "error",
         "The extension {0} has no part {1}.", "扩展 {0} 没有组成部分 {1}。",
         "Use a part that its definition has.", "请使用其定义中的组成部分。"),
        ("reference-missing", "not-found", "error",
         "What the reference points to cannot be found.", "找不到引用指向的资源。",
         "Correct the reference, or store its target first.", "请更正引用，或先存入其目标资源。"),
        ("extension-context", "extension", "error",
         "The extension {0} may not be used here; allowed: {1}.",
         "扩展 {0} 不允许用于此处；允许：{1}。", "Move it, or leave it out.",
         "请移动该扩展，或将其去掉。"),
        ("extension-kind", "extension", "error",
         "The extension {0} must stand in {1}.", "扩展 {0} 应位于 {1} 中。", "Move it.",
         "请移动该扩展。"),
    )
}  # fmt: skip


def issue(key: str, expression: str | None, *arguments: object) -> Issue:
    """Return the issue of a key with its arguments."""
    text = TEXTS[key]
    return Issue(
        severity=text.severity,
        code=text.code,
        key=key,
        text_en=text.en.format(*arguments),
        text_zh=text.zh.format(*arguments),
        fix_en=text.fix_en.format(*arguments),
        fix_zh=text.fix_zh.format(*arguments),
        expression=expression,
    )


def fault(key: str, *arguments: object) -> InvalidContent:
    """Return the refusal of a profile that cannot be used."""
    return InvalidContent(issue(key, None, *arguments))
