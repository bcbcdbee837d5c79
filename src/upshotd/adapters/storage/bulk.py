"""Statements over many rows or keys at once.

A driver's `executemany` steps row by row and gives the interpreter's lock away at every step; while
the event loop is busy each step may wait 5 ms to get it back. One statement with many rows waits
once. Numbers of rows and keys come from short lists, so that texts repeat and stay prepared.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice

from sqlalchemy import Connection, Table

from upshotd.adapters.storage.rows import Row

#: Rows of one statement; together they make any number in few statements.
ROWS = (256, 128, 64, 32, 16, 8, 4, 2, 1)
#: Keys of one statement; a shorter list is filled up by repeating its last key.
KEYS = (1, 4, 16, 64, 128, 256, 512, 1024)


def marks(connection: Connection, first: int, count: int) -> str:
    """Return *count* placeholders from number *first* (1 is the first) as the driver wants them."""
    if connection.dialect.paramstyle == "qmark":
        return ",".join("?" * count)
    return ",".join(f"${number}" for number in range(first, first + count))


class Insert:
    """`INSERT INTO table (columns) VALUES ... tail` for any number of rows."""

    def __init__(self, table: Table, columns: Sequence[str], tail: str = "") -> None:
        self.table = table.name
        self._head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608 - own words
        self._width = len(columns)
        self._tail = f" {tail}" if tail else ""
        self._texts: dict[tuple[str, int], str] = {}

    def run(self, connection: Connection, rows: Iterable[Row]) -> int:
        """Write *rows* and return how many were inserted or updated."""
        left = list(rows)
        values = iter(left)
        written, at = 0, 0
        for size in ROWS:
            while len(left) - at >= size:
                flat = tuple(chain.from_iterable(islice(values, size)))
                written += connection.exec_driver_sql(self._text(connection, size), flat).rowcount
                at += size
        return written

    def one(self, connection: Connection, row: Row) -> Row:
        """Write *row* and return what the tail's RETURNING names."""
        return connection.exec_driver_sql(self._text(connection, 1), tuple(row)).one()

    def _text(self, connection: Connection, rows: int) -> str:
        key = (connection.dialect.paramstyle, rows)
        if key not in self._texts:
            width = self._width
            values = (f"({marks(connection, row * width + 1, width)})" for row in range(rows))
            self._texts[key] = self._head + ", ".join(values) + self._tail
        return self._texts[key]


def upsert(
    table: Table,
    columns: Sequence[str],
    keys: Sequence[str],
    changing: Sequence[str],
    also: Sequence[str] = (),
) -> Insert:
    """Return the write of versioned rows: a row that has moved on is not written, nor counted.

    Rows carry the next version; a row whose version is 1 must be new. *changing* are the columns
    that an update takes over, *also* further assignments.
    """
    taken = (f"{name} = excluded.{name}" for name in (*changing, "row_version"))
    changes = ", ".join((*taken, *also))
    tail = (
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes} "
        f"WHERE {table.name}.row_version = excluded.row_version - 1"
    )
    return Insert(table, columns, tail)


class Lookup:
    """A statement with a list of keys: `:workspace` is the first parameter, `:keys` the others."""

    def __init__(self, text: str) -> None:
        self._parts = text
        self._texts: dict[tuple[str, int], str] = {}

    def rows(self, connection: Connection, workspace_id: str, keys: Collection[str]) -> list[Row]:
        """Return the rows of all *keys*; no keys, no statement."""
        found: list[Row] = []
        left = list(keys)
        for at in range(0, len(left), KEYS[-1]):
            some = left[at : at + KEYS[-1]]
            size = next(size for size in KEYS if size >= len(some))
            filled = (workspace_id, *some, *(some[-1:] * (size - len(some))))
            found += connection.exec_driver_sql(self._text(connection, size), filled).fetchall()
        return found

    def _text(self, connection: Connection, size: int) -> str:
        key = (connection.dialect.paramstyle, size)
        if key not in self._texts:
            text = self._parts.replace(":workspace", marks(connection, 1, 1))
            self._texts[key] = text.replace(":keys", marks(connection, 2, size))
        return self._texts[key]
