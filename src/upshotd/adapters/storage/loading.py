"""What a batch of decisions reads: one statement for a kind of row, none for what is not asked."""

from collections.abc import Collection

from sqlalchemy import Connection

from upshotd.adapters.storage import audiences, definitions, rows
from upshotd.adapters.storage.bulk import Lookup
from upshotd.adapters.storage.tables import (
    engagements,
    events,
    groups,
    identities,
    messages,
    pending_engagements,
    profiles,
    runs,
    suppressions,
    tallies,
)
from upshotd.domain import approval
from upshotd.domain.addresses import LIST
from upshotd.domain.run import RunState
from upshotd.domain.state import IdKind, State, StoredEvent, Wanted
from upshotd.domain.trial import Tally, TallyKey
from upshotd.domain.values import replace

_ACTIVE = f" AND state = {RunState.ACTIVE.value}"
_PLACE = ("message_id", "run_id", "profile_id")

_SEEN = Lookup(events, ("event_id", "started"), "event_id")
_EVENTS = Lookup(events, ("event_id", "payload", "receive_us", "event_us", "group_id"), "event_id")
_IDENTITIES = Lookup(identities, ("identity", "profile_id"), "identity")
_PROFILES = Lookup(profiles, rows.PROFILE_COLUMNS, "profile_id")
_SUPPRESSIONS = Lookup(suppressions, rows.SUPPRESSION_COLUMNS, "profile_id")
_GROUPS = Lookup(groups, rows.GROUP_COLUMNS, "group_id")
_RUNS = Lookup(runs, rows.RUN_COLUMNS, "run_id")
_ACTIVE_RUNS = Lookup(runs, rows.RUN_COLUMNS, "profile_id", _ACTIVE)
_CANCELLATIONS = Lookup(
    runs, rows.RUN_COLUMNS, "cancellation_key", f" AND cancellation_key <> ''{_ACTIVE}"
)
_LAST_STARTS = Lookup(
    runs,
    ("workflow_id", "profile_id", "reentry_key", "start_us"),
    "profile_id",
    source="(SELECT workflow_id, profile_id, reentry_key, MAX(start_us) AS start_us "
    "FROM runs{where} GROUP BY workflow_id, profile_id, reentry_key) AS latest",
)
_PLACES = Lookup(messages, _PLACE, "message_id")
_PROVIDER_PLACES = Lookup(
    messages,
    (*_PLACE, "provider", "provider_message_id"),
    "provider_message_id",
    " AND provider_message_id <> ''",
)
_NEWEST = Lookup(
    messages,
    ("recipient", "message_id"),
    "recipient",
    " AND recipient <> ''",
    source="(SELECT recipient, MAX(message_id) AS message_id "
    "FROM messages{where} GROUP BY recipient) AS newest",
)
_MESSAGES = Lookup(messages, rows.MESSAGE_STATE_COLUMNS, "run_id")
_CONTENTS = Lookup(messages, ("message_id", "content"), "message_id")
_ENGAGEMENTS = Lookup(engagements, ("engagement_id",), "engagement_id")
_PENDING_IDS = Lookup(pending_engagements, ("engagement_id",), "engagement_id")
_TALLIES = Lookup(tallies, rows.TALLY_COLUMNS, "experiment")
_PENDING = Lookup(pending_engagements, rows.PENDING_COLUMNS, "provider_message_id")


def load(connection: Connection, workspace_id: str, wanted: Wanted) -> State:
    """Return the state that *wanted* asks for, complete as `State` says."""
    return _Loading(connection, workspace_id, wanted).state


def tallies_of(
    connection: Connection, workspace_id: str, experiments: Collection[str]
) -> dict[TallyKey, Tally]:
    """Return what came of all variants of *experiments*."""
    found = _TALLIES.rows(connection, workspace_id, experiments) if experiments else []
    return dict(map(rows.tally_of, found))


