"""The stack as containers: `docker-compose.yml` describes it, this module makes its secrets and sets up its servers."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from oms_contracts.catalogue import APIS, PERSONAL_DATA_PROCESSES, PROGRAMS, QUERY_TOKEN_PROCESSES, TOPICS, USERS

from oms_provision.broker import CONNECTION, broker_is_ready, make_admin, provision_topics, provision_users, topics_of_parties
from oms_provision.certificates import Certificate, load_or_issue, load_or_make_authority
from oms_provision.databases import provision_databases
from oms_provision.errors import ProvisionError, UnreachableError, UsageError
from oms_provision.passwords import ADMIN, Passwords, load_or_make, parse, write_secret
from oms_provision.sql import database_is_ready, run_to_end

READY_TIMEOUT_SECONDS = 120
POLL_SECONDS = 0.5
KAFKA, KAFKA_ADMIN, POSTGRES = "kafka:9092", "kafka:9094", "postgres:5432"
"""Addresses in the containers' network: the broker's for users, the broker's for its administration, the database server's."""
KAFKA_OUTSIDE = "127.0.0.1:9092"
"""The broker's address for parties, on this machine. Where they are elsewhere the broker has to advertise another."""

ON_THIS_MACHINE = ("localhost", "127.0.0.1")
"""The hosts by which programs on this machine reach the containers."""


def make_secrets(folder: Path, *, tls: bool = False) -> list[Path]:
    """Write a file `<container>.env` for every container, with what that container must know and no more.

    With `tls` also the certificates that `deploy/docker-compose.tls.yml` mounts, in the folder `tls`. Passwords and certificates that exist
    are kept. Returns the files of variables. Raises ProvisionError if `folder` cannot be read or written, or there is no openssl.
    """
    files: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for container, variables in variables_of(load_or_make(folder), _certificate_of_broker(folder / "tls") if tls else None).items():
            file = folder / f"{container}.env"
            # Compose takes the text between single quotes as it is. No password of ours has one.
            write_secret(file, "".join(f"{name}='{value}'\n" for name, value in variables.items()))
            files.append(file)
    except OSError as error:
        raise ProvisionError(f"cannot write {error.filename or folder}: {error.strerror}. Give a folder you may write to.") from error
    return files


def variables_of(passwords: Passwords, broker: Certificate | None = None) -> dict[str, dict[str, str]]:
    """The secret variables of each container, by its name. `broker` is the broker's certificate, None without TLS."""
    credentials = f'username="{ADMIN}" password="{passwords.kafka[ADMIN]}"'
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required {credentials} user_{ADMIN}="{passwords.kafka[ADMIN]}";'
    superuser_url = f"postgresql://postgres:{passwords.postgres[ADMIN]}@{POSTGRES}/postgres"
    # The broker gets certificate and key as text: it runs as a user who cannot read a file that is closed to all but its owner.
    keystore = {} if broker is None else {"CERTIFICATE_CHAIN": broker.certificate, "KEY": broker.key}
    servers = {
        "kafka": {
            **{f"KAFKA_SSL_KEYSTORE_{name}": " ".join(file.read_text().split("\n")).strip() for name, file in keystore.items()},
            **{f"KAFKA_LISTENER_NAME_{listener}_PLAIN_SASL_JAAS_CONFIG": plain for listener in ("INTERNAL", "CONTROLLER")},
        },
        "postgres": {"POSTGRES_PASSWORD": passwords.postgres[ADMIN]},
        "provision": {
            "KAFKA_BOOTSTRAP_SERVERS": KAFKA_ADMIN,
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_USERNAME": ADMIN,
            "KAFKA_PASSWORD": passwords.kafka[ADMIN],
            "PARTIES_BOOTSTRAP_SERVERS": KAFKA_OUTSIDE,
            "POSTGRES_URL": superuser_url,
            "OMS_PASSWORDS": json.dumps({"kafka": passwords.kafka, "postgres": passwords.postgres}),
        },
    }
    programs = {
        program: {
            "OMS_KAFKA_BOOTSTRAP_SERVERS": KAFKA,
            "OMS_KAFKA_USERNAME": program,
            "OMS_KAFKA_PASSWORD": passwords.kafka[program],
            "OMS_DATABASE_URL": f"postgresql://oms_{program}:{passwords.postgres[program]}@{POSTGRES}/oms_{program}",
        }
        for program in PROGRAMS
    }
    # The API of a service only reads its database.
    apis = {api: {"OMS_DATABASE_URL": programs[program]["OMS_DATABASE_URL"]} for api, program in APIS.items() if api != program}
    processes = programs | apis
    for process in PERSONAL_DATA_PROCESSES:
        processes[process]["OMS_PERSONAL_DATA_KEY"] = passwords.personal_data_key
    for process in QUERY_TOKEN_PROCESSES:
        processes[process]["OMS_QUERY_TOKEN"] = passwords.query_token
    return servers | processes


