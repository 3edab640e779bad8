"""Set up the broker: topics, users and their rights (ACLs), all as the catalogue says. Every call can be repeated."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka import admin as typed_in_part
from oms_contracts.catalogue import (
    ALL_SERVICES,
    PARTY_TOPICS,
    TOPICS,
    USERS,
    Topic,
    existing,
    party_topics,
    topics_read_by,
    topics_written_by,
)
from oms_contracts.parties import group_prefix, party_of

from oms_provision.errors import ProvisionError, UsageError
from oms_provision.passwords import ADMIN

api: Any = typed_in_part
"""confluent-kafka's administration. Its types are partial, and half of its names count as private."""

ANYTHING = (
    api.ResourceType.ANY,
    None,
    api.ResourcePatternType.ANY,
    None,
    None,
    api.AclOperation.ANY,
    api.AclPermissionType.ANY,
)
TIMEOUT_SECONDS = 30
POLL_SECONDS = 0.05
SCRAM_ITERATIONS = 4096
DAY = str(24 * 3600 * 1000)
GZIP_LEVEL = "1"
"""For what does not arrive in gzip, as the relays send it. The broker's default level takes twice the time for a sixth fewer bytes."""
TLS_OPTIONS = {"ca_file": "ssl.ca.location", "certificate_file": "ssl.certificate.location", "key_file": "ssl.key.location"}
CONNECTION = ("security_protocol", "sasl_mechanism", *TLS_OPTIONS)
"""What a connection may have beside its address, username and password: the ends of variables that begin with `KAFKA_`."""
_quiet = logging.getLogger("oms_provision.kafka")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


def make_admin(kafka: Mapping[str, str]) -> Any:
    """An admin client of a broker, connected as `client_options` says. Raises UsageError if the options contradict each other."""
    try:
        return api.AdminClient({**client_options(kafka), "socket.timeout.ms": 10_000, "log_level": 0}, logger=_quiet)
    except KafkaException as error:  # a file that cannot be read, a mechanism that does not exist
        files = ", ".join(f"{name} {kafka[name]}" for name in TLS_OPTIONS if kafka.get(name)) or "no files"
        raise UsageError(f"the broker's client cannot be configured with {files}: {error.args[0].str()}") from error


def client_options(kafka: Mapping[str, str]) -> dict[str, Any]:
    """The options of confluent-kafka's clients for `bootstrap_servers`.

    With `username` and `password` the client authenticates by `sasl_mechanism` (default: SCRAM-SHA-512). `security_protocol` is by
    default that without TLS. With TLS `ca_file` names the authorities to trust; `certificate_file` and `key_file` are the client's own.
    """
    options: dict[str, Any] = {
        "bootstrap.servers": kafka["bootstrap_servers"],
        "security.protocol": kafka.get("security_protocol") or ("SASL_PLAINTEXT" if kafka.get("username") else "PLAINTEXT"),
    }
    if kafka.get("username"):
        options |= {
            "sasl.mechanism": kafka.get("sasl_mechanism") or "SCRAM-SHA-512",
            "sasl.username": kafka["username"],
            "sasl.password": kafka["password"],
        }
    return options | {option: kafka[name] for name, option in TLS_OPTIONS.items() if kafka.get(name)}


def broker_is_ready(kafka: Mapping[str, str], timeout_seconds: float = 2) -> bool:
    """Whether the broker returns its metadata to this user."""
    return responds(make_admin(kafka), timeout_seconds)


def responds(admin: Any, timeout_seconds: float = 2) -> bool:
    """Whether the broker returns its metadata to this client. Who asks again and again does so by one client."""
    try:
        admin.list_topics(timeout=timeout_seconds)
    except KafkaException:
        return False
    return True


def topics_of_parties(admin: Any) -> list[Topic]:
    """The topics of parties that there are."""
    names = list(_metadata(admin))
    return [topic for family in PARTY_TOPICS for topic in existing(family, names)]


