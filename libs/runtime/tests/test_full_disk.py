"""A server's disk fills under load: nothing is lost, nothing twice, and everything continues by itself once there is space again.

The disk is a file system of a few megabytes, mounted in a mount namespace of its own. So each case runs in a process of its own, which is
this module as a program: `unshare --mount python test_full_disk.py PART FOLDER`.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import oms_runtime.runtime
import pytest
from aiokafka.errors import KafkaError
from asyncpg import PostgresError
from oms_local.stack import Stack, StackSettings
from oms_local.testing import Servers
from oms_runtime.runtime import Runtime
from probe import Probe, make_probe, receipt, until

pytestmark = pytest.mark.alone

KEYS = [f"r{n}" for n in range(4_000)]
DISK_MB = {"kafka": 96, "postgres": 192}
ROOM_BYTES = 128 * 1024
"""What is left when the disk counts as full: some of the work still finds room."""
RECOVERY_SECONDS = 60


@pytest.mark.parametrize("part", ["kafka", "postgres"])
def test_a_full_disk_loses_and_doubles_nothing(part: str, tmp_path: Path) -> None:
    namespace = ["unshare", "--mount"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True, check=False).returncode:
        # `.ci/run` may mount where it runs as root; a developer's own account may not.
        pytest.skip("no disk can be filled here: a mount namespace takes root's rights")
    done = subprocess.run([*namespace, sys.executable, __file__, part, tmp_path], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


async def fill_the_disk(part: str, folder: Path) -> None:
    """Fail unless all is as it should be when the disk of `part` fills and is freed again."""
    oms_runtime.runtime.RELAY_STALLED_SECONDS = 2
    stack = Stack(StackSettings.on_free_ports(folder / "data"))
    disk = folder / "data" / part
    disk.mkdir(parents=True)
    await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB[part]}m", "tmpfs", disk], check=True)
    try:
        await asyncio.to_thread(stack.up, services=(), owner=os.getpid())
        servers = Servers(kafka={**stack.kafka("admin")}, postgres_url=stack.database_url("admin"), stack=stack)
        probe = await make_probe(servers, folder)
        async with probe.running() as runtime:
            await probe.send(map(receipt, KEYS[:2_000]))
            await until(partial(_booked, probe, 2_000))
            async with probe.store_held():  # so that a batch is in hand, and many are waiting
                await probe.send(map(receipt, KEYS[2_000:]))
                await until(partial(_batch_in_hand, probe))
                filler = fill(disk)
            await FULL[part](probe, runtime, stack)
            filler.unlink()
            await until(partial(_continues, probe, runtime), RECOVERY_SECONDS)
            await probe.check_published_once()
            assert (await runtime.audit())["ok"]
            assert await probe.ask("select count(*) from dead_letters") == 0
        await probe.check_booked_once(KEYS)
    finally:
        stack.abandon()


def fill(disk: Path) -> Path:
    """Leave ROOM_BYTES of the disk; returns the file to remove."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - ROOM_BYTES)
    return filler


async def _postgres_is_full(probe: Probe, runtime: Runtime, stack: Stack) -> None:
    """First a table cannot grow, and the statement fails. Then the WAL cannot, and the server ends, and ends again."""
    await until(partial(_says, runtime, "DiskFullError"))

    async def wal_ends_the_server() -> bool:
        try:
            async with probe.session() as connection:
                await connection.execute("select pg_logical_emit_message(true, 'test', repeat('x', 10000)), pg_switch_wal()")
        except (OSError, PostgresError):
            return "PANIC" in (stack.settings.data / "log" / "postgres.log").read_text()
        return False

    await until(wal_ends_the_server)


async def _kafka_is_full(_probe: Probe, runtime: Runtime, stack: Stack) -> None:
    """The broker ends, and ends again when the supervisor has started it."""
    await until(partial(_restarted, stack, "kafka"))
    await until(partial(_says, runtime, "the relay has made no progress"))


FULL: dict[str, Callable[[Probe, Runtime, Stack], Awaitable[None]]] = {"postgres": _postgres_is_full, "kafka": _kafka_is_full}


async def _restarted(stack: Stack, name: str) -> bool:
    return any(part.name == name and part.restarts for part in await asyncio.to_thread(stack.status))


async def _says(runtime: Runtime, text: str) -> bool:
    return any(text in reason for reason in await runtime.unready())


async def _continues(probe: Probe, runtime: Runtime) -> bool:
    try:
        return await runtime.unready() == [] and await probe.booked() == len(KEYS)
    except (OSError, PostgresError, KafkaError):
        return False


async def _batch_in_hand(probe: Probe) -> bool:
    return await probe.waiting_for_store() > 0


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


if __name__ == "__main__":
    asyncio.run(fill_the_disk(sys.argv[1], Path(sys.argv[2])))
