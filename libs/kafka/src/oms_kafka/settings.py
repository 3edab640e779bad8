"""The broker's address, our credentials, and how the connection is secured."""

import ssl
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import FilePath, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"]


class KafkaSettings(BaseSettings):
    """The environment variables of a Kafka client, all beginning with `OMS_`.

    Without a security protocol it is SASL_PLAINTEXT where there is a username, and else PLAINTEXT (tests only). Settings that contradict
    each other are refused with a text that names the variable and the reason. Inputs are kept out of the errors: some are passwords.
    """

    model_config = SettingsConfigDict(env_prefix="OMS_", extra="ignore", hide_input_in_errors=True)

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_security_protocol: SecurityProtocol | None = None
    kafka_sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_token_file: FilePath | None = None
    """For OAUTHBEARER: the file with the token. It is read anew for every connection, because tokens expire."""
    kafka_ca_file: FilePath | None = None
    """PEM: the certificate authorities that the broker's certificate may be from. None: those that the system trusts."""
    kafka_certificate_file: FilePath | None = None
    """PEM: our certificate, for a broker that requires one from its clients."""
    kafka_key_file: FilePath | None = None
    """PEM: that certificate's private key, where it is not in the same file."""
    kafka_key_password: SecretStr | None = None

    @property
    def security_protocol(self) -> SecurityProtocol:
        """How the connection is secured: as set, or else by whether there is a username."""
        return self.kafka_security_protocol or ("PLAINTEXT" if self.kafka_username is None else "SASL_PLAINTEXT")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted, and the broker's certificate and host name are verified."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether the client authenticates by `kafka_sasl_mechanism`."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        problem = _credentials_problem(self) or _tls_problem(self)
        if problem is not None:
            raise ValueError(problem)
        return self


def settings_of(kafka: Mapping[str, str | None]) -> KafkaSettings:
    """The settings of a broker user from a mapping whose keys are those of the variables after `OMS_KAFKA_`, in lower case.

    `bootstrap_servers` is required. Variables of the environment have no influence; unknown keys are ignored.
    """
    fields = KafkaSettings.model_fields
    values: dict[str, Any] = {name: kafka.get(name.removeprefix("kafka_")) or field.default for name, field in fields.items()}
    return KafkaSettings(**values)


def reasons_of(error: ValidationError) -> list[str]:
    """A line for each setting at fault, naming its variable."""
    return [
        ": ".join([*(f"OMS_{place}".upper() for place in problem["loc"]), problem["msg"].removeprefix("Value error, ")])
        for problem in error.errors()
    ]


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """What TLS connections are made with; None where the connection is not encrypted.

    It verifies the broker's certificate and its host name. Raises OSError (SSLError is one) if a file cannot be read or is not PEM.
    """
    if not settings.uses_tls:
        return None
    context = ssl.create_default_context(cafile=settings.kafka_ca_file)
    if settings.kafka_certificate_file is not None:
        password = settings.kafka_key_password.get_secret_value() if settings.kafka_key_password is not None else ""
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(settings.kafka_certificate_file, settings.kafka_key_file, lambda: password)
    return context


def _credentials_problem(settings: KafkaSettings) -> str | None:
    has_name, has_password = settings.kafka_username is not None, settings.kafka_password is not None
    has_token = settings.kafka_token_file is not None
    protocol, mechanism = settings.security_protocol, settings.kafka_sasl_mechanism
    if not settings.uses_sasl:
        credentials = {"OMS_KAFKA_USERNAME": has_name, "OMS_KAFKA_PASSWORD": has_password, "OMS_KAFKA_TOKEN_FILE": has_token}
        unused = next((name for name, is_set in credentials.items() if is_set), None)
        if unused is not None:
            return f"{unused}: is set, and {protocol} would not use it; OMS_KAFKA_SECURITY_PROTOCOL must be SASL_SSL or SASL_PLAINTEXT"
        return None
    if mechanism == "OAUTHBEARER":
        if not has_token:
            return "OMS_KAFKA_TOKEN_FILE: is not set, and OAUTHBEARER authenticates by a token"
        if has_name or has_password:
            name = "OMS_KAFKA_USERNAME" if has_name else "OMS_KAFKA_PASSWORD"
            return f"{name}: is set, and OAUTHBEARER would not use it; the token names the user"
        return None
    if has_token:
        return f"OMS_KAFKA_TOKEN_FILE: is set, and {mechanism} would not use it; OMS_KAFKA_SASL_MECHANISM must be OAUTHBEARER"
    if not has_name:
        return f"OMS_KAFKA_USERNAME: is not set, and {mechanism} authenticates by username and password"
    if not has_password:
        return f"OMS_KAFKA_PASSWORD: is not set, and {mechanism} authenticates by username and password"
    return None


def _tls_problem(settings: KafkaSettings) -> str | None:
    files = {
        "OMS_KAFKA_CA_FILE": settings.kafka_ca_file,
        "OMS_KAFKA_CERTIFICATE_FILE": settings.kafka_certificate_file,
        "OMS_KAFKA_KEY_FILE": settings.kafka_key_file,
    }
    if not settings.uses_tls:
        unused = next((name for name, file in files.items() if file is not None), None)
        if unused is not None:
            needed = "SASL_SSL" if settings.uses_sasl else "SSL"
            return f"{unused}: is set, and {settings.security_protocol} does not encrypt; OMS_KAFKA_SECURITY_PROTOCOL must be {needed}"
        return None
    if settings.kafka_key_file is not None and settings.kafka_certificate_file is None:
        return "OMS_KAFKA_KEY_FILE: is set without OMS_KAFKA_CERTIFICATE_FILE, the certificate that it belongs to"
    if settings.kafka_key_password is not None and settings.kafka_certificate_file is None:
        return "OMS_KAFKA_KEY_PASSWORD: is set without OMS_KAFKA_CERTIFICATE_FILE and OMS_KAFKA_KEY_FILE"
    return _file_problem(settings)


def _file_problem(settings: KafkaSettings) -> str | None:
    """What is wrong with the content of the files: a client would find it out with its first connection."""
    try:
        ssl.create_default_context(cafile=settings.kafka_ca_file)
    except OSError as error:
        return f"OMS_KAFKA_CA_FILE: is no readable PEM file of certificates ({error})"
    try:
        ssl_context(settings)
    except OSError as error:
        return (
            f"OMS_KAFKA_CERTIFICATE_FILE: it, with OMS_KAFKA_KEY_FILE and OMS_KAFKA_KEY_PASSWORD, is no certificate with its key ({error})"
        )
    return None