def provision_topics(admin: Any, topics: Iterable[Topic] = TOPICS) -> None:
    """Make the topics that are missing, set the configuration of the others, and wait until every partition has a leader.

    Raises ProvisionError if the broker refuses, or if a leader is missing after TIMEOUT_SECONDS.
    """
    present = set(_metadata(admin))
    wanted = {topic.name: topic for topic in topics}
    missing = [_new(topic) for topic in wanted.values() if topic.name not in present]
    if missing:
        _all(admin.create_topics(missing, operation_timeout=TIMEOUT_SECONDS), ignored_error="TOPIC_ALREADY_EXISTS")
    _set_configs(admin, [topic for topic in wanted.values() if topic.name in present])
    wait_until(lambda: _have_leaders(admin, wanted), "new topics have no leader yet")


def provision_users(admin: Any, passwords: Mapping[str, str]) -> None:
    """Give every broker user its password, and exactly the rights that the catalogue says: others are removed.

    `passwords` are by user. Parties, which the broker knows by their users, keep passwords and rights. Raises ProvisionError if the broker
    refuses.
    """
    set_passwords(admin, {user: passwords[user] for user in passwords if user != ADMIN})
    parties = [right for user in scram_users(admin) if party_of(user) is not None for right in party_rights(user)]
    set_rights(admin, {*rights(), *parties}, present_rights(admin))


def scram_users(admin: Any) -> set[str]:
    """Every user to whom the broker has given a password."""
    return set(_result("the list of users", admin.describe_user_scram_credentials()))


def set_passwords(admin: Any, passwords: Mapping[str, str]) -> None:
    """Give users passwords; who has none yet is a user from then on."""
    info = api.ScramCredentialInfo(api.ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS)
    upserted = [api.UserScramCredentialUpsertion(user, info, password.encode()) for user, password in passwords.items()]
    _all(admin.alter_user_scram_credentials(upserted))


def remove_password(admin: Any, user: str) -> None:
    """Take a user's password: it can connect no more. Does nothing where it has none."""
    deletion = api.UserScramCredentialDeletion(user, api.ScramMechanism.SCRAM_SHA_512)
    _all(admin.alter_user_scram_credentials([deletion]), ignored_error="RESOURCE_NOT_FOUND")


def present_rights(admin: Any) -> set[Any]:
    """The broker's ACLs."""
    return set(_result("the list of rights", admin.describe_acls(api.AclBindingFilter(*ANYTHING))))


def rights_of(user: str, rights: Iterable[Any]) -> set[Any]:
    """Those of some ACLs that are a user's."""
    return {right for right in rights if right.principal == f"User:{user}"}


def set_rights(admin: Any, wanted: Set[Any], present: Set[Any]) -> None:
    """Make of the ACLs that are `present` those that are `wanted`."""
    if wanted - present:
        _all(admin.create_acls(sorted(wanted - present)))
    if present - wanted:
        _all(admin.delete_acls([_only(binding) for binding in present - wanted]))


def party_rights(user: str) -> Iterable[Any]:
    """The ACLs of a party's user: it writes its own topics, and reads what its kind reads, in groups of its own."""
    party = party_of(user)
    assert party is not None
    for topic in party_topics(*party):
        yield _allow(user, api.AclOperation.WRITE, topic.name)
    for topic in topics_read_by(party[0]):
        yield _allow(user, api.AclOperation.READ, topic.name)
    yield _allow(user, api.AclOperation.READ, group_prefix(user), kind=api.ResourceType.GROUP, prefixed=True)


def rights() -> Iterable[Any]:
    """The ACLs of every user that is no party's. The broker denies what is not among them.

    A producer needs no right on the cluster to be idempotent. A service reads the topics it writes: its relay finds there how far it has
    published.
    """
    for user in USERS:
        for topic in topics_written_by(user):
            yield _allow(user, api.AclOperation.WRITE, topic.name)
        read = {*topics_read_by(user), *(topics_written_by(user) if user in ALL_SERVICES else ())}
        for topic in read:
            yield _allow(user, api.AclOperation.READ, topic.prefix, prefixed=topic.parties is not None)
        yield _allow(user, api.AclOperation.READ, f"oms.{user}", kind=api.ResourceType.GROUP, prefixed=True)
    yield _allow("operator", api.AclOperation.READ, "oms.", prefixed=True)
    for topic in TOPICS:
        if "operator" not in topic.readers:
            yield _deny("operator", api.AclOperation.READ, topic.name)
    yield _allow("operator", api.AclOperation.DESCRIBE_CONFIGS, "oms.", prefixed=True)
    yield _allow("operator", api.AclOperation.DESCRIBE, "*", kind=api.ResourceType.GROUP)


