"""How `Changes` become rows: checked as a database would, and taken back whole on a fault."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from upshotd.adapters.memory.journal import Journal
from upshotd.adapters.memory.tables import EventRow, Index, Tables
from upshotd.domain import addresses, erasure
from upshotd.domain.errors import Conflict, ConstraintFailure
from upshotd.domain.message import Message
from upshotd.domain.profile import Erasure, Merge
from upshotd.domain.run import Run
from upshotd.domain.state import Changes, Identity, StoredEvent
from upshotd.domain.trial import Tally
from upshotd.domain.values import replace


class Versioned(Protocol):
    """A row that carries the version it was loaded with."""

    @property
    def row_version(self) -> int:
        """The version; 0 when the row has never been stored."""


K = TypeVar("K")
R = TypeVar("R", bound=Versioned)


def unique_keys(run: Run) -> list[tuple[str, ...]]:
    """Return what no other run of the workspace may have."""
    person = (run.workflow_id, run.profile_id, run.reentry_key)
    keys: list[tuple[str, ...]] = [("start", run.workflow_id, run.start_key)]
    if run.holds_active:
        keys.append(("active", *person))
    if run.holds_ever:
        keys.append(("ever", *person))
    return keys


def apply(tables: Tables, changes: Changes, journal: Journal) -> list[Run]:
    """Write everything of *changes* but its outcomes; return the runs that an erasure has woken.

    Raises Conflict and ConstraintFailure, with part of it written: the journal takes it back.
    """
    return _Application(tables, changes, journal).apply()


class _Application:
    def __init__(self, tables: Tables, changes: Changes, journal: Journal) -> None:
        self._tables = tables
        self._changes = changes
        self._journal = journal
        self._into = _targets(changes.merges)
        #: Stored runs of merged people, and whose they were.
        self._moved: dict[str, str] = {}
        self._woken: list[Run] = []

    def apply(self) -> list[Run]:
        self._consents()
        self._events()
        self._identities()
        self._people()
        self._runs()
        self._messages()
        self._engagements()
        self._suppressions()
        self._tallies()
        self._memberships()
        for gone in self._changes.erasures.values():
            self._erase(gone)
        return self._woken

    def _consents(self) -> None:
        for profile_id, version in self._changes.consents.items():
            profile = self._tables.profiles.get(profile_id)
            kept = profile.row_version if profile is not None else 0
            fresh = not version and profile_id in self._changes.profiles
            if kept != version and not fresh:
                raise Conflict("a profile was written or merged since it was loaded")

    # events

    def _events(self) -> None:
        for event_id, accepted in self._changes.events.items():
            _absent(self._tables.events, event_id)
            event = accepted.event
            stored = StoredEvent(event_id, event.payload, event.receive_us, event.event_us)
            row = EventRow(
                stored, event.group_of, accepted.started, accepted.refused, accepted.profile_id
            )
            self._journal.put(self._tables.events, event_id, row)
        for rejected in self._changes.rejected:
            _absent(self._tables.rejected, rejected.rejection_id)
            self._journal.put(self._tables.rejected, rejected.rejection_id, rejected)

    # people

    def _identities(self) -> None:
        for merged, into in self._into.items():
            for identity in tuple(self._tables.identities_of.get(merged, ())):
                self._identify(identity, into)
        for identity, profile_id in self._changes.identities.items():
            whose = self._into.get(profile_id, profile_id)
            if self._tables.identities.get(identity, whose) != whose:
                raise Conflict(f"the {identity[0]} id names another profile by now")
            self._identify(identity, whose)

    def _identify(self, identity: Identity, profile_id: str) -> None:
        tables, journal = self._tables, self._journal
        before = tables.identities.get(identity)
        if before is not None:
            journal.drop(tables.identities_of[before], identity)
        journal.put(tables.identities, identity, profile_id)
        journal.put(tables.identities_of.setdefault(profile_id, {}), identity, None)

    def _people(self) -> None:
        for merged in self._into:
            self._journal.drop(self._tables.profiles, merged)
        for profile_id, profile in self._changes.profiles.items():
            if profile_id not in self._into:
                self._put_version(self._tables.profiles, profile_id, profile)
        for group_id, group in self._changes.groups.items():
            self._put_version(self._tables.groups, group_id, group)
        for (group_id, profile_id), member in self._changes.group_members.items():
            write = self._link if member else self._unlink
            write(self._tables.group_members, group_id, profile_id)

    def _suppressions(self) -> None:
        tables, journal = self._tables, self._journal
        for merged, into in self._into.items():
            moved = {**tables.suppressions.get(merged, {}), **tables.suppressions.get(into, {})}
            journal.drop(tables.suppressions, merged)
            journal.put(tables.suppressions, into, moved)
        for (profile_id, scope), suppression in self._changes.suppressions.items():
            whose = self._into.get(profile_id, profile_id)
            held = dict(tables.suppressions.get(whose, {}))
            held.pop(scope, None)
            if suppression is not None:
                held[scope] = suppression
            journal.put(tables.suppressions, whose, held)

    def _memberships(self) -> None:
        for (profile_id, audience_id), row in self._changes.memberships.items():
            rows = self._tables.memberships.setdefault(profile_id, {})
            if row is None:
                self._journal.drop(rows, audience_id)
            else:
                self._journal.put(rows, audience_id, row)

    # runs and messages

    def _runs(self) -> None:
        """Write runs as if at once: what one gives up another may take."""
        written = dict(self._changes.runs)
        moved = self._moved
        for merged in self._into:
            moved.update(dict.fromkeys(self._tables.runs_of.get(merged, ()), merged))
        for run_id in sorted(moved.keys() | written.keys()):
            self._unindex_run(run_id)
        # Moved ones last: where both people had their one run for ever, the target's counts.
        for run_id in sorted(written.keys() - moved.keys()):
            self._put_run(self._next(self._tables.runs, run_id, written[run_id]))
        for run_id in sorted(moved):
            if run_id in written:
                run = self._next(self._tables.runs, run_id, written[run_id])
            else:
                run = self._tables.runs[run_id]
            self._put_run(self._yielding(run))

    def _yielding(self, run: Run) -> Run:
        run = replace(run, profile_id=self._into.get(run.profile_id, run.profile_id))
        ever = ("ever", run.workflow_id, run.profile_id, run.reentry_key)
        return replace(run, holds_ever=run.holds_ever and ever not in self._tables.unique)

    def _unindex_run(self, run_id: str) -> None:
        old = self._tables.runs.get(run_id)
        if old is None:
            return
        for key in unique_keys(old):
            self._journal.drop(self._tables.unique, key)
        self._unlink(self._tables.runs_of, old.profile_id, run_id)
        self._unlink(self._tables.runs_by_cancellation_key, old.cancellation_key, run_id)

    def _put_run(self, run: Run) -> None:
        run = replace(run, profile_id=self._into.get(run.profile_id, run.profile_id))
        for key in unique_keys(run):
            if key in self._tables.unique:
                raise ConstraintFailure(f"the {key[0]} of run {run.run_id} is taken")
            self._journal.put(self._tables.unique, key, run.run_id)
        self._journal.put(self._tables.runs, run.run_id, run)
        self._link(self._tables.runs_of, run.profile_id, run.run_id)
        if run.active and run.cancellation_key:
            self._link(self._tables.runs_by_cancellation_key, run.cancellation_key, run.run_id)

    def _messages(self) -> None:
        for run_id, merged in self._moved.items():
            for message_id in tuple(self._tables.messages_of_run.get(run_id, ())):
                message = self._tables.messages[message_id]
                if message.profile_id == merged:  # a run may have written to others
                    self._put_message(message)
        for message_id, message in self._changes.messages.items():
            known = self._tables.messages.get(message_id)
            if known is not None:  # written once: it is frozen, and not loaded with the rest
                message = message._replace(content=known.content)
            self._put_message(self._next(self._tables.messages, message_id, message))

    def _put_message(self, message: Message) -> None:
        tables, message_id = self._tables, message.message_id
        whose = self._into.get(message.profile_id, message.profile_id)
        before = tables.messages.get(message_id)
        self._journal.put(tables.messages, message_id, replace(message, profile_id=whose))
        self._link(tables.messages_of_run, message.run_id, message_id)
        if message.provider_message_id:
            key = (message.provider, message.provider_message_id)
            self._journal.put(tables.provider_messages, key, message_id)
        self._index_answers(before, message)
        if message.ask and before is None and whose:
            self._link(tables.asks, whose, message_id)

    def _index_answers(self, before: Message | None, message: Message) -> None:
        old = addresses.answering(before) if before is not None else ""
        new = addresses.answering(message)
        index = self._tables.messages_to
        if old and old != new:
            self._unlink(index, old, message.message_id)
            if not index[old]:  # the number of somebody who was erased
                self._journal.drop(index, old)
        if new and old != new:
            self._link(index, new, message.message_id)

    # engagements

    def _engagements(self) -> None:
        tables, journal, changes = self._tables, self._journal, self._changes
        # They may tell of long ago; what is kept for a time is kept from when it came.
        now_us = changes.outcomes[-1].record_us if changes.outcomes else 0
        for engagement_id, engagement in changes.pending.items():
            _absent(tables.engagements, engagement_id)
            journal.put(tables.engagements, engagement_id, max(now_us, engagement.occur_us))
            key = (engagement.provider, engagement.provider_message_id)
            journal.put(tables.pending.setdefault(key, {}), engagement_id, engagement)
        applied: set[str] = set()
        for key in changes.applied_pending:
            applied.update(tables.pending.get(key, ()))
            journal.drop(tables.pending, key)
        for engagement_id, (engagement, _) in changes.engagements.items():
            if engagement_id not in applied:
                _absent(tables.engagements, engagement_id)
            journal.put(tables.engagements, engagement_id, max(now_us, engagement.occur_us))

    # experiments

    def _tallies(self) -> None:
        tallies = self._tables.tallies
        for key, more in self._changes.tallies.items():
            self._journal.put(tallies, key, tallies.get(key, Tally()).plus(more))

    # erasures

    def _erase(self, gone: Erasure) -> None:
        """Empty everything that is found by a person."""
        tables = self._tables
        theirs = list(tables.runs_of_profile(gone.profile_id))
        if any(run.active for run in theirs):
            raise Conflict("a run has begun since the person was loaded")
        named = [m for run in theirs for m in tables.messages_of_run.get(run.run_id, ())]
        named += self._requests(gone)
        written = [tables.messages[message_id] for message_id in dict.fromkeys(named)]
        for run in theirs:
            self._unindex_run(run.run_id)
            self._put_run(_after(erasure.emptied(run)))
        for message in written:
            self._put_message(_after(erasure.tombstone(message)))
        for profile_id in gone.profile_ids:
            self._journal.drop(tables.memberships, profile_id)
        for listed in erasure.used(gone, written):
            held = tables.suppressions.get(listed)
            if held:
                key = addresses.hidden(listed)
                self._journal.put(
                    tables.suppressions, key, {**held, **tables.suppressions.get(key, {})}
                )
                self._journal.drop(tables.suppressions, listed)

    def _requests(self, gone: Erasure) -> list[str]:
        """Return what a person was asked by for a decision, and wake the runs that wait for it."""
        tables = self._tables
        found = list(tables.asks.get(gone.profile_id, ()))
        for run_id in sorted({tables.messages[message_id].run_id for message_id in found}):
            woken = erasure.woken(tables.runs[run_id], gone)
            if woken is not None:
                self._unindex_run(run_id)
                self._put_run(_after(woken))
                self._woken.append(woken)
        self._journal.drop(tables.asks, gone.profile_id)
        return found

    # rows

    def _next(self, table: Mapping[str, R], row_id: str, row: R) -> R:
        """Return *row* with its next version, if it is what the store has."""
        stored = table.get(row_id)
        if row.row_version != (stored.row_version if stored is not None else 0):
            raise Conflict(f"row {row_id} has moved on")
        return replace(row, row_version=row.row_version + 1)

    def _put_version(self, table: dict[str, R], row_id: str, row: R) -> None:
        self._journal.put(table, row_id, self._next(table, row_id, row))

    def _link(self, index: Index, key: str, row_id: str) -> None:
        self._journal.put(index.setdefault(key, {}), row_id, None)

    def _unlink(self, index: Index, key: str, row_id: str) -> None:
        self._journal.drop(index.get(key, {}), row_id)


def _after(row: R) -> R:
    return replace(row, row_version=row.row_version + 1)


def _targets(merges: Sequence[Merge]) -> dict[str, str]:
    """Return where each merged profile ends, also when its target was merged in turn."""
    into: dict[str, str] = {}
    for merge in merges:
        for merged, target in into.items():
            if target == merge.from_profile_id:
                into[merged] = merge.into_profile_id
        into[merge.from_profile_id] = merge.into_profile_id
    return into


def _absent(table: Mapping[K, object], key: K) -> None:
    """Refuse what came meanwhile: decided again, it is a duplicate."""
    if key in table:
        raise Conflict("a row is there already")
