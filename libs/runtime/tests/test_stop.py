"""A process that stops, or gives up partitions, finishes the batch in hand first."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest
from oms_kafka.clients import count_partitions, make_reader
from oms_local.ports import LOOPBACK, find_free
from oms_runtime.database import Connection
from oms_runtime.relay import Relay
from oms_runtime.runtime import Runtime
from oms_runtime.server import serve
from probe import PARTITIONS, Probe, Process, receipt, until

KEYS = [f"r{n}" for n in range(100)]


async def test_the_batch_in_hand_is_committed_and_published_before_the_process_ends(probe: Probe) -> None:
    process = probe.start()
    await until(process.ready)
    async with probe.store_held():
        await probe.send(map(receipt, KEYS))
        await until(partial(_batches_in_hand, probe, 1))
        process.terminate()
        await until(partial(_says, process, "stopping"))
        assert process.exit_code is None
    await until(process.ended, 10)

    assert process.exit_code == 0
    in_hand = await probe.booked()
    assert in_hand > 0
    assert await probe.published() == in_hand  # no other process could have published it

    probe.start()
    await until(partial(_booked, probe, len(KEYS)))  # at once: it has left the group
    await probe.check_booked_once(KEYS)
    await probe.check_published_once()


async def test_a_process_ends_although_its_leadership_fails_at_the_same_time(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_off(_relay: Relay, _connection: Connection) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the broker has gone") from None

    monkeypatch.setattr(Relay, "run", break_off)
    monkeypatch.setattr("oms_runtime.runtime.DRAIN_TIMEOUT_SECONDS", 0.1)
    runtime = Runtime(probe.service(), probe.settings())
    await runtime.start()
    await until(partial(_leads, runtime))
    async with asyncio.timeout(15):
        await runtime.stop()


async def test_a_relay_that_is_cancelled_from_inside_is_restarted(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    run, broken = Relay.run, 0

    async def run_once_cancelled(relay: Relay, connection: Connection) -> None:
        nonlocal broken
        broken += 1
        if broken == 1:
            raise asyncio.CancelledError
        await run(relay, connection)

    monkeypatch.setattr(Relay, "run", run_once_cancelled)
    async with probe.running():
        await probe.send(map(receipt, KEYS))
        await until(partial(_booked, probe, len(KEYS)))
        await probe.check_published_once()


async def test_a_reader_stops_while_a_request_waits_for_its_retry(probe: Probe) -> None:
    await probe.send(map(receipt, KEYS))
    reader: Any = make_reader(probe.settings(), "test-reader")
    await reader.start()
    send, refused = reader._client.send, asyncio.Event()

    async def refuse(*request: Any, **how: Any) -> Any:
        if isinstance(request[1], FetchRequest):
            refused.set()
            raise KafkaConnectionError("the broker has gone")
        return await send(*request, **how)

    reader._client.send, reader._fetcher._retry_backoff = refuse, 60
    reader.assign([TopicPartition(probe.inbox.name, 0)])
    async with asyncio.timeout(15):
        await refused.wait()
        await reader.stop()
    assert not any(connection.connected() for connection in reader._client._conns.values())


async def test_a_reader_stops_although_its_loop_swallows_the_cancellation(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_kafka.aiokafka_internals.STOP_RETRY_SECONDS", 0.1)

    async def deaf() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    reader: Any = make_reader(probe.settings(), "test-reader")
    await reader.start()
    loop, reader._fetcher._fetch_task = reader._fetcher._fetch_task, asyncio.create_task(deaf())
    async with asyncio.timeout(15):
        await reader.stop()
    assert not any(connection.connected() for connection in reader._client._conns.values())
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_a_reader_whose_connections_close_slowly_cancels_nobody_else(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    # A TLS connection may take longer to close than we wait. Then we cancel its closing, and close the client once more.
    monkeypatch.setattr("oms_kafka.aiokafka_internals.STOP_RETRY_SECONDS", 0.1)
    reader: Any = make_reader(probe.settings(), "test-reader")
    await reader.start()
    await count_partitions(reader, [probe.inbox.name])
    transports: list[asyncio.Transport] = []
    for connection in reader._client._conns.values():
        transports.append(connection._writer.transport)
        monkeypatch.setattr(connection._writer, "close", lambda: None)
    async with asyncio.timeout(15):
        await reader.stop()
    assert transports
    for transport in transports:
        transport.close()


async def test_a_process_that_can_consume_no_more_ends(probe: Probe) -> None:
    settings = probe.settings(operations_port=find_free(), http_host=LOOPBACK)
    runtime = Runtime(probe.service(), settings)
    process = asyncio.create_task(serve(runtime, settings))
    await until(partial(_started, runtime))
    membership: Any = runtime.consumer.membership
    membership._subscriber.consumer._coordinator._coordination_task.cancel()  # as whatever it awaits could do
    with pytest.raises(RuntimeError, match="could consume no more"):
        async with asyncio.timeout(30):
            await process


async def _started(runtime: Runtime) -> bool:
    return runtime.started


async def _leads(runtime: Runtime) -> bool:
    return runtime.leading


async def test_a_new_consumer_waits_for_the_batch_in_hand(probe: Probe) -> None:
    first = probe.start()
    await until(first.ready)
    async with probe.store_held():
        await probe.send(map(receipt, KEYS))
        await until(partial(_batches_in_hand, probe, 1))
        second = probe.start()
        await until(partial(_rebalancing, first))
        with pytest.raises(TimeoutError):
            await until(partial(_shares, second), 1)
    await until(partial(_shares, first))
    await until(partial(_shares, second))
    await until(partial(_booked, probe, len(KEYS)))

    assert not first.logged("partition_lost")
    assert not second.logged("partition_lost")
    await probe.check_booked_once(KEYS)
    await probe.check_published_once()


async def _batches_in_hand(probe: Probe, count: int) -> bool:
    return await probe.waiting_for_store() == count


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _says(process: Process, reason: str) -> bool:
    answer = await process.get("/ready")
    return answer is not None and reason in answer.json()["reasons"]


async def _rebalancing(process: Process) -> bool:
    return any("rebalancing" in line["event"] for line in process.log())


async def _shares(process: Process) -> bool:
    assigned = process.logged("assigned")
    return bool(assigned) and assigned[-1]["partitions"] == PARTITIONS // 2