def _new(topic: Topic) -> Any:
    return api.NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=-1, config=_config(topic))


def _config(topic: Topic) -> dict[str, str]:
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention),
        "max.message.bytes": str(topic.max_message_bytes),
        "compression.type": topic.compression,
        **({"compression.gzip.level": GZIP_LEVEL} if topic.compression == "gzip" else {}),
        # The broker deletes whole segments, and compacts none that it still writes. What has to be gone in time is in small ones.
        **({"segment.ms": DAY} if not topic.keeps_for_ever else {}),
        **({"segment.ms": DAY, "max.compaction.lag.ms": DAY} if topic.compacted and topic.discloses else {}),
    }


def _set_configs(admin: Any, topics: list[Topic]) -> None:
    resources = {topic.name: api.ConfigResource(api.ConfigResource.Type.TOPIC, topic.name) for topic in topics}
    if not resources:
        return
    described = admin.describe_configs(list(resources.values()))
    present = {resource.name: _result(resource, response) for resource, response in described.items()}
    changed: list[Any] = []
    for topic in topics:
        entries = [
            api.ConfigEntry(name, value, incremental_operation=api.AlterConfigOpType.SET)
            for name, value in _config(topic).items()
            if present[topic.name][name].value != value
        ]
        if entries:
            changed.append(api.ConfigResource(api.ConfigResource.Type.TOPIC, topic.name, incremental_configs=entries))
    if changed:
        _all(admin.incremental_alter_configs(changed))


def _have_leaders(admin: Any, names: Iterable[str]) -> bool:
    present = _metadata(admin)
    return all(
        name in present and present[name].partitions and all(partition.leader >= 0 for partition in present[name].partitions.values())
        for name in names
    )


def _metadata(admin: Any) -> Mapping[str, Any]:
    """The broker's topics by name."""
    try:
        return admin.list_topics(timeout=TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise ProvisionError(f"the broker does not list its topics: {error.args[0].str()}. Check its address, user and log.") from error


def _allow(user: str, operation: Any, name: str, *, kind: Any = api.ResourceType.TOPIC, prefixed: bool = False) -> Any:
    pattern = api.ResourcePatternType.PREFIXED if prefixed else api.ResourcePatternType.LITERAL
    return api.AclBinding(kind, name, pattern, f"User:{user}", "*", operation, api.AclPermissionType.ALLOW)


def _deny(user: str, operation: Any, name: str) -> Any:
    """Takes back for one topic what a prefix allows."""
    pattern = api.ResourcePatternType.LITERAL
    return api.AclBinding(api.ResourceType.TOPIC, name, pattern, f"User:{user}", "*", operation, api.AclPermissionType.DENY)


def _only(binding: Any) -> Any:
    """A filter that matches this ACL alone."""
    return api.AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def wait_until(condition: Callable[[], bool], problem: str) -> None:
    """Wait for what the broker does in its own time. Raises ProvisionError, which begins with `problem`, after TIMEOUT_SECONDS."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise ProvisionError(f"{problem} after {TIMEOUT_SECONDS} s. The broker's log may say why.")
        time.sleep(POLL_SECONDS)


def _all(responses: Mapping[Any, "Future[Any]"], *, ignored_error: str | None = None) -> None:
    for subject, response in responses.items():
        _result(subject, response, ignored_error=ignored_error)


def _result(subject: object, response: "Future[Any]", *, ignored_error: str | None = None) -> Any:
    try:
        return response.result(timeout=TIMEOUT_SECONDS)
    except KafkaException as error:
        if error.args[0].name() == ignored_error:
            return None
        raise ProvisionError(
            f"the broker refused {subject}: {error.args[0].str()}. The user must be a super user of the broker; its log may say more."
        ) from error
