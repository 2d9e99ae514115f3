"""What runs beside a hub: services, deaths, apps and reminders behind the writes; the calendar."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

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
from ops.settings import Settings
from routes.operations.contract_writing import Following
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
    contracts = Following(store.searcher, tasks_for=tasks_for)
    work = (
        Matching(store=store).run(),
        Deaths(store=store, following=contracts).run(),
        ContractCalendar(store=store, following=contracts).run(),
        ServicesDue(store=store).run(),
        SubscriptionFollower(store=store, notices=notices, bell=news).run(),
        teller.run(),
        Reminders(store=store, channels=channels, quiet=quiet_hours(settings)).run(),
    )
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        await _end(tasks)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended.

    A cancellation that meets a running statement can come out as the database's own error, which
    a follower bears as it bears any other.
    """
    open_: set[asyncio.Task[None]] = set(tasks)
    while open_:
        for task in open_:
            task.cancel()
        _, open_ = await asyncio.wait(open_, timeout=0.2)


def allowed_endpoints(settings: Settings) -> tuple[str, ...]:
    """Return the beginnings of addresses that may be called."""
    given = tuple(one.strip() for one in settings.subscription_endpoints.split(",") if one.strip())
    return given or (LOOPBACK if settings.auth == "off" else ())
