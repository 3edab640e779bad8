"""A stack with TLS: orders come through it from channel to delivery, and it refuses clients that do not verify or cannot be verified."""

import os
import shutil
import ssl
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
import pytest
from aiokafka.errors import KafkaError
from oms_cli.app import app
from oms_demo.__main__ import run
from oms_kafka.clients import broker_is_reachable, make_reader
from oms_kafka.settings import settings_of
from oms_local.stack import Stack, StackError, StackSettings
from oms_local.tls import programs_with_tls
from oms_provision.broker import broker_is_ready, make_admin
from oms_provision.certificates import Authority, load_or_issue, load_or_make_authority
from oms_provision.errors import UsageError
from oms_provision.sql import database_is_ready, session
from typer.testing import CliRunner

ORDERS, SEED = 8, 7
OTHER_NAME = "127.1"
"""It leads to 127.0.0.1 too, but no certificate has it as a host name."""
connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # asyncpg is untyped in part


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # `.ci/run` installs openssl and a PostgreSQL with TLS wherever it may: a skip is for a bare machine.
    if not shutil.which("openssl"):
        pytest.skip("openssl is missing: the certificates of a stack with TLS cannot be made")
    try:
        programs_with_tls(StackSettings.from_environment().postgres_programs)
    except StackError as error:
        pytest.skip(f"a stack with TLS cannot be started: {error}")
    made = Stack(StackSettings.on_free_ports(tmp_path_factory.mktemp("tls-stack"), partitions=2, tls=True))
    made.up(environment={"OMS_LOOK_UP_AFTER": "PT0.2S", "OMS_LOOK_UP_AT_MOST": "PT1S"}, owner=os.getpid())
    yield made
    made.abandon()


@pytest.fixture
def other_authority(tmp_path: Path) -> Authority:
    """An authority that the stack does not trust, and whose certificates it does not have."""
    return load_or_make_authority(tmp_path / "other")


async def value_of(url: str, statement: str) -> Any:
    async with session(url) as connection:
        return await connection.fetchval(statement)


def without(parameters: str, url: str, **others: str) -> str:
    """A database's URL without some of its parameters (comma-separated), and with others."""
    found = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items() if name not in parameters.split(",")}
    return urlsplit(url)._replace(query=urlencode(found | others)).geturl()


async def test_orders_come_through_from_channel_to_completed(stack: Stack) -> None:
    for service in ("capture", "projection"):
        environment = stack.environment(service)
        assert environment["OMS_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
        assert parse_qs(urlsplit(environment["OMS_DATABASE_URL"]).query)["sslmode"] == ["verify-full"]

    report = await run(stack, SEED, ORDERS)

    assert report["at_rest"]
    assert {name: audit for name, audit in report["audits"].items() if not audit["green"]} == {}
    assert report["outcomes"]["completed"] > 0
    sessions = "select array_agg(distinct usename::text order by usename::text) from pg_stat_ssl join pg_stat_activity using (pid)"
    encrypted = await value_of(stack.database_url("admin"), f"{sessions} where ssl and version like 'TLSv1._'")
    assert {"oms_capture", "oms_payment", "oms_projection"} <= set(encrypted)
    assert await value_of(stack.database_url("admin"), f"{sessions} where not ssl and client_addr is not null") is None


class TestBroker:
    async def test_a_client_without_the_authority_is_refused(self, stack: Stack, other_authority: Authority) -> None:
        connection = stack.kafka("operator")
        assert await broker_is_reachable(settings_of(connection))
        for ca_file in ("", str(other_authority.certificate)):
            assert not await broker_is_reachable(settings_of({**connection, "ca_file": ca_file}))
            assert not broker_is_ready({**connection, "ca_file": ca_file}, timeout_seconds=1)

    async def test_a_client_without_a_certificate_of_the_authority_is_refused(self, stack: Stack, other_authority: Authority) -> None:
        connection, theirs = stack.kafka("operator"), load_or_issue(other_authority, "client", ())
        for own in ({"certificate_file": "", "key_file": ""}, {"certificate_file": str(theirs.certificate), "key_file": str(theirs.key)}):
            assert not await broker_is_reachable(settings_of({**connection, **own}))
            assert not broker_is_ready({**connection, **own}, timeout_seconds=1)

    async def test_plain_text_is_refused(self, stack: Stack) -> None:
        named = {name: stack.kafka("operator")[name] for name in ("bootstrap_servers", "username", "password")}
        assert not await broker_is_reachable(settings_of(named))
        assert not broker_is_ready(named, timeout_seconds=1)

    async def test_a_certificate_for_another_host_name_is_refused(self, stack: Stack) -> None:
        connection = {**stack.kafka("operator"), "bootstrap_servers": f"{OTHER_NAME}:{stack.settings.kafka_port}"}
        reader = make_reader(settings_of(connection), "test-host")
        with pytest.raises(KafkaError):
            await reader.start()
        await reader.stop()
        assert not broker_is_ready(connection, timeout_seconds=1)

    def test_a_client_that_cannot_be_configured_is_reported(self, stack: Stack) -> None:
        with pytest.raises(UsageError, match=r"nowhere\.pem"):
            make_admin({**stack.kafka("operator"), "ca_file": "/nowhere.pem"})


class TestDatabase:
    async def test_a_client_without_the_authority_is_refused(self, stack: Stack, other_authority: Authority) -> None:
        url = without("sslrootcert", stack.database_url("capture"), sslrootcert=str(other_authority.certificate))
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
            await connect(url)
        assert not database_is_ready(url)
        with pytest.raises(UsageError, match=r"cannot be used.*sslrootcert"):
            await value_of(without("sslrootcert", url, sslrootcert="/nowhere.pem"), "select 1")

    async def test_a_client_without_a_certificate_is_refused(self, stack: Stack) -> None:
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="valid client certificate"):
            await connect(without("sslcert,sslkey", stack.database_url("capture")))

    async def test_plain_text_is_refused(self, stack: Stack) -> None:
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
            await connect(without("sslmode", stack.database_url("capture"), sslmode="disable"))

    async def test_a_certificate_for_another_host_name_is_refused(self, stack: Stack) -> None:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await connect(stack.database_url("capture").replace("@127.0.0.1:", f"@{OTHER_NAME}:"))


