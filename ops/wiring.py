"""The one place where the parts of the hub are put together; everyone else receives."""

import contextlib
import importlib.metadata
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import psycopg
from psycopg_pool import PoolTimeout

from adapters.port import Sender
from care.fulfilment.schedule import tasks_for
from conformance.problem import NotAuthenticated
from fhir_store.audit import AccessLog
from fhir_store.inbox_writer import InboxWriter
from fhir_store.operations import Written
from fhir_store.outbox import Delivery
from fhir_store.page_token import PageTokens
from fhir_store.queue_desk import read_figures
from fhir_store.retention import Retention
from fhir_store.search.searcher import Searcher
from fhir_store.store import Pool, Store, make_pool
from mappings.engine.rows import Fault
from ops.ack_destinations import AckLines
from ops.application_answers import TOPIC as ENDED
from ops.application_answers import ApplicationAnswers, EffectWatch
from ops.bell import Bell
from ops.certificates import mllp_listener_tls
from ops.channel_lines import ChannelLines, mllp_limits
from ops.channel_reload import Reloading
from ops.channels import ChannelBook
from ops.console_build import ConsolePages
from ops.console_desk import Console
from ops.flow_delivery import DeliveryWorkers, Destination
from ops.flow_inbound import InboundFlow
from ops.flow_translation import Reading, Translation
from ops.followers import following
from ops.http_server import serving
from ops.identity_proof import identity_proofs
from ops.lanes import LaneWorkers
from ops.laws import lawful_store
from ops.metrics import Metrics
from ops.mini_program import invitations
from ops.notice_channels import choose_notices, notice_destinations, senders_of
from ops.package import load_package, pin_published
from ops.province import province_destination, province_sender
from ops.province_choice import NAME as PROVINCE
from ops.province_choice import choose_province
from ops.relation_codes import relations
from ops.repeating import alongside, repeat
from ops.settings import Settings
from ops.upkeep import build_parameters, index_words_on, keep_up
from ops.warm_up import warm_up
from routes.app import ROOT, create_app
from routes.authorize import Authorizer
from routes.bearer import ANYBODY, Caller, TokenVerifier, not_authenticated
from routes.definitions import Definitions
from routes.export_files import export_router
from routes.export_jobs import ExportJobs
from routes.hub import Hub
from routes.limits import Limits
from routes.operations.agreements import agreement_operations
from routes.operations.bulk_import import import_operation
from routes.operations.contract_writing import Following
from routes.operations.contracts import ContractOperations
from routes.operations.doctors import DoctorOperations, may_sign_by_registration
from routes.operations.export import export_operations
from routes.operations.forms import form_operations
from routes.operations.fulfilment import fulfilment_operations
from routes.operations.identity import identity_operations
from routes.operations.notice_statistics import notice_statistics_operation
from routes.operations.packages import package_operations
from routes.operations.programmes import programme_operations
from routes.operations.resident_views import resident_views
from routes.operations.submissions import submissions_operation
from routes.operations.subscriptions import SubscriptionOperations
from routes.operations.terminology import terminology_operations
from routes.search_terminology import search_terminology
from routes.subscription_notices import Notices, note_subscriber
from routes.subscription_socket import SubscriptionSocket

