"""How a connection is secured by settings, and which settings contradict each other."""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from oms_kafka.clients import client_options, token_provider
from oms_kafka.settings import KafkaSettings, reasons_of, settings_of, ssl_context
from oms_provision.certificates import load_or_issue, load_or_make_authority
from pydantic import ValidationError

USER = {"username": "capture", "password": "p4ss"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A file for each setting that names one."""
    folder = tmp_path_factory.mktemp("tls")
    authority = load_or_make_authority(folder)
    client = load_or_issue(authority, "client", ())
    (folder / "token").write_text("the-token\n")
    return {
        "ca_file": str(authority.certificate),
        "certificate_file": str(client.certificate),
        "key_file": str(client.key),
        "token_file": str(folder / "token"),
    }


def of(files: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: files[name] for name in names}


@pytest.mark.parametrize(
    ("given", "protocol"),
    [
        ({}, "PLAINTEXT"),
        (USER, "SASL_PLAINTEXT"),
        ({"security_protocol": "SSL"}, "SSL"),
        ({**USER, "security_protocol": "SASL_SSL"}, "SASL_SSL"),
    ],
    ids=["nothing", "user", "SSL", "SASL_SSL"],
)
def test_the_security_protocol_is_the_setting_or_follows_from_the_username(given: dict[str, str], protocol: str) -> None:
    options = client_options(settings_of({"bootstrap_servers": "b:1", **given}))
    assert options["security_protocol"] == protocol
    assert isinstance(options.get("ssl_context"), ssl.SSLContext) == protocol.endswith("SSL")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
def test_a_mechanism_with_username_and_password(mechanism: str) -> None:
    options = client_options(settings_of({"bootstrap_servers": "b:1", "sasl_mechanism": mechanism, **USER}))
    assert options["sasl_mechanism"] == mechanism
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("capture", "p4ss")


async def test_a_token_is_read_anew_for_every_connection(files: Mapping[str, str], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    given = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "token_file": str(token), **of(files, "ca_file")}
    settings = settings_of({"bootstrap_servers": "b:1", **given})
    provider = token_provider(settings)
    assert provider is not None
    assert await provider.token() == "first"  # pyright: ignore[reportUnknownMemberType]  # aiokafka has no types here
    token.write_text("second\n")
    assert await provider.token() == "second"  # pyright: ignore[reportUnknownMemberType]  # aiokafka has no types here
    assert "sasl_plain_username" not in client_options(settings)


def test_certificate_and_host_name_of_the_broker_are_always_verified(files: Mapping[str, str]) -> None:
    context = ssl_context(settings_of({"bootstrap_servers": "b:1", "security_protocol": "SSL", **of(files, "ca_file")}))
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.cert_store_stats()["x509_ca"] == 1, "the system's authorities are trusted beside the one that is named"


@pytest.mark.parametrize(
    ("given", "named", "problem"),
    [
        (["key_file"], "OMS_KAFKA_KEY_FILE", "is set without OMS_KAFKA_CERTIFICATE_FILE"),
        ({"key_password": "k3y"}, "OMS_KAFKA_KEY_PASSWORD", "is set without OMS_KAFKA_CERTIFICATE_FILE"),
        (["certificate_file"], "OMS_KAFKA_CERTIFICATE_FILE", "no certificate with its key"),
        ({"ca_file": "token_file"}, "OMS_KAFKA_CA_FILE", "no readable PEM file"),
        ({"ca_file": "/nowhere.pem"}, "OMS_KAFKA_CA_FILE", "does not point to a file"),
        ({"security_protocol": "SASL_PLAINTEXT", "ca_file": "ca_file"}, "OMS_KAFKA_CA_FILE", "must be SASL_SSL"),
        ({"security_protocol": "TLS"}, "OMS_KAFKA_SECURITY_PROTOCOL", "should be 'PLAINTEXT', 'SSL'"),
        ({"security_protocol": "SSL", "ca_file": "ca_file"}, "OMS_KAFKA_USERNAME", "SSL would not use it"),
        ({"sasl_mechanism": "OAUTHBEARER"}, "OMS_KAFKA_TOKEN_FILE", "is not set, and OAUTHBEARER"),
        ({"sasl_mechanism": "OAUTHBEARER", "token_file": "token_file"}, "OMS_KAFKA_USERNAME", "the token names the user"),
        (["token_file"], "OMS_KAFKA_TOKEN_FILE", "must be OAUTHBEARER"),
        ({"password": ""}, "OMS_KAFKA_PASSWORD", "is not set, and SCRAM-SHA-512"),
        ({"username": ""}, "OMS_KAFKA_USERNAME", "is not set, and SCRAM-SHA-512"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused_with_variable_and_reason(
    files: Mapping[str, str], given: list[str] | dict[str, str], named: str, problem: str
) -> None:
    chosen = of(files, *given) if isinstance(given, list) else {name: files.get(value, value) for name, value in given.items()}
    with pytest.raises(ValidationError) as raised:
        settings_of({"bootstrap_servers": "b:1", "security_protocol": "SASL_SSL", **USER, **chosen})
    [reason] = reasons_of(raised.value)
    assert reason.startswith(f"{named}: ")
    assert re.search(re.escape(problem), reason), reason
    assert not [secret for secret in ("p4ss", "k3y") if secret in str(raised.value)]


def test_variables_of_the_environment_are_the_settings(files: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"bootstrap_servers": "b:1", "security_protocol": "SASL_SSL", **USER, **of(files, "ca_file")}.items():
        monkeypatch.setenv(f"OMS_KAFKA_{name.upper()}", value)
    settings = KafkaSettings()
    assert settings.uses_tls
    assert settings.kafka_ca_file == Path(files["ca_file"])
    assert not settings_of({"bootstrap_servers": "b:1"}).uses_tls, "the environment has an influence on settings that are given"
