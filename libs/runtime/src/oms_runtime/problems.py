"""Error answers of HTTP edges: RFC 9457 problem details."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

PROBLEM_JSON = "application/problem+json"
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "reasons": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["title", "status", "reasons"],
}


def problem_response(description: str) -> dict[str, Any]:
    """How an OpenAPI document describes the response to a request that ends in a problem."""
    return {"description": description, "content": {PROBLEM_JSON: {"schema": PROBLEM_SCHEMA}}}


def problem(
    status: int, title: str, *reasons: str, headers: Mapping[str, str] | None = None, members: Mapping[str, Any] | None = None
) -> JSONResponse:
    """A problem: `title` says in short what is wrong, each of `reasons` names a field and why, or what to do next.

    `members` are further members, as RFC 9457 calls what one kind of problem has more.
    """
    body = {"title": title, "status": status, "reasons": list(reasons)} | dict(members or {})
    return JSONResponse(body, status_code=status, headers=headers, media_type=PROBLEM_JSON)
