"""The stack that the tests of several services share: a new one for each module."""

import os
from collections.abc import Iterator

import pytest
from oms_contracts.catalogue import ALL_SERVICES
from oms_local.ports import find_free
from oms_local.stack import Stack, StackSettings


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Real broker, real database and all services, empty. Unknown payments are looked up after 0.2 s instead of 5 s."""
    first = find_free(2 + len(ALL_SERVICES))
    stack = Stack(
        StackSettings(data=tmp_path_factory.mktemp("stack"), kafka_port=first, postgres_port=first + 1, http_port=first + 2),
    )
    stack.up(environment={"OMS_LOOK_UP_AFTER": "PT0.2S", "OMS_LOOK_UP_AT_MOST": "PT1S"}, owner=os.getpid())
    yield stack
    stack.down()
