"""What a batch of decisions writes, in one transaction: rows first, the log last."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TypeAlias
from zlib import crc32

from sqlalchemy import Connection, Table, delete, tuple_

from upshotd.adapters.storage import audiences, erasing, leases, merging, rows, tables
from upshotd.adapters.storage.bulk import Insert, Lookup, on_postgresql, upsert
from upshotd.adapters.storage.tail import Appended
from upshotd.application.failpoints import failpoint
from upshotd.domain.addresses import LIST
from upshotd.domain.errors import Conflict
from upshotd.domain.outcome import Outcome
from upshotd.domain.state import Changes

#: Makes the bytes of an outcome at a partition and position.
Encode: TypeAlias = Callable[[Outcome, int, int], bytes]

HOUR_US = 3_600_000_000


def _columns(table: Table) -> list[str]:
    return [column.name for column in table.c if column.name != "workspace_id"]


_EVENTS = Insert(tables.events, _columns(tables.events))
_REJECTED = Insert(tables.rejected_events, rows.REJECTED_COLUMNS)
_PROFILES = upsert(tables.profiles, rows.PROFILE_COLUMNS, ("workspace_id", "profile_id"), ("body",))
_HELD_PROFILES = Lookup(tables.profiles, ("profile_id", "row_version"), "profile_id", lock="UPDATE")
_RELIED_PROFILES = Lookup(
    tables.profiles, ("profile_id", "row_version"), "profile_id", lock="SHARE"
)
#: An identity that names somebody else by now is not written, nor counted.
_IDENTITIES = Insert(
    tables.identities,
    ("identity", "profile_id"),
    "ON CONFLICT (workspace_id, identity) DO UPDATE SET profile_id = excluded.profile_id "
    "WHERE identities.profile_id = excluded.profile_id",
)
_GROUPS = upsert(tables.groups, rows.GROUP_COLUMNS, ("workspace_id", "group_id"), ("body",))
_GROUP_MEMBERS = Insert(
    tables.group_members,
    ("group_id", "profile_id"),
    "ON CONFLICT (workspace_id, group_id, profile_id) DO NOTHING",
)
_RUNS = upsert(
    tables.runs,
    rows.RUN_COLUMNS,
    ("workspace_id", "run_id"),
    ("profile_id", "state", "holds_active", "due_us", "cancellation_key", "body"),
    # The claim has led to this. An entry is only let go after the start: a merge may have given it
    # to another run.
    ("claim_owner = ''", "holds_ever = runs.holds_ever * excluded.holds_ever"),
)
_MESSAGES = upsert(
    tables.messages,
    (*rows.MESSAGE_COLUMNS, "claim_owner", "recipient"),
    ("workspace_id", "message_id"),
    ("profile_id", "provider", "provider_message_id", "due_us", "claim_owner", "recipient", "body"),
)
_ASKS = Insert(tables.asks, rows.ASK_COLUMNS)
_SUPPRESSIONS = Insert(
    tables.suppressions,
    rows.SUPPRESSION_COLUMNS,
    "ON CONFLICT (workspace_id, profile_id, scope) DO UPDATE SET channel = excluded.channel, "
    "topic = excluded.topic, until_us = excluded.until_us, reason = excluded.reason",
)
_ENGAGEMENTS = Insert(tables.engagements, ("engagement_id", "message_id", "record_us"))
_PENDING = Insert(tables.pending_engagements, rows.PENDING_COLUMNS)
_OUTCOMES = Insert(tables.outcomes, _columns(tables.outcomes))
_COUNTS = Insert(
    tables.outcome_counts,
    _columns(tables.outcome_counts),
    "ON CONFLICT (workspace_id, hour_us, workflow_id, step_id, channel, kind) "
    "DO UPDATE SET count = outcome_counts.count + excluded.count",
)
_TALLIES = Insert(
    tables.tallies,
    rows.TALLY_COLUMNS,
    "ON CONFLICT (workspace_id, experiment, variant) DO UPDATE SET "
    "exposures = tallies.exposures + excluded.exposures, "
    "successes = tallies.successes + excluded.successes",
)
_HEADS = Insert(
    tables.outcome_heads,
    ("partition", "head", "earliest"),
    "ON CONFLICT (workspace_id, partition) "
    "DO UPDATE SET head = outcome_heads.head + excluded.head RETURNING head, partition",
)


def commit(
    connection: Connection, batch: Sequence[Changes], encode: Encode, partitions: int, owner: str
) -> list[Appended]:
    """Write *batch* and return what the log grew by.

    Raises Conflict where a row has moved on since it was loaded.
    *owner* is who has a lease here, empty where nobody needs one; raises LeaseLost without it.
    """
    if owner:
        leases.fence(connection, owner)
    failpoint("write.begun")
    joined = _by_workspace(batch)
    for changes in joined:
        _hold_people(connection, changes)
        if changes.merges:
            changes = merging.followed(changes)
            for merge in changes.merges:
                named = set(changes.identities)
                merging.move(connection, changes.workspace_id, merge, named)
        _write_events(connection, changes)
        _write_people(connection, changes)
        _write_journeys(connection, changes)
        _write_engagements(connection, changes)
        for gone in changes.erasures.values():
            erasing.erase(connection, changes.workspace_id, gone)
    for changes in joined:
        _write_counts(connection, changes)
    failpoint("write.before_log")
    # The counter of a partition is locked from here to the commit, in order of its key.
    return [a for changes in joined for a in _append(connection, changes, encode, partitions)]


def _by_workspace(batch: Sequence[Changes]) -> list[Changes]:
    joined: dict[str, Changes] = {}
    for changes in batch:
        if changes.workspace_id in joined:
            whole = Changes(changes.workspace_id)
            whole.extend(joined[changes.workspace_id])
            whole.extend(changes)
            changes = whole
        joined[changes.workspace_id] = changes
    return [joined[workspace_id] for workspace_id in sorted(joined)]


def _write(
    connection: Connection, insert: Insert, changes: Changes, found: Iterable[rows.Row]
) -> None:
    """Write rows that must all be accepted."""
    written = list(found)
    if insert.run(connection, changes.workspace_id, written) != len(written):
        raise Conflict(f"rows of {insert.table} have moved on since they were loaded")


def _write_events(connection: Connection, changes: Changes) -> None:
    _write(
        connection,
        _EVENTS,
        changes,
        (
            (event.event_id, accepted.profile_id, event.receive_us, event.event_us, event.group_of)
            + (rows.started_document(accepted), event.payload)
            for accepted in changes.events.values()
            for event in (accepted.event,)
        ),
    )
    _write(connection, _REJECTED, changes, map(rows.rejected_row, changes.rejected))


def _hold_people(connection: Connection, changes: Changes) -> None:
    """Lock everybody who is written or whose consent a send relies on; all must be as loaded."""
    versions = dict(changes.consents)
    for profile in changes.profiles.values():
        versions[profile.profile_id] = profile.row_version
    relied = None
    if LIST in versions and LIST not in changes.profiles and on_postgresql(connection):
        relied = versions.pop(LIST)
    known = {profile_id: version for profile_id, version in versions.items() if version}
    # Where the list has no version it must not be there.
    asked = {*known, LIST} if LIST in versions else known
    found = _HELD_PROFILES.rows(connection, changes.workspace_id, sorted(asked))
    # One that was merged away meanwhile would come back.
    if {row[0]: row[1] for row in found} != known:
        raise Conflict("profiles were written or merged since they were loaded")
    if relied is not None:
        # Every replica that sends relies on it: they share the lock.
        listed = _RELIED_PROFILES.rows(connection, changes.workspace_id, (LIST,))
        if (listed[0][1] if listed else 0) != relied:
            raise Conflict("the suppression list was written since it was loaded")


def _write_people(connection: Connection, changes: Changes) -> None:
    # In key order: replicas that write the same rows then wait for each other, and never in a ring.
    people = sorted(changes.profiles.values(), key=attrgetter("profile_id"))
    _write(connection, _PROFILES, changes, map(rows.profile_row, people))
    names = changes.identities.items()
    named = sorted((rows.identity_key(identity), profile_id) for identity, profile_id in names)
    _write(connection, _IDENTITIES, changes, named)
    groups = sorted(changes.groups.values(), key=attrgetter("group_id"))
    _write(connection, _GROUPS, changes, map(rows.group_row, groups))
    kept = {key: held for key, held in changes.suppressions.items() if held is not None}
    held_back = (rows.suppression_row(key[0], held) for key, held in kept.items())
    _write(connection, _SUPPRESSIONS, changes, held_back)
    gone = changes.suppressions.keys() - kept.keys()
    _delete(connection, tables.suppressions, ("profile_id", "scope"), changes, gone)
    if changes.memberships:
        _write_memberships(connection, changes)
    if changes.group_members:
        _write_group_members(connection, changes)


def _write_memberships(connection: Connection, changes: Changes) -> None:
    known = {key: row for key, row in changes.memberships.items() if row is not None}
    _write(
        connection, audiences.WRITE, changes, (audiences.row_of(known[k]) for k in sorted(known))
    )
    gone = changes.memberships.keys() - known.keys()
    keys = ("profile_id", "audience_id")
    _delete(connection, tables.audience_members, keys, changes, gone)


def _write_group_members(connection: Connection, changes: Changes) -> None:
    joined = {key for key, member in changes.group_members.items() if member}
    _GROUP_MEMBERS.run(connection, changes.workspace_id, sorted(joined))
    left = changes.group_members.keys() - joined
    _delete(connection, tables.group_members, ("group_id", "profile_id"), changes, left)


def _write_journeys(connection: Connection, changes: Changes) -> None:
    # Who lets go of an entry comes before who takes it.
    in_order = sorted(changes.runs.values(), key=attrgetter("holds_active", "run_id"))
    _write(connection, _RUNS, changes, map(rows.run_row, in_order))
    messages = sorted(changes.messages.values(), key=attrgetter("message_id"))
    _write(connection, _MESSAGES, changes, map(rows.message_row, messages))
    # Of somebody who was erased in the same transaction there is nothing to find.
    asking = [m for m in messages if m.ask and not m.row_version and m.profile_id]
    if asking:
        _write(connection, _ASKS, changes, map(rows.ask_row, asking))


def _write_engagements(connection: Connection, changes: Changes) -> None:
    # Engagements may tell of long ago; what is kept for a time is kept from when it came.
    now_us = changes.outcomes[-1].record_us if changes.outcomes else 0
    recorded = changes.engagements.items()
    _write(
        connection,
        _ENGAGEMENTS,
        changes,
        ((key, message_id, max(now_us, e.occur_us)) for key, (e, message_id) in recorded),
    )
    pending = changes.pending.values()
    found = (rows.pending_row(e, max(now_us, e.occur_us)) for e in pending)
    _write(connection, _PENDING, changes, found)
    keys = ("provider", "provider_message_id")
    _delete(connection, tables.pending_engagements, keys, changes, set(changes.applied_pending))


def _delete(
    connection: Connection,
    table: Table,
    columns: tuple[str, str],
    changes: Changes,
    keys: set[tuple[str, str]],
) -> None:
    if keys:
        named = tuple_(*(table.c[column] for column in columns)).in_(sorted(keys))
        connection.execute(delete(table).where(table.c.workspace_id == changes.workspace_id, named))


# -- the log -------------------------------------------------------------------------------------


def partition_of(profile_id: str, partitions: int) -> int:
    """Return the partition of a person's outcomes; the same for as long as the log lives."""
    return crc32(profile_id.encode()) % partitions if partitions > 1 else 0


