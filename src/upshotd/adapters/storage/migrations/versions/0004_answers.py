"""Text messages are found by the number that answers them."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

#: Rows looked at by one statement.
_ROWS = 1_000
#: Where they stand in the document of a message, as it was.
_CHANNEL, _RECIPIENT, _FACTS = 2, 4, 11
_SMS = 2


def upgrade() -> None:
    """Add where answers come from, and fill it in for text messages that a provider has taken."""
    # Not in batch mode: SQLite adds a column with a default without copying the table.
    op.add_column("messages", sa.Column("recipient", sa.Text(), nullable=False, server_default=""))
    _fill()
    op.create_index(
        "ix_messages_recipient",
        "messages",
        ["workspace_id", "recipient", "message_id"],
        unique=False,
        sqlite_where=sa.text("recipient <> ''"),
        postgresql_where=sa.text("recipient <> ''"),
    )


def _fill() -> None:
    names = ("workspace_id", "message_id", "recipient")
    table = sa.table("messages", *map(sa.column, names), sa.column("body", sa.LargeBinary))
    key = (table.c.workspace_id, table.c.message_id)
    changed = sa.update(table).where(
        *(column == sa.bindparam(f"of_{column.name}") for column in key)
    )
    connection = op.get_bind()
    last = ("", "")
    while True:
        query = sa.select(*key, table.c.body).where(sa.tuple_(*key) > last).order_by(*key)
        rows = connection.execute(query.limit(_ROWS)).all()
        if not rows:
            return
        found = [
            {"of_workspace_id": workspace_id, "of_message_id": message_id, "found": recipient}
            for workspace_id, message_id, body in rows
            if (recipient := _recipient(json.loads(body)))
        ]
        if found:
            connection.execute(changed.values(recipient=sa.bindparam("found")), found)
        last = (rows[-1].workspace_id, rows[-1].message_id)


def _recipient(document: list[object]) -> str:
    facts = document[_FACTS]
    if document[_CHANNEL] != _SMS or not isinstance(facts, dict) or "sent" not in facts:
        return ""
    return f"sms:{document[_RECIPIENT]}".casefold()
