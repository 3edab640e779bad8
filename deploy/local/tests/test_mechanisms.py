"""Every way in which our clients authenticate, on a real broker whose connections are encrypted."""

import json
import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from faststream.kafka import KafkaBroker
from oms_kafka.clients import broker_is_reachable
from oms_kafka.settings import settings_of
from oms_local import jars, kafka_server
from oms_local.control import Control
from oms_local.ports import LOOPBACK, find_free
from oms_local.tls import Tls
from oms_provision.broker import api, broker_is_ready, make_admin
from oms_runtime.group_membership import broker_security

READY_TIMEOUT_SECONDS = 60
MODULES = "org.apache.kafka.common.security"
EVERY_MECHANISM, CERTIFICATE_ALONE = 2, 3
"""Listeners beside the broker's own, by the distance of their port from its port."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    made = Tls(tmp_path_factory.mktemp("mechanisms") / "tls")
    made.make()
    return made


@pytest.fixture(scope="module")
def first_port(tls: Tls) -> Iterator[int]:
    """The broker's port. The user `capture` has the password `p4ss` by every mechanism."""
    place, port = tls.folder.parent, find_free(4)
    broker = kafka_server.Broker(
        folder=place / "kafka",
        secret=place / "kafka.properties",
        log=place / "log",
        port=port,
        controller_port=port + 1,
        password="admin-pw",
        tls=tls,
    )
    class_path = jars.fetch(print)
    kafka_server.prepare(broker, class_path, print)
    broker.secret.write_text(_with_more_listeners(broker))
    control = Control(place)
    control.start(place / "supervisor.log", os.getpid())
    control.run(kafka_server.part(broker, class_path, stage=0))
    admin = {**tls.of_kafka_client(), "bootstrap_servers": f"{LOOPBACK}:{port}", "username": "admin", "password": "admin-pw"}
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while not broker_is_ready(admin):
        assert time.monotonic() < deadline, broker.log.read_text()[-2000:]
    info = api.ScramCredentialInfo(api.ScramMechanism.SCRAM_SHA_256, 4096)
    upsertion = api.UserScramCredentialUpsertion("capture", info, b"p4ss")
    client = make_admin(admin)
    client.alter_user_scram_credentials([upsertion])["capture"].result(10)
    yield port
    control.abandon()


def _with_more_listeners(broker: kafka_server.Broker) -> str:
    text = kafka_server.configuration(broker)
    many, alone = (f"{name}://{LOOPBACK}:{broker.port + distance}" for name, distance in (("MANY", 2), ("ALONE", 3)))
    for name in ("listeners=", "advertised.listeners="):
        text = text.replace(f"\n{name}CLIENT", f"\n{name}{many},{alone},CLIENT")
    text = text.replace("protocol.map=", "protocol.map=MANY:SASL_SSL,ALONE:SSL,")
    return f"""{text}
listener.name.alone.ssl.client.auth=required
listener.name.many.sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN,OAUTHBEARER
listener.name.many.scram-sha-256.sasl.jaas.config={MODULES}.scram.ScramLoginModule required;
listener.name.many.plain.sasl.jaas.config={MODULES}.plain.PlainLoginModule required user_capture="p4ss";
listener.name.many.oauthbearer.sasl.jaas.config={MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="x";
"""


async def can_connect(kafka: Mapping[str, str]) -> bool:
    """Whether aiokafka's clients can, and FastStream's; they agree."""
    settings = settings_of(kafka)
    by_aiokafka = await broker_is_reachable(settings)
    if by_aiokafka:
        async with KafkaBroker(settings.kafka_bootstrap_servers, **broker_security(settings)) as broker:
            assert await broker.ping(timeout=5)
    return by_aiokafka


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
async def test_a_mechanism_with_username_and_password(tls: Tls, first_port: int, mechanism: str) -> None:
    address = f"{LOOPBACK}:{first_port + EVERY_MECHANISM}"
    user = {"bootstrap_servers": address, "sasl_mechanism": mechanism, "username": "capture", "password": "p4ss"}
    assert await can_connect({**tls.of_kafka_client(), **user})
    assert broker_is_ready({**tls.of_kafka_client(), **user})
    assert not await can_connect({**tls.of_kafka_client(), **user, "password": "guessed"})


async def test_a_token_of_a_file(tls: Tls, first_port: int, tmp_path: Path) -> None:
    token = tmp_path / "token"
    given = {"bootstrap_servers": f"{LOOPBACK}:{first_port + EVERY_MECHANISM}", "sasl_mechanism": "OAUTHBEARER", "token_file": str(token)}
    token.write_text(_unsigned_token(lifetime_seconds=-1))
    assert not await can_connect({**tls.of_kafka_client(), **given})
    token.write_text(_unsigned_token(lifetime_seconds=600))
    assert await can_connect({**tls.of_kafka_client(), **given})


async def test_a_certificate_alone(tls: Tls, first_port: int) -> None:
    given = {**tls.of_kafka_client(), "security_protocol": "SSL", "bootstrap_servers": f"{LOOPBACK}:{first_port + CERTIFICATE_ALONE}"}
    assert await can_connect(given)
    assert not await can_connect({name: value for name, value in given.items() if name not in ("certificate_file", "key_file")})


def _unsigned_token(lifetime_seconds: int) -> str:
    now = int(time.time())
    parts = {"alg": "none"}, {"sub": "capture", "iat": now - 60, "exp": now + lifetime_seconds}
    return ".".join([*(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), ""])
