"""The `Store` in dictionaries: everything a database promises, for as long as the process lives."""

import heapq
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from upshotd.adapters.memory import commit, load, prune
from upshotd.adapters.memory.audiences import MemoryAudienceRows
from upshotd.adapters.memory.due import MEMBERSHIP, MESSAGE, RUN, Timer, Timers
from upshotd.adapters.memory.erased import MemoryErasedRows
from upshotd.adapters.memory.journal import Journal
from upshotd.adapters.memory.log import Encode, Log
from upshotd.adapters.memory.tables import Tables
from upshotd.application.erased import task
from upshotd.application.outcome_page import OutcomeRead
from upshotd.application.ports import (
    Defined,
    Due,
    MessageFilter,
    OutcomeCount,
    OutcomeFilter,
    PartitionSpan,
    Retention,
    RunFilter,
    StoredWorkflow,
    Subscription,
    Task,
    no_task,
)
from upshotd.domain.errors import VersionMismatch
from upshotd.domain.event import RejectedEvent
from upshotd.domain.message import Message
from upshotd.domain.profile import Listed, Profile, Suppression
from upshotd.domain.run import Run
from upshotd.domain.state import Changes, Identity, IdKind, KeptEvent, State, Wanted
from upshotd.domain.trial import Tally, TallyKey
from upshotd.domain.values import replace

V = TypeVar("V")


