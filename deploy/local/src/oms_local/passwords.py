"""The passwords of broker users and database roles: random, made once, readable by their owner only."""

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from oms_contracts.catalogue import SERVICES, USERS

from oms_local.errors import StackError

ADMIN = "admin"
DATABASES = (*SERVICES, "projection")
"""The services, each of which has a database of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passwords:
    """By broker user and by service; both know `admin`."""

    kafka: dict[str, str]
    postgres: dict[str, str]


def load_or_make(folder: Path) -> Passwords:
    """The passwords of the stack whose secrets are in `folder`; those that do not exist yet are made."""
    file = folder / "passwords.json"
    known = _read(file) if file.exists() else Passwords(kafka={}, postgres={})
    made = Passwords(kafka=_complete(known.kafka, USERS), postgres=_complete(known.postgres, DATABASES))
    if made != known:
        _write(file, made)
    return made


def load(folder: Path) -> Passwords:
    """The passwords of a stack that has been up before. Raises StackError where it never was."""
    file = folder / "passwords.json"
    if not file.exists():
        raise StackError(f"there is no stack in {folder.parent} yet. `oms stack up` makes one.")
    return _read(file)


def _read(file: Path) -> Passwords:
    try:
        content = json.loads(file.read_text())
        return Passwords(kafka=dict(content["kafka"]), postgres=dict(content["postgres"]))
    except OSError as error:
        raise StackError(f"cannot read {file}: {error.strerror}. It belongs to who started the stack first; run as that user.") from error
    except (ValueError, KeyError) as error:
        raise StackError(f"{file} is damaged. Restore it, or remove {file.parent.parent} to begin anew (its data is lost).") from error


def _complete(known: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: known.get(name) or secrets.token_urlsafe(24) for name in (ADMIN, *names)}


def _write(file: Path, passwords: Passwords) -> None:
    write_secret(file, json.dumps({"kafka": passwords.kafka, "postgres": passwords.postgres}, indent=1))


def write_secret(file: Path, text: str) -> None:
    """Write a file that nobody else could read at any time, in one step."""
    arriving = file.with_name(file.name + ".new")
    arriving.unlink(missing_ok=True)
    with os.fdopen(os.open(arriving, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    arriving.replace(file)
