"""Writes what is kept in files and made by programs: `python services/gateway/tests/api/generate.py`. The tests compare it."""

import re
from pathlib import Path
from typing import Any

from oms_contracts.operations import OPERATIONS
from oms_gateway.document import roles_table, text_of
from oms_projection.api import make_api

GATEWAY = Path(__file__).parents[2]
QUERY_API = GATEWAY / "src" / "oms_gateway" / "query_api.json"
README = GATEWAY / "README.md"
TABLE = re.compile(r"(<!-- operation by role -->\n).*?(<!-- end -->)", re.DOTALL)


def query_api() -> str:
    """The OpenAPI document of the query API as it is now."""
    nothing: Any = None  # the document is made without asking anything
    return text_of(make_api(nothing, nothing, nothing).openapi())


def with_table(readme: str) -> str:
    """The README with the table as it is now."""
    return TABLE.sub(lambda found: f"{found[1]}{roles_table(OPERATIONS)}{found[2]}", readme)


if __name__ == "__main__":
    QUERY_API.write_text(query_api())
    README.write_text(with_table(README.read_text()))