Identify = Callable[[str | None], Awaitable[Caller]]
_log = logging.getLogger("qiao.access")
ROLES = frozenset({"http", "mllp", "worker"})
METRICS_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A hub that runs: its store, and where it listens (None where that role is not ours).

    `mllp_port` is the first channel's; `channel_ports` has all by name. `reload` reads the channels
    again and returns what is wrong with them; then those in force stay.
    """

    store: Store
    metrics: Metrics
    http_port: int | None
    mllp_port: int | None
    channel_ports: Callable[[], Mapping[str, int]]
    reload: Callable[[], Awaitable[Sequence[Fault]]]
    pages: ConsolePages


class Bells(NamedTuple):
    """What wakes whom: the lanes, the deliveries, and answers that wait for an effect."""

    inbox: Bell
    outbox: Bell
    ended: Bell


@contextlib.asynccontextmanager
async def running_hub(
    settings: Settings,
    database_url: str,
    *,
    roles: frozenset[str] = ROLES,
    province: Sender | None = None,
) -> AsyncIterator[Running]:
    """Run the hub in these roles against a migrated database until the block ends.

    `province` stands in for the one that the settings name.
    """
    metrics = Metrics()
    province = province or _configured_province(settings)
    book = ChannelBook(folder=settings.channels, partners=(PROVINCE,))
    book.take(book.read())
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            make_pool(database_url, size=settings.database_connections)
        )
        store = lawful_store(
            pool,
            choose_destinations=_choose_destinations,
            searcher=Searcher(tokens=page_tokens_of(settings)),
        )
        bells = Bells(
            inbox=Bell(pool, "inbox"), outbox=Bell(pool, "outbox"), ended=Bell(pool, ENDED)
        )
        news = Bell(pool, "subscription")
        for bell in (*bells, news):
            await bell.start()
            stack.push_async_callback(bell.stop)
        notices = Notices(
            store=store,
            authorize=Authorizer(
                store, are_relatives_proven=settings.relative_identity == "verified"
            ).authorize,
            base=f"http://{settings.host}:{settings.http_port}{ROOT}",
        )
        reloading = Reloading(book=book, pool=pool)
        await stack.enter_async_context(reloading.running())
        pages = ConsolePages(home=settings.home)
        if "worker" in roles:
            people = senders_of(settings)
            destinations = notice_destinations(settings, store, people)
            if province:
                destinations.append(province_destination(settings, province, store))
            reloading.acks = await _start_workers(
                stack, settings, store, metrics, bells, book, destinations
            )
            await stack.enter_async_context(
                following(settings, store, notices, news, frozenset(people))
            )
            await stack.enter_async_context(
                alongside(
                    keep_up(store, _retention(settings)),
                    index_words_on(store),
                    build_parameters(store),
                )
            )
        await stack.enter_async_context(alongside(_refreshing(store, metrics)))
        http_port = None
        if "http" in roles:
            await warm_up()
            await load_package(store)
            await pin_published(store)
            console = Console(
                store=store,
                reloading=reloading,
                opened=bells.inbox.ring,
                home=settings.home,
                pages=pages,
            )
            http_port = await _start_http(stack, settings, store, metrics, notices, news, console)
        if "mllp" in roles:
            writer = InboxWriter(pool, on_kept=bells.inbox.ring)
            stack.push_async_callback(writer.close)
            effects = await stack.enter_async_context(EffectWatch(pool, bells.ended).running())
            flow = InboundFlow(
                writer=writer, channels=book.channels, metrics=metrics, effects=effects
            )
            lines = ChannelLines(
                flow,
                host=settings.host,
                default_port=settings.mllp_port,
                tls=mllp_listener_tls(settings),
                limits=mllp_limits(settings),
            )
            stack.push_async_callback(lines.stop)
            await lines.agree(book.listening)
            reloading.lines = lines
        yield Running(
            store=store,
            metrics=metrics,
            http_port=http_port,
            mllp_port=next(iter(reloading.ports().values()), None),
            channel_ports=reloading.ports,
            reload=reloading.reload,
            pages=pages,
        )


def _choose_destinations(written: Written) -> Sequence[Delivery]:
    """Owe each partner, and each channel to people, what it is due."""
    return (*choose_province(written), *choose_notices(written))


def page_tokens_of(settings: Settings) -> PageTokens | None:
    """Return what seals page links; None leaves it to the secret that the database keeps."""
    if settings.page_secret is None:
        return None
    return PageTokens(settings.page_secret.get_secret_value().encode())


def _retention(settings: Settings) -> Retention:
    return Retention(message_days=settings.keep_messages_days, row_days=settings.keep_rows_days)


def _configured_province(settings: Settings) -> Sender | None:
    if settings.province_url is None or settings.province_key is None:
        return None
    key = settings.province_key.get_secret_value().encode()
    return province_sender(settings, settings.province_url, key)


async def _start_workers(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    store: Store,
    metrics: Metrics,
    bells: Bells,
    book: ChannelBook,
    destinations: Sequence[Destination],
) -> AckLines:
    delivery = DeliveryWorkers(store, destinations, bell=bells.outbox, metrics=metrics)
    await delivery.start()
    stack.push_async_callback(delivery.stop)
    acks = AckLines(deliveries=delivery, channels=book.channels)
    await acks.agree()
    work = Translation(
        channels=book.channels,
        translate=book.translate,
        answers=ApplicationAnswers(channels=book.channels),
    )
    lanes = LaneWorkers[Reading](
        store,
        work,
        bell=bells.inbox,
        metrics=metrics,
        workers=settings.lane_workers,
        on_written=bells.outbox,
        on_ended=bells.ended,
    )
    await lanes.start()
    stack.push_async_callback(lanes.stop)
    return acks


async def _start_http(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    store: Store,
    metrics: Metrics,
    notices: Notices,
    news: Bell,
    console: Console,
) -> int:
    identify = await _identification(stack, settings)
    limits = Limits()
    accesses = await stack.enter_async_context(AccessLog(store.pool).running())
    definitions = Definitions(store, claimed=settings.claimed_profiles)
    store.searcher.terminology = search_terminology(definitions)
    hub = Hub(
        store=store,
        check_profiles=definitions.check_profiles,
        check_answers=definitions.check_answers,
        refresh_definitions=definitions.refresh,
        reread_definitions=definitions.reread,
        fhirpath_ports=definitions.fhirpath_ports,
        identify=identify,
        authorize=notices.authorize,
        note_subscriber=note_subscriber,
        note=accesses.note,
        observe=metrics.answered,
        limits=limits,
        version=importlib.metadata.version("qiao"),
    )
    exports = ExportJobs(store, settings.home / "exports")
    stack.push_async_callback(exports.stop)

    async def is_ready() -> dict[str, bool]:
        return {"database": await _answers(store.pool)}

    may_sign = may_sign_by_registration(is_review_required=settings.doctor_review == "required")
    follows = Following(store.searcher, tasks_for=tasks_for)
    app = create_app(
        hub,
        operations=(
            *terminology_operations(definitions),
            *form_operations(definitions),
            *ContractOperations(
                following=follows,
                may_sign=may_sign,
                review_stages=settings.review_stages,
            ).promises(),
            *DoctorOperations(may_sign=may_sign).promises(),
            *identity_proofs(settings, stack).promises(),
            *relations(settings, stack).promises(),
            *fulfilment_operations(follows),
            notice_statistics_operation(),
            *invitations(settings, stack).promises(),
            submissions_operation(),
            *package_operations(),
            *programme_operations(),
            *identity_operations(test_regions=settings.test_regions.split(",")),
            *SubscriptionOperations(notices=notices).promises(),
            *agreement_operations(),
            *resident_views(),
            import_operation(),
            *export_operations(exports),
        ),
        is_ready=is_ready,
        metrics=metrics.render,
        issuer=settings.issuer,
    )
    app.api.include_router(export_router(hub, exports))
    socket = SubscriptionSocket(store=store, notices=notices, hearing=news.hearing)
    app.api.include_router(socket.router())
    app.api.include_router(console.router(hub))
    return await stack.enter_async_context(
        serving(app, host=settings.host, port=settings.http_port, limits=limits)
    )


async def _refreshing(store: Store, metrics: Metrics) -> None:
    """Read the custom search parameters, and the queues into the metrics, for ever."""

    async def refresh() -> None:
        async with store.pool.connection() as connection:
            await store.parameters.refresh(connection)
            metrics.show_queues(await read_figures(connection))

    await repeat(refresh, failed="queues were not counted", rest_seconds=METRICS_SECONDS)


async def _answers(pool: Pool) -> bool:
    try:
        async with pool.connection(timeout=2) as connection:
            await connection.execute("select 1")
    except (psycopg.Error, PoolTimeout, OSError):
        return False
    return True


async def _identification(stack: contextlib.AsyncExitStack, settings: Settings) -> Identify:
    """Return how a caller is known; QIAO_AUTH=off lets everybody in, on loopback only."""
    if settings.auth == "off":
        _log.warning(
            "ACCESS CONTROL IS OFF: whoever reaches %s may read and write everything. "
            "Unset QIAO_AUTH and set QIAO_ISSUER, QIAO_AUDIENCE and QIAO_JWKS_URL.",
            settings.host,
        )
        return _anybody
    if not (settings.issuer and settings.audience and settings.jwks_url):
        return _nobody
    jwks_url = settings.jwks_url
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))

    async def fetch() -> Mapping[str, Any]:
        answer = await client.get(jwks_url)
        answer.raise_for_status()
        keys: Mapping[str, Any] = answer.json()
        return keys

    verifier = TokenVerifier(issuer=settings.issuer, audience=settings.audience, fetch_jwks=fetch)
    return verifier.caller_of


async def _anybody(_authorization: str | None) -> Caller:
    return ANYBODY


async def _nobody(_authorization: str | None) -> Caller:
    refusal: NotAuthenticated = not_authenticated()
    raise refusal