class MemoryStore:
    """Rows in dictionaries. No method awaits anything, so each is a transaction by itself."""

    def __init__(self, *, encode_outcome: Encode, partitions: int = 1) -> None:
        self._encode_outcome = encode_outcome
        self._partitions = partitions
        self._epoch = uuid.uuid4().hex
        self._workspaces: dict[str, Tables] = {}
        self._settings: dict[str, str] = {}
        self._timers = Timers(self._live)
        self._erased_rows = MemoryErasedRows(self._tables, partitions)

    async def open(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def close(self) -> None:
        """Do nothing; the rows stay for as long as this object."""

    def _tables(self, workspace_id: str) -> Tables:
        tables = self._workspaces.get(workspace_id)
        if tables is None:
            tables = self._workspaces[workspace_id] = Tables(Log(self._partitions))
        return tables

    # the loop

    async def load(self, workspace_id: str, wanted: Wanted) -> State:
        return load.load(self._tables(workspace_id), wanted)

    async def commit(self, batch: Sequence[Changes]) -> None:
        journal = Journal()
        try:
            woken = [
                commit.apply(self._tables(changes.workspace_id), changes, journal)
                for changes in batch
            ]
            for changes in batch:
                log = self._tables(changes.workspace_id).log
                for outcome in changes.outcomes:
                    log.append(outcome, self._encode_outcome, journal)
        except BaseException:
            journal.undo()
            raise
        for changes, runs in zip(batch, woken, strict=True):
            self._set_timers(changes, runs)
            for gone in changes.erasures.values():
                self._settings.update((task(changes.workspace_id, gone),))

    def _set_timers(self, changes: Changes, woken: Iterable[Run]) -> None:
        workspace_id = changes.workspace_id
        for run in (*changes.runs.values(), *woken):
            if run.due_us is not None:
                self._timers.add((run.due_us, run.run_id, workspace_id, RUN))
        for message_id, message in changes.messages.items():
            if message.due_us is not None:
                self._timers.add((message.due_us, message_id, workspace_id, MESSAGE))
        for (profile_id, audience_id), row in changes.memberships.items():
            if row is not None and row.due_us is not None:
                timer = (row.due_us, f"{profile_id} {audience_id}", workspace_id, MEMBERSHIP)
                self._timers.add(timer)

    def _live(self, timer: Timer) -> bool:
        due_us, key, workspace_id, kind = timer
        return self._tables(workspace_id).due_us(kind, key) == due_us

    async def claim(self, now_us: int, limit: int) -> list[Due]:
        return self._timers.due(now_us, limit)

    async def next_due(self) -> int | None:
        return self._timers.next_us()

    # replicas: the rows live and die with this process

    @property
    def shared(self) -> bool:
        """No other process can have these rows."""
        return False

    async def join(self, owner: str) -> None:
        """Do nothing: whoever sent anything is this process."""

    async def leave(self) -> None:
        """Do nothing."""

    def holds_lease(self) -> bool:
        """There is nobody who could take it."""
        return True

    async def log_size(self) -> int:
        return sum(
            span.head
            for tables in self._workspaces.values()
            for span in tables.log.spans().values()
        )

    # definitions

    async def define(
        self,
        workspace_id: str,
        workflow_id: str,
        definition: bytes,
        expected_version: int | None,
        create_us: int,
        task: Task = no_task,
    ) -> Defined:
        workflows = self._tables(workspace_id).workflows
        versions = workflows.get(workflow_id, ())
        current = len(versions)
        if expected_version not in (None, current):
            text = f"the current version of {workflow_id!r} is {current}, not {expected_version}"
            raise VersionMismatch(text, current_version=str(current))
        if versions and versions[-1].definition == definition:
            return Defined(current, unchanged=True)
        stored = StoredWorkflow(workflow_id, current + 1, definition, create_us)
        workflows[workflow_id] = (*versions, stored)
        left = task(current + 1)
        if left is not None:
            self._settings.update((left,))
        return Defined(current + 1, unchanged=False)

    async def workspaces(self) -> list[str]:
        return sorted(name for name, tables in self._workspaces.items() if tables.workflows)

    async def current_workflows(self, workspace_id: str) -> list[StoredWorkflow]:
        workflows = self._tables(workspace_id).workflows
        return [versions[-1] for _, versions in sorted(workflows.items())]

    async def workflow(
        self, workspace_id: str, workflow_id: str, version: int
    ) -> StoredWorkflow | None:
        versions = self._tables(workspace_id).workflows.get(workflow_id, ())
        if not 0 <= version <= len(versions) or not versions:
            return None
        return versions[version - 1]

    async def workflow_versions(
        self, workspace_id: str, workflow_id: str, before: int | None, limit: int
    ) -> list[StoredWorkflow]:
        versions = self._tables(workspace_id).workflows.get(workflow_id, ())
        below = (v for v in reversed(versions) if before is None or v.version < before)
        return list(below)[:limit]

    # the log

    async def log_epoch(self) -> str:
        return self._epoch

    @property
    def partitions(self) -> int:
        return self._partitions

    async def spans(self, workspace_id: str) -> dict[int, PartitionSpan]:
        return self._tables(workspace_id).log.spans()

    async def read_outcomes(
        self,
        workspace_id: str,
        partition: int,
        after: int,
        limit: int,
        chosen: OutcomeFilter,
        batch: int,
    ) -> OutcomeRead:
        return self._tables(workspace_id).log.read(partition, after, limit, chosen, batch)

    async def outcome_time(self, workspace_id: str, partition: int, position: int) -> int | None:
        return self._tables(workspace_id).log.recorded_us(partition, position)

    async def subscription(self, workspace_id: str, name: str) -> Subscription | None:
        return self._tables(workspace_id).subscriptions.get(name)

    async def subscriptions(self, workspace_id: str) -> list[Subscription]:
        return [held for _, held in sorted(self._tables(workspace_id).subscriptions.items())]

    async def change_subscription(
        self, workspace_id: str, name: str, change: Callable[[Subscription | None], Subscription]
    ) -> Subscription:
        subscriptions = self._tables(workspace_id).subscriptions
        made = change(subscriptions.get(name))
        kept = replace(made, positions=MappingProxyType(dict(made.positions)))
        subscriptions[name] = kept
        return kept

    async def delete_subscription(self, workspace_id: str, name: str) -> bool:
        return self._tables(workspace_id).subscriptions.pop(name, None) is not None

    # looking in

    async def run(self, workspace_id: str, run_id: str) -> Run | None:
        return self._tables(workspace_id).runs.get(run_id)

    async def runs(
        self, workspace_id: str, chosen: RunFilter, before: str, limit: int
    ) -> list[Run]:
        tables = self._tables(workspace_id)
        runs: Iterable[Run] = tables.runs.values()
        if chosen.profile_id:
            runs = tables.runs_of_profile(chosen.profile_id)
        passing = {
            run.run_id: run
            for run in runs
            if chosen.workflow_id in ("", run.workflow_id) and chosen.state in (None, run.state)
        }
        return _newest(passing, before, limit)

    async def event(self, workspace_id: str, event_id: str) -> KeptEvent | None:
        row = self._tables(workspace_id).events.get(event_id)
        return KeptEvent(row.stored, row.started, row.refused) if row is not None else None

    async def message(self, workspace_id: str, message_id: str) -> Message | None:
        return self._tables(workspace_id).messages.get(message_id)

    async def messages(
        self, workspace_id: str, chosen: MessageFilter, before: str, limit: int
    ) -> list[Message]:
        tables = self._tables(workspace_id)
        theirs = tables.runs_of.get(chosen.profile_id, {})
        asked = tables.asks.get(chosen.profile_id, {})
        passing = {
            message_id: message
            for message_id, message in tables.messages.items()
            if chosen.run_id in ("", message.run_id)
            and chosen.workflow_id in ("", message.workflow_id)
            # What asks for a decision is to its reviewer, whoever's run it is of.
            and (
                not chosen.profile_id
                or (message_id in asked if message.ask else message.run_id in theirs)
            )
        }
        return _newest(passing, before, limit)

    async def profile(
        self, workspace_id: str, identity: Identity
    ) -> tuple[Profile, list[Suppression]] | None:
        tables = self._tables(workspace_id)
        profile = tables.profiles.get(tables.identities.get(identity, ""))
        if profile is None:
            return None
        held = tables.suppressions.get(profile.profile_id, {})
        return profile, [suppression for _, suppression in sorted(held.items())]

    async def users(self, workspace_id: str, user_ids: set[str]) -> dict[str, Profile]:
        tables = self._tables(workspace_id)
        named = {one: tables.identities.get((IdKind.USER, one), "") for one in user_ids}
        return {one: tables.profiles[who] for one, who in named.items() if who in tables.profiles}

    async def profile_page(self, workspace_id: str, after: str, limit: int) -> list[Profile]:
        profiles = self._tables(workspace_id).profiles
        return [profiles[key] for key in sorted(key for key in profiles if key > after)[:limit]]

    async def profiles(self, workspace_id: str, profile_ids: set[str]) -> dict[str, Profile]:
        profiles = self._tables(workspace_id).profiles
        return {profile_id: profiles[profile_id] for profile_id in profile_ids & profiles.keys()}

    async def group_members(
        self, workspace_id: str, group_id: str, after_profile_id: str, count: int
    ) -> list[str]:
        members = self._tables(workspace_id).group_members.get(group_id, {})
        return sorted(one for one in members if one > after_profile_id)[:count]

    async def suppressions(self, workspace_id: str, after: str, limit: int) -> list[Listed]:
        tables = self._tables(workspace_id).suppressions
        every = [Listed(owner, held) for owner in tables for held in tables[owner].values()]
        every.sort(key=lambda listed: (listed.owner, listed.suppression.scope))
        place = _place(after)
        return [e for e in every if (e.owner, e.suppression.scope) > place][:limit]

    async def rejected_events(
        self, workspace_id: str, before: str, limit: int
    ) -> list[RejectedEvent]:
        return _newest(self._tables(workspace_id).rejected, before, limit)

    async def counts(
        self, workspace_id: str, start_us: int, end_us: int, workflow_id: str
    ) -> list[OutcomeCount]:
        return self._tables(workspace_id).log.counts(start_us, end_us, workflow_id)

    async def tallies(
        self, workspace_id: str, experiments: Collection[str]
    ) -> dict[TallyKey, Tally]:
        return load.tallies(self._tables(workspace_id), experiments)

    @property
    def erased_rows(self) -> MemoryErasedRows:
        """What is looked through for erased people."""
        return self._erased_rows

    @property
    def audience_rows(self) -> MemoryAudienceRows:
        """What audiences know of people, and what they are filled from."""
        return MemoryAudienceRows(self._tables)

    # housekeeping

    async def setting(self, name: str) -> str | None:
        return self._settings.get(name)

    async def settings(self, prefix: str) -> dict[str, str]:
        return {name: v for name, v in self._settings.items() if name.startswith(prefix)}

    async def put_setting(self, name: str, value: str) -> None:
        self._settings[name] = value

    async def drop_setting(self, name: str) -> None:
        self._settings.pop(name, None)

    async def settle_setting(self, name: str, value: str) -> str:
        return self._settings.setdefault(name, value)

    async def prune(self, retention: Retention, limit: int) -> int:
        return sum(prune.prune(t, retention, limit) for t in self._workspaces.values())


def _place(key: str) -> tuple[str, str]:
    owner, _, scope = key.partition(" ")
    return owner, scope


def _newest(rows: Mapping[str, V], before: str, limit: int) -> list[V]:
    """Return the rows with the greatest keys below *before*; an empty one bounds nothing."""
    keys = (key for key in rows if not before or key < before)
    return [rows[key] for key in heapq.nlargest(limit, keys)]
