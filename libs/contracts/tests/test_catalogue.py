"""The catalogue says of every message where it lives, and of everybody what they may do."""

from collections import Counter

import pytest
from oms_contracts import catalogue, customers, dead_letters, orders, products
from oms_contracts.catalogue import (
    ALL_SERVICES,
    GATEWAY,
    PARTY_TOPICS,
    ROLES,
    SERVICES,
    TOPICS,
    Topic,
    TopicsByName,
    party_topics,
    topic_of,
    topics_read_by,
    topics_written_by,
)
from oms_contracts.message import MessageType, all_types, key_of, newest, type_of
from oms_contracts.parties import KINDS, group_prefix, name_objection, parties_named, party_of, user_of
from oms_contracts.samples import sample

OUR_OWN = {*ALL_SERVICES}
OUTSIDE = {*ROLES} - OUR_OWN - {GATEWAY}

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
    assert {*topic.writers} <= {*ROLES}
    assert {*topic.readers} <= {*ROLES}
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
    topics = (*TOPICS, *PARTY_TOPICS)
    assert len({topic.name for topic in topics}) == len(topics)


@pytest.mark.parametrize("family", PARTY_TOPICS, ids=lambda family: family.name)
def test_a_party_writes_its_own_topic_alone_and_nothing_that_only_an_operator_asks_for(family: Topic) -> None:
    assert family.parties in KINDS
    assert family.name == f"{family.prefix}{{{family.parties}}}"
    assert (family.writers, family.retention, family.trusted) == ((family.parties,), catalogue.DAYS_30, False)
    assert (family.partitions, family.max_message_bytes) == (3, catalogue.EXTERNAL_MAX_BYTES)
    for_operators = {dead_letters.RedriveDeadLetters, customers.EraseCustomer, products.DefineProduct, products.DeactivateProduct}
    assert for_operators.isdisjoint(family.messages)
    beside = [topic for topic in TOPICS if f"{topic.name}." == family.prefix]
    assert [topic.readers for topic in beside] == [family.readers]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_party_may_send_is_on_one_of_its_topics(kind: str) -> None:
    messages = [cls for topic in party_topics(kind, "x") for cls in topic.messages]
    assert len({*messages}) == len(messages) > 0
    assert {topic.actor for topic in party_topics(kind, "x")} == {f"{kind}:x"}


def test_what_a_shop_says_of_an_order_is_on_one_topic() -> None:
    [topic] = party_topics("channel", "web")
    assert {orders.CancelOrder, orders.AmendPayment} < {*topic.messages}


def test_the_topic_of_a_party_is_found_by_its_name() -> None:
    topics = TopicsByName(topics_read_by("capture"))
    assert topics["oms.channel.orders.we.b"] is topics["oms.channel.orders.we.b"]
    assert (topics["oms.channel.orders.we.b"].party, topics["oms.channel.orders"].actor) == ("we.b", None)
    for unknown in ("oms.channel.orders.", "oms.channel", "oms.tracking.commands.DHL"):
        with pytest.raises(KeyError):
            topics[unknown]


@pytest.mark.parametrize("name", ["web", "BER-1", "a.b_c", "x" * 100])
def test_a_name_that_topics_can_bear_is_a_partys(name: str) -> None:
    assert name_objection(name) == ""
    assert party_of(user_of("channel", name)) == ("channel", name)


@pytest.mark.parametrize(("name", "reason"), [("", "empty"), ("we b", "' '"), ("Köln:1/2", "'ö' ':' '/'"), ("x" * 101, "101")])
def test_a_name_that_topics_cannot_bear_is_refused_with_the_reason(name: str, reason: str) -> None:
    assert reason in name_objection(name)


def test_the_groups_of_a_party_are_no_other_partys() -> None:
    assert not group_prefix(user_of("channel", "web2")).startswith(group_prefix(user_of("channel", "web")))
    assert not group_prefix(user_of("channel", "web.de")).startswith(group_prefix(user_of("channel", "web")))


@pytest.mark.parametrize("user", ["channel", "channel:", "downstream", "user:ada", ":web"])
def test_other_users_are_no_partys(user: str) -> None:
    assert party_of(user) is None


@pytest.mark.parametrize("cls", sorted({cls for topic in PARTY_TOPICS for cls in topic.messages}, key=lambda cls: type_of(cls).name))
def test_a_message_that_names_its_party_is_compared_with_the_topic(cls: type[object]) -> None:
    """Those that name nobody are for their owner to refuse, who knows whose the order, the package or the return is."""
    named = {field.rpartition(".")[2] for field, _ in parties_named(newest(sample(cls)))}
    by_owner = {
        "CancelOrder",
        "AmendPayment",
        "AcceptFulfillment",
        "PickItems",
        "PackPackage",
        "ShipFulfillment",
        "InspectReturn",
        "RecordScan",
    }
    assert bool(named) == (cls.__name__ not in by_owner)
    assert named <= {"channel", "location", "from_location"}


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
    commands = [topic.name for topic in topics_read_by(service) if ".commands" in topic.name and topic.parties is None]
    assert commands == [f"oms.{service}.commands"]
    assert all(
        topic.name.startswith((f"oms.{service}.commands.", "oms.channel.orders.")) for topic in topics_read_by(service) if topic.parties
    )


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
