"""A FastStream broker is connected as every other client of ours is."""

from pathlib import Path
from typing import Any

import pytest
from faststream.kafka.security import parse_security
from oms_kafka.clients import client_options
from oms_kafka.settings import settings_of
from oms_runtime.group_membership import broker_security

USER = {"username": "capture", "password": "p"}
SSL_CONTEXT = "ssl_context"


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    (tmp_path / "token").write_text("token")
    return str(tmp_path / "token")


@pytest.mark.parametrize("suffix", ["PLAINTEXT", "SSL"])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", None])
def test_faststream_is_given_the_options_of_aiokafka(suffix: str, mechanism: str | None, token_file: str) -> None:
    protocol = suffix if mechanism is None else f"SASL_{suffix}"
    credentials = {None: {}, "OAUTHBEARER": {"token_file": token_file}}.get(mechanism, USER)
    settings = settings_of({"bootstrap_servers": "b:1", "security_protocol": protocol, "sasl_mechanism": mechanism, **credentials})

    own, theirs = client_options(settings), broker_security(settings)

    parsed: dict[str, Any] = {"bootstrap_servers": "b:1", **parse_security(theirs.pop("security")), **theirs}
    assert {type(options.pop(SSL_CONTEXT, None)).__name__ for options in (own, parsed)} == {"SSLContext" if suffix == "SSL" else "NoneType"}
    tokens = [options.pop("sasl_oauth_token_provider", None) for options in (own, parsed)]
    assert [token is not None for token in tokens] == [mechanism == "OAUTHBEARER"] * 2
    assert own == parsed
