"""What every service answers over HTTP: is it alive, is it ready, its metrics, and an audit of its own store."""

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from oms_runtime.runtime import Runtime


class Later:
    """A service's own API, which cannot be built before its runtime has started."""

    app: Starlette | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.app or JSONResponse({"detail": "the service is starting"}, status_code=503)
        await answer(scope, receive, send)


def operations_app(runtime: "Runtime", api: ASGIApp | None) -> Starlette:
    """The routes of every service, and behind them `api`, a service's own, whose lifespan is the caller's business."""

    async def live(_request: Request) -> JSONResponse:
        alive = await runtime.alive()
        return JSONResponse({"alive": alive}, status_code=200 if alive else 503)

    async def ready(_request: Request) -> JSONResponse:
        reasons = await runtime.unready()
        if isinstance(api, Later) and api.app is None:
            reasons.append("the service's own API has not started")
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def metrics(_request: Request) -> Response:
        await runtime.measure()
        return Response(generate_latest(runtime.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def audit(_request: Request) -> JSONResponse:
        if not runtime.started:
            return JSONResponse({"detail": "the service is starting"}, status_code=503)
        return JSONResponse(await runtime.audit())

    routes: list[BaseRoute] = [Route("/live", live), Route("/ready", ready), Route("/metrics", metrics), Route("/audit", audit)]
    if api is not None:
        routes.append(Mount("/", api))

    return Starlette(routes=routes)
