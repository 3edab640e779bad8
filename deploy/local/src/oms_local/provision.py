"""What servers must hold before services start: topics, users and rights; databases and roles. All of it can be done again at any time."""

import base64
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka import admin as typed_in_part
from oms_contracts.catalogue import SERVICES, TOPICS, USERS, Topic, topics_read_by, topics_written_by

from oms_local.errors import StackError
from oms_local.passwords import ADMIN
from oms_local.sql import session

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
ITERATIONS = 4096
_quiet = logging.getLogger("oms_local.kafka")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


def make_admin(kafka: Mapping[str, str]) -> Any:
    """A client for `bootstrap_servers`, with `username`, `password` and `mechanism` (SCRAM-SHA-512 unless said) if they are asked for."""
    options: dict[str, Any] = {"bootstrap.servers": kafka["bootstrap_servers"], "socket.timeout.ms": 10_000, "log_level": 0}
    if kafka.get("username"):
        options |= {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": kafka.get("mechanism", "SCRAM-SHA-512"),
            "sasl.username": kafka["username"],
            "sasl.password": kafka["password"],
        }
    return api.AdminClient(options, logger=_quiet)


def broker_is_ready(kafka: Mapping[str, str], timeout: float = 2) -> bool:
    """Whether the broker answers us."""
    try:
        make_admin(kafka).list_topics(timeout=timeout)
    except KafkaException:
        return False
    return True


def provision_topics(admin: Any, topics: Iterable[Topic] = TOPICS) -> None:
    """Make the topics that are missing, set the rest to what the catalogue says, and wait until every partition has a leader."""
    wanted = {topic.name: topic for topic in topics}
    present = set(admin.list_topics(timeout=TIMEOUT_SECONDS).topics)
    missing = [_new(topic) for topic in wanted.values() if topic.name not in present]
    if missing:
        _all(admin.create_topics(missing, operation_timeout=TIMEOUT_SECONDS), but="TOPIC_ALREADY_EXISTS")
    _set_configs(admin, [topic for topic in wanted.values() if topic.name in present])
    _wait(lambda: _have_leaders(admin, wanted), "new topics have no leader yet")


def provision_users(admin: Any, passwords: Mapping[str, str]) -> None:
    """Give every broker user its password and exactly the rights that the catalogue says."""
    info = api.ScramCredentialInfo(api.ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    users = [user for user in passwords if user != ADMIN]
    _all(admin.alter_user_scram_credentials([api.UserScramCredentialUpsertion(user, info, passwords[user].encode()) for user in users]))
    wanted = set(rights())
    everything = api.AclBindingFilter(*ANYTHING)
    present: set[Any] = set(_done(admin.describe_acls(everything)))
    if wanted - present:
        _all(admin.create_acls(sorted(wanted - present)))
    if present - wanted:
        _all(admin.delete_acls([_only(binding) for binding in present - wanted]))


def rights() -> Iterable[Any]:
    """Who may do what. What is not here is denied.

    A writer needs no right on the cluster to be idempotent. A service reads what it writes: its relay finds there how far it has published.
    """
    for user in USERS:
        for topic in topics_written_by(user):
            yield _allow(user, api.AclOperation.WRITE, topic.name)
        read = {*topics_read_by(user), *(topics_written_by(user) if user in (*SERVICES, "projection") else ())}
        for topic in read:
            yield _allow(user, api.AclOperation.READ, topic.name)
        yield _allow(user, api.AclOperation.READ, f"oms.{user}", kind=api.ResourceType.GROUP, prefixed=True)
    yield _allow("operator", api.AclOperation.READ, "oms.", prefixed=True)
    yield _allow("operator", api.AclOperation.DESCRIBE_CONFIGS, "oms.", prefixed=True)
    yield _allow("operator", api.AclOperation.DESCRIBE, "*", kind=api.ResourceType.GROUP)


async def provision_databases(url: str, roles: Mapping[str, str]) -> None:
    """For every service a role `oms_<service>` with its password, and a database of that name which nobody else may open.

    `url` is a superuser's; `roles` are passwords by service.
    """
    async with session(url) as connection:
        for database in ("postgres", "template1"):
            await connection.execute(f"revoke connect on database {database} from public")
        for service, password in roles.items():
            role = f"oms_{service}"
            exists = await connection.fetchval("select 1 from pg_roles where rolname = $1", role)
            verb = "alter" if exists else "create"
            # Hashed here, so that not even a failing statement brings the password into the server's log.
            await connection.execute(f"{verb} role {role} login password '{_verifier(password)}'")
            if not await connection.fetchval("select 1 from pg_database where datname = $1", role):
                await connection.execute(f"create database {role} owner {role}")
            await connection.execute(f"revoke all on database {role} from public")


def _verifier(password: str) -> str:
    """What PostgreSQL stores of a password (RFC 5803, SCRAM-SHA-256)."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt64}${stored64}:{server64}"


def _new(topic: Topic) -> Any:
    return api.NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=-1, config=_config(topic))


def _config(topic: Topic) -> dict[str, str]:
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention),
        "max.message.bytes": str(topic.max_message_bytes),
    }


def _set_configs(admin: Any, topics: list[Topic]) -> None:
    resources = {topic.name: api.ConfigResource(api.ConfigResource.Type.TOPIC, topic.name) for topic in topics}
    if not resources:
        return
    present = {resource.name: _done(answer) for resource, answer in admin.describe_configs(list(resources.values())).items()}
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
    present = admin.list_topics(timeout=TIMEOUT_SECONDS).topics
    return all(
        name in present and present[name].partitions and all(partition.leader >= 0 for partition in present[name].partitions.values())
        for name in names
    )


def _allow(user: str, operation: Any, name: str, *, kind: Any = api.ResourceType.TOPIC, prefixed: bool = False) -> Any:
    pattern = api.ResourcePatternType.PREFIXED if prefixed else api.ResourcePatternType.LITERAL
    return api.AclBinding(kind, name, pattern, f"User:{user}", "*", operation, api.AclPermissionType.ALLOW)


def _only(binding: Any) -> Any:
    return api.AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def _wait(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{problem} after {TIMEOUT_SECONDS} s. The broker's log may say why.")
        time.sleep(0.05)


def _all(answers: Mapping[Any, "Future[Any]"], *, but: str | None = None) -> None:
    for asked, answer in answers.items():
        try:
            answer.result(timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].name() != but:
                raise StackError(f"the broker refused {asked}: {error.args[0].str()}") from error


def _done(answer: "Future[Any]") -> Any:
    return answer.result(timeout=TIMEOUT_SECONDS)
