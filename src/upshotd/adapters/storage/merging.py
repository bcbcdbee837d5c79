"""Merges: what is stored of one profile moves to another, and so do the rows of the batch."""

from sqlalchemy import Connection, and_, delete, exists, literal, select, update

from upshotd.adapters.storage import rows
from upshotd.adapters.storage.bulk import Lookup, into
from upshotd.adapters.storage.tables import identities, messages, profiles, runs, suppressions
from upshotd.domain.profile import Merge
from upshotd.domain.state import Changes, Identity, IdKind
from upshotd.domain.values import replace

_PROFILES = Lookup(profiles, rows.PROFILE_COLUMNS, "profile_id")


def followed(changes: Changes) -> Changes:
    """Return *changes* with everything of merged profiles given to those they became.

    A batch can write a row for a profile and merge that profile in a later decision.
    """
    into: dict[str, str] = {}
    for merge in changes.merges:
        into = {key: merge.into_profile_id if at == merge.from_profile_id else at
                for key, at in into.items()}  # fmt: skip
        into[merge.from_profile_id] = merge.into_profile_id
    moved = Changes(changes.workspace_id)
    moved.extend(changes)
    for run in changes.runs.values():
        if run.profile_id in into:
            moved.runs[run.run_id] = replace(run, profile_id=into[run.profile_id])
    for message in changes.messages.values():
        if message.profile_id in into:
            profile_id = into[message.profile_id]
            moved.messages[message.message_id] = replace(message, profile_id=profile_id)
    for identity, profile_id in changes.identities.items():
        moved.identities[identity] = into.get(profile_id, profile_id)
    for (profile_id, scope), held in changes.suppressions.items():
        if profile_id in into:
            del moved.suppressions[profile_id, scope]
            moved.suppressions.setdefault((into[profile_id], scope), held)
    return moved


def move(connection: Connection, workspace_id: str, merge: Merge, named: set[Identity]) -> None:
    """Move the stored rows of a profile to another one, and delete the profile."""
    from_id, into_id = merge.from_profile_id, merge.into_profile_id
    _move_identities(connection, workspace_id, merge, named)
    of_runs = select(runs.c.run_id).where(
        runs.c.workspace_id == workspace_id, runs.c.profile_id == from_id
    )
    connection.execute(
        update(messages)
        .where(
            messages.c.workspace_id == workspace_id,
            messages.c.run_id.in_(of_runs),
            # A run may have written to others, whose messages stay theirs.
            messages.c.profile_id == from_id,
        )
        .values(profile_id=into_id)
    )
    _move_runs(connection, workspace_id, merge)
    _move_suppressions(connection, workspace_id, merge)
    connection.execute(
        delete(profiles).where(
            profiles.c.workspace_id == workspace_id, profiles.c.profile_id == from_id
        )
    )


def _move_identities(
    connection: Connection, workspace_id: str, merge: Merge, named: set[Identity]
) -> None:
    """Move by the ids that the profile names: there is no index from profiles to identities."""
    known = set(named)
    for row in _PROFILES.rows(connection, workspace_id, (merge.from_profile_id,)):
        profile = rows.profile_of(row)
        known |= {(IdKind.ANONYMOUS, anonymous_id) for anonymous_id in profile.anonymous_ids}
        known.add((IdKind.USER, profile.user_id))
    connection.execute(
        update(identities)
        .where(
            identities.c.workspace_id == workspace_id,
            identities.c.identity.in_([rows.identity_key(identity) for identity in known]),
            identities.c.profile_id == merge.from_profile_id,
        )
        .values(profile_id=merge.into_profile_id)
    )


def _move_runs(connection: Connection, workspace_id: str, merge: Merge) -> None:
    """Move runs; where both profiles hold an entry the target's counts.

    A run that goes on holding is written after this, when the other one has let go.
    """
    for held in ("holds_active", "holds_ever"):
        other = runs.alias("other")
        taken = exists().where(
            and_(
                other.c.workspace_id == workspace_id,
                other.c.profile_id == merge.into_profile_id,
                other.c.workflow_id == runs.c.workflow_id,
                other.c.reentry_key == runs.c.reentry_key,
                other.c[held] == literal(1),
            )
        )
        connection.execute(
            update(runs)
            .where(
                runs.c.workspace_id == workspace_id,
                runs.c.profile_id == merge.from_profile_id,
                runs.c[held] == 1,
                taken,
            )
            .values({held: 0})
        )
    connection.execute(
        update(runs)
        .where(runs.c.workspace_id == workspace_id, runs.c.profile_id == merge.from_profile_id)
        .values(profile_id=merge.into_profile_id)
    )


def _move_suppressions(connection: Connection, workspace_id: str, merge: Merge) -> None:
    """Copy what the target does not hold back itself, then forget the old rows."""
    columns = [column.name for column in suppressions.c]
    of_from = (
        suppressions.c.workspace_id == workspace_id,
        suppressions.c.profile_id == merge.from_profile_id,
    )
    values = [
        literal(merge.into_profile_id) if name == "profile_id" else suppressions.c[name]
        for name in columns
    ]
    connection.execute(
        into(connection, suppressions)
        .from_select(columns, select(*values).where(*of_from))
        .on_conflict_do_nothing()
    )
    connection.execute(delete(suppressions).where(*of_from))
