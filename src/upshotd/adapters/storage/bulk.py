"""Statements over many rows or keys at once, in the way that is fastest on each database.

Callers see one interface: rows of one workspace go in as tuples, and come out as sequences in which
documents are parsed and payloads are bytes.
"""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    SmallInteger,
    Table,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from upshotd.adapters.storage.rows import Row, load

# Texts are made of names in `tables` and of placeholders, never of values: hence noqa: S608.

#: Rows of one statement and keys of one statement on SQLite. What is missing is filled up.
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
KEYS = (1, 4, 16, 64, 128, 256, 512, 1024)


def on_postgresql(connection: Connection) -> bool:
    """Return which of the two databases it is."""
    return connection.dialect.name == "postgresql"


def run_ready(connection: Connection, text: str, values: tuple[Any, ...]) -> tuple[Any, int]:
    """Run a ready text on SQLite; return the first value of its first row, if any, and its rows.

    On the writing connection by the driver alone: what SQLAlchemy adds to a statement is as much as
    the statement itself, and a small batch has thirty of them.
    """
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        cursor = driver.execute(text, values)
        row = cursor.fetchone()
        return (row[0] if row is not None else None), cursor.rowcount
    done = connection.exec_driver_sql(text, values)
    return (done.scalar() if done.returns_rows else None), done.rowcount


def into(connection: Connection, table: Table) -> Any:
    """Return an insert into *table* that can say ON CONFLICT, as both databases do."""
    insert = postgresql.insert if on_postgresql(connection) else sqlite.insert
    return insert(table)


def marks(connection: Connection, first: int, count: int) -> str:
    """Return *count* placeholders as the driver wants them; *first* is the number of the first.

    SQLite numbers them itself, and numbers the next one higher than all before; it keeps a list of
    those that are numbered by hand and searches it for each, so only the workspace is.
    """
    if on_postgresql(connection):
        return ",".join(f"${number}" for number in range(first, first + count))
    return "?1" if first == 1 else ",".join("?" * count)


def _type(table: Table, name: str) -> str:
    kind = table.c[name].type
    if isinstance(kind, SmallInteger):
        return "smallint"
    if isinstance(kind, BigInteger):
        return "bigint"
    return "bytea" if isinstance(kind, LargeBinary) else "text"


# -- writing -------------------------------------------------------------------------------------


class Insert:
    """`INSERT INTO table (workspace_id, columns) ... tail` for rows of one workspace.

    The first column may not be NULL: rows that fill a statement up on SQLite are known by it.
    """

    def __init__(self, table: Table, columns: Sequence[str], tail: str = "") -> None:
        self.table = table.name
        self._columns = tuple(columns)
        self._head = f"INSERT INTO {table.name} (workspace_id, {', '.join(columns)})"
        self._tail = tail
        self._texts: dict[tuple[bool, int], str] = {}
        # A column is one array: any number of rows is one prepared statement of few arguments.
        arrays = (f"${n}::{_type(table, name)}[]" for n, name in enumerate(columns, 2))
        unnested = f"unnest({', '.join(arrays)}) AS v({', '.join(columns)})"
        self._unnest = f"{self._head} SELECT $1, v.* FROM {unnested} {tail}"  # noqa: S608

    def run(self, connection: Connection, workspace_id: str, rows: Sequence[Row]) -> int:
        """Write *rows* and return how many were inserted or updated."""
        if not rows:
            return 0
        if on_postgresql(connection):
            arrays = [list(column) for column in zip(*rows, strict=True)]
            done = connection.exec_driver_sql(self._unnest, (workspace_id, *arrays))
            return done.rowcount
        return self._run_sqlite(connection, workspace_id, rows)

    def _run_sqlite(self, connection: Connection, workspace_id: str, rows: Sequence[Row]) -> int:
        """Write by one statement of many rows, not one for each.

        The driver gives the interpreter's lock away at every step, and a row written by
        `executemany` is a step. While the event loop is busy each may wait to get it back.
        Numbers of rows come from a short list, so that texts repeat and stay prepared.
        """
        values = iter(rows)
        left, written, width = len(rows), 0, len(self._columns)
        while left:
            size = _size(left)
            flat = [workspace_id, *chain.from_iterable(islice(values, size))]
            flat += [None] * (size * width + 1 - len(flat))
            _, count = run_ready(connection, self._text(connection, size), tuple(flat))
            written += count
            left -= min(size, left)
        return written

    def returning(
        self, connection: Connection, workspace_id: str, rows: Sequence[Row]
    ) -> dict[Any, Any]:
        """Write *rows* one after the other; return by first column what the tail's RETURNING says.

        It names the value, then the first column.
        """
        if on_postgresql(connection):
            arrays = [list(column) for column in zip(*rows, strict=True)]
            done = connection.exec_driver_sql(self._unnest, (workspace_id, *arrays))
            return {key: value for value, key in done.all()}
        text = self._text(connection, 1)
        return {row[0]: run_ready(connection, text, (workspace_id, *row))[0] for row in rows}

    def _text(self, connection: Connection, rows: int) -> str:
        key = (on_postgresql(connection), rows)
        if key not in self._texts:
            width, workspace = len(self._columns), marks(connection, 1, 1)
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
    """Return SQLite's aggregate that joins *columns* of all rows into one JSON document.

    Reading a row is a step too (see `Insert`), and `orjson` takes one document apart faster than
    the driver many rows. Documents go in as they are; other bytes as hexadecimal digits.
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


class _Shape:
    """How rows of some columns are read."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        info = [table.c[name].info for name in columns]
        self.columns = ", ".join(columns)
        self.packed = _packed(table, columns)
        self._documents = [at for at, of in enumerate(info) if of.get("document")]
        self._payloads = [at for at, of in enumerate(info) if of.get("payload")]

    def unpacked(self, document: str | None) -> list[Row]:
        """Return the rows of SQLite's one document."""
        found: list[list[Any]] = load(document) if document else []
        for at in self._payloads:
            for row in found:
                row[at] = bytes.fromhex(row[at])
        return list(found)

    def parsed(self, rows: Iterable[Sequence[Any]]) -> list[Row]:
        """Return rows as PostgreSQL gives them, with documents parsed."""
        found = [list(row) for row in rows]
        for at in self._documents:
            for row in found:
                if row[at] is not None:
                    row[at] = load(row[at])
        return list(found)


