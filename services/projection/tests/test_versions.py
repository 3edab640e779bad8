"""Real servers, and processes of two releases: read models are built beside those in use, compared, switched and dropped."""

import asyncio
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import asyncpg
import httpx
import pytest
import pytest_asyncio
from msgspec.structs import replace
from oms_contracts.catalogue import Topic, topics_read_by
from oms_contracts.dead_letters import RecordRedriven, RecordSetAside, RedriveDeadLetters, RedriveRefused
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import encode, type_of
from oms_contracts.orders import OrderAccepted
from oms_contracts.samples import sample
from oms_kafka.clients import make_producer, partition_of
from oms_local.ports import LOOPBACK, find_free
from oms_projection.projector import PROJECTED, project
from oms_projection.settings import Settings
from oms_projection.tables import DEFINITIONS, TABLES
from oms_runtime import database as runtime_database
from oms_runtime.clock import utc_now
from oms_runtime.database import connect, migrations_of
from oms_runtime.model import IncomingRecord, service_of
from oms_runtime.records import Checkpoint
from oms_runtime.recovery import recover
from oms_runtime.runtime import Runtime
from oms_runtime.sealing import KEY_BYTES
from oms_runtime.server import OUT_OF_REACH
from oms_runtime.settings import MIN_TOKEN_CHARACTERS
from probe import Process, until
from pydantic import SecretStr

TOKEN = "t" * MIN_TOKEN_CHARACTERS
START_SECONDS = 120
"""A process starts in two, and waits for its group as long as a rebalance may take where another member does not answer."""
PROGRAM = Path(__file__).with_name("releases.py")
Given = Callable[..., Sequence[IncomingRecord]]


class Servers(Protocol):
    kafka: dict[str, Any]

    async def create_database(self, name: str) -> str: ...
    def create_topics(self, topics: Sequence[Topic]) -> None: ...


