"""Where the time goes inside: py-spy on every service, pg_stat_statements on every database. Both slow down what they look at."""

import re
import signal
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from oms_contracts.catalogue import ALL_SERVICES
from oms_local.stack import Stack
from oms_provision.sql import run_to_end, session

PER_SECOND = 100
TOP = 25
LINE = re.compile(r":\d+\)$")
WAITING = frozenset({"_worker (concurrent/futures/thread.py)"})
"""Functions that py-spy takes for busy while they wait."""
_connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # asyncpg is untyped in part


def preload_statements(stack: Stack) -> None:
    """Have the database server count its statements; it is started again for that, so the services must not run yet."""

    async def ask(*statements: str) -> None:
        async with session(stack.database_url("admin")) as admin:
            for statement in statements:
                await admin.execute(statement)

    run_to_end(lambda: ask("alter system set shared_preload_libraries = 'pg_stat_statements'"))
    stack.stop_part("postgres")
    stack.start_part("postgres")
    run_to_end(lambda: ask("create extension pg_stat_statements"))


@contextmanager
def profiled(stack: Stack, pids: Mapping[str, int], folder: Path, parts: Collection[str] = ALL_SERVICES) -> Generator[None]:
    """Profile these parts meanwhile. `folder` then holds `<service>.collapsed` (speedscope reads it), `top.txt` and `statements.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    run_to_end(lambda: _statements(stack, reset=True))
    program = Path(sysconfig.get_path("scripts"), "py-spy")
    options = ["--format", "raw", "--rate", str(PER_SECOND)]
    recorders = [
        subprocess.Popen(
            [program, "record", "--pid", str(pids[service]), "--output", str(folder / f"{service}.collapsed"), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for service in parts
    ]
    try:
        yield
    finally:
        for recorder in recorders:
            recorder.send_signal(signal.SIGINT)
        for recorder in recorders:
            try:
                recorder.wait(60)
            except subprocess.TimeoutExpired:
                recorder.kill()
    (folder / "top.txt").write_text("\n".join(_top(folder / f"{service}.collapsed") for service in parts))
    (folder / "statements.txt").write_text(run_to_end(lambda: _statements(stack)))


def _top(file: Path) -> str:
    """The functions on top of the stack, and those anywhere on it, by share of a service's busy samples."""
    if not file.exists():
        return f"{file.stem}: py-spy wrote nothing"
    own, within = Counter[str](), Counter[str]()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [LINE.sub(")", frame) for frame in stack.split(";")]
        if frames[-1] in WAITING:
            continue
        own[frames[-1]] += int(count)
        within.update(dict.fromkeys(frames, int(count)))
    total = max(1, own.total())
    shown = {name: None for name, _ in (*own.most_common(TOP), *within.most_common(2 * TOP))}
    lines = [f"{file.stem}: {total} samples", f"  {'own':>6}  {'within':>6}  function"]
    lines += [
        f"  {own[name] / total:6.1%}  {within[name] / total:6.1%}  {name}"
        for name in sorted(shown, key=lambda name: (-own[name], -within[name]))
    ]
    return "\n".join(lines) + "\n"


async def _statements(stack: Stack, *, reset: bool = False) -> str:
    connection = await _connect(stack.database_url("admin"))
    try:
        if reset:
            await connection.execute("select pg_stat_statements_reset()")
            return ""
        rows = await connection.fetch(
            """select datname, calls, rows, total_exec_time as ms, mean_exec_time as mean, wal_bytes / 1048576 as wal, query
               from (select *, row_number() over (partition by dbid order by total_exec_time desc) as place from pg_stat_statements) s
               join pg_database d on d.oid = s.dbid where place <= 10 and datname like 'oms%' order by datname, place"""
        )
        head = f"{'database':16} {'calls':>8} {'rows':>9} {'total ms':>10} {'mean ms':>8} {'WAL MiB':>8}  statement\n"
        return head + "".join(
            f"{row['datname']:16} {row['calls']:8} {row['rows']:9} {row['ms']:10.0f} {row['mean']:8.3f} {row['wal']:8.1f}  "
            f"{' '.join(row['query'].split())[:200]}\n"
            for row in rows
        )
    finally:
        await connection.close()
