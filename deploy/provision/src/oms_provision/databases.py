"""Set up the database server: for each program a role, and a database that no other may open. Every call can be repeated."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping

import asyncpg

from oms_provision.errors import ProvisionError
from oms_provision.sql import session

SCRAM_ITERATIONS = 4096


async def provision_databases(url: str, roles: Mapping[str, str]) -> None:
    """Make or update a role `oms_<service>` with its password, and a database of that name which it owns.

    `url` is a superuser's; `roles` holds passwords by service, or gateway. Raises ProvisionError if the server refuses.
    """
    try:
        await _provision(url, roles)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise ProvisionError(f"the database server refused to be set up: {error}. The URL must be reachable and a superuser's.") from error


async def _provision(url: str, roles: Mapping[str, str]) -> None:
    async with session(url) as connection:
        for database in ("postgres", "template1"):
            await connection.execute(f"revoke connect on database {database} from public")
        for service, password in roles.items():
            role = f"oms_{service}"
            exists = await connection.fetchval("select 1 from pg_roles where rolname = $1", role)
            verb = "alter" if exists else "create"
            # Hashed here, so that not even a failing statement writes the password to the server's log.
            await connection.execute(f"{verb} role {role} login password '{_scram_verifier(password)}'")
            if not await connection.fetchval("select 1 from pg_database where datname = $1", role):
                await connection.execute(f"create database {role} owner {role}")
            await connection.execute(f"revoke all on database {role} from public")


def _scram_verifier(password: str) -> str:
    """What PostgreSQL stores of a password (RFC 5803, SCRAM-SHA-256)."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt64}${stored64}:{server64}"
