"""Projection as two releases have it, as a program: `OMS_TEST_VERSION` 1 is the code as it is, under that number, 2 a next release.

The next release has a table and a column more, and twice as many units in an order and its lines, so that rows of both versions in one
response do not fit each other. A release with a bug cannot fold the order `OMS_TEST_UNFOLDABLE`.
"""

import os
import threading
from dataclasses import replace
from typing import Any

from oms_contracts.orders import OrderAccepted
from oms_projection import tables
from oms_projection.tables import AMOUNT, COUNT, TEXT, Table

ORDERS = replace(tables.ORDERS, last={**tables.ORDERS.last, "first_sku": TEXT})
ORDER_LINES = replace(tables.ORDER_LINES, last={**tables.ORDER_LINES.last, "quantity": AMOUNT})
CHANNELS = Table(name="channels", key={"channel": TEXT}, sums=("orders",))


def upgrade() -> None:
    """Make the modules those of the next release. Nothing may have imported them yet."""
    replaced = {tables.ORDERS: ORDERS, tables.ORDER_LINES: ORDER_LINES}
    tables.__dict__.update(
        READ_MODELS_VERSION=2,
        ORDERS=ORDERS,
        ORDER_LINES=ORDER_LINES,
        TABLES=(*(replaced.get(table, table) for table in tables.TABLES), CHANNELS),
        DEFINITIONS=tables.DEFINITIONS.replace("channel        text,", "channel        text,\n    first_sku text,", 1)
        + f'create table channels (channel text collate "C" primary key, orders {COUNT} not null);',
    )


def run() -> None:
    """Run the release as `python -m oms_projection` does."""
    if next_release := os.environ["OMS_TEST_VERSION"] == "2":
        upgrade()
    else:
        tables.__dict__.update(READ_MODELS_VERSION=1)
    from oms_projection.app import main  # noqa: PLC0415  # it imports the tables, which had to be changed first
    from oms_projection.projector import FOLDS  # noqa: PLC0415

    fold, unfoldable = FOLDS["oms.orders"], os.environ.get("OMS_TEST_UNFOLDABLE")

    def fold_orders(changes: Any, event: object, envelope: Any) -> None:
        fold(changes, event, envelope)
        if isinstance(event, OrderAccepted):
            if event.order_id == unfoldable:
                raise ValueError("this release has a bug")
            if next_release:
                changes.set(ORDERS, event.order_id, first_sku=event.lines[0].sku, units=2 * sum(line.quantity for line in event.lines))
                changes.add(CHANNELS, event.channel, orders=1)
                for line in event.lines:
                    changes.set(ORDER_LINES, event.order_id, line.line_id, quantity=2 * line.quantity)

    FOLDS["oms.orders"] = fold_orders
    main()


def _end_with_the_test() -> None:
    """A test that was killed closes our standard input, and must not leave us behind."""
    os.read(0, 1)
    os._exit(3)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_test, daemon=True).start()
    run()
