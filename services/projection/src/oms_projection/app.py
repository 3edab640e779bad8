"""Builds projection from its parts."""

from oms_runtime.clock import utc_now
from oms_runtime.model import LINGER_LONG_SECONDS, Service, service_of
from oms_runtime.server import run

from oms_projection.api import make_api
from oms_projection.projector import PROJECTED, project
from oms_projection.settings import Settings


def make_service() -> Service:
    """Projection. It owns no streams, and writes read models from the events of all services."""
    return service_of("projection", projector=project, projected=PROJECTED, linger_seconds=LINGER_LONG_SECONDS)


def main() -> None:
    """Run projection until SIGTERM or SIGINT."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(), settings, migrations="oms_projection", api=lambda runtime: make_api(runtime.database, utc_now))
