"""What every process answers over HTTP, on a port of its own: is it alive, is it ready, its metrics, an audit of its service's store."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oms_runtime.errors import RETRYABLE_ERRORS, StateVersionMismatch
from oms_runtime.problems import problem

AUDIT_RETRY_AFTER_SECONDS = 10


Audit = Callable[[], Awaitable[dict[str, Any]]]
"""Whether every stored state is what its events fold to. Raises one of RETRYABLE_ERRORS when it could not be found out in time."""


class Operable(Protocol):
    """What these routes need of a running process."""

    @property
    def started(self) -> bool: ...
    @property
    def registry(self) -> CollectorRegistry: ...

    async def alive(self) -> bool:
        """False only where ending the process would help."""
        ...

    async def unready(self) -> list[str]:
        """The reasons why the process cannot do its work now; empty when it can."""
        ...

    async def measure(self) -> None:
        """Bring the metrics up to date that only the store knows."""
        ...


def operations_app(service: Operable, run_audit: Audit | None = None) -> Starlette:
    """The routes of every process; `/audit` where there is a store to audit."""

    async def live(_request: Request) -> JSONResponse:
        alive = await service.alive()
        return JSONResponse({"alive": alive}, status_code=200 if alive else 503)

    async def ready(_request: Request) -> JSONResponse:
        reasons = await service.unready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def metrics(_request: Request) -> Response:
        await service.measure()
        return Response(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)

    auditing = asyncio.Lock()

    async def audit(_request: Request) -> JSONResponse:
        if run_audit is None:
            return problem(404, "there is no store to audit here", "ask the service's own process")
        if not service.started:
            return problem(503, "the service is starting", "ask again in a moment")
        if auditing.locked():
            retry_after = {"Retry-After": str(AUDIT_RETRY_AFTER_SECONDS)}
            return problem(429, "an audit is running", "one runs at a time: ask again when it has ended", headers=retry_after)
        async with auditing:
            try:
                return JSONResponse(await run_audit())
            except StateVersionMismatch as error:
                return problem(503, "the states are another version's", str(error))
            except RETRYABLE_ERRORS as error:
                return problem(503, "the audit did not end", f"{type(error).__name__}: {error}")

    return Starlette(routes=[Route("/live", live), Route("/ready", ready), Route("/metrics", metrics), Route("/audit", audit)])