def provision(environment: Mapping[str, str], timeout_seconds: float = READY_TIMEOUT_SECONDS) -> None:
    """Set up the servers that the variables name, as soon as they respond. Can be repeated at any time.

    Raises UsageError if a variable is missing or malformed, UnreachableError if a server does not respond within `timeout_seconds`, and
    ProvisionError if a server refuses.
    """
    broker = broker_of(environment)
    database = _variable(environment, "POSTGRES_URL")
    if urlsplit(database).scheme not in ("postgres", "postgresql"):
        raise UsageError("POSTGRES_URL is no URL of a database. It looks like postgresql://USER:PASSWORD@HOST:PORT/postgres.")
    users, roles = _passwords(_variable(environment, "OMS_PASSWORDS"))
    _wait_until_ready(broker, database, timeout_seconds)
    admin = make_admin(broker)
    provision_topics(admin, [*TOPICS, *topics_of_parties(admin)])
    provision_users(admin, users)
    run_to_end(lambda: provision_databases(database, roles))


def broker_of(environment: Mapping[str, str]) -> dict[str, str]:
    """How the variables say that the broker's super user connects. Raises UsageError if one is missing."""
    return {
        "bootstrap_servers": _variable(environment, "KAFKA_BOOTSTRAP_SERVERS"),
        "username": _variable(environment, "KAFKA_USERNAME"),
        "password": _variable(environment, "KAFKA_PASSWORD"),
        **{name: value for name in CONNECTION if (value := environment.get(f"KAFKA_{name.upper()}"))},
    }


def _certificate_of_broker(folder: Path) -> Certificate:
    """The broker's certificate. The database server's is made beside it."""
    authority = load_or_make_authority(folder)
    load_or_issue(authority, "postgres", ("postgres", *ON_THIS_MACHINE))
    return load_or_issue(authority, "kafka", ("kafka", *ON_THIS_MACHINE))


def _variable(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise UsageError(
            f"the variable {name} is not set. `python -m oms_provision secrets FOLDER` writes all of them to FOLDER/provision.env."
        )
    return value


def _passwords(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """The passwords of every broker user and of every database role."""
    try:
        passwords = parse(text)
        return {user: passwords.kafka[user] for user in USERS}, {program: passwords.postgres[program] for program in PROGRAMS}
    except ValueError as error:
        problem = "OMS_PASSWORDS is not the JSON of passwords.json"
        raise UsageError(f"{problem}. Write provision.env again: `python -m oms_provision secrets FOLDER`.") from error
    except KeyError as error:
        problem = f"OMS_PASSWORDS has no password of {error.args[0]}"
        raise UsageError(f"{problem}. Write provision.env again: `python -m oms_provision secrets FOLDER`.") from error


def _wait_until_ready(broker: Mapping[str, str], database: str, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        ready = {"broker": broker_is_ready(broker), "database": database_is_ready(database)}
        if all(ready.values()):
            return
        if time.monotonic() > deadline:
            unready = " and ".join(name for name, is_ready in ready.items() if not is_ready)
            raise UnreachableError(
                f"no response from the {unready} after {timeout_seconds:g} s. Check address and password; "
                "`docker compose logs kafka postgres` may say why. Then try again."
            )
        time.sleep(POLL_SECONDS)
