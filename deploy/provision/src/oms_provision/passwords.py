"""The passwords of broker users and database roles: random, made once, readable by their owner only."""

import json
import os
import secrets
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from oms_contracts.catalogue import PROGRAMS, USERS

from oms_provision.errors import ProvisionError

ADMIN = "admin"
FILE = "passwords.json"
KEY_BYTES = 32
TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Passwords:
    """`kafka` by broker user, `postgres` by program. Both have an entry `admin`: the super user and the superuser.

    `personal_data_key` is the installation's key, in base64, empty where it does not exist yet. Whoever loses it loses all personal data.
    `query_token` is the credential of the query API, empty where it does not exist yet.
    """

    kafka: dict[str, str]
    postgres: dict[str, str]
    personal_data_key: str = ""
    query_token: str = ""


def load_or_make(folder: Path) -> Passwords:
    """The passwords in `folder`. Those that do not exist yet are made and saved. Raises ProvisionError if the file cannot be read."""
    file = folder / FILE
    saved = _read(file) if file.exists() else Passwords(kafka={}, postgres={})
    complete = Passwords(
        kafka=_complete(saved.kafka, USERS),
        postgres=_complete(saved.postgres, PROGRAMS),
        personal_data_key=saved.personal_data_key or b64encode(secrets.token_bytes(KEY_BYTES)).decode(),
        query_token=saved.query_token or secrets.token_urlsafe(TOKEN_BYTES),
    )
    if complete != saved:
        write_secret(file, json.dumps(asdict(complete), indent=1))
    return complete


def load(folder: Path) -> Passwords:
    """The passwords in `folder`. Raises ProvisionError if there are none or the file cannot be read."""
    file = folder / FILE
    if not file.exists():
        raise ProvisionError(f"there are no passwords in {folder} yet. `python -m oms_provision secrets {folder}` makes them.")
    return _read(file)


def parse(text: str) -> Passwords:
    """Passwords from the JSON form that `load_or_make` saves. Raises ValueError if `text` is something else."""
    try:
        content = json.loads(text)
        return Passwords(
            kafka=dict(content["kafka"]),
            postgres=dict(content["postgres"]),
            personal_data_key=str(content.get("personal_data_key", "")),
            query_token=str(content.get("query_token", "")),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no passwords by `kafka` and `postgres`: {error}") from error


def write_secret(file: Path, text: str) -> None:
    """Write a file in one step. At no time can another user read it."""
    arriving = file.with_name(file.name + ".new")
    arriving.unlink(missing_ok=True)
    with os.fdopen(os.open(arriving, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    arriving.replace(file)


def _read(file: Path) -> Passwords:
    try:
        return parse(file.read_text())
    except OSError as error:
        raise ProvisionError(f"cannot read {file}: {error.strerror}. Run as the user who made it, its owner.") from error
    except ValueError as error:
        raise ProvisionError(
            f"{file} is damaged. Restore it from a backup. Without one the servers must begin anew: remove the file and the servers' data."
        ) from error


def _complete(saved: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: saved.get(name) or secrets.token_urlsafe(24) for name in (ADMIN, *names)}
