"""The one place where the parts of the hub are put together; everyone else receives."""

import asyncio
import contextlib
import functools
import importlib.metadata
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
from psycopg_pool import PoolTimeout

from adapters.port import Sender
from adapters.transport.mllp_server import MllpServer
from conformance.problem import NotAuthenticated
from fhir_store.audit import AccessLog
from fhir_store.inbox import InboxWriter
from fhir_store.page_token import PageTokens
from fhir_store.queue_desk import read_figures
from fhir_store.search import Searcher
from fhir_store.store import Pool, Store, make_pool
from mappings.engine.library import load
from mappings.translate import Translator
from ops.bell import Bell
from ops.certificates import mllp_listener_tls
from ops.channel import Channel
from ops.flow_delivery import DeliveryWorkers
from ops.flow_inbound import InboundFlow
from ops.flow_translation import Reading, Translation
from ops.http_server import serving
from ops.lanes import LaneWorkers
from ops.metrics import Metrics
from ops.package import load_package
from ops.province import choose_province, province_destination, province_sender
from ops.settings import Settings
from ops.upkeep import keep_up
from ops.warm_up import warm_up
from routes.app import create_app
from routes.authorize import Authorizer
from routes.bearer import ANYBODY, Caller, TokenVerifier, not_authenticated
from routes.definitions import Definitions
from routes.export_files import export_router
from routes.export_jobs import ExportJobs
from routes.hub import Hub
from routes.limits import Limits
from routes.operations.bulk_import import import_operation
from routes.operations.contracts import contract_operations
from routes.operations.export import export_operations
from routes.operations.forms import form_operations
from routes.operations.terminology import terminology_operations
from routes.search_terminology import search_terminology

Identify = Callable[[str | None], Awaitable[Caller]]

_log = logging.getLogger("qiao.access")

ROLES = frozenset({"http", "mllp", "worker"})
HIS = "his"
METRICS_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A hub that runs: its store, and where it listens (None where that role is not ours)."""

    store: Store
    metrics: Metrics
    http_port: int | None
    mllp_port: int | None


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
    channels = {HIS: Channel(name=HIS)}
    metrics = Metrics()
    province = province or _configured_province(settings)
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            make_pool(database_url, size=settings.database_connections)
        )
        store = Store(
            pool,
            choose_destinations=choose_province,
            searcher=Searcher(tokens=page_tokens_of(settings)),
        )
        inbox_bell, outbox_bell = Bell(pool, "inbox"), Bell(pool, "outbox")
        for bell in (inbox_bell, outbox_bell):
            await bell.start()
            stack.push_async_callback(bell.stop)
        if "worker" in roles:
            await _start_workers(
                stack, settings, store, metrics, (inbox_bell, outbox_bell), channels, province
            )
            upkeep = asyncio.create_task(keep_up(store))
            stack.callback(upkeep.cancel)
        refreshing = asyncio.create_task(_refresh(store, metrics))
        stack.callback(refreshing.cancel)
        mllp_port = http_port = None
        if "http" in roles:
            await warm_up()
            await load_package(store)
            http_port = await _start_http(stack, settings, store, metrics)
        if "mllp" in roles:
            writer = InboxWriter(pool, on_kept=inbox_bell.ring)
            stack.push_async_callback(writer.close)
            flow = InboundFlow(writer=writer, channels=channels, metrics=metrics)
            mllp_port = await _start_mllp(stack, settings, flow)
        yield Running(store=store, metrics=metrics, http_port=http_port, mllp_port=mllp_port)


def page_tokens_of(settings: Settings) -> PageTokens | None:
    """Return what seals page links; None leaves it to the secret that the database keeps."""
    if settings.page_secret is None:
        return None
    return PageTokens(settings.page_secret.get_secret_value().encode())


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
    bells: tuple[Bell, Bell],
    channels: Mapping[str, Channel],
    province: Sender | None,
) -> None:
    inbox_bell, outbox_bell = bells
    destinations = [province_destination(settings, province)] if province else []
    delivery = DeliveryWorkers(store, destinations, bell=outbox_bell, metrics=metrics)
    await delivery.start()
    stack.push_async_callback(delivery.stop)
    work = Translation(channels=channels, translate=Translator(load()).translate)
    lanes = LaneWorkers[Reading](
        store,
        work,
        bell=inbox_bell,
        metrics=metrics,
        workers=settings.lane_workers,
        on_written=outbox_bell,
    )
    await lanes.start()
    stack.push_async_callback(lanes.stop)


async def _start_mllp(
    stack: contextlib.AsyncExitStack, settings: Settings, flow: InboundFlow
) -> int:
    tls = mllp_listener_tls(settings)
    server = MllpServer(
        channel=HIS,
        accept=flow.accept,
        refuse=flow.refuse,
        tls=tls,
        on_ended=functools.partial(flow.metrics.line_ended, HIS),
    )
    flow.metrics.watch_lines(HIS, lambda: len(server.connections))
    await server.start(settings.host, settings.mllp_port)
    stack.push_async_callback(server.stop)
    return server.port


async def _start_http(
    stack: contextlib.AsyncExitStack, settings: Settings, store: Store, metrics: Metrics
) -> int:
    identify = await _identification(stack, settings)
    limits = Limits()
    accesses = await stack.enter_async_context(AccessLog(store.pool).running())
    definitions = Definitions(store, claimed=settings.claimed_profiles)
    store.searcher.terminology = search_terminology(definitions)
    hub = Hub(
        store=store,
        check_profiles=definitions.check_profiles,
        refresh_definitions=definitions.refresh,
        identify=identify,
        authorize=Authorizer(store).authorize,
        note=accesses.note,
        observe=metrics.answered,
        limits=limits,
        version=importlib.metadata.version("qiao"),
    )

    exports = ExportJobs(store, settings.home / "exports")
    stack.push_async_callback(exports.stop)

    async def is_ready() -> dict[str, bool]:
        return {"database": await _answers(store.pool)}

    app = create_app(
        hub,
        operations=(
            *terminology_operations(definitions),
            *form_operations(definitions),
            *contract_operations(),
            import_operation(),
            *export_operations(exports),
        ),
        is_ready=is_ready,
        metrics=metrics.render,
        issuer=settings.issuer,
    )
    app.api.include_router(export_router(hub, exports))
    return await stack.enter_async_context(
        serving(app, host=settings.host, port=settings.http_port, limits=limits)
    )


async def _refresh(store: Store, metrics: Metrics) -> None:
    """Read the custom search parameters, and the queues into the metrics, for ever."""
    while True:
        with contextlib.suppress(psycopg.Error, PoolTimeout, OSError):
            async with store.pool.connection() as connection:
                await store.parameters.refresh(connection)
                metrics.show_queues(await read_figures(connection))
        await asyncio.sleep(METRICS_SECONDS)


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
