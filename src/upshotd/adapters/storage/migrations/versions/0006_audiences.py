"""What audiences know of people."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the memberships."""
    op.create_table(
        "audience_members",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("audience_id", sa.Text(), nullable=False),
        sa.Column("member", sa.SmallInteger(), nullable=False),
        sa.Column("ready", sa.SmallInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("claim_owner", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint(
            "workspace_id", "profile_id", "audience_id", name=op.f("pk_audience_members")
        ),
        sqlite_with_rowid=False,
    )
    for name, columns, condition in (
        ("due", ("due_us", "profile_id", "audience_id"), "due_us IS NOT NULL"),
        ("in", ("workspace_id", "audience_id", "profile_id"), "member = 1"),
        ("unready", ("workspace_id", "audience_id", "profile_id"), "ready = 0"),
    ):
        op.create_index(
            f"ix_audience_members_{name}",
            "audience_members",
            list(columns),
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
