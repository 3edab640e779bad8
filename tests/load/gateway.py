"""What an order costs that comes through the gateway, beside one that a channel publishes itself."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from random import Random
from secrets import token_bytes
from time import monotonic, time

from oms_client.publisher import LINGER_MS
from oms_contracts.catalogue import ALL_SERVICES, GATEWAY
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import encode
from oms_gateway import store
from oms_gateway.identity import SCOPES, Identity
from oms_gateway.keys import Keys, Wanted
from oms_gateway.settings import SignInSettings
from oms_local.ports import LOOPBACK
from oms_local.stack import Stack
from oms_runtime.clock import utc_now

from tests.load.http_client import HttpClient
from tests.load.phases import Figures, Send, distribution, open_loop, publishing, timeout_seconds
from tests.load.rig import Rig, pids_of
from tests.load.usage import Usage, peak_memory, read_usage
from tests.load.watch import Stuck

ROUNDS = 3
"""Of each way, in turn: what else the machine does falls on both."""
WARM_UP_ORDERS = 200
MEASURED = ("kafka", "postgres", GATEWAY, "bench")


async def gateway(rig: Rig, rate: float, seconds: float, seed: int, profiled: Callable[[], AbstractContextManager[None]]) -> Figures:
    """Orders by HTTP and orders on the topic, for `seconds` each, in turns, at `rate` a second with the gaps of chance.

    The services are stopped meanwhile, so that what they do is not taken for the gateway's. Then they do what they were given, and every
    order must come to rest. Beyond the topic's way an order costs what the gateway takes, its sessions at the database, and what the
    broker takes more. The last round is `profiled`, which costs, too.
    """
    orders = max(10, round(rate * seconds / ROUNDS))
    placed = await rig.take(2 * (WARM_UP_ORDERS + ROUNDS * orders))
    task = rig.progress.add_task(f"gateway at {rate:.0f} orders/s", total=len(placed))
    left = iter(placed.values())
    for service in ALL_SERVICES:
        await asyncio.to_thread(rig.stack.stop_part, service)
    pids = {name: pid for name, pid in rig.pids.items() if name in MEASURED}
    random = Random(f"{seed}/gateway")
    used: dict[str, list[Usage]] = {"topic": [], GATEWAY: []}
    taken: dict[str, list[float]] = {"topic": [], GATEWAY: []}
    late: list[float] = []
    async with publishing(rig.stack, LINGER_MS) as publish, placing(rig.stack) as place:
        ways = {"topic": publish, GATEWAY: place}
        for send in ways.values():
            await open_loop([send(next(left)) for _ in range(WARM_UP_ORDERS)], rate, random)
        for number in range(ROUNDS):
            for way, send in ways.items():
                sends = [send(next(left)) for _ in range(orders)]
                before = read_usage(pids)
                with profiled() if (way, number) == (GATEWAY, ROUNDS - 1) else nullcontext():
                    loop = await open_loop(sends, rate, random)
                used[way].append(read_usage(pids).since(before))
                taken[way] += loop.taken
                late += loop.late
    memory = peak_memory({GATEWAY: pids[GATEWAY]})[GATEWAY]
    for service in ALL_SERVICES:
        await asyncio.to_thread(rig.stack.start_part, service)
    rig.pids |= pids_of(rig.stack)
    batch = await rig.finish(placed, time(), read_usage(rig.pids), task, timeout_seconds(len(placed)))
    each = {way: _each(usages, ROUNDS * orders) for way, usages in used.items()}
    beyond = {
        GATEWAY: each[GATEWAY][GATEWAY] - each["topic"][GATEWAY],
        "its database sessions": each[GATEWAY].get("postgres:gateway", 0.0),
        "broker": each[GATEWAY]["kafka"] - each["topic"]["kafka"],
    }
    usages = [*used["topic"], *used[GATEWAY]]
    return {
        "orders": len(placed),
        "orders_per_s": rate,
        "rounds": ROUNDS,
        "cpu_ms_per_order": each,
        "cpu_ms_per_order_by_round": [_each([usage], orders)[GATEWAY] for usage in used[GATEWAY]],
        "cpu_ms_per_order_beyond_topic": sum(beyond.values()),
        "cpu_ms_per_order_beyond_topic_of": beyond,
        "answer_ms": distribution(taken[GATEWAY]),
        "acknowledged_ms": distribution(taken["topic"]),
        "client_late_ms": distribution(late),
        "client_cores": sum(usage.cpu["bench"] for usage in used[GATEWAY]) / _seconds(used[GATEWAY]),
        "gateway_rss_mib": memory,
        "outcomes": batch.outcomes,
        "cores_used_by_others": sum(usage.machine - sum(usage.cpu.values()) for usage in usages) / _seconds(usages),
    }


def _each(usages: Sequence[Usage], orders: int) -> dict[str, float]:
    """Processor milliseconds an order, by process."""
    return {name: sum(usage.cpu.get(name, 0.0) for usage in usages) / orders * 1_000 for name in sorted(usages[0].cpu)}


def _seconds(usages: Sequence[Usage]) -> float:
    return sum(usage.at for usage in usages)


@asynccontextmanager
async def placing(stack: Stack) -> AsyncGenerator[Callable[[OrderPlaced], Send]]:
    """What places single orders through the gateway, with a key that was made for it; the requests are made beforehand."""
    headers = {"authorization": f"Bearer {await make_key(stack)}", "content-type": "application/json"}
    client = HttpClient(LOOPBACK, stack.settings.http_port_of(GATEWAY), headers)

    def prepared(order: OrderPlaced) -> Send:
        request = client.request_of("POST", "/api/v1/orders", encode(order))

        async def send() -> None:
            status, body = await client.send(request)
            if status != 202:
                raise Stuck(f"the gateway answered {status}: {body.decode()}")

        return send

    try:
        yield prepared
    finally:
        client.close()


async def make_key(stack: Stack) -> str:
    """The text of a new key that places orders."""
    database = await store.open_store(stack.database_url(GATEWAY))
    try:
        keys = Keys(database, cached=SignInSettings().key_cache, clock=utc_now, elapsed=monotonic, random=token_bytes)
        wanted = Wanted(name=f"bench-{token_bytes(4).hex()}", scopes=frozenset({"orders:place"}))
        _, text = await keys.make(wanted, Identity(actor="user:bench", scopes=SCOPES))
        return text
    finally:
        await database.close()
