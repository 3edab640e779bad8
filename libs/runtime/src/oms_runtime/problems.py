"""Error answers of HTTP edges: RFC 9457 problem details."""

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


def problem(status: int, title: str, *reasons: str) -> JSONResponse:
    """A problem: `title` says in short what is wrong, each of `reasons` names a field and why, or what to do next."""
    return JSONResponse({"title": title, "status": status, "reasons": list(reasons)}, status_code=status, media_type=PROBLEM_JSON)
