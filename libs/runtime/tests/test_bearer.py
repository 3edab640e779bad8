"""The service credential: who shows it is served, who does not is refused before anything is read."""

from collections.abc import AsyncIterator

import httpx
import pytest
from oms_runtime.bearer import BearerOnly
from oms_runtime.settings import MIN_TOKEN_CHARACTERS, QueryTokenSettings
from pydantic import SecretStr, ValidationError
from starlette.responses import PlainTextResponse

TOKEN = "t" * MIN_TOKEN_CHARACTERS


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    guarded = BearerOnly(
        PlainTextResponse("served"), token=SecretStr(TOKEN), hint="the token of the test", open_to_all=frozenset({"/docs"})
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=guarded), base_url="http://api") as client:
        yield client


@pytest.mark.parametrize("shown", [f"Bearer {TOKEN}", f"bearer {TOKEN}"])
async def test_the_token_is_served(client: httpx.AsyncClient, shown: str) -> None:
    assert (await client.get("/", headers={"authorization": shown})).text == "served"


@pytest.mark.parametrize(
    "shown",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN[1:]}", f"Bearer {TOKEN}t", f"Basic {TOKEN}", TOKEN, "Bearer ü", f"Bearer  {TOKEN}"],
)
async def test_anything_else_gets_401_with_what_is_wanted(client: httpx.AsyncClient, shown: str | None) -> None:
    response = await client.get("/", headers=[] if shown is None else [(b"authorization", shown.encode())])
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["reasons"] == ["Authorization: must be Bearer and the token of the test"]
    assert TOKEN not in response.text


async def test_a_body_is_not_read_before_the_token(client: httpx.AsyncClient) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(10):
            read += 1
            yield b"x"

    assert (await client.post("/", content=body())).status_code == 401
    assert read == 0


async def test_what_is_open_to_all_needs_none(client: httpx.AsyncClient) -> None:
    assert (await client.get("/docs")).text == "served"
    assert (await client.get("/docs/more")).status_code == 401


@pytest.mark.parametrize("token", ["", TOKEN[1:], f"{TOKEN[2:]}ü-", f"{TOKEN} "])
def test_a_token_that_is_not_sound_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("OMS_QUERY_TOKEN", token)
    with pytest.raises(ValidationError, match="query_token") as raised:
        QueryTokenSettings()  # pyright: ignore[reportCallIssue]  # its field comes from the environment
    assert TOKEN[2:] not in str(raised.value)


def test_there_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMS_QUERY_TOKEN", raising=False)
    with pytest.raises(ValidationError, match="query_token"):
        QueryTokenSettings()  # pyright: ignore[reportCallIssue]  # its field comes from the environment