class _Loading:
    """One load: each stage asks for what the stages before it have named."""

    def __init__(self, connection: Connection, workspace_id: str, wanted: Wanted) -> None:
        self._connection = connection
        self._workspace_id = workspace_id
        self.state = State()
        #: Whose everything is loaded.
        self._profile_ids = set(wanted.profile_ids)
        self._run_ids = set(wanted.run_ids)
        self._stimuli(wanted)
        self._places(wanted)
        self.state.counters = wanted.counters
        self.state.tallies = tallies_of(connection, workspace_id, wanted.experiments)
        self._people(self._profile_ids, {LIST, *wanted.counters})
        self._journeys(wanted)
        self._held_back(wanted)
        if wanted.memberships:
            self._memberships(wanted)
        self._groups(wanted)
        self.state.definitions_revision = definitions.revision(connection, workspace_id)

    def _rows(self, lookup: Lookup, keys: Collection[str]) -> list[rows.Row]:
        return lookup.rows(self._connection, self._workspace_id, keys) if keys else []

    def _stimuli(self, wanted: Wanted) -> None:
        """Find what was seen before, and who is meant."""
        state = self.state
        for event_id, started in self._rows(_SEEN, wanted.event_ids):
            state.seen[event_id] = rows.started_of(started)
        keys = [rows.identity_key(identity) for identity in wanted.identities]
        for key, profile_id in self._rows(_IDENTITIES, keys):
            state.identities[rows.identity_of(key)] = profile_id
        self._profile_ids.update(state.identities.values())
        for lookup in (_ENGAGEMENTS, _PENDING_IDS):
            found = self._rows(lookup, wanted.engagement_ids)
            state.engagement_ids.update(engagement_id for (engagement_id,) in found)

    def _places(self, wanted: Wanted) -> None:
        """Find the runs and people of wanted messages, cancellation keys and runs."""
        state = self.state
        for recipient, message_id in self._rows(_NEWEST, wanted.recipients):
            state.by_recipient[recipient] = message_id
        message_ids = wanted.message_ids.union(state.by_recipient.values())
        for _, run_id, profile_id in self._rows(_PLACES, message_ids):
            self._run_ids.add(run_id)
            self._profile_ids.add(profile_id)
        self._provider_keys(wanted)
        for row in self._rows(_CANCELLATIONS, wanted.cancellation_keys):
            run = rows.run_of(row)
            state.runs[run.run_id] = run
        for row in self._rows(_RUNS, wanted.run_ids - state.runs.keys()):
            run = rows.run_of(row)
            state.runs[run.run_id] = run
        self._profile_ids.update(run.profile_id for run in state.runs.values())
        self._run_ids.update(state.runs)

    def _provider_keys(self, wanted: Wanted) -> None:
        ids = {provider_message_id for _, provider_message_id in wanted.provider_keys}
        for message_id, run_id, profile_id, *key in self._rows(_PROVIDER_PLACES, ids):
            provider_key = (key[0], key[1])
            if provider_key in wanted.provider_keys:
                self.state.provider_messages[provider_key] = message_id
                self._run_ids.add(run_id)
                self._profile_ids.add(profile_id)
        pending = [rows.pending_of(row) for row in self._rows(_PENDING, ids)]
        for engagement in sorted(pending, key=lambda e: (e.occur_us, e.engagement_id)):
            provider_key = (engagement.provider, engagement.provider_message_id)
            if provider_key in wanted.provider_keys:
                known = self.state.pending.get(provider_key, ())
                self.state.pending[provider_key] = (*known, engagement)

    def _people(self, ids: Collection[str], others: Collection[str] = ()) -> None:
        """Load people and their active runs, and rows of ours that stand among the people."""
        state = self.state
        for row in self._rows(_PROFILES, {*ids, *others}):
            profile = rows.profile_of(row)
            state.profiles[profile.profile_id] = profile
            # A profile names all its identities: they need no statement of their own.
            if profile.user_id:
                state.identities.setdefault((IdKind.USER, profile.user_id), profile.profile_id)
            for anonymous_id in profile.anonymous_ids:
                identity = (IdKind.ANONYMOUS, anonymous_id)
                state.identities.setdefault(identity, profile.profile_id)
        active = [
            state.runs[row[0]] if row[0] in state.runs else rows.run_of(row)
            for row in self._rows(_ACTIVE_RUNS, ids)
        ]
        for run in sorted(active, key=lambda run: (run.start_us, run.run_id)):
            state.put_run(run)

    def _journeys(self, wanted: Wanted) -> None:
        """Load what hangs on runs: ended ones of wanted messages, messages, trigger events."""
        state = self.state
        for row in self._rows(_RUNS, self._run_ids - state.runs.keys()):
            run = rows.run_of(row)
            state.runs[run.run_id] = run
        self._messages(state.runs.keys())
        self._reviewers()
        for message_id, content in self._rows(_CONTENTS, wanted.content_ids):
            found = state.messages[message_id]
            state.messages[message_id] = replace(found, content=rows.content_of(content))
        for run in state.runs.values():
            if run.active and run.cancellation_key in wanted.cancellation_keys:
                state.by_cancellation_key.setdefault(run.cancellation_key, []).append(run.run_id)
        if wanted.entry_workflow_ids:
            for workflow_id, profile_id, key, start_us in self._rows(
                _LAST_STARTS, self._profile_ids
            ):
                if workflow_id in wanted.entry_workflow_ids:
                    state.last_starts[workflow_id, profile_id, key] = start_us

    def _messages(self, run_ids: Collection[str]) -> None:
        for row in self._rows(_MESSAGES, run_ids):
            message = rows.message_of(row)
            self.state.messages[message.message_id] = message

    def _reviewers(self) -> None:
        """Load whom runs have asked for a decision: everything of those that a run that is wanted
        itself has asked, of the others who they are."""
        runs = self.state.runs
        if not self._asked(runs.keys()):
            return
        # Of a run that is found by a reviewer's message its own person is not loaded yet.
        theirs = self._asked(self._run_ids) | {run.profile_id for run in runs.values()}
        theirs -= self._profile_ids | {""}
        if theirs:
            known = set(runs)
            self._profile_ids |= theirs
            self._people(theirs)
            self._messages(runs.keys() - known)
        others = self._asked(runs.keys()) - self.state.profiles.keys()
        for row in self._rows(_PROFILES, others):
            profile = rows.profile_of(row)
            self.state.profiles[profile.profile_id] = profile

    def _asked(self, run_ids: Collection[str]) -> set[str]:
        """Return whom runs have asked for a decision, as far as they are loaded."""
        known = self.state.runs
        runs = [known[run_id] for run_id in run_ids if run_id in known]
        made = (m for m in self.state.messages.values() if m.run_id in run_ids)
        return approval.asked(runs, made)

    def _held_back(self, wanted: Wanted) -> None:
        """Load what is held back from people, and from addresses where there is a list of them."""
        state = self.state
        if LIST in state.profiles:
            state.addresses = state.addresses_of(wanted)
        for row in self._rows(_SUPPRESSIONS, self._profile_ids | (state.addresses or set())):
            held = rows.suppression_of(row)
            state.suppressions.setdefault(row[0], {})[held.scope] = held

    def _memberships(self, wanted: Wanted) -> None:
        """Load what audiences know of people."""
        for row in self._rows(audiences.MEMBERSHIPS, self._profile_ids | wanted.former_ids):
            found = audiences.membership_of(row)
            self.state.memberships.setdefault(found.profile_id, {})[found.audience_id] = found

    def _groups(self, wanted: Wanted) -> None:
        """Load trigger events, and the groups they and the batch speak of."""
        state = self.state
        group_ids = set(wanted.group_ids)
        event_ids = {run.event_id for run in state.runs.values()}
        for event_id, payload, receive_us, event_us, group_id in self._rows(_EVENTS, event_ids):
            state.events[event_id] = StoredEvent(event_id, payload, receive_us, event_us)
            if group_id:
                group_ids.add(group_id)
        for row in self._rows(_GROUPS, group_ids):
            group = rows.group_of(row)
            state.groups[group.group_id] = group