class TestCommandLine:
    """`oms`, by the stack's variables and by settings that name its servers."""

    @pytest.fixture
    def environment(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        for name in [name for name in os.environ if name.startswith(("KAFKA_", "OMS_"))]:
            monkeypatch.delenv(name)
        settings = stack.settings
        ports = {"KAFKA": settings.kafka_port, "POSTGRES": settings.postgres_port, "HTTP": settings.http_port}
        return {"OMS_STACK_DATA": str(settings.data), "OMS_STACK_TLS": "1"} | {
            f"OMS_STACK_{name}_PORT": str(port) for name, port in ports.items()
        }

    def test_it_reaches_a_stack_with_tls(self, stack: Stack, environment: dict[str, str]) -> None:
        named = {f"OMS_KAFKA_{name.upper()}": value for name, value in stack.kafka("operator").items()}
        url = {"OMS_QUERY_URL": stack.query_url(), "OMS_QUERY_TOKEN": stack.query_token()}
        for variables in (environment, named | url):
            done = CliRunner(env=variables).invoke(app, ["stock", "receive", "BER", "mug=1"])
            assert done.exit_code == 0, done.output

    def test_a_certificate_that_is_not_accepted_is_named_as_a_cause(
        self, stack: Stack, other_authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        refused = {**stack.kafka("operator"), "ca_file": str(other_authority.certificate)}
        done = CliRunner(env={f"OMS_KAFKA_{name.upper()}": value for name, value in refused.items()}).invoke(app, ["events", "tail"])
        assert done.exit_code == 3
        assert "or one of the two does not accept the other's certificate" in done.output
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


class TestStack:
    def test_no_private_key_can_be_read_by_other_users(self, stack: Stack) -> None:
        keys = [file for file in stack.settings.data.rglob("*") if file.is_file() and b"PRIVATE KEY" in file.read_bytes()[:4096]]
        assert {file.name for file in keys} == {"ca.key", "kafka.key", "postgres.key", "client.key", "kafka.keystore", "server.key"}
        assert not [file for file in keys if stat.S_IMODE(file.stat().st_mode) & 0o077]

    def test_a_stack_that_is_up_with_tls_is_not_taken_for_one_without(self, stack: Stack) -> None:
        with pytest.raises(StackError, match=r"up already .*OMS_STACK_TLS=1"):
            Stack(replace(stack.settings, tls=False)).up(services=())

    def test_a_postgresql_without_tls_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        with pytest.raises(StackError, match="OMS_STACK_POSTGRES_PROGRAMS"):
            programs_with_tls(None)

    def test_a_malformed_switch_is_refused(self) -> None:
        assert StackSettings.from_environment({"OMS_STACK_TLS": "1"}).tls
        with pytest.raises(StackError, match="OMS_STACK_TLS is 'yes'"):
            StackSettings.from_environment({"OMS_STACK_TLS": "yes"})
