"""A draft: the state as loaded, under the changes one decision has made so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from upshotd.domain import addresses
from upshotd.domain.audience import Membership, truth
from upshotd.domain.audiences import facts_of
from upshotd.domain.definitions import Definitions
from upshotd.domain.event import Event
from upshotd.domain.ids import Ids
from upshotd.domain.message import Message
from upshotd.domain.outcome import Outcome
from upshotd.domain.profile import Group, Profile, Suppression
from upshotd.domain.run import Run
from upshotd.domain.state import Changes, Identity, State
from upshotd.domain.trial import Tally

if TYPE_CHECKING:
    from upshotd.domain.plan import Plan


class Draft:
    """Reads through the changes made so far; writes only changes."""

    __slots__ = ("_decoded", "changes", "definitions", "entered", "heard", "ids", "judged",
                 "now_us", "state")  # fmt: skip

    def __init__(
        self, workspace_id: str, definitions: Definitions, state: State, now_us: int, ids: Ids
    ) -> None:
        self.changes = Changes(workspace_id)
        self.definitions = definitions
        self.state = state
        self.now_us = now_us
        self.ids = ids
        self._decoded: dict[str, Event] = {}
        #: People as the audiences have seen them, and facts of messages that they know of.
        self.judged: dict[str, Profile] = {}
        self.heard: dict[str, frozenset[str]] = {}
        #: Changes of audiences that will start workflows, and whose.
        self.entered: list[tuple[Event, str]] = []

    # reads

    def profile_id(self, identity: Identity) -> str | None:
        """Return whom *identity* names, or None."""
        found = self.changes.identities.get(identity)
        return found if found is not None else self.state.identities.get(identity)

    def profile(self, profile_id: str) -> Profile:
        """Return a profile that exists."""
        found = self.changes.profiles.get(profile_id)
        return found if found is not None else self.state.profiles[profile_id]

    def group(self, group_id: str) -> Group | None:
        """Return a group, or None."""
        return self.changes.groups.get(group_id) or self.state.groups.get(group_id)

    def run(self, run_id: str) -> Run | None:
        """Return a run, or None."""
        return self.changes.runs.get(run_id) or self.state.runs.get(run_id)

    def active_runs(self, profile_id: str) -> Iterator[Run]:
        """Yield the active runs of a profile, oldest first; changes on the way are seen."""
        for run_id in tuple(self.state.active.get(profile_id, ())):
            run = self.run(run_id)
            if run is not None and run.active and run.profile_id == profile_id:
                yield run
        for run in tuple(self.changes.runs.values()):
            known = run.run_id in self.state.active.get(profile_id, ())
            if run.profile_id == profile_id and run.active and not known:
                yield run

    def message(self, message_id: str) -> Message | None:
        """Return a message, or None."""
        return self.changes.messages.get(message_id) or self.state.messages.get(message_id)

    def messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return those of some messages that there are, in their order."""
        found = map(self.message, message_ids)
        return [message for message in found if message is not None]

    def suppressions(self, owner: str) -> list[Suppression]:
        """Return what is held back from a profile or an address, also what is over."""
        if not self.changes.suppressions:
            return list(self.state.suppressions.get(owner, {}).values())
        held = dict(self.state.suppressions.get(owner, {}))
        for (whose, scope), suppression in self.changes.suppressions.items():
            if whose == owner and suppression is not None:
                held[scope] = suppression
            elif whose == owner:
                held.pop(scope, None)
        return list(held.values())

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing is held back from anybody that is loaded."""
        return not (self.state.suppressions or self.changes.suppressions)

    def knows(self, contact: Mapping[str, str]) -> bool:
        """Return whether it is loaded what is held back from the addresses in *contact*."""
        known = self.state.addresses
        return known is None or known.issuperset(addresses.keys(contact))

    def counter(self, name: str) -> Profile | None:
        """Return a row in which everybody's runs are counted; None where it is not loaded."""
        known = self.state.counters
        if known is not None and name not in known:
            return None
        found = self.changes.profiles.get(name) or self.state.profiles.get(name)
        return found or Profile(name, create_us=self.now_us)

    def tally(self, experiment: str, variant_id: str) -> Tally:
        """Return what came of a variant until the batch was loaded, and in it."""
        key = (experiment, variant_id)
        known = self.state.tallies.get(key, Tally())
        return known.plus(self.changes.tallies[key]) if key in self.changes.tallies else known

    @property
    def list_version(self) -> int:
        """The row version of the suppression list; 0 before there is one."""
        found = self.state.profiles.get(addresses.LIST)
        return found.row_version if found is not None else 0

    def membership(self, audience_id: str, profile_id: str) -> Membership | None:
        """Return what an audience knows of a person, or None."""
        key = (profile_id, audience_id)
        if key in self.changes.memberships:
            return self.changes.memberships[key]
        return self.state.memberships.get(profile_id, {}).get(audience_id)

    def inside(self, audience_id: str, profile_id: str) -> bool:
        """Return whether a person is in an audience as they are by now, also where that is still
        to be followed up."""
        key = (audience_id, profile_id)
        plan, row = self.definitions.audiences.plans.get(audience_id), self.membership(*key)
        if plan is None:
            return row is not None and row.member
        row = row or Membership(*key, plan.audience.version, ready=plan.filled)
        if not row.ready or row.version != plan.audience.version:
            return row.member
        facts = facts_of(self.definitions.conditions, self.profile(profile_id), row.happened)
        return truth(plan.audience.rule, facts, self.now_us)

    def audiences(self, profile_id: str) -> tuple[str, ...]:
        """Return the audiences that a person is in, by their ids."""
        known = self.definitions.audiences.plans
        if not known:
            return ()
        return tuple(a for a in known if (row := self.membership(a, profile_id)) and row.member)

    def plan(self, run: Run) -> Plan:
        """Return the plan of the version a run is on."""
        return self.definitions.plans[run.workflow_id, run.workflow_version]

    def trigger_event(self, event_id: str) -> Event | None:
        """Return the event that started a run; None when it is no longer kept."""
        accepted = self.changes.events.get(event_id)
        if accepted is not None:
            return accepted.event
        found = self._decoded.get(event_id)
        stored = self.state.events.get(event_id)
        if found is None and stored is not None:
            found = self._decoded[event_id] = self.definitions.decode_event(stored)
        return found

    # writes

    def put_profile(self, profile: Profile) -> None:
        """Write a profile."""
        self.changes.profiles[profile.profile_id] = profile

    def put_run(self, run: Run) -> None:
        """Write a run."""
        self.changes.runs[run.run_id] = run

    def put_message(self, message: Message) -> None:
        """Write a message."""
        self.changes.messages[message.message_id] = message

    def put_suppression(self, profile_id: str, suppression: Suppression) -> None:
        """Hold a channel or a topic back; sends that were decided without it are refused then."""
        self.put_profile(self.profile(profile_id))
        self.changes.suppressions[profile_id, suppression.scope] = suppression

    def put_group_member(self, group_id: str, profile_id: str, *, member: bool) -> None:
        """Say whether a person is found by a group; whoever says so writes the profile as well."""
        self.changes.group_members[group_id, profile_id] = member

    def put_membership(self, row: Membership) -> None:
        """Write what an audience knows of a person."""
        self.changes.memberships[row.profile_id, row.audience_id] = row

    def drop_membership(self, audience_id: str, profile_id: str) -> None:
        """Leave nothing of what an audience knows of a person."""
        self.changes.memberships[profile_id, audience_id] = None

    def begin_list(self) -> None:
        """Have a suppression list from now on."""
        if addresses.LIST not in self.state.profiles:
            self.put_profile(Profile(addresses.LIST, create_us=self.now_us))

    def change_list(self) -> None:
        """Write the suppression list; sends that were decided without what is new are refused."""
        self.begin_list()
        if addresses.LIST not in self.changes.profiles:
            self.put_profile(self.state.profiles[addresses.LIST])

    def count(self, experiment: str, variant_id: str, more: Tally) -> None:
        """Add to the tally of a variant."""
        key = (experiment, variant_id)
        self.changes.tallies[key] = self.changes.tallies.get(key, Tally()).plus(more)

    def append(self, outcome: Outcome) -> None:
        """Append an outcome to the log."""
        self.changes.outcomes.append(outcome)