def fetch(
    connection: Connection, table: Table, columns: Sequence[str], query: Select[Any]
) -> list[Row]:
    """Return the rows of *query*, which selects *columns* of *table*, in no promised order."""
    shape = _Shape(table, columns)
    if on_postgresql(connection):
        return shape.parsed(connection.execute(query))
    document: ColumnElement[str] = literal_column(shape.packed)
    packed = select(document).select_from(query.subquery())
    return shape.unpacked(connection.execute(packed).scalar())


def findable(connection: Connection, keys: Iterable[str]) -> list[str]:
    """Return those *keys* that a row can have: PostgreSQL has no NUL, and fails where it is asked
    for one."""
    return [key for key in keys if "\0" not in key] if on_postgresql(connection) else list(keys)


class Lookup:
    """The rows of a table by many keys of a workspace.

    *also* are further conditions; *source* (instead of the table) allows a GROUP BY. With *lock*
    nobody else writes the rows until the transaction ends; they are locked in order of the key,
    with SHARE together with others that lock them so.
    """

    def __init__(
        self,
        table: Table,
        columns: Sequence[str],
        key: str,
        also: str = "",
        source: str = "",
        *,
        lock: Literal["", "SHARE", "UPDATE"] = "",
    ) -> None:
        self._shape = _Shape(table, columns)
        self._from = source or table.name
        self._key = key
        self._also = also
        self._texts: dict[int, str] = {}
        where = f" WHERE workspace_id = $1 AND {key} = ANY($2::text[]){also}"
        locked = f" ORDER BY {key} FOR {lock}" if lock else ""
        self._any = f"SELECT {self._shape.columns} FROM {self._placed(where)}{locked}"  # noqa: S608

    def rows(self, connection: Connection, workspace_id: str, keys: Collection[str]) -> list[Row]:
        """Return the rows of all *keys*; no keys, no statement."""
        left = findable(connection, keys)
        if left and on_postgresql(connection):
            return self._shape.parsed(connection.exec_driver_sql(self._any, (workspace_id, left)))
        found: list[Row] = []
        for at in range(0, len(left), KEYS[-1]):
            some = left[at : at + KEYS[-1]]
            size = next(size for size in KEYS if size >= len(some))
            filled = (workspace_id, *some, *(some[-1:] * (size - len(some))))
            text = self._text(connection, size)
            packed, _ = run_ready(connection, text, filled)
            found += self._shape.unpacked(packed)
        return found

    def _text(self, connection: Connection, size: int) -> str:
        if size not in self._texts:
            workspace, keys = marks(connection, 1, 1), marks(connection, 2, size)
            where = f" WHERE workspace_id = {workspace} AND {self._key} IN ({keys}){self._also}"
            placed = self._placed(where)
            self._texts[size] = f"SELECT {self._shape.packed} FROM {placed}"  # noqa: S608
        return self._texts[size]

    def _placed(self, where: str) -> str:
        if "{where}" in self._from:
            return self._from.replace("{where}", where)
        return self._from + where