def _write_counts(connection: Connection, changes: Changes) -> None:
    counted = Counter(
        (o.record_us - o.record_us % HOUR_US, o.workflow_id, o.step_id, int(o.channel), int(o.kind))
        for o in changes.outcomes
    )
    _write(connection, _COUNTS, changes, ((*key, count) for key, count in sorted(counted.items())))
    counted_apart = sorted(changes.tallies.items())
    _write(connection, _TALLIES, changes, ((*key, *tally) for key, tally in counted_apart))


def _append(
    connection: Connection, changes: Changes, encode: Encode, partitions: int
) -> Iterator[Appended]:
    parts: defaultdict[int, list[Outcome]] = defaultdict(list)
    for outcome in changes.outcomes:
        parts[partition_of(outcome.profile_id, partitions)].append(outcome)
    if not parts:
        return
    # One statement for all counters, in order of their key.
    wanted = [(partition, len(parts[partition]), 1) for partition in sorted(parts)]
    written: list[rows.Row] = []
    for partition, head in _HEADS.returning(connection, changes.workspace_id, wanted).items():
        some = parts[partition]
        after = head - len(some)
        bodies = [encode(outcome, partition, at) for at, outcome in enumerate(some, after + 1)]
        written += (
            (partition, at, int(o.kind), o.workflow_id, o.user_id, int(o.channel), o.record_us, b)
            for at, (o, b) in enumerate(zip(some, bodies, strict=True), after + 1)
        )
        yield Appended(changes.workspace_id, partition, after, bodies)
    _write(connection, _OUTCOMES, changes, written)
