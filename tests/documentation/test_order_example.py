"""The order of the root README is the one that `oms order example` prints, and can be placed."""

import json
import re
import subprocess
import sys
from pathlib import Path

from oms_contracts.channel import OrderPlaced
from oms_contracts.message import type_of, validate

from tests.documentation.pages import ROOT


def test_the_readmes_order_is_the_example_and_is_valid() -> None:
    [text] = re.findall(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    printed = subprocess.run([Path(sys.executable).with_name("oms"), "order", "example"], capture_output=True, text=True, check=True).stdout
    assert json.loads(text) == json.loads(printed)
    placed = validate(type_of(OrderPlaced).name, text.encode())
    assert placed.total == sum(line.total for line in placed.lines) + placed.shipping
