"""Leases of processes that are gone."""

from sqlalchemy import Connection, bindparam, select, update

from upshotd.adapters.storage.rows import load
from upshotd.adapters.storage.tables import messages
from upshotd.domain.message import MessageState

#: Where a message's document has its state.
_STATE = 3
#: Any moment that is past.
_LONG_AGO_US = 1


def end_all(connection: Connection) -> int:
    """End the lease of every message that is being sent; return how many there were.

    For a store that only one process can have open, and only while it opens: whoever held a lease
    is dead then, and nobody need wait until it runs out. What an ended lease means is decided by
    the engine, as ever.
    """
    table = messages.c
    key = (table.workspace_id, table.message_id)
    found = connection.execute(select(*key, table.body).where(table.due_us.is_not(None)))
    held = [
        {"held_workspace_id": workspace_id, "held_message_id": message_id}
        for workspace_id, message_id, body in found
        if load(body)[_STATE] == MessageState.SENDING
    ]
    if held:
        connection.execute(
            update(messages)
            .where(
                table.workspace_id == bindparam("held_workspace_id"),
                table.message_id == bindparam("held_message_id"),
            )
            .values(due_us=_LONG_AGO_US),
            held,
        )
    return len(held)
