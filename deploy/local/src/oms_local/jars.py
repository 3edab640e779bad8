"""The broker's jars: locked by version and SHA-256, fetched once, kept in the user's cache folder."""

import hashlib
import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import platformdirs

from oms_local.errors import StackError

Progress = Callable[[str], None]

SIZE = "46 MB"


def cache_folder() -> Path:
    """Where what is the same for every clone is kept; `OMS_STACK_CACHE` names another place."""
    named = os.environ.get("OMS_STACK_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("orderstream")


def lock_digest() -> str:
    """Names this very set of jars."""
    return hashlib.sha256(files("oms_local").joinpath("jars.lock").read_bytes()).hexdigest()[:12]


def fetch(progress: Progress) -> list[Path]:
    """All jars in class path order; those not here yet are downloaded and checked against the lock.

    A jar gets its name in the cache after its hash was found right, so a name there is proof enough.
    """
    folder = cache_folder() / "jars"
    wanted = {_file_name(coordinates): (coordinates, digest) for coordinates, digest in _locked()}
    missing = [name for name in wanted if not (folder / name).exists()]
    if missing:
        progress(f"downloading Kafka's jars ({SIZE}, once on this machine)")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"cannot write to {folder}: {error.strerror}. Set OMS_STACK_CACHE to a folder you may write to.") from error
    for done, name in enumerate(missing, start=1):
        _download(*wanted[name], folder / name)
        if done % 15 == 0:
            progress(f"downloaded {done} of {len(missing)} jars")
    return [folder / name for name in wanted]


def _locked() -> list[tuple[str, str]]:
    lines = files("oms_local").joinpath("jars.lock").read_text().splitlines()
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return [(coordinates, digest) for coordinates, digest in pairs]


def _file_name(coordinates: str) -> str:
    _, artifact, version = coordinates.split(":")
    return f"{artifact}-{version}.jar"


def _download(coordinates: str, digest: str, target: Path) -> None:
    # jgo knows where jars are published and brings requests along; both are slow to import and needed once.
    import requests  # noqa: PLC0415
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415

    group, artifact, version = coordinates.split(":")
    repository = os.environ.get("OMS_STACK_MAVEN_REPOSITORY", MAVEN_CENTRAL_URL)
    address = f"{repository}/{group.replace('.', '/')}/{artifact}/{version}/{target.name}"
    try:
        answer = requests.get(address, timeout=60)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise StackError(
            f"cannot download {coordinates}: {error}. Check the network (HTTPS_PROXY; REQUESTS_CA_BUNDLE), "
            "or set OMS_STACK_MAVEN_REPOSITORY to a mirror; what has arrived is kept."
        ) from error
    found = hashlib.sha256(answer.content).hexdigest()
    if found != digest:
        raise StackError(f"{coordinates} has SHA-256 {found}, not the locked {digest}. Do not use it; try another network or mirror.")
    arriving = target.with_suffix(f".{os.getpid()}")
    try:
        arriving.write_bytes(answer.content)
        arriving.replace(target)  # in one step: a jar with its right name is whole
    except OSError as error:
        arriving.unlink(missing_ok=True)
        raise StackError(f"cannot write {target}: {error.strerror}. Free some space, or set OMS_STACK_CACHE to another folder.") from error
