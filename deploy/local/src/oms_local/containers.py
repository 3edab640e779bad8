"""The stack as containers: `docker-compose.yml` describes it, this makes its secrets and fills its servers.

    python -m oms_local.containers secrets FOLDER    on this machine: one file of variables a container, as compose reads them
    python -m oms_local.containers provision         in a container: topics, users and rights, databases and roles

It needs neither Java nor PostgreSQL here, and the image holds neither.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from oms_contracts.catalogue import USERS

from oms_local.errors import StackError
from oms_local.passwords import ADMIN, DATABASES, Passwords, load_or_make, write_secret
from oms_local.provision import broker_is_ready, make_admin, provision_databases, provision_topics, provision_users
from oms_local.sql import database_is_ready, run_to_end

PATIENCE_SECONDS = 120
KAFKA, KAFKA_ADMIN, POSTGRES = "kafka:9092", "kafka:9094", "postgres:5432"
"""Where the containers find the broker (users, administration) and the database server."""


def make_secrets(folder: Path) -> None:
    """Write `<container>.env` for every container, each with what that container must know and no more. Known passwords are kept."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for container, variables in variables_of(load_or_make(folder)).items():
        # Single quotes: compose takes what is between them as it is. Our passwords have none.
        write_secret(folder / f"{container}.env", "".join(f"{name}='{value}'\n" for name, value in variables.items()))


def variables_of(passwords: Passwords) -> dict[str, dict[str, str]]:
    """The secret variables by container."""
    who = f'username="{ADMIN}" password="{passwords.kafka[ADMIN]}"'
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required {who} user_{ADMIN}="{passwords.kafka[ADMIN]}";'
    superuser = f"postgresql://postgres:{passwords.postgres[ADMIN]}@{POSTGRES}/postgres"
    servers = {
        "kafka": {f"KAFKA_LISTENER_NAME_{listener}_PLAIN_SASL_JAAS_CONFIG": plain for listener in ("INTERNAL", "CONTROLLER")},
        "postgres": {"POSTGRES_PASSWORD": passwords.postgres[ADMIN]},
        "provision": {
            "KAFKA_BOOTSTRAP_SERVERS": KAFKA_ADMIN,
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_USERNAME": ADMIN,
            "KAFKA_PASSWORD": passwords.kafka[ADMIN],
            "POSTGRES_URL": superuser,
            "OMS_PASSWORDS": json.dumps({"kafka": passwords.kafka, "postgres": passwords.postgres}),
        },
    }
    services = {
        service: {
            "OMS_KAFKA_BOOTSTRAP_SERVERS": KAFKA,
            "OMS_KAFKA_USERNAME": service,
            "OMS_KAFKA_PASSWORD": passwords.kafka[service],
            "OMS_DATABASE_URL": f"postgresql://oms_{service}:{passwords.postgres[service]}@{POSTGRES}/oms_{service}",
        }
        for service in DATABASES
    }
    return servers | services


def provision(environment: Mapping[str, str]) -> None:
    """Fill the servers that the variables name, as soon as they answer. Can be done again at any time."""
    passwords = json.loads(environment["OMS_PASSWORDS"])
    broker = {
        "bootstrap_servers": environment["KAFKA_BOOTSTRAP_SERVERS"],
        "mechanism": environment.get("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        "username": environment["KAFKA_USERNAME"],
        "password": environment["KAFKA_PASSWORD"],
    }
    database = environment["POSTGRES_URL"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (broker_is_ready(broker) and database_is_ready(database)):
        if time.monotonic() > deadline:
            raise StackError(
                f"broker or database do not answer after {PATIENCE_SECONDS} s. `docker compose logs kafka postgres` may say why."
            )
        time.sleep(0.5)
    admin = make_admin(broker)
    provision_topics(admin)
    provision_users(admin, {user: passwords["kafka"][user] for user in USERS})
    run_to_end(lambda: provision_databases(database, {service: passwords["postgres"][service] for service in DATABASES}))


def main() -> None:
    """Do what the arguments say; exit with 1 and the reason when it cannot be done."""
    try:
        match sys.argv[1:]:
            case ["secrets", folder]:
                make_secrets(Path(folder))
            case ["provision"]:
                provision(os.environ)
            case _:
                sys.exit(__doc__)
    except StackError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
