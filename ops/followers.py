"""What runs beside a hub: services, deaths, apps and reminders behind the writes; the calendar."""

import contextlib
from collections.abc import AsyncIterator

from care.fulfilment.schedule import tasks_for
from fhir_store.store import Store
from ops.bell import Bell
from ops.flow_contracts import ContractCalendar
from ops.flow_deaths import Deaths
from ops.flow_matching import Matching
from ops.flow_notices import Notices as Reminders
from ops.flow_notifications import LOOPBACK, SubscriptionTeller
from ops.flow_services_due import ServicesDue
from ops.flow_subscriptions import SubscriptionFollower
from ops.notice_channels import quiet_hours
from ops.repeating import alongside
from ops.settings import Settings
from routes.operations.contract_writing import Following
from routes.operations.doctors import may_sign_by_registration
from routes.subscription_notices import Notices


@contextlib.asynccontextmanager
async def following(
    settings: Settings, store: Store, notices: Notices, news: Bell, channels: frozenset[str]
) -> AsyncIterator[None]:
    """Follow the writes until the block ends; a step that is cut off is done again by the next.

    `news` is rung when subscribers have something to hear; `channels` are those that people can be
    reached on.
    """
    teller = SubscriptionTeller(
        store=store, notices=notices, bell=news, allowed=allowed_endpoints(settings)
    )
    may_sign = may_sign_by_registration(is_review_required=settings.doctor_review == "required")
    contracts = Following(store.searcher, tasks_for=tasks_for)
    async with alongside(
        Matching(store=store).run(),
        Deaths(store=store, following=contracts).run(),
        ContractCalendar(store=store, following=contracts, may_sign=may_sign).run(),
        ServicesDue(store=store).run(),
        SubscriptionFollower(store=store, notices=notices, bell=news).run(),
        teller.run(),
        Reminders(store=store, channels=channels, quiet=quiet_hours(settings)).run(),
    ):
        yield


def allowed_endpoints(settings: Settings) -> tuple[str, ...]:
    """Return the beginnings of addresses that may be called."""
    given = tuple(one.strip() for one in settings.subscription_endpoints.split(",") if one.strip())
    return given or (LOOPBACK if settings.auth == "off" else ())
