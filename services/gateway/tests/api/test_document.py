"""The OpenAPI document: whether it is what the API does. Every operation is tried with what its description allows, and with what not."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, cast

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from oms_contracts.catalogue import EXTERNAL_MAX_BYTES
from oms_contracts.operations import OPERATIONS, Operation
from oms_gateway import operations_api
from oms_gateway.api import Parts, make_api
from oms_gateway.document import example_of, roles_table
from oms_gateway.identity import SCOPES as ALL_SCOPES
from oms_gateway.reads import QUERY_API, READS, SCOPES
from oms_gateway.sign_in_api import SignInParts, make_sign_in_router

from services.gateway.tests.api.conftest import Gateway, running, serving, until
from services.gateway.tests.api.generate import QUERY_API as QUERY_API_FILE
from services.gateway.tests.api.generate import README, query_api, with_table

EXAMPLES = 8
"""Requests of each operation, from each of the three."""
NOT_YET = {"/search", "POST /search", "/stuck", "/fulfillments", "/packages", "/returns"}
"""Paths that have a scope before the query API has them."""


SIGN_IN = {
    f"/api/v1{path}"
    for path in (
        *("/session", "/me", "/me/password", "/oidc/start", "/oidc/callback", "/audit-trail", "/keys", "/keys/{key_id}"),
        *("/keys/{key_id}/rotate", "/users", "/users/{name}", "/users/{name}/password", "/users/{name}/sessions", "/users/{name}/lock"),
    )
}
"""The paths about who may come in."""


@pytest.fixture
def described() -> dict[str, Any]:
    """The document. It is made without asking anything."""
    parts: Any = SimpleNamespace(**dict.fromkeys(field.name for field in fields(Parts)))
    parts.admission = SimpleNamespace(admit=None)
    sign_in: Any = SimpleNamespace(**dict.fromkeys(field.name for field in fields(SignInParts)))
    api = make_api(parts)
    api.include_router(make_sign_in_router(sign_in))
    return api.openapi()


# The broker's client, in the server's thread, uses `random` while Hypothesis makes the next request in another.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize("name", ["admin", "till", None])
async def test_no_request_makes_an_error_or_an_undescribed_answer(
    gateway: Gateway, described: dict[str, Any], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an admin, by the key of a channel that has few orders, and by nobody."""
    monkeypatch.setattr(operations_api, "MAX_WAITS", 0)
    served = described | {"paths": {path: methods for path, methods in described["paths"].items() if path not in SIGN_IN}}
    headers = {} if name is None else {"authorization": f"Bearer {name}"}
    async with running(gateway.parts.statuses.run()), serving(gateway.api) as url, httpx.AsyncClient(trust_env=False) as client:
        await until(lambda: _is_read(client, url))
        await asyncio.to_thread(try_all, served, url, headers)


async def _is_read(client: httpx.AsyncClient, url: str) -> bool:
    return (await client.get(f"{url}/api/v1/status", headers={"authorization": "Bearer admin"})).status_code == 200


def try_all(described: dict[str, Any], url: str, headers: dict[str, str]) -> None:
    schema: Any = schemathesis.openapi.from_dict(described)
    checks: Any = [_no_server_error, _status_is_described, _answer_is_described]
    fits = schemathesis.GenerationMode
    for result in schema.get_all_operations():
        asked = result.ok()
        strategy = asked.as_strategy(fits.POSITIVE) | asked.as_strategy(fits.NEGATIVE)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )
        @given(case=strategy)
        def attempt(case: Any) -> None:
            response = case.call(base_url=url, headers=headers)
            case.validate_response(response, checks=checks)

        attempt()


def _no_server_error(_context: Any, response: Any, case: Any) -> None:
    assert response.status_code < 500, f"{case.method} {case.path}: {response.status_code} {response.text}"


def _status_is_described(_context: Any, response: Any, case: Any) -> None:
    described = case.operation.definition.raw["responses"]
    assert str(response.status_code) in described, f"{case.method} {case.path}: {response.status_code} is not described"


def _answer_is_described(_context: Any, response: Any, case: Any) -> None:
    described = case.operation.definition.raw["responses"][str(response.status_code)].get("content", {})
    kind = response.headers.get("content-type", [""])[0].partition(";")[0]
    assert kind in described or not described, f"{case.method} {case.path}: {kind} of {response.status_code} is not described"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_every_operation_has_an_example_that_it_takes(described: dict[str, Any], operation: Operation) -> None:
    documented = described["paths"][f"/api/v1{operation.path}"]["post"]
    body = documented["requestBody"]["content"]["application/json"]
    parameters = {each["name"]: each["example"] for each in documented["parameters"] if each["in"] == "path"}
    assert operation.message(parameters, body["example"])
    assert (parameters, body["example"]) == example_of(operation)
    validator: Any = jsonschema.Draft202012Validator(body["schema"])
    validator.validate(body["example"])
    assert not validator.is_valid(body["example"] | {"no_such_field": 1})
    for status in ("200", "202"):
        assert documented["responses"][status]["content"]["application/json"]["example"]["operation"] == operation.name