class Outcome:
    """What a command printed, and how it ended."""

    def __init__(self, code: int | None, out: bytes, err: bytes) -> None:
        self.code, self.out, self.err = code, out.decode(), err.decode()

    @property
    def report(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


class Stand:
    """One store, the topics, and processes of both releases."""

    def __init__(self, servers: Servers, url: str, folder: Path, publish: Any, given: Given) -> None:
        self.kafka, self.url = servers.kafka, url
        self._folder, self._publish, self._given = folder, publish, given
        self._processes: list[Process] = []
        self.orders = 0

    def settings(self) -> Settings:
        password = self.kafka["password"]
        return Settings(
            kafka_bootstrap_servers=self.kafka["bootstrap_servers"],
            kafka_username=self.kafka["username"],
            kafka_password=SecretStr(password) if password else None,
            database_url=SecretStr(self.url),
            session_timeout_ms=6_000,
        )

    def _environment(self, version: int, **more: str) -> dict[str, str]:
        found = {
            "OMS_KAFKA_BOOTSTRAP_SERVERS": self.kafka["bootstrap_servers"],
            "OMS_DATABASE_URL": self.url,
            "OMS_PERSONAL_DATA_KEY": b64encode(bytes(KEY_BYTES)).decode(),
            "OMS_QUERY_TOKEN": TOKEN,
            "OMS_SESSION_TIMEOUT_MS": "6000",
            "OMS_HTTP_HOST": LOOPBACK,
            "OMS_TEST_VERSION": str(version),
        }
        if self.kafka["username"]:
            found |= {"OMS_KAFKA_USERNAME": self.kafka["username"], "OMS_KAFKA_PASSWORD": self.kafka["password"]}
        return {**os.environ, **found, **more}

    def start(self, version: int, *words: str, unfoldable: str = "", http_port: int = 0) -> Process:
        """Start a process of a release."""
        port = find_free()
        more = {"OMS_OPERATIONS_PORT": str(port), "OMS_TEST_UNFOLDABLE": unfoldable, "OMS_HTTP_PORT": str(http_port or port + 1)}
        log = self._folder / f"{len(self._processes)}.log"
        process = Process([sys.executable, str(PROGRAM), *words], self._environment(version, **more), log, port)
        self._processes.append(process)
        return process

    async def started(self, version: int, *words: str, unfoldable: str = "", http_port: int = 0) -> Process:
        """Start a process of a release, and wait until it is ready."""
        process = self.start(version, *words, unfoldable=unfoldable, http_port=http_port)
        await until(process.ready, START_SECONDS)
        return process

    async def begin(self, version: int, *words: str, unfoldable: str = "") -> asyncio.subprocess.Process:
        """Begin `read-models …` of a release."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            "read-models",
            *words,
            env=self._environment(version, OMS_TEST_UNFOLDABLE=unfoldable),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def do(self, version: int, *words: str, unfoldable: str = "") -> Outcome:
        """Do `read-models …` of a release."""
        process = await self.begin(version, *words, unfoldable=unfoldable)
        out, err = await read_all(process)
        return Outcome(process.returncode, out, err)

    async def done(self, version: int, *words: str) -> Any:
        """Do `read-models …`, which has to succeed; returns its report."""
        outcome = await self.do(version, *words)
        assert outcome.code == 0, outcome.err + outcome.out
        return outcome.report

    async def place(self, count: int = 1) -> list[str]:
        """Publish so many orders as capture does; returns their ids."""
        ids = [f"{self.url[-8:]}-{self.orders + n}" for n in range(count)]
        self.orders += count
        accepted = sample(OrderAccepted)
        await self._publish(self.settings(), self._given("oms.orders", *(replace(accepted, order_id=order_id) for order_id in ids)))
        return ids

    async def command(self, message: RedriveDeadLetters) -> None:
        """Ask projection as an operator does."""
        producer = make_producer(self.settings(), "operator")
        await producer.start()
        key = message.source_key
        envelope = Envelope(type=type_of(message).name, source="/test", id=key, time=utc_now(), subject=key)
        await producer.send_and_wait(
            "oms.projection.commands",
            key=key.encode(),
            value=encode(message),
            headers=to_headers(envelope),
            partition=partition_of(key.encode(), 12),
        )
        await producer.stop()

    async def ask(self, query: str, *args: Any) -> Any:
        connection = await connect(self.url)
        try:
            return await connection.fetchval(query, *args)
        finally:
            connection.terminate()

    async def has(self, version: int, order_id: str) -> bool:
        """Whether a version has the order."""
        return await self.ask(f"select exists (select from read_models_{version}.orders where order_id = $1)", order_id)  # noqa: S608

    async def letters(self, version: int) -> int:
        return await self.ask(f"select count(*) from read_models_{version}.dead_letters")  # noqa: S608  # a number of our own

    async def announced(self, cls: type[Any], key: str) -> int:
        """How many events of a class the service has stored about dead letters of a key."""
        return await self.ask("select count(*) from events where type = $1 and data::json ->> 'source_key' = $2", type_of(cls).name, key)

    async def close(self) -> None:
        """End the processes in order: one that is killed keeps its partitions from those of the next test for a while."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            await until(process.ended)
            process.close()


async def read_all(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """All that a process prints until it ends. Its standard input stays open: the program ends when that is closed."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    await process.wait()
    return out, err


@pytest_asyncio.fixture(loop_scope="session")
async def stand(servers: Servers, tmp_path: Path, publish: Any, given: Given, scenarios: Any) -> AsyncGenerator[Stand]:
    """A new store, and topics that hold the scenarios at least once."""
    servers.create_topics(list(topics_read_by("projection")))
    made = Stand(servers, await servers.create_database("versions"), tmp_path, publish, given)
    await publish(made.settings(), scenarios.records)
    yield made
    await made.close()


async def take_over_the_topics(stand: Stand) -> None:
    """Give a new store the events that the stores of other tests have published: it would else find itself behind its topics, and wait."""
    database = await runtime_database.open_database(stand.url)
    await runtime_database.migrate(database, "oms_projection")
    await database.close()
    await recover(service_of("projection", projector=project, projected=PROJECTED), stand.settings(), dry_run=False)


@asynccontextmanager
async def asking(port: int) -> AsyncGenerator[list[tuple[int, int]]]:
    """Ask the query API for an order a hundred times a second; gives its units by the order and by its lines, as often as it answered."""
    answers: list[tuple[int, int]] = []

    async def ask() -> None:
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", headers=headers) as client:
            while True:
                response = await client.get("/orders/done")
                assert response.status_code == 200, response.text
                order = response.json()
                answers.append((order["units"], sum(line["quantity"] for line in order["lines"])))
                assert (await client.get("/outcomes")).json()
                await asyncio.sleep(0.01)  # the rate of asking: it ends with the test

    task = asyncio.create_task(ask())
    try:
        yield answers
    finally:
        failed = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if failed:
            task.result()


async def test_a_new_store_gets_its_tables_at_the_first_start_and_other_versions_are_unready_until_built(stand: Stand) -> None:
    await stand.started(1)
    [order_id] = await stand.place()
    await until(partial(stand.has, 1, order_id), 60)
    report = await stand.done(1, "status")
    assert (report["in_use"], [version["state"] for version in report["versions"]]) == (1, ["built"])
    assert await stand.ask("select to_regclass('public.checkpoints') is null and to_regclass('public.orders') is null")

    newer = stand.start(2)
    await until(partial(unready, newer, "no read models of version 2, and version 1 is in use"))
    live = await newer.get("/live")
    assert live is not None
    assert live.status_code == 200
    assert not newer.logged("assigned")
    assert (await stand.done(2, "build"))["state"] == "built"
    await until(newer.ready, 60)  # by itself
    assert (await stand.done(2, "build"))["state"] == "built"  # there is nothing to do any more


async def test_a_version_is_built_compared_and_switched_under_load_and_no_answer_mixes_two(stand: Stand) -> None:
    await stand.started(1)
    api_port = find_free()
    await stand.started(1, "api", http_port=api_port)
    [first] = await stand.place()
    await until(partial(stand.has, 1, first), 60)
    placed: list[str] = []
    ending = asyncio.Event()

    async def load() -> None:
        while not ending.is_set():
            placed.extend(await stand.place(5))

    loading = asyncio.create_task(load())
    try:
        async with asking(api_port) as answers:
            built = await stand.done(2, "build")
            assert not built["in_use"]
            assert built["compared_with"] == 1
            assert built["comparison"]["differing"] == ["order_lines", "orders"]
            assert built["comparison"]["not_comparable"] == ["channels"]
            assert built["comparison"]["left_out"] == {"orders": ["first_sku"]}
            assert all(one == other for one, other in built["comparison"]["rows"].values())
            newer = await stand.started(2)
            seen = len(placed)
            await until(partial(_reached, stand, 2, placed, seen + 20), 60)
            assert {units for units, _ in answers} == {4}

            await stand.done(2, "switch")
            before = len(answers)
            await until(partial(_longer, answers, before + 20), 30)
            assert [units for units, _ in answers[before:]] == [8] * (len(answers) - before)  # at once, without a restart
            await stand.done(2, "switch", "1")
            await until(partial(_longer, answers, len(answers) + 20), 30)
            assert answers[-1] == (4, 4)
            await stand.done(2, "switch", "2")
            await until(partial(_longer, answers, len(answers) + 20), 30)
            assert answers[-1] == (8, 8)
            assert {*answers} == {(4, 4), (8, 8)}
    finally:
        ending.set()
        await loading

    [last] = await stand.place()
    await until(partial(stand.has, 2, last), 60)
    await until(partial(stand.has, 1, last), 60)
    compared = await stand.do(2, "status", "--compare")
    assert compared.code == 1  # the fold was changed
    assert compared.report["versions"][0]["comparison"]["differing"] == ["order_lines", "orders"]
    assert newer.logged("assigned")
    assert (await stand.done(2, "verify"))["same"]
    assert (await stand.done(1, "verify"))["same"]


async def test_an_old_process_fills_its_own_tables_until_they_are_dropped_and_then_does_nothing(stand: Stand) -> None:
    older = await stand.started(1)
    await stand.done(2, "build")
    newer = await stand.started(2)
    assert (await stand.do(2, "drop", "1")).err.startswith("error: version 1 is in use: switch")
    await stand.done(2, "switch")
    refused = await stand.do(2, "drop", "2")
    assert refused.code == 1

    [order_id] = await stand.place()
    await until(partial(stand.has, 1, order_id), 60)
    await until(partial(stand.has, 2, order_id), 60)
    assert await stand.ask("select units from read_models_1.orders where order_id = 'done'") == 4
    assert await stand.ask("select units from read_models_2.orders where order_id = 'done'") == 8

    dropped = await stand.done(2, "drop", "1")
    assert dropped["group"] == "oms.projection"
    await until(partial(unready, older, "no read models of version 1, and version 2 is in use: this process does nothing"))
    live = await older.get("/live")
    assert live is not None
    assert live.status_code == 200
    assert older.logged("replaced_by_another_version")
    [order_id] = await stand.place()
    await until(partial(stand.has, 2, order_id), 60)
    assert await newer.ready()
    assert not await stand.ask("select exists (select from pg_namespace where nspname = 'read_models_1')")
    assert (await stand.do(2, "switch", "1")).err.startswith("error: version 1 is not built")


async def test_a_store_from_before_becomes_version_1_and_a_process_of_that_release_fills_nothing(
    stand: Stand, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = service_of("projection", projector=project, projected=PROJECTED)
    with monkeypatch.context() as patched:
        patched.setattr(runtime_database, "migrations_of", _migrations_before)
        await _make_tables_before(stand.url)
        older = Runtime(before, stand.settings(), migrations="oms_projection")
        await older.start()
    [order_id] = await stand.place()
    await until(partial(stand.ask, "select exists (select from orders where order_id = $1)", order_id), 60)
    offsets = await stand.ask("select sum(next_offset) from checkpoints")

    newer = stand.start(2)
    await until(partial(unready, newer, "no read models of version 2, and version 1 is in use"), 60)
    assert await stand.ask("select sum(next_offset) from read_models_1.checkpoints") >= offsets
    assert await stand.has(1, order_id)
    rows = await stand.ask("select count(*) from read_models_1.timeline")
    try:
        late = await stand.place(24)  # on the partitions of both
        with pytest.raises(asyncpg.UndefinedTableError):
            await older.applier.apply(given("oms.orders", sample(OrderAccepted)), {("oms.orders", 0): Checkpoint(0, 0)})
        starting = Runtime(before, stand.settings(), migrations="oms_projection")
        start = asyncio.create_task(starting.start())
        await until(partial(_waits_for, starting, 'relation "dead_letters" does not exist'))
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        assert await stand.ask("select count(*) from read_models_1.timeline") == rows
    finally:
        await older.stop()

    await stand.done(2, "build")
    await until(newer.ready, 60)
    for order_id in late:
        await until(partial(stand.has, 2, order_id), 60)
    assert await stand.letters(2) == 0
    assert (await stand.done(2, "verify"))["same"]


async def test_a_build_that_is_killed_begins_anew_and_two_at_once_are_refused(stand: Stand) -> None:
    await stand.started(1)
    killed = await stand.begin(2, "build", "--max-events-per-second", "5")
    await until(partial(stand.ask, "select records > 20 from read_models where version = 2"), 60)
    second = await stand.do(2, "build")
    assert second.code == 1
    assert second.err.startswith("error: another build")
    assert [version["state"] for version in (await stand.done(2, "status"))["versions"]] == ["built", "building"]
    killed.kill()
    await read_all(killed)
    await until(partial(_has_state, stand, "interrupted"), 60)
    assert (await stand.do(2, "switch")).err.startswith("error: version 2 is not built")

    await stand.done(2, "build")
    assert await stand.ask("select count(*) from pg_class where relpersistence = 'u'") == 0
    assert await _indexes(stand, 2) - {"channels_pkey"} == await _indexes(stand, 1)
    assert (await stand.done(2, "verify"))["same"]


async def test_a_build_keeps_to_its_rate_and_says_how_far_it_is_and_a_version_that_lags_is_not_switched_to(stand: Stand) -> None:
    await stand.started(1)
    began = monotonic()
    outcome = await stand.do(2, "build", "--max-events-per-second", "200")
    seconds = monotonic() - began
    assert outcome.report["records"] / 200 <= seconds
    assert outcome.report["records"] / outcome.report["seconds"] <= 200
    said = [line for line in outcome.err.splitlines() if " folded a second, " in line]
    assert len(said) > outcome.report["records"] / 200 / 2
    assert "(100%)" in said[-1]

    await stand.place(20)  # and no process of version 2 reads them
    refused = await stand.do(2, "switch", "--max-lag", "10")
    assert refused.code == 1
    assert "records behind the topics, more than 10" in refused.err
    assert (await stand.done(2, "status"))["in_use"] == 1
    assert (await stand.done(2, "switch", "--max-lag", "1000"))["in_use"] == 2


async def test_a_build_stops_at_a_record_that_it_cannot_fold_and_leaves_out_what_an_operator_discarded(stand: Stand) -> None:
    await take_over_the_topics(stand)
    [order_id] = await stand.place()
    older = await stand.started(1, unfoldable=order_id)
    await until(partial(_is, stand.letters, 1, 1), 60)
    stopped = await stand.do(2, "build", unfoldable=order_id)
    assert stopped.code == 1
    letter = await stand.ask("select letter_id from read_models_1.dead_letters")
    assert f"record {letter} (oms.capture.OrderAccepted.v2) cannot be folded: ValueError: this release has a bug" in stopped.err

    await stand.command(RedriveDeadLetters(source_key=order_id, letter_id=letter, discard=True))
    await until(partial(_is, stand.letters, 1, 0), 60)
    built = await stand.do(2, "build", unfoldable=order_id)
    assert built.code == 0, built.err
    assert not await stand.has(2, order_id)
    assert await older.ready()


async def test_a_dead_letter_of_one_version_does_not_block_the_other_and_is_redriven_where_it_is(stand: Stand) -> None:
    await take_over_the_topics(stand)
    older = await stand.started(1)
    await stand.done(2, "build")
    in_both, in_newer = f"{stand.url[-8:]}-0", f"{stand.url[-8:]}-1"
    newer = await stand.started(2, unfoldable=in_newer)
    assert await stand.place(2) == [in_both, in_newer]
    await until(partial(_is, stand.letters, 2, 1), 60)
    await until(partial(stand.has, 1, in_newer), 60)
    await until(partial(stand.has, 2, in_both), 60)
    assert await stand.letters(1) == 0
    assert await stand.announced(RecordSetAside, in_newer) == 1

    newer.terminate()
    await until(newer.ended)
    newer = await stand.started(2)  # without the bug
    await stand.command(RedriveDeadLetters(source_key=in_newer))
    await until(partial(stand.has, 2, in_newer), 60)
    assert await stand.letters(2) == 0
    assert await stand.announced(RecordRedriven, in_newer) == 1
    await stand.command(RedriveDeadLetters(source_key=in_newer, letter_id="oms.orders/0/999999", discard=True))
    [last] = await stand.place()
    for version in (1, 2):
        await until(partial(stand.has, version, last), 60)
        await until(partial(_all_read, stand, version), 60)
        assert await stand.letters(version) == 0  # both have read the command that neither could fulfil
    assert await stand.announced(RedriveRefused, in_newer) == 1
    assert await older.ready()


async def _make_tables_before(url: str) -> None:
    """The tables of a release before there were versions, with the columns that today's folds write."""
    database = await runtime_database.open_database(url)
    await runtime_database.migrate(database, "oms_projection")
    async with database.acquire() as connection, connection.transaction():
        names = ", ".join(table.name for table in TABLES)
        await connection.execute(f"drop table if exists {names}; {DEFINITIONS}")
    await database.close()


def _migrations_before(package: str) -> list[tuple[str, str]]:
    """The migrations of a release before there were versions."""
    return [(name, text) for name, text in migrations_of(package) if "0004_versions" not in name]


async def unready(process: Process, reason: str) -> bool:
    """Whether a process is unready for a reason."""
    answer = await process.get("/ready")
    return answer is not None and answer.status_code == 503 and any(reason in found for found in answer.json()["reasons"])


async def _reached(stand: Stand, version: int, placed: list[str], count: int) -> bool:
    return len(placed) >= count and await stand.has(version, placed[count - 1])


async def _longer(answers: list[Any], count: int) -> bool:
    return len(answers) > count


async def _waits_for(runtime: Runtime, reason: str) -> bool:
    return any(reason in found for found in await runtime.unready())


async def _has_state(stand: Stand, state: str) -> bool:
    return (await stand.done(2, "status"))["versions"][1]["state"] == state


async def _is(count: Any, version: int, wanted: int) -> bool:
    return await count(version) == wanted


async def _all_read(stand: Stand, version: int) -> bool:
    return (await stand.done(version, "status"))["versions"][version - 1]["lag"] == 0


async def _indexes(stand: Stand, version: int) -> set[str]:
    return {*await stand.ask("select array_agg(indexname::text) from pg_indexes where schemaname = $1", f"read_models_{version}")}


def test_a_server_out_of_reach_has_an_exit_code_of_its_own() -> None:
    nowhere = {"OMS_DATABASE_URL": f"postgresql://{LOOPBACK}:1/none", "OMS_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:1"}
    command = [sys.executable, "-m", "oms_projection", "read-models", "status"]
    done = subprocess.run(command, env=os.environ | nowhere, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (OUT_OF_REACH, "")
    assert done.stderr.startswith("error: Connection")
