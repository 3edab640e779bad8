"""`oms lag` without servers."""

from aiokafka import TopicPartition
from oms_cli.connections import Offsets, newest_group
from oms_contracts.catalogue import TOPICS, party_topics

from libs.cli.tests.fakes import FakeConnections, Run, rows, shown


def test_lag_is_summed_by_service(oms: Run, connected: FakeConnections) -> None:
    topics = (*TOPICS, *party_topics("channel", "web"))
    partitions = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
    ends = dict.fromkeys(partitions, 0) | {TopicPartition("oms.orders", 0): 10, TopicPartition("oms.orders", 1): 7}
    begins = dict.fromkeys(partitions, 0) | {TopicPartition("oms.orders", 1): 4}
    connected.known_offsets = Offsets(begins=begins, ends=ends, committed={"oms.payment": {TopicPartition("oms.orders", 0): 8}})
    connected.known_metrics = {"payment": {"oms_relay_lag_events": 5.0, "oms_dead_letters": 2.0}, "returns": {"oms_dead_letters": 0.0}}

    services = {service["service"]: service for service in shown(oms("lag", "--json"))["services"]}
    payment = services["payment"]
    assert (payment["group"], payment["lag"], payment["relay_lag"], payment["dead_letters"]) == ("oms.payment", 2 + 3, 5, 2)
    [orders] = [topic for topic in payment["topics"] if topic["topic"] == "oms.orders"]
    assert (orders["committed"], orders["end"], orders["lag"]) == (8, 17, 5)
    assert orders["partitions"][:2] == [
        {"partition": 0, "committed": 8, "end": 10, "lag": 2},
        {"partition": 1, "committed": None, "end": 7, "lag": 3},
    ]
    assert (services["returns"]["lag"], services["returns"]["answers"], services["returns"]["relay_lag"]) == (13, True, None)
    assert [topic["topic"] for topic in services["capture"]["topics"] if "channel.orders" in topic["topic"]] == [
        "oms.channel.orders",
        "oms.channel.orders.web",
    ]
    assert (services["capture"]["lag"], services["capture"]["answers"], services["capture"]["dead_letters"]) == (0, False, None)

    result = oms("lag", "--partitions")
    assert ["payment", "5", "5", "2"] in rows(result)
    assert ["payment", "oms.orders", "1", "–", "7", "3"] in rows(result)
    assert result.stderr.startswith("no metrics of: capture, inventory, fulfillment, tracking, projection;")


def test_lag_is_that_of_the_newest_version_of_a_group() -> None:
    present = ["oms.projection", "oms.projection.read-models-2", "oms.projection.read-models-10", "oms.payment", "oms.projection.other"]
    assert newest_group("oms.projection", present) == "oms.projection.read-models-10"
    assert newest_group("oms.payment", present) == "oms.payment"
    assert newest_group("oms.capture", []) == "oms.capture"
