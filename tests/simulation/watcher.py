"""The invariants I1 to I23 of the guarantees, looked at with every step of a simulation.

Nothing here believes the product: what clients, providers and readers were told is kept apart.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation import accounts, audiences, consents, trials
from tests.simulation.approvals import Approvals
from tests.simulation.providers import Taken
from tests.simulation.vocabulary import STARTS
from tests.validators import Seen
from upshot.v1 import event_pb2
from upshotd.adapters.memory.tables import Tables
from upshotd.domain import addresses
from upshotd.domain.erasure import ERASED
from upshotd.domain.message import OPEN, Delivery, Message, MessageState
from upshotd.domain.outcome import Engagement
from upshotd.domain.profile import Erasure, Suppression
from upshotd.domain.run import Run
from upshotd.domain.state import Changes
from upshotd.domain.stimulus import (
    CancelResult,
    EngagementResult,
    EngagementState,
    IngestResult,
    IngestState,
)

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

_RESOLVED = ("matched", "timed_out", "undeliverable")
_CLOSED = (MessageState.UNDELIVERABLE, MessageState.UNROUTABLE, MessageState.SUPPRESSED)
#: What is due is done within this, once nothing breaks any more, in microseconds.
LATE_US = 60_000_000


def _together(one: Run, other: Run) -> bool:
    """Return whether two active runs stand in the same digest."""
    place = (one.workflow_id, one.workflow_version, one.step_id)
    keys = [run.steps.get(run.step_id, {}).get("key") for run in (one, other)]
    same = place == (other.workflow_id, other.workflow_version, other.step_id)
    return one.active and same and keys[0] == keys[1]


@dataclass(frozen=True)
class Before:
    """The rows that a transaction replaced; None where there was none."""

    runs: dict[str, Run | None]
    messages: dict[str, Message | None]
    #: What every person about whom a message is, and its address, had forbidden, by scope.
    suppressions: dict[str, dict[str, Suppression]]
    #: Open trials of everybody who is written.
    trials: set[trials.Place]


class Watcher:
    """Sees everything, and notes what may not be."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        #: Findings; the first one ends the simulation.
        self.findings: list[str] = []
        #: (workspace, event) -> what its sender was told first.
        self.acks: dict[tuple[str, str], tuple[event_pb2.Event, IngestResult]] = {}
        #: How far the database's clock was ahead at most when it told its time, in microseconds.
        self._ahead_us = 0
        self.commits = 0
        #: (workspace, profile) -> its outcomes in the order of their commits.
        self._appended: dict[str, list[str]] = {}
        #: Messages about which there was an outcome.
        self._told: set[tuple[str, str]] = set()
        #: Profiles that others became part of.
        self._merged: set[str] = set()
        #: Workspace -> profile -> how it was erased last.
        self._erased: dict[str, dict[str, Erasure]] = {}
        self._trials = trials.Trials(self.expect)
        self.approvals = Approvals(self.expect)

    def expect(self, holds: bool, text: str) -> None:
        """Record a violation unless *holds*."""
        if not holds:
            self.findings.append(text)

    # I3, I4, I7, I9: every transaction that was applied

    def before(self, batch: Sequence[Changes]) -> list[Before]:
        """Return the rows that *batch* is about to replace."""
        found = []
        for changes in batch:
            tables = self._sim.database._tables(changes.workspace_id)
            owners = {message.profile_id for message in changes.messages.values()}
            owners |= {addresses.key(m.channel, m.recipient) for m in changes.messages.values()}
            found.append(
                Before(
                    {run_id: tables.runs.get(run_id) for run_id in changes.runs},
                    {name: tables.messages.get(name) for name in changes.messages},
                    {who: dict(tables.suppressions.get(who, {})) for who in owners},
                    trials.open_before(tables, changes),
                )
            )
        return found

    def committed(self, owner: str, batch: Sequence[Changes], before: list[Before]) -> None:
        """Look at what *owner* has written."""
        self.commits += 1
        self.ticked()
        database = self._sim.database
        lives = owner in database.leases or not database.between_processes
        self.expect(lives, f"I7 {owner} writes, and was taken over")
        for changes, old in zip(batch, before, strict=True):
            tables = self._sim.database._tables(changes.workspace_id)
            self._merged.update(merge.into_profile_id for merge in changes.merges)
            erased = self._erased.setdefault(changes.workspace_id, {})
            erased.update((gone.profile_id, gone) for gone in changes.erasures.values())
            self._trials.committed(changes, old.runs, old.trials)
            for run in changes.runs.values():
                self._run(changes.workspace_id, old.runs[run.run_id], run)
                self._digest(tables, run)
            for message in changes.messages.values():
                self._message(tables, changes, old, message, owner)
            self._sim.devices.committed(changes, old.messages)
            plans = self._plans(changes.workspace_id)
            self.approvals.committed(tables, changes, old.runs, old.messages, plans)
            for outcome in changes.outcomes:
                known = not outcome.run_id or outcome.run_id in tables.runs
                self.expect(known, f"I9 {outcome.outcome_id} is of a run of another workspace")
                self._appended.setdefault(changes.workspace_id, []).append(outcome.outcome_id)
                self._told.add((changes.workspace_id, outcome.message_id))
            kinds = ",".join(outcome.kind.name for outcome in changes.outcomes)
            self._sim.trace(
                f"{owner} {changes.workspace_id} {sorted(changes.events)} {sorted(changes.runs)} "
                f"{sorted(changes.messages)} {kinds}"
            )

    def ticked(self) -> None:
        """The database told its time: whoever heard it goes by it until told again."""
        self._ahead_us = max(self._ahead_us, self._sim.jump_us)

    @property
    def latest_us(self) -> int:
        """The latest time that anybody can take for true: the database may have been set back."""
        return self._sim.now_us() - self._sim.jump_us + self._ahead_us

    def _plans(self, workspace_id: str) -> accounts.Plans:
        return partial(self._sim.plan, workspace_id)

    def _run(self, workspace_id: str, before: Run | None, run: Run) -> None:
        resolved = Counter(e.step_id for e in run.timeline if e.what in _RESOLVED)
        waits = self._sim.waits(workspace_id, run.workflow_id, run.workflow_version)
        if any(entry.what == "migrated" for entry in run.timeline):
            waits = set()  # a step that was passed may stand after another one now
        twice = [step for step, count in resolved.items() if count > 1 and step in waits]
        self.expect(not twice, f"I4 {run.run_id}: the wait {twice} was resolved twice")
        if before is None:
            return
        unchanged = (run.state, run.timeline) == (before.state, before.timeline)
        self.expect(before.active or unchanged, f"I4 {run.run_id} goes on after its end")
        for entry in run.timeline[len(before.timeline) :]:
            if entry.what in ("timed_out", "went_on") and entry.step_id == before.step_id:
                due = before.due_us is not None and before.due_us <= self.latest_us
                self.expect(due, f"I3 {run.run_id}: {entry.step_id} {entry.what} before its time")

    def _digest(self, tables: Tables, run: Run) -> None:
        """I11: an open digest has one timer; of two that are one person now, one for each."""
        left = run.steps.get(run.step_id, {})
        if not (run.active and left.get("open")) or run.profile_id in self._merged:
            return
        others = (tables.runs[run_id] for run_id in tables.runs_of.get(run.profile_id, ()))
        timers = [o.run_id for o in others if o.due_us is not None and _together(o, run)]
        self.expect(len(timers) == 1, f"I11 the digest of {run.run_id} has the timers {timers}")

    def _message(
        self, tables: Tables, changes: Changes, old: Before, message: Message, owner: str
    ) -> None:
        before = old.messages[message.message_id]
        begun = message.attempt - (before.attempt if before is not None else 0)
        which = message.message_id
        if message.state is MessageState.SENDING and begun:
            self.expect(message.owner == owner, f"I7 {which} is begun in the name of another")
            self._consent(tables.runs[message.run_id], changes, old, message)
            assert message.due_us is not None
            begun_us = message.due_us - self._sim.policy.lease_us
            late = message.expire_us is not None and begun_us > message.expire_us
            self.expect(not late, f"I14 {which} is begun when it is of no use any more")
        if before is None:
            return
        self.expect(begun >= 0, f"I4 {which}: an attempt was taken back")
        over = before.state in (*_CLOSED, MessageState.ACCEPTED)
        self.expect(not (over and begun), f"I4 {which} is attempted again after its end")
        late = before.due_us is not None and before.due_us <= self.latest_us
        early = begun and before.state is MessageState.RETRYING and not late
        self.expect(not early, f"I3 {which}: attempt {message.attempt} before its time")

    def _consent(self, run: Run, changes: Changes, old: Before, message: Message) -> None:
        where = changes.workspace_id
        topic = self._sim.topic(where, run.workflow_id, run.workflow_version)
        held = old.suppressions
        for text in consents.broken(changes, held, message, topic, self.latest_us):
            self.expect(False, f"I4 {text}")
        if topic and self._sim.opted_out(where, topic):
            asked = consents.asked_for(changes, held, message, topic)
            self.expect(asked, f"{message.message_id} is sent to who did not ask for {topic}")

    # I1, G2: what clients are told

    def acknowledged(self, workspace_id: str, event: event_pb2.Event, result: IngestResult) -> None:
        """A client was told what became of an event."""
        key = (workspace_id, event.event_id)
        tables = self._sim.database._tables(workspace_id)
        if result.state is IngestState.REJECTED:
            # Whoever was erased at any time may be told so of what happened before.
            gone = result.reason == ERASED and self._erased.get(workspace_id)
            self.expect(bool(gone), f"I1 {key} was refused: {result.reason}")
            return
        self.expect(event.event_id in tables.events, f"I1 {key} was acknowledged and is not there")
        for started in result.started:
            known = started.run_id in tables.runs
            self.expect(known, f"I1 {key}: {started.run_id} was acknowledged and is not there")
        first = self.acks.setdefault(key, (event, result))[1]
        again = first is not result
        self.expect(
            not again or result.state is IngestState.DUPLICATE, f"G2 {key} was accepted twice"
        )
        same = {s.run_id for s in first.started} == {s.run_id for s in result.started}
        same = same or not tables.events[event.event_id].stored.payload  # it was emptied
        self.expect(same, f"G2 {key}: a duplicate is told of other runs than the first")

    def engaged(self, workspace_id: str, engagement: Engagement, result: EngagementResult) -> None:
        """A provider was told that its callback is durable."""
        fine = result.state is not EngagementState.REJECTED or result.reason == ERASED
        self.expect(fine, f"G8 {engagement.engagement_id} was refused: {result.reason}")

    def canceled(self, workspace_id: str, result: CancelResult) -> None:
        """Somebody was told that these runs have ended."""
        runs = self._sim.database._tables(workspace_id).runs
        for run_id in result.canceled:
            self.expect(not runs[run_id].active, f"I4 {run_id} was canceled and goes on")

    # I2, I9: what providers see

    def asked(self, provider: str, delivery: Delivery) -> None:
        """A provider is asked: the intent was committed before."""
        tables = self._sim.database._tables(delivery.workspace_id)
        message = tables.messages.get(delivery.message_id)
        which = delivery.message_id
        self.expect(message is not None, f"G5 {which} is sent and no intent of it is there")
        if message is not None:
            begun = message.attempt >= delivery.attempt
            self.expect(begun, f"G5 attempt {delivery.attempt} of {which} was never committed")
        text = str(delivery.content)
        home = f"{delivery.workspace_id}" in text
        self.expect(home, f"I9 {which} of {delivery.workspace_id} says {text}")

    def taken(self, taken: Taken, times: int) -> None:
        """A provider took a message, for the so many-th time."""
        delivery = taken.delivery
        if times == 1:
            return
        which = f"{delivery.message_id} by {taken.provider}"
        self.expect(delivery.possible_duplicate, f"I2 {which}: the second send is not marked")
        again = self._sim.resends(delivery.workspace_id, delivery.message_id)
        self.expect(again, f"I2 {which}: sent twice where it should have been given up")

    # I8: nothing stands still, once nothing breaks any more

    def overdue(self) -> None:
        """Nothing that was due a minute ago is still to be done."""
        now_us = self._sim.database.now_us()
        for workspace_id, tables in self._sim.database._workspaces.items():
            for rows in (tables.runs, tables.messages):
                for row_id, row in rows.items():
                    late = row.due_us is not None and row.due_us < now_us - LATE_US
                    self.expect(not late, f"I8 {row_id} of {workspace_id} is overdue")
            for text in audiences.overdue(tables, now_us - LATE_US):
                self.expect(False, f"I8 {text} of {workspace_id} is overdue")

    def open_work(self) -> int:
        """Return how many runs and messages are not over, and how many people time alone moves."""
        count = 0
        for tables in self._sim.database._workspaces.values():
            count += sum(run.active for run in tables.runs.values())
            count += sum(message.state in OPEN for message in tables.messages.values())
            count += len(list(audiences.overdue(tables, 1 << 62)))
        return count

    # the end

    def final(self) -> None:
        """Judge the whole history."""
        for workspace_id, tables in sorted(self._sim.database._workspaces.items()):
            self._log(workspace_id, tables)
            self._runs(workspace_id, tables)
            self._messages(workspace_id, tables)
            self._starts(workspace_id, tables)
            self._limits(workspace_id, tables)
            self._readers(workspace_id, tables)
            self._trials.final(workspace_id, tables)
            self.approvals.final(workspace_id, tables, self._plans(workspace_id))
            settings = self._sim.database._settings
            jumped = "clock_jump" in self._sim.faults.injected
            now_us = self.latest_us
            for text in audiences.members(tables, settings, workspace_id, now_us, jumped=jumped):
                self.expect(False, f"I22 {workspace_id}: {text}")
            for text in accounts.forgotten(tables, self._erased.get(workspace_id, {}).values()):
                self.expect(False, f"I17 {workspace_id}: {text}")

    def _log(self, workspace_id: str, tables: Tables) -> None:
        """I5: contiguous, and each person's outcomes in the order of their commits; I10: counts."""
        order = {name: at for at, name in enumerate(self._appended.get(workspace_id, []))}
        for number, partition in tables.log._partitions.items():
            last: dict[str, int] = {}
            for position, entry in partition.after(0):
                at = order[entry.outcome.outcome_id]
                profile_id = entry.outcome.profile_id
                where = f"I5 {workspace_id}/{number}/{position}"
                self.expect(at > last.get(profile_id, -1), f"{where} is out of order")
                last[profile_id] = at
        counted = sum(c.count for c in tables.log.counts(0, 1 << 62, ""))
        self.expect(counted == len(order), f"I10 {workspace_id}: {counted} of {len(order)} counted")

    def _runs(self, workspace_id: str, tables: Tables) -> None:
        keys = Counter((run.workflow_id, run.start_key) for run in tables.runs.values())
        twice = [key for key, count in keys.items() if count > 1]
        self.expect(not twice, f"I1 {workspace_id}: started twice: {twice}")
        for run in tables.runs.values():
            self.expect(not run.active, f"I8 {run.run_id} never ended")
            self.expect(run.reason != "INTERNAL", f"I8 {run.run_id} of {workspace_id} broke")

    def _messages(self, workspace_id: str, tables: Tables) -> None:
        for message in tables.messages.values():
            which = message.message_id
            self.expect(message.state not in OPEN, f"I8 {which} never ended")
            told = (workspace_id, which) in self._told or message.reason == ERASED
            self.expect(told, f"I15 {which} ended without an outcome")
            if message.state is MessageState.ACCEPTED:
                at_provider = (workspace_id, which) in self._sim.providers.times
                self.expect(at_provider, f"I2 {which} counts as sent, and nobody took it")

    def _starts(self, workspace_id: str, tables: Tables) -> None:
        """I1: an event that always starts a run has started exactly one."""
        started = Counter(
            run.event_id for run in tables.runs.values() if run.workflow_id == "always"
        )
        enrolled = {run.event_id for run in tables.runs.values() if run.depth}
        for (workspace, event_id), (event, _) in self.acks.items():
            if workspace != workspace_id or event.track.event != STARTS[0]:
                continue
            if not tables.events[event_id].stored.payload:
                continue  # of somebody who was erased: an enrolment into it may be among the runs
            if event.HasField("event_time") or event_id in enrolled:
                continue  # too old perhaps, or enrolled into it once more
            count = started[event_id]
            self.expect(count == 1, f"I1 {workspace_id}/{event_id} started {count} runs")

    def _limits(self, workspace_id: str, tables: Tables) -> None:
        """I11: each item of a digest once; I12: nobody passes a throttle beyond its number."""
        plans = self._plans(workspace_id)
        for text in accounts.digests(tables.runs):
            self.expect(False, f"I11 {workspace_id}: {text}")
        policy = self._sim.policy
        sent = {which for where, which in self._sim.providers.times if where == workspace_id}
        settings = self._sim.database._settings
        for text in accounts.schedules(settings, tables, workspace_id, self._merged):
            self.expect(False, f"I16 {workspace_id}: {text}")
        for text in accounts.routes(tables.messages.values(), plans, sent):
            self.expect(False, f"I14 {workspace_id}: {text}")
        for text in accounts.quiet(tables.messages.values(), plans, policy):
            self.expect(False, f"I13 {workspace_id}: {text}")
        if "clock_jump" not in self._sim.faults.injected:  # a clock set back counts anew
            for text in accounts.throttles(tables.runs, plans, self._merged):
                self.expect(False, f"I12 {workspace_id}: {text}")
            for text in accounts.caps(tables.messages.values(), plans, policy, self._merged):
                self.expect(False, f"I12 {workspace_id}: {text}")

    def _readers(self, workspace_id: str, tables: Tables) -> None:
        """I6: what every reader saw, in order, without a gap, and nothing missing in the end."""
        log = [
            Seen(number, position, entry.outcome.outcome_id)
            for number, partition in tables.log._partitions.items()
            for position, entry in partition.after(0)
        ]
        self.findings += self._sim.validators[workspace_id].findings(
            log if "prune" not in self._sim.faults.injected else None
        )
        for relay in self._sim.relays:
            if relay.workspace_id == workspace_id:
                missing = {seen.outcome_id for seen in log} - set(relay.received)
                self.expect(not missing, f"I6 a relay never got {sorted(missing)[:3]}")
