"""Why a request is not done. Each refusal becomes a problem (RFC 9457), by `HANDLERS`."""

from collections.abc import Mapping
from datetime import timedelta
from math import ceil
from typing import Any

import asyncpg
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from oms_runtime.errors import RETRYABLE_ERRORS, is_retryable
from oms_runtime.paging import UnknownCursor
from oms_runtime.problems import problem
from starlette.exceptions import HTTPException


class Refusal(Exception):
    """A request is not done. `title` says in short why, each of `reasons` names a field and why, or what to do next."""

    status = 400

    def __init__(self, title: str, *reasons: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(title, *reasons)
        self.title = title
        self.reasons = reasons
        self.headers = headers


class Unauthenticated(Refusal):
    """Nobody is known by what the request shows."""

    status = 401

    def __init__(self, title: str, *reasons: str) -> None:
        super().__init__(title, *reasons, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Refusal):
    """It is known who asks, and they may not."""

    status = 403


class NotFound(Refusal):
    """What the request is about does not exist."""

    status = 404


class Conflict(Refusal):
    """What the request is about is not as the request needs it to be."""

    status = 409


class Invalid(Refusal):
    """A field of the request is not sound."""

    status = 422


class TooManyAttempts(Refusal):
    """Too many sign-ins failed: another try counts after `wait`."""

    status = 429

    def __init__(self, wait: timedelta) -> None:
        seconds = max(1, ceil(wait.total_seconds()))
        super().__init__("too many sign-ins failed", f"try again in {seconds} s", headers={"Retry-After": str(seconds)})


class Unavailable(Refusal):
    """It cannot be done now, and can be tried again."""

    status = 503

    def __init__(self, title: str, *reasons: str) -> None:
        super().__init__(title, *reasons, headers={"Retry-After": "1"})


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return problem(error.status, error.title, *error.reasons, headers=error.headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Name the fields at fault, never their values: one may be a password."""
    assert isinstance(error, RequestValidationError)
    return problem(422, "a field is not sound", *(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()))


async def _invalid_value(_request: Request, _error: Exception) -> JSONResponse:
    """PostgreSQL cannot take a value, such as a number that is too large."""
    return problem(422, "a field is not sound", "a value is out of range")


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    if is_retryable(error):
        return problem(503, "the database does not answer", "ask again in a moment", headers={"Retry-After": "1"})
    return await _invalid_value(request, error)  # asyncpg reports an argument of the wrong type as an interface error too


async def _unknown_cursor(_request: Request, _error: Exception) -> JSONResponse:
    return problem(422, "a parameter is not sound", "after: it is not the next of an earlier page")


async def _http_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:  # FastAPI's, of a body whose bytes are no text
        return problem(422, "a field is not sound", "body: must be JSON in UTF-8")
    return problem(error.status_code, str(error.detail).lower(), "/api/v1/openapi.json lists what there is", headers=error.headers)


HANDLERS: dict[int | type[Exception], Any] = {
    **{error: _database_error for error in RETRYABLE_ERRORS if issubclass(error, Exception)},
    HTTPException: _http_problem,
    Refusal: _refused,
    RequestValidationError: _invalid,
    asyncpg.DataError: _invalid_value,
    UnknownCursor: _unknown_cursor,
}
"""The exception handlers of an app."""
