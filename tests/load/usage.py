"""What the processes of a stack have used: processor time, memory, disk. Read from Linux's /proc, and from the servers themselves."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import psutil
from oms_contracts.catalogue import ALL_SERVICES
from oms_local.stack import Stack
from oms_provision.sql import session

MIB = 1024 * 1024
_connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # asyncpg is untyped in part


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Processor seconds by part since the parts began, and those of the whole machine since it did; `at` is monotonic."""

    at: float
    cpu: Mapping[str, float]
    machine: float

    def since(self, earlier: "Usage") -> "Usage":
        """What was used between the two readings; `at` is then the seconds between them."""
        cpu = {name: seconds - earlier.cpu.get(name, 0.0) for name, seconds in self.cpu.items()}
        return Usage(at=self.at - earlier.at, cpu=cpu, machine=self.machine - earlier.machine)


def read_usage(pids: Mapping[str, int]) -> Usage:
    """The use of the processes in `pids`. The database server's is distinguished by the database its sessions serve."""
    cpu: defaultdict[str, float] = defaultdict(float)
    for name, pid in pids.items():
        process = psutil.Process(pid)
        if name == "postgres":
            for part, seconds in _database_cpu(process).items():
                cpu[part] += seconds
        else:
            cpu[name] += _seconds(process.cpu_times())
    return Usage(at=monotonic(), cpu=cpu, machine=_machine_seconds())


def _database_cpu(postmaster: psutil.Process) -> dict[str, float]:
    """By `postgres:<service>`; what served no service is `postgres:server`, sessions that have ended among it."""
    cpu: defaultdict[str, float] = defaultdict(float)
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            found = re.search(r"postgres: oms_(\w+) ", " ".join(child.cmdline()))
            cpu[f"postgres:{found[1] if found else 'server'}"] += _seconds(child.cpu_times())
    times = postmaster.cpu_times()
    cpu["postgres:server"] += _seconds(times) + times.children_user + times.children_system
    return cpu


def _seconds(times: Any) -> float:
    return times.user + times.system


def _machine_seconds() -> float:
    times: Any = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def peak_memory(pids: Mapping[str, int]) -> dict[str, float]:
    """MiB of resident memory at the most, since each process began. The database's sessions share memory: its is the share of each, now."""
    peaks: dict[str, float] = {}
    for name, pid in pids.items():
        if name == "postgres":
            tree = [psutil.Process(pid), *psutil.Process(pid).children()]
            shares = [_share_of_memory(process) for process in tree]
            peaks[name] = sum(shares) / MIB
        else:
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            assert found is not None
            peaks[name] = int(found[1]) / 1024
    return peaks


def _share_of_memory(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        memory: Any = process.memory_full_info()
        return memory.pss
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes: by topic, by database (service), by `<service>.<table>` with its indexes, and written ahead (WAL) since ever."""

    topics: Mapping[str, int]
    databases: Mapping[str, int]
    tables: Mapping[str, int]
    written_ahead: int

    def since(self, earlier: "Disk") -> "Disk":
        """What was added between the two readings."""
        return Disk(
            topics=_less(self.topics, earlier.topics),
            databases=_less(self.databases, earlier.databases),
            tables=_less(self.tables, earlier.tables),
            written_ahead=self.written_ahead - earlier.written_ahead,
        )


async def read_disk(stack: Stack) -> Disk:
    """What broker and database hold on disk now."""
    topics = Counter[str]()
    for segment in (stack.settings.data / "kafka" / "log").glob("oms.*/*.log"):
        topics[segment.parent.name.rpartition("-")[0]] += segment.stat().st_size
    tables: dict[str, int] = {}
    databases: dict[str, int] = {}
    for service in ALL_SERVICES:
        connection = await _connect(stack.database_url(service), timeout=10)
        try:
            databases[service] = await connection.fetchval("select pg_database_size(current_database())")
            found = await connection.fetch(
                """select relname, pg_total_relation_size(oid) as bytes from pg_class
                   where relkind = 'r' and relnamespace = 'public'::regnamespace"""
            )
            tables |= {f"{service}.{row['relname']}": row["bytes"] for row in found}
        finally:
            await connection.close()
    async with session(stack.database_url("admin")) as admin:
        ahead = int(await admin.fetchval("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"))
    return Disk(topics=topics, databases=databases, tables=tables, written_ahead=ahead)


def _less(now: Mapping[str, int], earlier: Mapping[str, int]) -> dict[str, int]:
    return {name: size - earlier.get(name, 0) for name, size in now.items() if size != earlier.get(name, 0)}
