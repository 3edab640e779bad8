"""The catalogue says of every message where it lives, and of everybody what they may do."""

from collections import Counter

import pytest
from oms_contracts import catalogue, dead_letters
from oms_contracts.catalogue import ALL_SERVICES, GATEWAY, SERVICES, TOPICS, USERS, Topic, topic_of, topics_read_by, topics_written_by
from oms_contracts.message import MessageType, all_types, key_of, type_of
from oms_contracts.samples import sample

OUR_OWN = {*ALL_SERVICES}
OUTSIDE = {*USERS} - OUR_OWN - {GATEWAY}

every_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
every_type = pytest.mark.parametrize("kind", all_types(), ids=lambda kind: kind.name)


def carriers(kind: MessageType) -> list[Topic]:
    return [topic for topic in TOPICS if kind.cls in topic.messages]


@every_type
def test_a_message_is_on_exactly_one_topic_and_its_copy(kind: MessageType) -> None:
    if kind.cls.__module__ == dead_letters.__name__:
        assert len(carriers(kind)) == len(OUR_OWN)
        with pytest.raises(KeyError):
            topic_of(sample(kind.cls))
    else:
        topic, *copies = carriers(kind)
        assert topic_of(sample(kind.cls)) == topic.name
        assert all(copy.copy_of == topic.name for copy in copies)


@every_type
def test_a_message_is_named_after_its_owner_and_its_class(kind: MessageType) -> None:
    oms, owner, name, version = kind.name.split(".")
    assert (oms, name) == ("oms", kind.cls.__name__)
    assert owner in {*SERVICES, "channel", "operations"}
    assert version[0] == "v"
    assert int(version[1:]) >= 1


@every_type
def test_an_event_is_published_by_its_owner_alone(kind: MessageType) -> None:
    owner = kind.name.split(".")[1]
    for topic in carriers(kind):
        if topic.name.endswith((".commands", ".dead-letters")) or owner == "channel":
            continue
        assert topic.writers == (owner,)


@every_type
def test_a_key_is_never_empty(kind: MessageType) -> None:
    assert key_of(sample(kind.cls))


@every_topic
def test_a_topic_is_described_and_named_as_the_others(topic: Topic) -> None:
    assert topic.summary
    assert topic.key
    assert topic.partitions == catalogue.PARTITIONS == 12
    assert topic.name.startswith("oms.")
    assert topic.messages
    assert len({*topic.messages}) == len(topic.messages)


@every_topic
def test_its_writers_and_readers_are_users(topic: Topic) -> None:
    assert {*topic.writers} <= {*USERS}
    assert {*topic.readers} <= {*USERS}
    assert max(Counter([*topic.writers]).values()) == 1
    assert max(Counter([*topic.readers]).values()) == 1
    assert ("operator" in topic.readers) != (topic.name == "oms.customer-keys")  # nobody needs keys but who opens what they seal


@every_topic
def test_external_parties_write_only_where_records_are_validated(topic: Topic) -> None:
    assert topic.trusted == OUTSIDE.isdisjoint(topic.writers)
    if not topic.trusted:
        assert topic.name.startswith("oms.channel.") or topic.name.endswith(".commands")
        # A shop's payload says more than we publish about it, and a dead letter has room for 1 MiB.
        assert topic.max_message_bytes == (1024 * 1024 if topic.name == "oms.channel.webhooks" else catalogue.EXTERNAL_MAX_BYTES)


def test_topic_names_are_distinct() -> None:
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


def test_the_newest_statuses_and_keys_are_compacted() -> None:
    assert [topic.name for topic in TOPICS if topic.compacted] == ["oms.order-status", "oms.customer-keys"]


@every_topic
def test_a_copy_has_messages_and_owner_of_its_original(topic: Topic) -> None:
    if topic.copy_of is not None:
        (original,) = [other for other in TOPICS if other.name == topic.copy_of]
        assert {*original.messages} & {*topic.messages}
        assert topic.writers == original.writers
    else:
        assert not topic.compacted
        assert not topic.discloses


def test_what_may_hold_personal_data_in_the_clear_is_kept_for_30_days() -> None:
    bounded = {topic.name for topic in TOPICS if not topic.keeps_for_ever}
    named = {"oms.channel.orders", "oms.channel.webhooks", "oms.fulfillment-orders"}
    assert bounded == {*named, *(topic.name for topic in TOPICS if topic.name.endswith(".commands"))}
    assert {topic.retention for topic in TOPICS if not topic.keeps_for_ever} == {catalogue.DAYS_30}
    assert {topic.name for topic in TOPICS if not topic.trusted} <= bounded


@pytest.mark.parametrize("service", ALL_SERVICES)
def test_a_service_takes_its_own_commands_and_nobody_elses(service: str) -> None:
    commands = [topic.name for topic in topics_read_by(service) if topic.name.endswith(".commands")]
    assert commands == [f"oms.{service}.commands"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_writes_its_own_topics_alone(service: str) -> None:
    for topic in topics_written_by(service):
        owners = {type_of(cls).name.split(".")[1] for cls in topic.messages} - {"operations", "channel"}
        assert owners <= {service}


@pytest.mark.parametrize("service", ALL_SERVICES)
def test_a_service_sets_aside_on_its_own_topic(service: str) -> None:
    assert f"oms.{service}.dead-letters" in {topic.name for topic in topics_written_by(service)}


def test_the_outside_reads_no_more_than_it_needs() -> None:
    read = {user: {topic.name for topic in topics_read_by(user)} for user in OUTSIDE - {"operator"}}
    assert read == {
        "channel": {"oms.products"},
        "warehouse": {"oms.fulfillments", "oms.fulfillment-orders", "oms.returns"},
        "carrier": {"oms.tracking"},
        "downstream": {"oms.order-status", "oms.order-status-changes", "oms.products"},
    }


def test_the_operator_writes_only_where_external_parties_may() -> None:
    assert all(not topic.trusted for topic in topics_written_by("operator"))


def test_the_gateway_writes_what_people_and_programs_ask_for_and_follows_their_orders() -> None:
    assert {topic.name for topic in topics_written_by(GATEWAY)} == {topic.name for topic in topics_written_by("operator")}
    assert [topic.name for topic in topics_read_by(GATEWAY)] == ["oms.order-status-changes"]


def test_a_service_writes_no_orders_and_no_webhooks_of_channels() -> None:
    assert not [topic.name for service in ALL_SERVICES for topic in topics_written_by(service) if topic.name.startswith("oms.channel.")]


def test_downstream_writes_nothing() -> None:
    assert not list(topics_written_by("downstream"))
