"""The order of the root README is the one that `oms order example` prints, and can be placed."""

import re
import subprocess
import sys
from pathlib import Path

from oms_capture.validation import Market, objections
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import type_of, validate

from tests.documentation.pages import ROOT


def test_the_readmes_order_is_the_example_and_is_valid() -> None:
    [text] = re.findall(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    printed = subprocess.run([Path(sys.executable).with_name("oms"), "order", "example"], capture_output=True, text=True, check=True).stdout
    placed: OrderPlaced = validate(type_of(OrderPlaced).name, text.encode())
    assert placed == validate(type_of(OrderPlaced).name, printed.encode())
    assert objections(placed, placed.placed_at, Market()) == ()
    assert placed.total == sum(line.total for line in (*placed.lines, *placed.shipping_lines))
    assert "amounts in cents, which contain their taxes" in (ROOT / "README.md").read_text()
