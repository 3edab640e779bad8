"""The query API: it only reads, and returns JSON. An order that was just accepted may not be known yet."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

import asyncpg
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from oms_runtime.database import Database
from oms_runtime.errors import RETRYABLE_ERRORS, WrongInstallationKey, is_retryable
from oms_runtime.paging import Page, UnknownCursor
from oms_runtime.parameters import invalid, refuse_unknown_parameters
from oms_runtime.problems import problem
from oms_runtime.sealing import Sealer
from pydantic import AwareDatetime
from starlette.exceptions import HTTPException

from oms_projection import audits, queries
from oms_projection.responses import (
    Audit,
    CustomerItem,
    CustomerQuery,
    FulfillmentItem,
    Letter,
    LetterDetail,
    OrderDetail,
    OrderItem,
    OrdersAudit,
    Outcome,
    PackageItem,
    PaymentItem,
    Position,
    Problem,
    Product,
    Rejection,
    RejectionCount,
    ReturnItem,
    SearchLimit,
    SearchQuery,
    SearchResult,
    SearchText,
    SkuDetail,
    StuckItem,
    TimelineEntry,
    TransferItem,
)
from oms_projection.search import is_email
from oms_projection.search import search as find
from oms_projection.stuck import StuckFilter
from oms_projection.stuck import stuck as list_stuck

T = TypeVar("T")

NOT_HERE = "it may not have arrived yet: ask again in a moment"

After = Annotated[str | None, Query(description="The `next` of the page before")]
Signal = Literal["low", "out", "excess", "shortfall", "quarantine"]
Limit = Annotated[int, Query(ge=1, le=500, description="The most rows of a page")]
DetailsLimit = Annotated[int, Query(ge=1, le=100, description="The most orders of a page: each may have a thousand lines")]
Wanted = Annotated[queries.OrderFilter, Depends()]
Settle = Annotated[
    int,
    Query(ge=0, le=86_400, description="Seconds: what compares two topics is judged only when its newest event is older than this"),
]

PROBLEMS: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "Invalid parameters; every one is named"}}
ONE_PROBLEMS = PROBLEMS | {404: {"model": Problem, "description": "Not known here, or not yet"}}


def make_api(database: Database, clock: Callable[[], datetime], sealer: Sealer) -> FastAPI:
    """The query API over `database`. `clock` gives the time for the audits, `sealer` opens personal data."""
    api = FastAPI(
        title="Orderstream projection",
        version="1",
        summary="What the services have published, ready to be asked.",
        description="Amounts are integer minor units of the currency beside them, times are UTC. Lists are paged by `after` and `next`. "
        "Every request shows the installation's query token: `Authorization: Bearer …`, or gets 401.",
        exception_handlers=_handlers(),
        dependencies=[Depends(refuse_unknown_parameters)],
    )

    @api.get("/orders", summary="Orders, newest first or sorted", responses=PROBLEMS, tags=["orders"])
    async def orders(wanted: Wanted, after: After = None, limit: Limit = 50) -> Page[OrderItem]:
        return await queries.orders(database, sealer, wanted, after=after, limit=limit)

    @api.get("/orders/details", summary="Orders, with all that is known of each", responses=PROBLEMS, tags=["orders"])
    async def order_details(wanted: Wanted, after: After = None, limit: DetailsLimit = 50) -> Page[OrderDetail]:
        return await queries.order_details(database, sealer, wanted, after=after, limit=limit)

    @api.get("/orders/{order_id}", summary="All that is known of one order", responses=ONE_PROBLEMS, tags=["orders"])
    async def order(order_id: str) -> OrderDetail:
        return _found(await queries.order(database, sealer, order_id), f"order {order_id} is not known here", NOT_HERE)

    @api.get("/orders/{order_id:path}/timeline", summary="Every event that concerns an order", responses=ONE_PROBLEMS, tags=["orders"])
    async def timeline(order_id: str, after: After = None, limit: Limit = 200) -> Page[TimelineEntry]:
        page = await queries.timeline(database, order_id, after=after, limit=limit)
        return _found(page if page.items or after else None, f"nothing has happened to {order_id}", NOT_HERE)

    # Who is meant is in the body: addresses and logs of requests must not have it.
    @api.post("/customers", summary="Find customers by what a channel or they themselves call them", responses=PROBLEMS, tags=["customers"])
    async def customers(wanted: CustomerQuery) -> list[CustomerItem]:
        return await queries.customers(database, sealer, wanted)

    @api.get("/outcomes", summary="How many orders stand where", tags=["orders"])
    async def outcomes() -> list[Outcome]:
        return await queries.outcomes(database)

    @api.get("/rejections", summary="Why orders are rejected, most frequent first", responses=PROBLEMS, tags=["orders"])
    async def rejections(
        channel: str | None = None, at_from: AwareDatetime | None = None, at_before: AwareDatetime | None = None
    ) -> list[RejectionCount]:
        return await queries.rejections(database, channel=channel, at_from=at_from, at_before=at_before)

    @api.get("/rejections/{field}", summary="The orders rejected for one field, newest first", responses=PROBLEMS, tags=["orders"])
    async def rejected(field: str, after: After = None, limit: Limit = 50) -> Page[Rejection]:
        return await queries.rejected(database, field, after=after, limit=limit)

    @api.get("/stock", summary="Stock by SKU and location", responses=PROBLEMS, tags=["stock"])
    async def stock(
        location: str | None = None,
        available_below: int | None = None,
        signal: Annotated[Signal | None, Query(description="Only what this is said of")] = None,
        after: After = None,
        limit: Limit = 100,
    ) -> Page[Position]:
        return await queries.stock(database, location=location, available_below=available_below, signal=signal, after=after, limit=limit)

    @api.get("/stock/{sku:path}", summary="One SKU: its positions, and its ledger newest first", responses=ONE_PROBLEMS, tags=["stock"])
    async def sku(sku: str, after: After = None, limit: Limit = 100) -> SkuDetail:
        return _found(await queries.sku(database, sku, after=after, limit=limit), f"no stock of {sku} was ever booked", NOT_HERE)

    @api.get("/transfers", summary="Goods on their way between locations, newest first", responses=PROBLEMS, tags=["stock"])
    async def transfers(wanted: Annotated[queries.TransferFilter, Depends()], after: After = None, limit: Limit = 50) -> Page[TransferItem]:
        return await queries.transfers(database, wanted, after=after, limit=limit)

    @api.get("/products", summary="The catalogue, by SKU", responses=PROBLEMS, tags=["products"])
    async def products(
        active: bool | None = None,
        text: Annotated[str | None, Query(max_length=255, description="Begins the SKU or the barcode, or is in the title")] = None,
        after: After = None,
        limit: Limit = 100,
    ) -> Page[Product]:
        return await queries.products(database, active=active, text=text, after=after, limit=limit)

    @api.get("/products/{sku:path}", summary="One product", responses=ONE_PROBLEMS, tags=["products"])
    async def product(sku: str) -> Product:
        return _found(await queries.product(database, sku), f"{sku} is not in the catalogue", NOT_HERE)

    @api.get("/payments", summary="The money of orders, newest first", responses=PROBLEMS, tags=["payments"])
    async def payments(wanted: Annotated[queries.PaymentFilter, Depends()], after: After = None, limit: Limit = 50) -> Page[PaymentItem]:
        return await queries.payments(database, wanted, after=after, limit=limit)

    @api.get("/fulfillments", summary="What locations ship, newest first", responses=PROBLEMS, tags=["fulfillments"])
    async def fulfillments(
        wanted: Annotated[queries.FulfillmentFilter, Depends()], after: After = None, limit: Limit = 50
    ) -> Page[FulfillmentItem]:
        return await queries.fulfillments(database, wanted, after=after, limit=limit)

    @api.get("/packages", summary="Parcels, newest first", responses=PROBLEMS, tags=["fulfillments"])
    async def packages(wanted: Annotated[queries.PackageFilter, Depends()], after: After = None, limit: Limit = 50) -> Page[PackageItem]:
        return await queries.packages(database, wanted, after=after, limit=limit)

    @api.get("/returns", summary="Returns, newest first or sorted", responses=PROBLEMS, tags=["returns"])
    async def returns(wanted: Annotated[queries.ReturnFilter, Depends()], after: After = None, limit: Limit = 50) -> Page[ReturnItem]:
        return await queries.returns(database, wanted, after=after, limit=limit)

    @api.get("/search", summary="Find orders, packages and products by a text", responses=PROBLEMS, tags=["search"])
    async def search(
        q: Annotated[
            SearchText,
            Query(description="Begins a reference, number, order id, SKU, tracking number or package id, or the words of a title"),
        ],
        channel: str | None = None,
        limit: SearchLimit = 20,
    ) -> SearchResult:
        if is_email(q):
            raise invalid("query", ["q"], "is an e-mail address, which must be in no URL: ask POST /search, with it in the body")
        return await find(database, sealer, SearchQuery(q=q, channel=channel, limit=limit))

    # Of persons only in the body: addresses and logs of requests must not have it.
    @api.post("/search", summary="The same, and by e-mail address and name of persons", responses=PROBLEMS, tags=["search"])
    async def search_persons(wanted: SearchQuery) -> SearchResult:
        return await find(database, sealer, wanted)

    @api.get("/stuck", summary="Whatever waits, oldest first: for whom, and what goes on with it", responses=PROBLEMS, tags=["operations"])
    async def stuck(wanted: Annotated[StuckFilter, Depends()], after: After = None, limit: Limit = 50) -> Page[StuckItem]:
        return await list_stuck(database, wanted, now=clock(), after=after, limit=limit)

    @api.get("/dead-letters", summary="Records that services set aside, newest first", responses=PROBLEMS, tags=["operations"])
    async def letters(
        service: str | None = None,
        key: str | None = None,
        waiting: Annotated[bool, Query(description="Only those that wait for an operator")] = True,
        after: After = None,
        limit: Limit = 50,
    ) -> Page[Letter]:
        return await queries.dead_letters(database, service=service, key=key, waiting=waiting, after=after, limit=limit)

    @api.get("/dead-letters/{service}/{letter_id:path}", summary="One letter with its record", responses=ONE_PROBLEMS, tags=["operations"])
    async def letter(service: str, letter_id: str) -> LetterDetail:
        return _found(await queries.dead_letter(database, service, letter_id), f"no letter {letter_id} of {service}", NOT_HERE)

    @api.get("/audits/orders", summary="Whether every accepted order ends, or waits with a deadline", responses=PROBLEMS, tags=["audits"])
    async def audit_orders(settle_seconds: Settle = 60, limit: Limit = 100) -> OrdersAudit:
        return await audits.audit_orders(database, clock() - timedelta(seconds=settle_seconds), limit)

    @api.get("/audits/stock", summary="Whether stock adds up", responses=PROBLEMS, tags=["audits"])
    async def audit_stock(settle_seconds: Settle = 60) -> Audit:
        return await audits.audit_stock(database, clock() - timedelta(seconds=settle_seconds))

    @api.get("/audits/money", summary="Whether money adds up", responses=PROBLEMS, tags=["audits"])
    async def audit_money(settle_seconds: Settle = 60) -> Audit:
        return await audits.audit_money(database, clock() - timedelta(seconds=settle_seconds))

    return api


def _found(found: T | None, title: str, reason: str) -> T:
    if found is None:
        raise HTTPException(404, detail=f"{title}; {reason}")
    return found


def _handlers() -> dict[int | type[Exception], Any]:
    handlers: dict[int | type[Exception], Any] = {
        HTTPException: _http_problem,
        RequestValidationError: _invalid_parameters,
        UnknownCursor: _invalid_parameter,
        asyncpg.DataError: _invalid_parameter,
        asyncpg.QueryCanceledError: _too_slow,
        WrongInstallationKey: _wrong_key,
        asyncpg.UndefinedTableError: _other_version,
        asyncpg.UndefinedColumnError: _other_version,
    }
    return {error: _database_error for error in RETRYABLE_ERRORS if issubclass(error, Exception)} | handlers


async def _http_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:  # FastAPI's, of a body whose bytes are no text
        return problem(422, "a parameter is not sound", "body: must be JSON in UTF-8")
    title, _, reason = str(error.detail).partition("; ")
    return problem(error.status_code, title, *([reason] if reason else []))


async def _too_slow(_request: Request, _error: Exception) -> JSONResponse:
    return problem(503, "the query took too long", "ask for less at a time, or raise OMS_HTTP_REQUEST_TIMEOUT_SECONDS")


async def _wrong_key(_request: Request, error: Exception) -> JSONResponse:
    return problem(503, "personal data cannot be opened", str(error))


async def _other_version(_request: Request, _error: Exception) -> JSONResponse:
    return problem(
        503,
        "the read models in use are not those of this process",
        "none are in use yet, or they have another version: `python -m oms_projection read-models status` shows them",
    )


async def _invalid_parameters(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem(422, "a parameter is not sound", *(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()))


async def _invalid_parameter(_request: Request, error: Exception) -> JSONResponse:
    return problem(422, "a parameter is not sound", str(error))


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    if is_retryable(error):
        return problem(503, "the database does not answer", "ask again in a moment")
    return await _invalid_parameter(request, error)  # asyncpg reports an argument of the wrong type as an interface error too
