"""Orders through the gateway: an administrator signs in and makes a key for a channel, and the key places its orders.

The administrator is made once, by the gateway's own program. The password stays where the stack keeps its secrets.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import TypeVar

import httpx
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import encode
from oms_local.stack import Stack
from oms_provision.passwords import write_secret

T = TypeVar("T")

KEY_CHANNEL = "app"
ADMINISTRATOR = "admin"
MAX_AT_A_TIME = 16
TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """How a person signs in. The password is in `file`."""

    url: str
    name: str
    file: Path


def sign_in_of(stack: Stack) -> SignIn:
    """How the administrator signs in."""
    url = f"http://127.0.0.1:{stack.settings.http_port_of('gateway')}"
    return SignIn(url=url, name=ADMINISTRATOR, file=stack.settings.data / "secrets" / "administrator")


async def make_administrator(stack: Stack) -> None:
    """Make the administrator where there is none. Raises RuntimeError with what the gateway's program says."""
    file = sign_in_of(stack).file
    if file.exists():
        return
    password = token_urlsafe(16)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "oms_gateway", "user", "create", ADMINISTRATOR, "--role", "admin"),
        env=stack.environment("gateway"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate(f"{password}\n".encode())
    if process.returncode:
        raise RuntimeError(said.decode().strip())
    write_secret(file, f"{password}\n")


async def place_by_key(stack: Stack, orders: Sequence[OrderPlaced], on_placed: Callable[[int], None]) -> None:
    """Place orders of KEY_CHANNEL through the gateway, by a key for that channel alone. Raises httpx.HTTPError."""
    await make_administrator(stack)
    sign_in = sign_in_of(stack)
    async with http_client(sign_in.url) as client:
        key = await _make_key(client, sign_in)
        client.cookies.clear()

        async def place(order: OrderPlaced) -> None:
            response = await client.post("/api/v1/orders", content=encode(order), headers={"authorization": f"Bearer {key}"})
            response.raise_for_status()
            on_placed(1)

        await some_at_a_time(orders, place)


def http_client(url: str) -> httpx.AsyncClient:
    """A client of the gateway for `some_at_a_time`."""
    limits = httpx.Limits(max_connections=MAX_AT_A_TIME)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False)


async def some_at_a_time(items: Iterable[T], send: Callable[[T], Awaitable[None]]) -> None:
    """Send all of `items` in their order, MAX_AT_A_TIME of them at a time. Raises what `send` raises."""
    waiting = iter(items)

    async def send_some() -> None:
        for item in waiting:
            await send(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(MAX_AT_A_TIME):
            group.create_task(send_some())


async def _make_key(client: httpx.AsyncClient, sign_in: SignIn) -> str:
    credentials = {"name": sign_in.name, "password": sign_in.file.read_text().strip()}
    response = (await client.post("/api/v1/session", json=credentials)).raise_for_status()
    wanted = {"name": f"{KEY_CHANNEL}-{token_hex(4)}", "scopes": ["orders:place", "orders:read"], "channel": KEY_CHANNEL}
    made = await client.post("/api/v1/keys", json=wanted, headers={"x-csrf-token": response.json()["csrf_token"]})
    return made.raise_for_status().json()["key"]