def test_every_route_says_who_may_ask_and_has_an_example_of_its_body_and_its_answer(described: dict[str, Any]) -> None:
    anybody = {"/api/v1/session", "/api/v1/oidc/start", "/api/v1/oidc/callback"}
    schemes = described["components"]["securitySchemes"].keys()
    for path in SIGN_IN:
        for method, documented in described["paths"][path].items():
            shown = [*documented.get("security", ())]
            assert bool(shown) is (path not in anybody or method == "delete"), (path, method)
            assert {name for each in shown for name in each} <= schemes
            assert {documented.get("x-scope")} <= ALL_SCOPES | {None}
            bodies = [documented["requestBody"]] if "requestBody" in documented else []
            for body in (*bodies, *(answer for status, answer in documented["responses"].items() if status < "300")):
                for kind, content in body.get("content", {}).items():
                    assert kind == "application/json"
                    named = content["schema"]["$ref"].rpartition("/")[2]
                    schema = described["components"]["schemas"][named]
                    if named.startswith("Page_"):
                        schema = described["components"]["schemas"][named.removeprefix("Page_").removesuffix("_")]
                    assert schema["examples"], named


async def test_an_order_is_as_the_document_says(gateway: Gateway, described: dict[str, Any]) -> None:
    async with gateway.client("operator") as client:
        order = (await client.get("/orders/done")).json()
    schema = {"$ref": "#/components/schemas/OrderDetail", "components": described["components"]}
    validator: Any = jsonschema.Draft202012Validator(schema)
    validator.validate(order)
    assert not validator.is_valid(order | {"operations": [{"name": 1}]})


def test_the_document_is_openapi_3_1_and_its_references_resolve(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1")
    of_work = {each.path for each in READS} | {each.path for each in OPERATIONS} | {"/operations", "/status"}
    assert {f"/api/v1{path}" for path in of_work} == described["paths"].keys() - SIGN_IN
    for reference in _references(described):
        found = described
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_the_query_api_is_the_one_that_projection_has() -> None:
    assert QUERY_API_FILE.read_text() == query_api(), "python services/gateway/tests/api/generate.py writes it anew"


def test_every_path_of_the_query_api_has_a_scope() -> None:
    assert {*QUERY_API["paths"]} <= {*SCOPES}
    assert {*SCOPES} - {*QUERY_API["paths"]} <= NOT_YET


def test_the_table_of_roles_is_the_one_of_the_operations() -> None:
    text = README.read_text()
    assert roles_table(OPERATIONS) in text
    assert text == with_table(text), "python services/gateway/tests/api/generate.py writes it anew"


async def test_the_documentation_loads_everything_from_the_gateway(gateway: Gateway) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.api), base_url="http://gateway", follow_redirects=True) as client:
        page = await client.get("/docs")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(linked) == 5
        for each in linked:
            assert "//" not in each
            assert (await client.get(f"/docs/{each}")).status_code == 200
        assert re.search(r"<script>|style=|onload=", page.text) is None
        assert (await client.get("/docs/swagger-ui/LICENSE")).status_code == 200


async def test_an_answer_may_load_nothing(gateway: Gateway) -> None:
    async with gateway.client() as client:
        for response in (await client.get("/operations"), await client.get("/nothing"), await client.delete("/operations")):
            assert response.headers["content-security-policy"].startswith("default-src 'none'")
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.status_code == 200 or response.headers["content-type"] == "application/problem+json"


async def test_a_body_without_end_is_refused(gateway: Gateway) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * EXTERNAL_MAX_BYTES:
            sent += 64 * 1024
            yield b" " * 64 * 1024

    async with gateway.client() as client:
        response = await client.post("/orders", content=endless())
    assert response.status_code == 413
    assert response.headers["content-security-policy"]
    assert sent < 2 * EXTERNAL_MAX_BYTES


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, part in cast(dict[str, Any], node).items():
            if name == "$ref":
                yield part
            yield from _references(part)
    if isinstance(node, list):
        for part in cast(list[Any], node):
            yield from _references(part)
