"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "engagements",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("engagement_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("record_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "engagement_id", name=op.f("pk_engagements")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_engagements_record", "engagements", ["record_us"], unique=False)
    op.create_table(
        "events",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("receive_us", sa.BigInteger(), nullable=False),
        sa.Column("event_us", sa.BigInteger(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("started", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "event_id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_receive", "events", ["receive_us"], unique=False)
    op.create_table(
        "groups",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "group_id", name=op.f("pk_groups")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "identities",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "identity", name=op.f("pk_identities")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "messages",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_message_id", sa.Text(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "message_id", name=op.f("pk_messages")),
    )
    op.create_index(
        "ix_messages_due",
        "messages",
        ["due_us", "message_id"],
        unique=False,
        sqlite_where=sa.text("due_us IS NOT NULL"),
        postgresql_where=sa.text("due_us IS NOT NULL"),
    )
    op.create_index(
        "ix_messages_provider",
        "messages",
        ["workspace_id", "provider_message_id"],
        unique=False,
        sqlite_where=sa.text("provider_message_id <> ''"),
        postgresql_where=sa.text("provider_message_id <> ''"),
    )
    op.create_index("ix_messages_run", "messages", ["workspace_id", "run_id"], unique=False)
    op.create_table(
        "outcome_counts",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("hour_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("step_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "workspace_id",
            "hour_us",
            "workflow_id",
            "step_id",
            "channel",
            "kind",
            name=op.f("pk_outcome_counts"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcome_heads",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("head", sa.BigInteger(), nullable=False),
        sa.Column("earliest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "partition", name=op.f("pk_outcome_heads")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcomes",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.SmallInteger(), nullable=False),
        sa.Column("record_us", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "partition", "position", name=op.f("pk_outcomes")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pending_engagements",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("engagement_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_message_id", sa.Text(), nullable=False),
        sa.Column("record_us", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "workspace_id", "engagement_id", name=op.f("pk_pending_engagements")
        ),
    )
    op.create_index(
        "ix_pending_engagements_provider",
        "pending_engagements",
        ["workspace_id", "provider_message_id"],
        unique=False,
    )
    op.create_index(
        "ix_pending_engagements_record", "pending_engagements", ["record_us"], unique=False
    )
    op.create_table(
        "profiles",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "profile_id", name=op.f("pk_profiles")),
    )
    op.create_table(
        "rejected_events",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("rejection_id", sa.Text(), nullable=False),
        sa.Column("receive_us", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "rejection_id", name=op.f("pk_rejected_events")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_rejected_events_receive", "rejected_events", ["receive_us"], unique=False)
    op.create_table(
        "runs",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("start_key", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("reentry_key", sa.Text(), nullable=False),
        sa.Column("cancellation_key", sa.Text(), nullable=False),
        sa.Column("start_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("holds_active", sa.SmallInteger(), nullable=False),
        sa.Column("holds_ever", sa.SmallInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "run_id", name=op.f("pk_runs")),
    )
    op.create_index(
        "ix_runs_cancellation",
        "runs",
        ["workspace_id", "cancellation_key"],
        unique=False,
        sqlite_where=sa.text("cancellation_key <> '' AND state = 1"),
        postgresql_where=sa.text("cancellation_key <> '' AND state = 1"),
    )
    op.create_index(
        "ix_runs_due",
        "runs",
        ["due_us", "run_id"],
        unique=False,
        sqlite_where=sa.text("due_us IS NOT NULL"),
        postgresql_where=sa.text("due_us IS NOT NULL"),
    )
    op.create_index(
        "ix_runs_event",
        "runs",
        ["workspace_id", "event_id"],
        unique=False,
        sqlite_where=sa.text("start_key <> event_id AND state = 1"),
        postgresql_where=sa.text("start_key <> event_id AND state = 1"),
    )
    op.create_index(
        "ix_runs_profile", "runs", ["workspace_id", "profile_id", "state"], unique=False
    )
    op.create_index(
        "uq_runs_holds_active",
        "runs",
        ["workspace_id", "profile_id", "workflow_id", "reentry_key"],
        unique=True,
        sqlite_where=sa.text("holds_active = 1"),
        postgresql_where=sa.text("holds_active = 1"),
    )
    op.create_index(
        "uq_runs_holds_ever",
        "runs",
        ["workspace_id", "profile_id", "workflow_id", "reentry_key"],
        unique=True,
        sqlite_where=sa.text("holds_ever = 1"),
        postgresql_where=sa.text("holds_ever = 1"),
    )
    op.create_index(
        "uq_runs_start", "runs", ["workspace_id", "start_key", "workflow_id"], unique=True
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "subscriptions",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("positions", sa.LargeBinary(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("commit_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "name", name=op.f("pk_subscriptions")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "suppressions",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("channel", sa.SmallInteger(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "workspace_id", "profile_id", "scope", name=op.f("pk_suppressions")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "workflow_versions",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("definition", sa.LargeBinary(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "workspace_id", "workflow_id", "version", name=op.f("pk_workflow_versions")
        ),
    )
    op.create_table(
        "workflows",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "workflow_id", name=op.f("pk_workflows")),
        sqlite_with_rowid=False,
    )
