"""The tables. Every key starts with the workspace; times are microseconds since 1970.

What is looked for is a column; everything else of a row is one JSON document in `body`, which is
written and read whole (`rows`). Each index costs every write, so each names who needs it.
Small rows live in their primary key (`sqlite_with_rowid=False`), long ones beside it.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

from upshotd.domain.run import RunState

metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_name)s"}
)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _number(name: str, *, empty: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=empty)


def _small(name: str) -> Column[int]:
    return Column(name, SmallInteger, nullable=False)


def _payload(name: str) -> Column[bytes]:
    """Bytes of another encoding."""
    return Column(name, LargeBinary, nullable=False, info={"payload": True})


def _document(name: str, *, empty: bool = False) -> Column[bytes]:
    """A JSON document, in UTF-8."""
    return Column(name, LargeBinary, nullable=empty, info={"document": True})


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True, nullable=False)


def _number_key(name: str) -> Column[int]:
    return Column(name, BigInteger, primary_key=True, nullable=False, autoincrement=False)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def _claimed() -> Column[str]:
    """The process that works on a row's timer; empty where none does. On SQLite there is one."""
    return Column("claim_owner", Text, nullable=False, server_default="")


_ACTIVE = f"state = {RunState.ACTIVE.value}"

events = Table(
    "events",
    metadata,
    _key("workspace_id"),
    _key("event_id"),
    # Whose it was when it came; merges leave it.
    _text("profile_id"),
    _number("receive_us"),
    _number("event_us"),
    # The group it speaks of; empty where it speaks of none.
    _text("group_id"),
    # Runs it started, as JSON; NULL where it started none.
    _document("started", empty=True),
    _payload("payload"),
    # Pruning goes from the oldest.
    Index("ix_events_receive", "receive_us"),
)

rejected_events = Table(
    "rejected_events",
    metadata,
    _key("workspace_id"),
    _key("rejection_id"),
    _number("receive_us"),
    _document("body"),
    Index("ix_rejected_events_receive", "receive_us"),
    sqlite_with_rowid=False,
)

profiles = Table(
    "profiles",
    metadata,
    _key("workspace_id"),
    _key("profile_id"),
    _number("row_version"),
    _document("body"),
)

identities = Table(
    "identities",
    metadata,
    _key("workspace_id"),
    # `u` or `a` for the kind, then the id from outside.
    _key("identity"),
    _text("profile_id"),
    sqlite_with_rowid=False,
)

groups = Table(
    "groups",
    metadata,
    _key("workspace_id"),
    _key("group_id"),
    _number("row_version"),
    _document("body"),
    sqlite_with_rowid=False,
)

# Who is in a group: profiles say it too, but cannot be found by it.
group_members = Table(
    "group_members",
    metadata,
    _key("workspace_id"),
    _key("group_id"),
    _key("profile_id"),
    sqlite_with_rowid=False,
)

suppressions = Table(
    "suppressions",
    metadata,
    _key("workspace_id"),
    _key("profile_id"),
    _key("scope"),
    _small("channel"),
    _text("topic"),
    # NULL is for good.
    _number("until_us", empty=True),
    _text("reason"),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    _key("workspace_id"),
    _key("run_id"),
    _text("workflow_id"),
    _text("start_key"),
    _text("event_id"),
    _text("profile_id"),
    _text("reentry_key"),
    _text("cancellation_key"),
    _number("start_us"),
    _small("state"),
    _small("holds_active"),
    _small("holds_ever"),
    _number("due_us", empty=True),
    _number("row_version"),
    _document("body"),
    _claimed(),
    # A start is unique; an event's own runs are also found here, by its id.
    Index("uq_runs_start", "workspace_id", "start_key", "workflow_id", unique=True),
    # Re-entry: one at a time, and once for ever.
    Index(
        "uq_runs_holds_active",
        *("workspace_id", "profile_id", "workflow_id", "reentry_key"),
        unique=True,
        **_where("holds_active = 1"),
    ),
    Index(
        "uq_runs_holds_ever",
        *("workspace_id", "profile_id", "workflow_id", "reentry_key"),
        unique=True,
        **_where("holds_ever = 1"),
    ),
    # Active runs of a person, starts of a person, a person's runs for people.
    Index("ix_runs_profile", "workspace_id", "profile_id", "state"),
    Index("ix_runs_due", "due_us", "run_id", **_where("due_us IS NOT NULL")),
    Index(
        "ix_runs_cancellation",
        *("workspace_id", "cancellation_key"),
        **_where(f"cancellation_key <> '' AND {_ACTIVE}"),
    ),
    # Enrolled runs keep the event of the first run from being pruned.
    Index(
        "ix_runs_event",
        *("workspace_id", "event_id"),
        **_where(f"start_key <> event_id AND {_ACTIVE}"),
    ),
)

