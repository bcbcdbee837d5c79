"""Requests to decide are found by who was asked."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

#: Messages looked at by one statement.
_ROWS = 1_000
#: Where it stands in the document of a message, as it was, what it is of an approve step; messages
#: of send steps end before.
_ASK = 16
_KEYS = ("workspace_id", "profile_id", "message_id")
_COLUMNS = (*_KEYS, "run_id")

_asks = sa.table("asks", *map(sa.column, _COLUMNS))
_messages = sa.table(
    "messages",
    *(sa.column(name, sa.Text) for name in _COLUMNS),
    sa.column("body", sa.LargeBinary),
)


def upgrade() -> None:
    """Add the table, and fill it with what messages say."""
    op.create_table(
        "asks",
        *(sa.Column(name, sa.Text(), nullable=False) for name in _COLUMNS),
        sa.PrimaryKeyConstraint(*_KEYS, name=op.f("pk_asks")),
        sqlite_with_rowid=False,
    )
    _fill()


def _fill() -> None:
    connection = op.get_bind()
    for page in _pages(connection):
        found = [
            {name: getattr(row, name) for name in _COLUMNS}
            for row in page
            # Those of who was erased belong to nobody.
            if row.profile_id and any(json.loads(row.body)[_ASK:])
        ]
        if found:
            connection.execute(sa.insert(_asks), found)


def _pages(connection: sa.Connection) -> Iterator[Sequence[sa.Row[Any]]]:
    key = (_messages.c.workspace_id, _messages.c.message_id)
    last = ("", "")
    while True:
        query = sa.select(_messages).where(sa.tuple_(*key) > last).order_by(*key).limit(_ROWS)
        page = connection.execute(query).all()
        if not page:
            return
        yield page
        last = (page[-1].workspace_id, page[-1].message_id)
