"""What has expired is removed, a bounded number of rows at a time, and nothing else: on a real PostgreSQL, with a clock that is moved."""

from oms_gateway import store
from oms_gateway.idempotency import IdempotencyKeys
from oms_gateway.retention import Retention

from services.gateway.tests.gateways import Gateway, sign_in

TABLES = ("sessions", "sign_in_attempts", "audit_trail", "idempotency_keys")


async def test_what_has_expired_is_removed_and_nothing_else(gateway: Gateway) -> None:
    retention, keys = Retention(gateway.database, gateway.settings, gateway.clock), IdempotencyKeys(gateway.database)

    async def use_everything(day: int) -> None:
        await gateway.signed_in("ada")
        for n in range(5):
            await sign_in(gateway.browser(f"192.0.2.{n}"), f"nobody-{day}-{n}")
            async with keys.once("key:till", f"{day}-{n}", "f", "e", gateway.clock()):
                pass

    async def kept() -> list[int]:
        return [await gateway.database.fetchval(f"select count(*) from {table}") for table in TABLES]  # noqa: S608  # those of ours

    await gateway.add_user("ada", "viewer")
    await use_everything(1)
    await retention.remove()
    assert await kept() == [1, 10, 6, 5]

    gateway.clock.move(days=399)
    await use_everything(399)
    gateway.clock.move(hours=1)
    await retention.remove(at_once=2)
    assert await kept() == [1, 10, 12, 5]  # of the first day the audit trail alone, which is kept for 400 days

    gateway.clock.move(days=1)
    async with gateway.database.acquire() as other, other.transaction():
        await other.fetch("select from audit_trail order by position limit 1 for update")  # as another process does
        await retention.remove(at_once=2)
        assert await kept() == [0, 0, 7, 0]
    await retention.remove(at_once=2)
    assert await kept() == [0, 0, 6, 0]
    assert {f"{entry.at:%Y-%m-%d}" for entry in await store.list_entries(gateway.database, None, 100)} == {"2031-02-04"}
