"""Query parameters of a FastAPI route."""

from collections.abc import Iterable

from fastapi import Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not have: a misspelt filter would be ignored, and the answer be about everything."""
    known = {each.alias for each in get_flat_params(request.scope["route"].dependant) if isinstance(each.field_info, params.Query)}
    if unknown := sorted(request.query_params.keys() - known):
        raise invalid("query", unknown, f"is no parameter here; there are {', '.join(sorted(known)) or 'none'}")


def invalid(place: str, names: Iterable[str], reason: str) -> RequestValidationError:
    """The refusal of parameters that FastAPI itself has nothing against."""
    return RequestValidationError([{"loc": (place, name), "msg": reason, "type": "value_error"} for name in names])
