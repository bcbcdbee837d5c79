"""What the figures are held against: the least that the same work can cost in Python.

    references.py echo           a grpc.aio server that answers every call with its own bytes
    references.py pages FILE     a grpc.aio server that streams the pages of FILE

Both run on uvloop, as `upshot serve` does. `raw_sqlite` is called, it is no process.
"""

import asyncio
import signal
import sqlite3
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import uvloop

from figures import Sample

ECHO = "/reference.Reference/Echo"
PAGES = "/reference.Reference/Pages"
_TABLES, _ROW_BYTES, _BATCH = 5, 150, 500
_LENGTH_BYTES = 4


def raw_sqlite(path: Path, events: int, tables: int = _TABLES) -> Sample:
    """Write *events*, a row in each of *tables*, with the driver alone."""
    for old in path.parent.glob(path.name + "*"):
        old.unlink()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    for table in range(tables):
        connection.execute(
            f"CREATE TABLE t{table} (workspace_id TEXT NOT NULL, id TEXT NOT NULL, "
            "body BLOB NOT NULL, PRIMARY KEY (workspace_id, id)) WITHOUT ROWID"
        )
    workspace, width = "default", 36
    body = b"x" * (_ROW_BYTES - len(workspace) - width)
    rows = [(workspace, f"{number:0{width}d}", body) for number in range(events)]
    begin = time.perf_counter()
    for first in range(0, events, _BATCH):
        connection.execute("BEGIN IMMEDIATE")
        for table in range(tables):
            some = rows[first : first + _BATCH]
            connection.executemany(f"INSERT INTO t{table} VALUES (?, ?, ?)", some)
        connection.execute("COMMIT")
    took = time.perf_counter() - begin
    connection.close()
    return Sample(events, took)


def commit_s(path: Path, commits: int = 300) -> float:
    """Return how long one commit of five rows of the driver alone takes, the median, in seconds."""
    raw_sqlite(path, 1)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    took = []
    for number in range(commits):
        begin = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        for table in range(_TABLES):
            row = ("commit", str(number), b"x" * _ROW_BYTES)
            connection.execute(f"INSERT INTO t{table} VALUES (?, ?, ?)", row)
        connection.execute("COMMIT")
        took.append(time.perf_counter() - begin)
    connection.close()
    return statistics.median(took)


async def copy_postgresql(address: str, events: int) -> Sample:
    """COPY *events* as five rows each into PostgreSQL; rows are made beforehand."""
    connection = await asyncpg.connect(address)
    for table in range(_TABLES):
        await connection.execute(
            f"DROP TABLE IF EXISTS t{table}; CREATE TABLE t{table} (workspace_id text, id text, "
            "body bytea, PRIMARY KEY (workspace_id, id))"
        )
    body = b"x" * (_ROW_BYTES - 43)
    rows = [("default", f"{number:036d}", body) for number in range(events)]
    begin = time.perf_counter()
    for first in range(0, events, _BATCH):
        async with connection.transaction():
            for table in range(_TABLES):
                some = rows[first : first + _BATCH]
                await connection.copy_records_to_table(f"t{table}", records=some)
    took = time.perf_counter() - begin
    await connection.close()
    return Sample(events, took)


def write_pages(path: Path, pages: list[bytes]) -> None:
    """Keep *pages* for the process that streams them."""
    with path.open("wb") as file:
        for page in pages:
            file.write(len(page).to_bytes(_LENGTH_BYTES) + page)


def _read_pages(path: Path) -> Iterator[bytes]:
    data, at = path.read_bytes(), 0
    while at < len(data):
        end = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES])
        yield data[at + _LENGTH_BYTES : end]
        at = end


def _echo() -> tuple[str, "grpc.RpcMethodHandler[Any, Any]"]:
    async def echo(request: bytes, _context: object) -> bytes:
        return request

    return ECHO, grpc.unary_unary_rpc_method_handler(echo)


def _pages(path: Path) -> tuple[str, "grpc.RpcMethodHandler[Any, Any]"]:
    kept = list(_read_pages(path))

    async def stream(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        for page in kept:
            yield page

    return PAGES, grpc.unary_stream_rpc_method_handler(stream)


async def _serve(method: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> None:
    _, service, name = method.split("/")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {name: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await server.start()
    print(f"reference on 127.0.0.1:{port}", flush=True)
    await told.wait()
    await server.stop(None)


def main(arguments: list[str]) -> None:
    """Serve what is asked for until SIGTERM."""
    match arguments:
        case ["echo"]:
            method, handler = _echo()
        case ["pages", path]:
            method, handler = _pages(Path(path))
        case _:
            raise SystemExit(__doc__)
    uvloop.run(_serve(method, handler))


if __name__ == "__main__":
    main(sys.argv[1:])
