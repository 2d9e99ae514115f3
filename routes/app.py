"""The HTTP application: FHIR below its base, health and metrics beside it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from routes.fhir_application import FhirApplication
from routes.fhir_registry import fhir_registry
from routes.hub import Hub
from routes.openapi import components, fhir_paths
from routes.registry import Operation
from routes.well_known import smart_configuration

Ready = Callable[[], Awaitable[dict[str, bool]]]
ROOT = "/fhir"


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """The ASGI application: `fhir` answers below the base, `api` everything else.

    FHIR requests pass no middleware; wiring adds routers of operations, webhooks and the console
    to `api`, which also runs the lifespan.
    """

    api: FastAPI
    fhir: FhirApplication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request to the one whose path it is."""
        path = scope.get("path", "")
        if (
            scope["type"] == "http"
            and (path.startswith(f"{ROOT}/") or path == ROOT)
            and not path.startswith(f"{ROOT}/.well-known/")
        ):
            await self.fhir(scope, receive, send)
        else:
            await self.api(scope, receive, send)


async def _always_ready() -> dict[str, bool]:
    return {}


def create_app(
    hub: Hub,
    *,
    operations: tuple[Operation, ...] = (),
    is_ready: Ready = _always_ready,
    metrics: Callable[[], bytes] | None = None,
    issuer: str | None = None,
) -> Application:
    """Return the application; wiring gives what it needs and may add routers to its `api`.

    `is_ready` returns the parts of the hub and whether each is up; `metrics` the text of the
    metrics page.
    """
    registry = fhir_registry(operations)
    app = FastAPI(title="Qiao (桥)", version=hub.version, docs_url=None, redoc_url=None)

    @app.get("/health/live", include_in_schema=False)
    async def live() -> Response:
        return JSONResponse({"status": "up"})

    @app.get("/health/ready", include_in_schema=False)
    async def ready() -> Response:
        parts = await is_ready()
        status = "up" if all(parts.values()) else "down"
        code = 200 if status == "up" else 503
        return JSONResponse({"status": status, "parts": parts}, status_code=code)

    if metrics is not None:
        text = metrics

        @app.get("/metrics", include_in_schema=False)
        async def metrics_page() -> Response:
            return Response(text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    if issuer is not None:
        configuration = smart_configuration(issuer, hub.oauth)

        @app.get(f"{ROOT}/.well-known/smart-configuration", include_in_schema=False)
        async def smart() -> Response:
            return JSONResponse(configuration)

    _describe(app, lambda: (fhir_paths(registry, root=ROOT), components()))
    return Application(api=app, fhir=FhirApplication(hub=hub, registry=registry, root=ROOT))


def _describe(
    app: FastAPI, describe: Callable[[], tuple[dict[str, object], dict[str, object]]]
) -> None:
    """Let `/openapi.json` tell of the FHIR routes too; made when first asked for."""
    own = app.openapi

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            document = own()
            paths, schemas = describe()
            document.setdefault("paths", {}).update(paths)
            document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
