"""Several processes on one database: leases, and claims of timers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add who has claimed a row, and the processes that are alive."""
    # Not in batch mode: SQLite adds a column with a default without copying the table.
    for table in ("runs", "messages"):
        op.add_column(table, sa.Column("claim_owner", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "replicas",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_replicas")),
        sqlite_with_rowid=False,
    )
