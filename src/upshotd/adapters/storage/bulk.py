"""Statements over many rows or keys at once: one wait for the interpreter's lock, not one a row.

A driver gives that lock away at every step, and a row written or read is a step. While the event
loop is busy each step may wait 5 ms to get the lock back. So many rows are written by one statement
(not `executemany`), and many rows are read as one: joined into a JSON document by the database,
which `orjson` also takes apart faster than single rows. Numbers of rows and keys come from short
lists, so that texts repeat and stay prepared.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    SmallInteger,
    Table,
    literal_column,
    select,
)

from upshotd.adapters.storage.rows import Row, load

# Texts are made of names in `tables` and of placeholders, never of values: hence noqa: S608.

#: Rows of one statement and keys of one statement. What is missing is filled up.
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
KEYS = (1, 4, 16, 64, 128, 256, 512, 1024)


def marks(connection: Connection, first: int, count: int) -> str:
    """Return *count* placeholders as the driver wants them; *first* is the number of the first.

    SQLite numbers them itself, and numbers the next one higher than all before; it keeps a list of
    those that are numbered by hand and searches it for each, so only the workspace is.
    """
    if connection.dialect.paramstyle == "qmark":
        return "?1" if first == 1 else ",".join("?" * count)
    return ",".join(f"${number}" for number in range(first, first + count))


# -- writing -------------------------------------------------------------------------------------


class Insert:
    """`INSERT INTO table (workspace_id, columns) VALUES ... tail` for rows of one workspace.

    The first column may not be NULL: rows that fill a statement up are known by it.
    """

    def __init__(self, table: Table, columns: Sequence[str], tail: str = "") -> None:
        self.table = table.name
        self._head = f"INSERT INTO {table.name} (workspace_id, {', '.join(columns)})"
        self._width = len(columns)
        self._tail = tail
        self._texts: dict[tuple[str, int], str] = {}

    def run(self, connection: Connection, workspace_id: str, rows: Sequence[Row]) -> int:
        """Write *rows* and return how many were inserted or updated."""
        values = iter(rows)
        left, written = len(rows), 0
        while left:
            size = _size(left)
            flat = [workspace_id, *chain.from_iterable(islice(values, size))]
            flat += [None] * (size * self._width + 1 - len(flat))
            done = connection.exec_driver_sql(self._text(connection, size), tuple(flat))
            written += done.rowcount
            left -= min(size, left)
        return written

    def one(self, connection: Connection, workspace_id: str, row: Row) -> Row:
        """Write *row* and return what the tail's RETURNING names."""
        return connection.exec_driver_sql(self._text(connection, 1), (workspace_id, *row)).one()

    def _text(self, connection: Connection, rows: int) -> str:
        key = (connection.dialect.paramstyle, rows)
        if key not in self._texts:
            width, workspace = self._width, marks(connection, 1, 1)
            firsts = range(2, 2 + rows * width, width)
            groups = (f"({workspace},{marks(connection, first, width)})" for first in firsts)
            values = f"VALUES {', '.join(groups)}"
            if rows > 1:
                values = f"SELECT * FROM ({values}) AS v WHERE column2 IS NOT NULL"  # noqa: S608
            self._texts[key] = f"{self._head} {values} {self._tail}"
        return self._texts[key]


def _size(left: int) -> int:
    """Return how many rows the next statement takes, at most a quarter of them to fill it up."""
    enough = next((size for size in ROWS if size >= left), ROWS[-1])
    return enough if left * 4 >= enough * 3 else enough // 2


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


# -- reading -------------------------------------------------------------------------------------


def _packed(table: Table, columns: Iterable[str]) -> str:
    """Return the aggregate that joins *columns* of all rows into one JSON document.

    Documents go in as they are; other bytes as hexadecimal digits.
    """
    parts = []
    for name in columns:
        column = table.c[name]
        if column.info.get("document") or isinstance(column.type, BigInteger | SmallInteger):
            parts.append(f"coalesce({name}, 'null')" if column.nullable else name)
        elif column.info.get("payload"):
            parts.append(f"'\"' || hex({name}) || '\"'")
        else:
            parts.append(f"json_quote({name})")
    row = " || ',' || ".join(parts)
    return f"'[' || group_concat('[' || {row} || ']', ',') || ']'"


def fetch(
    connection: Connection, table: Table, columns: Sequence[str], query: Select[Any]
) -> list[Row]:
    """Return the rows of *query*, which selects *columns* of *table*, in no promised order."""
    document: ColumnElement[str] = literal_column(_packed(table, columns))
    found = connection.execute(select(document).select_from(query.subquery())).scalar()
    return load(found) if found else []


class Lookup:
    """The rows of a table by many keys of a workspace; documents come parsed.

    *also* are further conditions; *tail* and *source* (instead of the columns) allow a GROUP BY.
    """

    def __init__(
        self, table: Table, columns: Sequence[str], key: str, also: str = "", source: str = ""
    ) -> None:
        self._select = f"SELECT {_packed(table, columns)} FROM "  # noqa: S608
        self._from = source or table.name
        self._key = key
        self._also = also
        self._texts: dict[tuple[str, int], str] = {}

    def rows(self, connection: Connection, workspace_id: str, keys: Collection[str]) -> list[Row]:
        """Return the rows of all *keys*; no keys, no statement."""
        found: list[Row] = []
        left = list(keys)
        for at in range(0, len(left), KEYS[-1]):
            some = left[at : at + KEYS[-1]]
            size = next(size for size in KEYS if size >= len(some))
            filled = (workspace_id, *some, *(some[-1:] * (size - len(some))))
            text = self._text(connection, size)
            document = connection.exec_driver_sql(text, filled).scalar()
            if document:
                found += load(document)
        return found

    def _text(self, connection: Connection, size: int) -> str:
        key = (connection.dialect.paramstyle, size)
        if key not in self._texts:
            workspace, keys = marks(connection, 1, 1), marks(connection, 2, size)
            where = f" WHERE workspace_id = {workspace} AND {self._key} IN ({keys}){self._also}"
            if "{where}" in self._from:
                self._texts[key] = self._select + self._from.replace("{where}", where)
            else:
                self._texts[key] = self._select + self._from + where
        return self._texts[key]
