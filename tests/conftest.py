"""The stack that the tests of several services share: a new one for each module."""

import os
from collections.abc import Iterator

import pytest
from oms_local.stack import Stack, StackSettings


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Real broker, real database and all services, empty. Unknown payments are looked up after 0.2 s instead of 5 s."""
    stack = Stack(StackSettings.on_free_ports(tmp_path_factory.mktemp("stack")))
    stack.up(environment={"OMS_LOOK_UP_AFTER": "PT0.2S", "OMS_LOOK_UP_AT_MOST": "PT1S"}, owner=os.getpid())
    yield stack
    stack.down()
