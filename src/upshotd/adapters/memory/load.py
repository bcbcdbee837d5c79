"""Gathers what a batch of decisions may read."""

from collections.abc import Collection, Iterable

from upshotd.adapters.memory.tables import Tables
from upshotd.domain import approval
from upshotd.domain.addresses import LIST
from upshotd.domain.run import Run
from upshotd.domain.state import State, Wanted
from upshotd.domain.trial import Tally, TallyKey


def load(tables: Tables, wanted: Wanted) -> State:
    """Return the state that *wanted* asks for, complete as `State` says."""
    state = State()
    _wanted_messages(tables, wanted, state)
    profile_ids = _people(tables, wanted, state)
    if wanted.memberships:
        former = profile_ids | wanted.former_ids
        found = former & tables.memberships.keys()
        state.memberships = {one: dict(tables.memberships[one]) for one in found}
    for run in sorted(state.runs.values(), key=lambda run: run.run_id):
        _hangs_on(tables, wanted, state, run)
    state.counters = wanted.counters
    for name in wanted.counters & tables.profiles.keys():
        state.profiles[name] = tables.profiles[name]
    if wanted.experiments:
        state.tallies = tallies(tables, wanted.experiments)
    if LIST in tables.profiles:
        state.profiles[LIST] = tables.profiles[LIST]
        state.addresses = state.addresses_of(wanted)
        for address in state.addresses & tables.suppressions.keys():
            state.suppressions[address] = dict(tables.suppressions[address])
    for event_id in wanted.event_ids & tables.events.keys():
        state.seen[event_id] = tables.events[event_id].started
    for group_id in wanted.group_ids & tables.groups.keys():
        state.groups[group_id] = tables.groups[group_id]
    state.engagement_ids = wanted.engagement_ids & tables.engagements.keys()
    state.definitions_revision = sum(map(len, tables.workflows.values()))
    return state


def tallies(tables: Tables, experiments: Collection[str]) -> dict[TallyKey, Tally]:
    """Return what came of all variants of *experiments*."""
    return {key: tally for key, tally in tables.tallies.items() if key[0] in experiments}


def _wanted_messages(tables: Tables, wanted: Wanted, state: State) -> None:
    message_ids = wanted.message_ids & tables.messages.keys()
    for recipient in wanted.recipients:
        newest = tables.newest_to(recipient)
        if newest:
            state.by_recipient[recipient] = newest
            message_ids.add(newest)
    for key in wanted.provider_keys:
        if key in tables.provider_messages:
            message_ids.add(tables.provider_messages[key])
        if tables.pending.get(key):
            waiting = tables.pending[key].values()
            state.pending[key] = tuple(
                sorted(
                    waiting, key=lambda engagement: (engagement.occur_us, engagement.engagement_id)
                )
            )
    _messages(tables, wanted, state, message_ids)


def _messages(tables: Tables, wanted: Wanted, state: State, message_ids: Iterable[str]) -> None:
    for message_id in message_ids:
        message = tables.messages[message_id]
        # Left out as other stores do, so that what decides on content without asking is found.
        whole = message_id in wanted.content_ids
        state.messages[message_id] = message if whole else message._replace(content=None)
        key = (message.provider, message.provider_message_id)
        if tables.provider_messages.get(key) == message_id:
            state.provider_messages[key] = message_id


def _wanted_people(tables: Tables, wanted: Wanted, state: State) -> set[str]:
    """Load the runs that are wanted themselves; return whose everything is wanted."""
    run_ids = wanted.run_ids | {message.run_id for message in state.messages.values()}
    for cancellation_key in wanted.cancellation_keys:
        found = sorted(tables.runs_by_cancellation_key.get(cancellation_key, ()))
        if found:
            state.by_cancellation_key[cancellation_key] = found
            run_ids.update(found)
    for run_id in run_ids & tables.runs.keys():
        state.put_run(tables.runs[run_id])
    return {
        *(tables.identities[named] for named in wanted.identities & tables.identities.keys()),
        *(run.profile_id for run in state.runs.values()),
        *(message.profile_id for message in state.messages.values()),
        *wanted.profile_ids,
    }


def _people(tables: Tables, wanted: Wanted, state: State) -> set[str]:
    """Load people; return whose everything is loaded: of whom others' runs have asked for a
    decision it is only who they are."""
    profile_ids = _wanted_people(tables, wanted, state)
    profile_ids |= _asked(tables, state.runs.values())
    for profile_id in sorted(profile_ids):
        _person(tables, wanted, state, profile_id)
    for profile_id in _asked(tables, state.runs.values()) - profile_ids:
        state.profiles[profile_id] = tables.profiles[profile_id]
    return profile_ids


def _asked(tables: Tables, runs: Collection[Run]) -> set[str]:
    """Return whom runs have asked for a decision."""
    made = (tables.messages_of_run.get(run.run_id, ()) for run in runs)
    return approval.asked(runs, (tables.messages[name] for names in made for name in names))


def _person(tables: Tables, wanted: Wanted, state: State, profile_id: str) -> None:
    if profile_id in tables.profiles:
        state.profiles[profile_id] = tables.profiles[profile_id]
    state.suppressions[profile_id] = dict(tables.suppressions.get(profile_id, {}))
    for identity in tables.identities_of.get(profile_id, ()):
        state.identities[identity] = profile_id
    # Anew, so that it is in order of start.
    state.active[profile_id] = {}
    for run in tables.runs_of_profile(profile_id):
        if run.active:
            state.put_run(run)
        if run.workflow_id in wanted.entry_workflow_ids:
            key = (run.workflow_id, profile_id, run.reentry_key)
            state.last_starts[key] = max(state.last_starts.get(key, run.start_us), run.start_us)


def _hangs_on(tables: Tables, wanted: Wanted, state: State, run: Run) -> None:
    """Load the messages of *run*, the event that started it and that event's group."""
    _messages(tables, wanted, state, tables.messages_of_run.get(run.run_id, ()))
    row = tables.events.get(run.event_id)
    if row is None:
        return
    state.events[run.event_id] = row.stored
    if row.group_id in tables.groups:
        state.groups[row.group_id] = tables.groups[row.group_id]
