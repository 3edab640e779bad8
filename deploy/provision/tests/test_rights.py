"""The rights that provisioning gives, tried with real users on a real broker and database. The catalogue is what they are made from."""

from collections.abc import Iterator
from typing import Any

import asyncpg
import confluent_kafka
import pytest
from confluent_kafka import admin as typed_in_part
from oms_contracts.catalogue import TOPICS
from oms_local.stack import Stack
from oms_local.testing import local_stack
from oms_provision.broker import make_admin, party_rights, present_rights, set_rights

from deploy.provision.tests.clients import query, read, write

kafka_api: Any = confluent_kafka
admin_api: Any = typed_in_part

REFUSED = {"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED"}


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with local_stack(request.config.rootpath / ".orderstream" / "test") as running:
        yield running


def test_a_service_may_write_and_read_its_own_topics(stack: Stack) -> None:
    assert write(stack, "capture", "oms.orders", b"own") is None
    assert read(stack, "capture", "oms.orders", "oms.capture") == b"own"


def test_a_reader_in_the_catalogue_may_read(stack: Stack) -> None:
    assert write(stack, "capture", "oms.orders") is None
    assert isinstance(read(stack, "inventory", "oms.orders", "oms.inventory"), bytes)


def test_a_user_may_not_write_to_a_topic_of_another_writer(stack: Stack) -> None:
    assert write(stack, "inventory", "oms.orders") in REFUSED
    assert write(stack, "channel:web", "oms.orders") in REFUSED
    for topic in ("oms.channel.orders", "oms.capture.commands"):
        assert write(stack, "channel:web", topic) in REFUSED
    assert write(stack, "downstream", "oms.order-status", idempotent=False) in REFUSED


def test_a_user_may_not_read_a_topic_without_being_its_reader(stack: Stack) -> None:
    assert write(stack, "payment", "oms.payments") is None
    assert read(stack, "warehouse:BER-1", "oms.payments", "oms.warehouse:BER-1:test") in REFUSED
    assert read(stack, "channel:web", "oms.channel.orders.web", "oms.channel:web:test") in REFUSED


@pytest.mark.parametrize(
    "user", ["operator", "inventory", "payment", "tracking", "returns", "warehouse:BER-1", "channel:web", "downstream"]
)
def test_customers_keys_are_read_only_by_those_who_open_what_they_seal(stack: Stack, user: str) -> None:
    """The operator's right to read is by prefix, and taken back for this topic."""
    assert read(stack, user, "oms.customer-keys", f"oms.{user}:test" if ":" in user else f"oms.{user}") in REFUSED


def test_a_party_writes_its_own_topics_and_a_service_reads_those_of_all(stack: Stack) -> None:
    assert write(stack, "channel:web", "oms.channel.orders.web", b"web") is None
    assert write(stack, "channel:web2", "oms.channel.orders.web") in REFUSED
    assert read(stack, "capture", "oms.channel.orders.web", "oms.capture") == b"web"
    assert read(stack, "inventory", "oms.channel.orders.web", "oms.inventory") in REFUSED


def test_a_party_joins_no_group_of_another(stack: Stack) -> None:
    assert write(stack, "inventory", "oms.products", b"product") is None
    assert read(stack, "channel:web2", "oms.products", "oms.channel:web:test") in REFUSED
    assert read(stack, "channel:web", "oms.products", "oms.channel:web2:test") in REFUSED
    assert read(stack, "channel:web", "oms.products", "oms.channel:web:test") == b"product"


def test_provisioning_again_keeps_the_rights_of_parties_and_removes_all_others(stack: Stack) -> None:
    assert write(stack, "channel:web", "oms.channel.orders.web") is None
    admin = make_admin(stack.kafka("admin"))
    before = present_rights(admin)
    [own] = [right for right in party_rights("channel:web") if right.name == "oms.channel.orders.web"]
    assert own in before
    stray = admin_api.AclBinding(
        own.restype, "oms.orders", own.resource_pattern_type, own.principal, "*", own.operation, own.permission_type
    )
    set_rights(admin, {*before, stray} - {own}, before)
    stack.up(services=())
    assert present_rights(admin) == before


def test_a_service_may_not_join_the_consumer_group_of_another(stack: Stack) -> None:
    assert read(stack, "inventory", "oms.orders", "oms.payment") in REFUSED


def test_the_operator_may_list_every_topic_and_group_and_write_no_events(stack: Stack) -> None:
    assert isinstance(read(stack, "capture", "oms.orders", "oms.capture"), bytes)
    admin = make_admin(stack.kafka("operator"))
    assert {topic.name for topic in TOPICS} <= set(admin.list_topics(timeout=10).topics)
    assert "oms.capture" in {group.group_id for group in admin.list_consumer_groups().result(10).valid}
    assert write(stack, "operator", "oms.orders") in REFUSED


def test_the_broker_rejects_a_wrong_password(stack: Stack) -> None:
    with pytest.raises(kafka_api.KafkaException):
        make_admin({**stack.kafka("capture"), "password": "guessed"}).list_topics(timeout=2)


def test_the_controller_rejects_every_service(stack: Stack) -> None:
    properties = (stack.settings.data / "secrets" / "kafka.properties").read_text()
    address = properties.partition("controller.quorum.voters=1@")[2].splitlines()[0]
    for mechanism in ("SCRAM-SHA-512", "PLAIN"):
        with pytest.raises(kafka_api.KafkaException):
            make_admin({**stack.kafka("capture"), "bootstrap_servers": address, "sasl_mechanism": mechanism}).list_topics(timeout=1)
    with pytest.raises(kafka_api.KafkaException):
        make_admin({"bootstrap_servers": address}).list_topics(timeout=1)


def test_a_role_opens_its_own_database_only(stack: Stack) -> None:
    own = stack.database_url("capture")
    assert query(own, "select current_user::text || ' ' || current_database()") == "oms_capture oms_capture"
    for other in ("oms_inventory", "postgres", "template1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            query(own.rpartition("/")[0] + f"/{other}", "select 1")
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(own.replace("oms_capture:", "oms_capture:x"), "select 1")


def test_a_topic_has_the_configuration_in_the_catalogue(stack: Stack) -> None:
    admin = make_admin(stack.kafka("admin"))
    topics = {topic.name: topic for topic in TOPICS}
    described = admin.list_topics(timeout=10).topics
    assert {name: len(described[name].partitions) for name in topics} == {name: topic.partitions for name, topic in topics.items()}
    resources = [admin_api.ConfigResource(admin_api.ConfigResource.Type.TOPIC, name) for name in topics]
    for resource, response in admin.describe_configs(resources).items():
        config, topic = response.result(10), topics[resource.name]
        assert config["retention.ms"].value == str(topic.retention)
        assert config["max.message.bytes"].value == str(topic.max_message_bytes)
        assert config["cleanup.policy"].value == ("compact" if topic.compacted else "delete")
