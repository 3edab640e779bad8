"""The certificates of a stack: an authority of its own, made once, and what it signs. By the program openssl; all files are PEM.

ca.pem ca.key             the authority
<name>.pem <name>.key     what it signed: certificate and private key
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from oms_provision.errors import ProvisionError
from oms_provision.passwords import write_secret

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEWAL_SECONDS = 30 * 24 * 3600
"""A certificate that is valid for less time than this is made again."""
TIMEOUT_SECONDS = 30
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate authority whose files are in `folder`."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """What clients and servers verify each other's certificates by. It is public."""
        return self.folder / "ca.pem"

    @property
    def key(self) -> Path:
        """The private key that signs."""
        return self.folder / "ca.key"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate's files: itself, and its private key."""

    certificate: Path
    key: Path

    def keystore(self) -> str:
        """Key and certificate in one text, as Kafka reads them."""
        return self.key.read_text() + self.certificate.read_text()


def certificate_in(folder: Path, name: str) -> Certificate:
    """Where the certificate `name` is, whether it is made yet or not."""
    return Certificate(folder / f"{name}.pem", folder / f"{name}.key")


def load_or_make_authority(folder: Path) -> Authority:
    """The authority in `folder`, which only its owner can enter. It is made the first time, and again before it ends.

    Raises ProvisionError without openssl, and OSError if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority(folder)
    if not _is_current(authority.certificate, authority.key):
        _make(
            authority.certificate,
            authority.key,
            ("-x509", *NEW_KEY, "-days", str(AUTHORITY_DAYS), "-subj", "/CN=Orderstream's own authority"),
            ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        for issued in folder.glob("*.pem"):
            if issued != authority.certificate:
                issued.unlink()  # another authority has signed it
    return authority


def load_or_issue(authority: Authority, name: str, hosts: Sequence[str]) -> Certificate:
    """The certificate `name` for `hosts` (host names and addresses; none for a client). It is made the first time, and before it ends.

    The hosts of a certificate that exists are kept. Raises ProvisionError without openssl, and OSError if the folder cannot be written.
    """
    made = certificate_in(authority.folder, name)
    if not _is_current(made.certificate, made.key):
        names = [f"IP:{host}" if _is_address(host) else f"DNS:{host}" for host in hosts]
        extensions = ["basicConstraints=critical,CA:FALSE", *([f"subjectAltName={','.join(names)}"] if names else [])]
        signed_by = ("-CA", str(authority.certificate), "-CAkey", str(authority.key))
        _make(
            made.certificate, made.key, ("-x509", *NEW_KEY, *signed_by, "-days", str(CERTIFICATE_DAYS), "-subj", f"/CN={name}"), extensions
        )
    return made


def _make(certificate: Path, key: Path, arguments: Sequence[str], extensions: Sequence[str]) -> None:
    made = Path(f"{key}.openssl")
    write_secret(made, "")  # openssl keeps the mode of a file that exists
    added = [word for extension in extensions for word in ("-addext", extension)]
    try:
        text = _openssl("req", *arguments, "-config", "/dev/null", *added, "-keyout", str(made))
        write_secret(key, made.read_text())
    finally:
        made.unlink(missing_ok=True)
    write_secret(certificate, text)
    certificate.chmod(0o644)  # it is public, and containers read it as another user


def _is_current(certificate: Path, key: Path) -> bool:
    if not (certificate.exists() and key.exists()):
        return False
    try:
        _openssl("x509", "-in", str(certificate), "-noout", "-checkend", str(RENEWAL_SECONDS))
    except ProvisionError:
        return False
    return True


def _openssl(*arguments: str) -> str:
    program = shutil.which("openssl")
    if program is None:
        raise ProvisionError("the program openssl, which makes the certificates, is not on the PATH. Install it, then try again.")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
    if done.returncode:
        raise ProvisionError(f"openssl cannot make certificates: {' | '.join(done.stderr.strip().splitlines()[-3:])}. Is it 3.0 or newer?")
    return done.stdout


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
