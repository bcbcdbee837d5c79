"""Outcomes are stored with their place, as one element of a response: ready to be sent."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

#: Rows rewritten by one statement.
_ROWS = 1_000


def upgrade() -> None:
    """Put the place behind each body, and its tag and length before it."""
    table = sa.table(
        "outcomes",
        *(sa.column(name) for name in ("workspace_id", "partition", "position")),
        sa.column("body", sa.LargeBinary),
    )
    key = (table.c.workspace_id, table.c.partition, table.c.position)
    changed = sa.update(table).where(
        *(column == sa.bindparam(f"of_{column.name}") for column in key)
    )
    connection = op.get_bind()
    last: tuple[str, int, int] = ("", -1, -1)
    while True:
        query = sa.select(*key, table.c.body).where(sa.tuple_(*key) > last).order_by(*key)
        rows = connection.execute(query.limit(_ROWS)).all()
        if not rows:
            return
        connection.execute(
            changed.values(body=sa.bindparam("ready")),
            [
                {
                    "of_workspace_id": row.workspace_id,
                    "of_partition": row.partition,
                    "of_position": row.position,
                    "ready": _ready(row.body, row.partition, row.position),
                }
                for row in rows
            ],
        )
        last = (rows[-1].workspace_id, rows[-1].partition, rows[-1].position)


def _ready(body: bytes, partition: int, position: int) -> bytes:
    # Fields of upshot.v1 as they were: outcomes is 1 in a response, partition and position are
    # 20 and 21 in an outcome.
    place = (_PARTITION + _varint(partition) if partition else b"") + _POSITION + _varint(position)
    return _OUTCOMES + _varint(len(body) + len(place)) + body + place


def _varint(number: int) -> bytes:
    done = bytearray()
    while number > 127:
        done.append(number & 127 | 128)
        number >>= 7
    return bytes((*done, number))


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


_OUTCOMES, _PARTITION, _POSITION = _tag(1, 2), _tag(20, 0), _tag(21, 0)
