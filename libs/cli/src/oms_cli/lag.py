"""`oms lag`: how far behind each service is."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from aiokafka import TopicPartition
from oms_contracts.catalogue import ALL_SERVICES, Topic, existing, topics_read_by

from oms_cli import output
from oms_cli.arguments import AsJson, connections
from oms_cli.connections import Offsets

RELAY_LAG, DEAD_LETTERS = "oms_relay_lag_events", "oms_dead_letters"


def lag(
    context: typer.Context,
    *,
    partitions: Annotated[bool, typer.Option("--partitions", help="A row for every partition that holds records.")] = False,
    as_json: AsJson = False,
) -> None:
    """How many records each service has still to read, how many events it has still to publish, and how many dead letters it holds.

    The last two come from the service's own metrics; they are null (–) where it does not answer.
    """
    connected = connections(context)
    read = {topic.name: topic for service in ALL_SERVICES for topic in topics_read_by(service)}
    offsets = connected.offsets(read.values(), map(group_of, ALL_SERVICES))
    services = [_service(service, offsets, connected.metrics(service, (RELAY_LAG, DEAD_LETTERS))) for service in ALL_SERVICES]
    if as_json:
        output.document({"services": services})
        return
    columns = ("service", "records to read>", "events to publish>", "dead letters>")
    output.table("Lag", columns, [(s["service"], s["lag"], s["relay_lag"], s["dead_letters"]) for s in services])
    columns = ("service", "topic", *(("partition>",) if partitions else ()), "committed>", "end>", "lag>")
    output.table("By topic", columns, _rows(services, partitions=partitions))
    unreachable = [service["service"] for service in services if not service["answers"]]
    if unreachable:
        output.note(f"no metrics of: {', '.join(unreachable)}; --service-url or OMS_SERVICE_URL names them, {connected.hint}")


def group_of(service: str) -> str:
    """A service's consumer group."""
    return f"oms.{service}"


def topic_lag(topic: Topic, offsets: Offsets, group: str) -> dict[str, Any]:
    """How far a group is on a topic, in records. Records that retention has removed count neither as read nor as to be read."""
    committed = offsets.committed.get(group, {})
    partitions = [_partition(tp, offsets, committed) for tp in sorted(offsets.ends) if tp.topic == topic.name]
    known = [partition["committed"] for partition in partitions if partition["committed"] is not None]
    return {
        "topic": topic.name,
        "committed": sum(known) if known else None,
        "end": sum(partition["end"] for partition in partitions),
        "lag": sum(partition["lag"] for partition in partitions),
        "partitions": partitions,
    }


def _partition(tp: TopicPartition, offsets: Offsets, committed: Mapping[TopicPartition, int]) -> dict[str, Any]:
    at, begin, end = committed.get(tp), offsets.begins[tp], offsets.ends[tp]
    return {"partition": tp.partition, "committed": at, "end": end, "lag": max(0, end - max(begin, at or 0))}


def _service(service: str, offsets: Offsets, metrics: Mapping[str, float] | None) -> dict[str, Any]:
    names = sorted({tp.topic for tp in offsets.ends})
    topics = [topic_lag(topic, offsets, group_of(service)) for read in topics_read_by(service) for topic in existing(read, names)]
    return {
        "service": service,
        "group": group_of(service),
        "lag": sum(topic["lag"] for topic in topics),
        "answers": metrics is not None,
        "relay_lag": _whole(metrics, RELAY_LAG),
        "dead_letters": _whole(metrics, DEAD_LETTERS),
        "topics": topics,
    }


def _whole(metrics: Mapping[str, float] | None, name: str) -> int | None:
    found = (metrics or {}).get(name)
    return None if found is None else int(found)


def _rows(services: Iterable[dict[str, Any]], *, partitions: bool) -> Iterable[tuple[Any, ...]]:
    for service in services:
        for topic in service["topics"]:
            if not partitions:
                yield service["service"], topic["topic"], topic["committed"], topic["end"], topic["lag"]
                continue
            for p in topic["partitions"]:
                if p["end"]:
                    yield service["service"], topic["topic"], p["partition"], p["committed"], p["end"], p["lag"]