messages = Table(
    "messages",
    metadata,
    _key("workspace_id"),
    _key("message_id"),
    _text("run_id"),
    _text("profile_id"),
    _text("workflow_id"),
    _text("provider"),
    _text("provider_message_id"),
    _number("due_us", empty=True),
    _number("row_version"),
    _document("content", empty=True),
    _document("body"),
    # Of a message that is being sent: who sends it.
    _claimed(),
    # `addresses.answering`: of a text message that a provider took, where answers come from.
    Column("recipient", Text, nullable=False, server_default=""),
    Index("ix_messages_run", "workspace_id", "run_id"),
    Index("ix_messages_due", "due_us", "message_id", **_where("due_us IS NOT NULL")),
    # Callbacks name a message so; not unique, a provider may repeat its ids.
    Index(
        "ix_messages_provider",
        *("workspace_id", "provider_message_id"),
        **_where("provider_message_id <> ''"),
    ),
    # Answers name the address that they come from: the newest message to it. E-mail is not here.
    Index(
        "ix_messages_recipient",
        *("workspace_id", "recipient", "message_id"),
        **_where("recipient <> ''"),
    ),
)

# Who was asked for a decision, and by which message: it stands in the run of somebody else, and is
# found by its reader here alone.
asks = Table(
    "asks",
    metadata,
    _key("workspace_id"),
    _key("profile_id"),
    _key("message_id"),
    _text("run_id"),
    sqlite_with_rowid=False,
)

engagements = Table(
    "engagements",
    metadata,
    _key("workspace_id"),
    _key("engagement_id"),
    _text("message_id"),
    _number("record_us"),
    Index("ix_engagements_record", "record_us"),
    sqlite_with_rowid=False,
)

pending_engagements = Table(
    "pending_engagements",
    metadata,
    _key("workspace_id"),
    _key("engagement_id"),
    _text("provider"),
    _text("provider_message_id"),
    _number("record_us"),
    _document("body"),
    Index("ix_pending_engagements_provider", "workspace_id", "provider_message_id"),
    Index("ix_pending_engagements_record", "record_us"),
)

outcomes = Table(
    "outcomes",
    metadata,
    _key("workspace_id"),
    _number_key("partition"),
    _number_key("position"),
    _small("kind"),
    _text("workflow_id"),
    _text("user_id"),
    _small("channel"),
    _number("record_us"),
    _payload("body"),
    sqlite_with_rowid=False,
)

outcome_heads = Table(
    "outcome_heads",
    metadata,
    _key("workspace_id"),
    _number_key("partition"),
    _number("head"),
    _number("earliest"),
    sqlite_with_rowid=False,
)

outcome_counts = Table(
    "outcome_counts",
    metadata,
    _key("workspace_id"),
    # Start of the hour in which they were recorded.
    _number_key("hour_us"),
    _key("workflow_id"),
    _key("step_id"),
    _number_key("channel"),
    _number_key("kind"),
    _number("count"),
    sqlite_with_rowid=False,
)

# What came of the variants of experiments; added to, and never read before it is written.
tallies = Table(
    "tallies",
    metadata,
    _key("workspace_id"),
    # The workflow, a slash, the step.
    _key("experiment"),
    _key("variant"),
    _number("exposures"),
    _number("successes"),
    sqlite_with_rowid=False,
)

subscriptions = Table(
    "subscriptions",
    metadata,
    _key("workspace_id"),
    _key("name"),
    _document("positions"),
    _number("create_us"),
    _number("commit_us"),
    sqlite_with_rowid=False,
)

audience_members = Table(
    "audience_members",
    metadata,
    _key("workspace_id"),
    _key("profile_id"),
    _key("audience_id"),
    _small("member"),
    # 0 for whom the audience has not looked at since it was defined.
    _small("ready"),
    _number("due_us", empty=True),
    _document("body"),
    _claimed(),
    Index(
        "ix_audience_members_due",
        *("due_us", "profile_id", "audience_id"),
        **_where("due_us IS NOT NULL"),
    ),
    # Who is in an audience, for people and schedules; who is left to be looked at.
    Index(
        "ix_audience_members_in",
        *("workspace_id", "audience_id", "profile_id"),
        **_where("member = 1"),
    ),
    Index(
        "ix_audience_members_unready",
        *("workspace_id", "audience_id", "profile_id"),
        **_where("ready = 0"),
    ),
    sqlite_with_rowid=False,
)

workflows = Table(
    "workflows",
    metadata,
    _key("workspace_id"),
    _key("workflow_id"),
    # The current version.
    _number("version"),
    sqlite_with_rowid=False,
)

workflow_versions = Table(
    "workflow_versions",
    metadata,
    _key("workspace_id"),
    _key("workflow_id"),
    _number_key("version"),
    _payload("definition"),
    _number("create_us"),
)

# Processes that share this database, and until when each is taken for alive, by its clock.
replicas = Table("replicas", metadata, _key("owner"), _number("until_us"), sqlite_with_rowid=False)

settings = Table("settings", metadata, _key("name"), _text("value"), sqlite_with_rowid=False)
