"""Whose a Subscription is: staff keep those that name them in `Subscription.contact`.

R4 gives a Subscription no author; `contact` is whom to ask about it.
"""

from collections.abc import Sequence

from conformance.problem import Issue, NotAllowed
from fhir_store.operations import Create, Operation, Update
from routes.bearer import Caller

SUBSCRIPTION = "Subscription"


def own_subscriptions(practitioner: str) -> tuple[str, str]:
    """Return the search parameter and value that find the Subscriptions of a Practitioner (id)."""
    return "contact", f"Practitioner/{practitioner}"


def require_contact(caller: Caller, operations: Sequence[Operation]) -> None:
    """Raise NotAllowed where staff write a Subscription that does not name them."""
    who = caller.fhir_user or ""
    if not who.startswith("Practitioner/"):
        return
    for one in operations:
        if not isinstance(one, Create | Update):
            continue
        resource = one.resource
        named = {contact.get("value") for contact in resource.get("contact", ())}
        if resource.get("resourceType") == SUBSCRIPTION and who not in named:
            raise NotAllowed(
                Issue(
                    code="forbidden",
                    key="subscription-contact",
                    text_en="The Subscription does not name you as its contact.",
                    text_zh="订阅未将您本人登记为联系人。",
                    fix_en='Write contact: [{"system": "other", "value": your Practitioner/id}].',
                    fix_zh="请填写 contact：system 为 other，value 为您的 Practitioner/id。",
                    expression="Subscription.contact",
                )
            )
