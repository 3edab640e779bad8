"""A batch's changes to the read models: collected in memory, merged by key, and written with one statement for each table."""

from collections.abc import Mapping
from typing import Any

import msgspec
from oms_runtime.database import Connection

from oms_projection.tables import TABLES, Table

Key = tuple[Any, ...]
Row = dict[str, Any]


class Changes:
    """The changes that records make to the read models: for each table the rows concerned, with their changed columns.

    The rows of `append` tables are complete at once, and kept in `appended`: key and `last` columns, in the table's order.
    """

    def __init__(self) -> None:
        self.rows: dict[Table, dict[Key, Row]] = {table: {} for table in TABLES if not table.append}
        self.appended: dict[Table, list[Key]] = {table: [] for table in TABLES if table.append}

    def set(self, table: Table, *key: Any, **values: Any) -> None:
        """Set the newest values of `last` columns. A tied column must be given whenever the column it is tied to is."""
        row = self.rows[table].setdefault(key, values)
        if row is not values:
            # As the table's upsert does: two events must have the same effect in one batch as in two.
            for name, value in values.items():
                if value is not None or name in table.tied:
                    row[name] = value

    def add(self, table: Table, *key: Any, **amounts: int) -> None:
        """Add to `sums` columns."""
        row = self.rows[table].setdefault(key, amounts)
        if row is not amounts:
            for name, amount in amounts.items():
                row[name] = row.get(name, 0) + amount

    def append(self, table: Table, *values: Any) -> None:
        """Append a row to an `append` table: all columns of the key, then all others, in the table's order."""
        self.appended[table].append(values)

    async def write(self, connection: Connection) -> None:
        """Write the changes, with one statement for each table concerned."""
        for table, rows in self.rows.items():
            if rows:
                await connection.execute(table.statement, rows_of(table, rows))
        for table, appended in self.appended.items():
            if appended:
                await connection.copy_records_to_table(table.name, records=appended, columns=(*table.key, *table.last))


def rows_of(table: Table, rows: Mapping[Key, Row]) -> str:
    """The rows in key order, as JSON that leaves out unchanged columns: the argument of `table.statement`.

    With an array for each column, asyncpg would examine every value for being an array itself: that took a quarter of the time.
    """
    return _encoder.encode([dict(zip(table.key, key, strict=True)) | rows[key] for key in sorted(rows)]).decode()


_encoder = msgspec.json.Encoder()
