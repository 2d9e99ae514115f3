"""What an app can subscribe to: topics, and which change of which resource is an event of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from care.effects import Resource
from care.fulfilment.completing import is_service_task
from conformance.cphc import BASE

_BASE = f"{BASE}/SubscriptionTopic/"
RENEWAL = "renewal"
"""The code of `cphc-message-template-type` on reminders that a contract ends."""

Test = Callable[[Resource | None, Resource], bool]
Focus = Callable[[Resource], str]


def _itself(after: Resource) -> str:
    return f"{after['resourceType']}/{after['id']}"


def _based_on(after: Resource) -> str:
    for one in after.get("basedOn", ()):
        if str(one.get("reference", "")).startswith("Contract/"):
            return str(one["reference"])
    return _itself(after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic: `happened` (before, after) says whether a change of a `type` is an event of it.

    `before` is None for a first version. `focus` names what the event is about, `Type/id`.
    """

    code: str
    title: str
    type: str
    happened: Test
    focus: Focus = _itself
    focus_type: str = ""

    @property
    def canonical(self) -> str:
        """Return the address that a Subscription names in `criteria`."""
        return _BASE + self.code

    @property
    def about(self) -> str:
        """Return the type of what events are about; filters speak of it."""
        return self.focus_type or self.type


_MOVING = ("status", "legalState", "signer", "extension")


def _status_of(resource: Resource | None) -> str:
    return "" if resource is None else str(resource.get("status", ""))


def _became(*statuses: str) -> Test:
    def happened(before: Resource | None, after: Resource) -> bool:
        return _status_of(after) in statuses and _status_of(before) not in statuses

    return happened


def _service_became(status: str) -> Test:
    became = _became(status)

    def happened(before: Resource | None, after: Resource) -> bool:
        return is_service_task(after) and became(before, after)

    return happened


def _contract_moved(before: Resource | None, after: Resource) -> bool:
    if _status_of(after) == "policy":
        return False
    return before is None or any(before.get(name) != after.get(name) for name in _MOVING)


def _renewal_asked(before: Resource | None, after: Resource) -> bool:
    codes = {
        coding.get("code")
        for category in after.get("category", ())
        for coding in category.get("coding", ())
    }
    return RENEWAL in codes and _became("active")(before, after)


def _merged(before: Resource | None, after: Resource) -> bool:
    def is_merged(patient: Resource | None) -> bool:
        links = () if patient is None else patient.get("link", ())
        return any(one.get("type") == "replaced-by" for one in links)

    return is_merged(after) and not is_merged(before)


def _abnormal(before: Resource | None, after: Resource) -> bool:
    def is_abnormal(observation: Resource | None) -> bool:
        if observation is None or _status_of(observation) not in ("final", "amended", "corrected"):
            return False
        return any(
            coding.get("code") in ("A", "AA", "H", "HH", "L", "LL", "POS")
            for concept in observation.get("interpretation", ())
            for coding in concept.get("coding", ())
        )

    return is_abnormal(after) and not is_abnormal(before)


TOPICS: tuple[Topic, ...] = (
    Topic(
        code="contract-state-changed",
        title="协议状态变化 (state of a contract changed)",
        type="Contract",
        happened=_contract_moved,
    ),
    Topic(
        code="contract-expiring",
        title="协议即将到期 (contract is about to end)",
        type="CommunicationRequest",
        happened=_renewal_asked,
        focus=_based_on,
        focus_type="Contract",
    ),
    Topic(
        code="service-due",
        title="服务应做 (service is due)",
        type="Task",
        happened=_service_became("ready"),
    ),
    Topic(
        code="service-completed",
        title="服务完成 (service is done)",
        type="Task",
        happened=_service_became("completed"),
    ),
    Topic(
        code="package-published",
        title="服务包发布 (package is published)",
        type="PlanDefinition",
        happened=_became("active"),
    ),
    Topic(
        code="report-ready",
        title="报告完成 (report is final)",
        type="DiagnosticReport",
        happened=_became("final", "amended", "corrected"),
    ),
    Topic(
        code="followup-result",
        title="随访结果 (form is completed)",
        type="QuestionnaireResponse",
        happened=_became("completed", "amended"),
    ),
    Topic(
        code="abnormal-result",
        title="异常结果 (abnormal result)",
        type="Observation",
        happened=_abnormal,
    ),
    Topic(
        code="resident-merged",
        title="居民档案合并 (records were merged)",
        type="Patient",
        happened=_merged,
    ),
)
BY_CANONICAL: Mapping[str, Topic] = {topic.canonical: topic for topic in TOPICS}


def topic_of(criteria: str) -> Topic | None:
    """Return the topic that `Subscription.criteria` names, with or without a version."""
    return BY_CANONICAL.get(criteria.partition("|")[0])
