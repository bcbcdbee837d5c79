"""Members are found by their group."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

#: Profiles looked at by one statement.
_ROWS = 1_000
#: Where the groups stand in the document of a profile, as it was.
_GROUP_IDS = 4
_COLUMNS = ("workspace_id", "group_id", "profile_id")

_members = sa.table("group_members", *map(sa.column, _COLUMNS))
_profiles = sa.table(
    "profiles",
    sa.column("workspace_id", sa.Text),
    sa.column("profile_id", sa.Text),
    sa.column("body", sa.LargeBinary),
)


def upgrade() -> None:
    """Add the table, and fill it with what profiles say."""
    op.create_table(
        "group_members",
        *(sa.Column(name, sa.Text(), nullable=False) for name in _COLUMNS),
        sa.PrimaryKeyConstraint(*_COLUMNS, name=op.f("pk_group_members")),
        sqlite_with_rowid=False,
    )
    _fill()


def _fill() -> None:
    connection = op.get_bind()
    for page in _pages(connection):
        found = [
            {"workspace_id": row.workspace_id, "group_id": group_id, "profile_id": row.profile_id}
            for row in page
            for group_id in json.loads(row.body)[_GROUP_IDS]
        ]
        if found:
            connection.execute(sa.insert(_members), found)


def _pages(connection: sa.Connection) -> Iterator[Sequence[sa.Row[Any]]]:
    key = (_profiles.c.workspace_id, _profiles.c.profile_id)
    last = ("", "")
    while True:
        query = sa.select(_profiles).where(sa.tuple_(*key) > last).order_by(*key).limit(_ROWS)
        page = connection.execute(query).all()
        if not page:
            return
        yield page
        last = (page[-1].workspace_id, page[-1].profile_id)
