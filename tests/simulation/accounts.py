"""What throttles, digests, caps and routes must add up to in a workspace at the end. Pure."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC
from typing import TypeAlias

from upshotd.adapters.grpc import workflow_codec
from upshotd.adapters.memory.tables import Tables
from upshotd.application.schedules import PREFIX, Progress, event_id
from upshotd.domain.caps import Cap
from upshotd.domain.definitions import Policy
from upshotd.domain.message import Ask, Message
from upshotd.domain.names import instant
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.plan import Plan
from upshotd.domain.profile import Erasure
from upshotd.domain.routing import Method, Route, Routing
from upshotd.domain.run import Run, TimelineEntry
from upshotd.domain.steps.digest import DIGESTED
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.throttle import Throttle, ThrottleScope
from upshotd.domain.window import inside

#: Returns the plan of a workflow and version.
Plans: TypeAlias = Callable[[str, int], Plan]
#: A workflow, its version, one of its steps.
Place: TypeAlias = tuple[str, int, str]


def digests(runs: Mapping[str, Run]) -> Iterator[str]:
    """Yield what is wrong with digests: each item is in one, and of one run, exactly once."""
    came: defaultdict[Place, Counter[str]] = defaultdict(Counter)
    told: defaultdict[Place, Counter[str]] = defaultdict(Counter)
    for run in runs.values():
        closed = Counter(place for place, entry in _placed(run) if entry.what == "digested")
        for place, times in closed.items():
            if times > 1:
                yield f"{run.run_id} closed the digest {place} {times} times"
            told[place].update(str(item["id"]) for item in _items(run.steps.get(place[2], {})))
            came[place][run.event_id] += 1
        if run.reason == DIGESTED and run.profile_id:  # not of somebody who was erased
            *_, last = (place for place, entry in _placed(run) if entry.what == "collected")
            if last not in closed:
                came[last][run.event_id] += 1
    for place in came.keys() | told.keys():
        if came[place] != told[place]:
            lost, extra = came[place] - told[place], told[place] - came[place]
            yield f"the digests of {place} lost {dict(lost)} and have {dict(extra)} too many"


def _items(left: Mapping[str, object]) -> Iterable[Mapping[str, object]]:
    items = left.get("items", ())
    return items if isinstance(items, list) else ()


def _placed(run: Run) -> Iterator[tuple[Place, TimelineEntry]]:
    """Yield the entries of a run's timeline, each with the version that the run was on."""
    moves = [e.detail for e in run.timeline if e.what == "migrated"]
    version = int(moves[0].split()[0][1:]) if moves else run.workflow_version
    for entry in run.timeline:
        if entry.what == "migrated":
            version = int(entry.detail.split()[2][1:])
        yield (run.workflow_id, version, entry.step_id), entry


def throttles(runs: Mapping[str, Run], plans: Plans, merged: set[str]) -> Iterator[str]:
    """Yield where more have passed in a period than may; not of people who were *merged*."""
    passed: defaultdict[tuple[str, Place], list[int]] = defaultdict(list)
    limits: dict[Place, Throttle] = {}
    for run in runs.values():
        if run.profile_id in merged:
            continue
        for place, entry in _placed(run):
            if entry.what == "passed":
                kind = plans(*place[:2]).steps[place[2]].kind
                assert isinstance(kind, Throttle)
                limits[place] = kind
                whose = run.profile_id if kind.scope is ThrottleScope.USER else "everybody"
                passed[whose, place].append(entry.time_us)
    for (whose, place), times in passed.items():
        limit = limits[place]
        for end in times:
            count = sum(end - limit.period_us < time <= end for time in times)
            if count > limit.most:
                yield f"{count} runs of {whose} passed {place}, {limit.most} may"


def caps(
    messages: Iterable[Message], plans: Plans, policy: Policy, merged: set[str]
) -> Iterator[str]:
    """Yield where somebody got more in a period than a cap allows; not who was *merged*."""
    begun: defaultdict[str, list[Message]] = defaultdict(list)
    for message in messages:
        # Of who was erased nobody knows who it was.
        if message.attempt and message.profile_id and message.profile_id not in merged:
            begun[message.profile_id].append(message)
    for profile_id, theirs in begun.items():
        for cap in policy.caps:
            times = [m.create_us for m in theirs if _covers(cap, m, plans)]
            for end in times:
                count = sum(end - cap.period_us < time <= end for time in times)
                if count > cap.most:
                    yield f"{profile_id} got {count} under the cap {cap.name}: {cap.most} may be"


def _covers(cap: Cap, message: Message, plans: Plans) -> bool:
    workflow = plans(message.workflow_id, message.workflow_version).workflow
    return cap.covers(message.channel, workflow.topic, workflow.purpose)


def quiet(messages: Iterable[Message], plans: Plans, policy: Policy) -> Iterator[str]:
    """Yield what was begun in quiet hours."""
    for message in messages:
        purpose = plans(message.workflow_id, message.workflow_version).workflow.purpose
        hours = policy.hours.get(purpose)
        made = instant(message.create_us)
        notice = message.ask is Ask.NOTICE  # goes out at once, by design
        if hours is not None and message.attempt and not notice and not inside(hours, UTC, made):
            yield f"{message.message_id} was begun at {made.isoformat()}, in quiet hours"


def schedules(
    settings: Mapping[str, str], tables: Tables, workspace_id: str, merged: set[str]
) -> Iterator[str]:
    """Yield who has no event of a schedule's last time, which is done for everybody."""
    for name, value in settings.items():
        if not name.startswith(f"{PREFIX}{workspace_id}/"):
            continue
        progress = Progress(**json.loads(value))
        if not progress.matched:
            continue
        if progress.occurrence_us:
            yield f"the time {progress.occurrence_us} of {progress.workflow_id} was never done"
        events = {name for name in tables.events if name.startswith("schedule:")}
        for profile in tables.profiles.values():
            # Clocks differ: who came in the minutes before may not have been there.
            early = profile.create_us <= progress.done_us - 900_000_000
            # Who met the condition then may not meet it now: only without one it is everybody.
            person = profile.user_id or profile.anonymous_ids
            if (
                not (early and person)
                or profile.profile_id in merged
                or profile.erase_us
                or not _open(tables, progress)
            ):
                continue
            ids = (profile.profile_id, *profile.former_ids)
            if not any(event_id(progress, one) in events for one in ids):
                yield f"{profile.profile_id} was left out of {progress.workflow_id}"


def _open(tables: Tables, progress: Progress) -> bool:
    """Return whether every version of a workflow is for everybody."""
    versions = tables.workflows[progress.workflow_id]
    decoded = (workflow_codec.decode_workflow(v.definition, v.version) for v in versions)
    return not any(workflow.trigger.condition for workflow in decoded)


def forgotten(tables: Tables, erasures: Iterable[Erasure]) -> Iterator[str]:
    """Yield what is left of people who were erased, but for what they did once they were back."""
    for gone in erasures:
        who = gone.profile_id
        profile = tables.profiles.get(who)
        back = profile is not None and not profile.erased
        if not back and tables.runs_of.get(who):
            yield f"{who} was erased and has runs"
        if profile is not None and not back and (profile.traits or profile.contact):
            yield f"{who} was erased and is known"
        for message in tables.messages.values():
            if message.profile_id == who and not back:
                yield f"{who} was erased and has the message {message.message_id}"
        for name, row in tables.events.items():
            late = back and row.stored.receive_us > gone.erase_us
            if row.profile_id in gone.profile_ids and row.stored.payload and not late:
                yield f"{name} of {who}, who was erased, is still there"


def routes(messages: Iterable[Message], plans: Plans, sent: set[str]) -> Iterator[str]:
    """Yield where more than one channel of those that exclude each other was used."""
    used: defaultdict[tuple[str, str], list[Message]] = defaultdict(list)
    for message in messages:
        # One that failed before the run went on is followed by the next channel.
        failed = {"bounced", "undelivered"} & message.facts.keys()
        to_its_person = message.ask is None and message.profile_id
        if message.message_id in sent and not failed and to_its_person:
            used[message.run_id, message.step_id].append(message)
    for (run_id, step_id), theirs in used.items():
        plan = plans(theirs[0].workflow_id, theirs[0].workflow_version)
        send = plan.steps[step_id].kind
        assert isinstance(send, Send)
        most = at_once(send.routing)
        if len(theirs) > most:
            names = sorted(message.channel.name for message in theirs)
            yield f"the step {step_id} of {run_id} was sent on {names}, at most {most} may be"


def at_once(routing: Routing) -> int:
    """Return on how many channels at most one person is reached."""
    if not isinstance(routing, Route):
        return 1
    counts = [at_once(option) for option in routing.options]
    return max(counts) if routing.method is Method.SINGLE else sum(counts)


def kinds(workspaces: Iterable[Tables]) -> Counter[OutcomeKind]:
    """Return how many outcomes of each kind were appended and are kept."""
    found: Counter[OutcomeKind] = Counter()
    for tables in workspaces:
        for count in tables.log.counts(0, 1 << 62, ""):
            found[count.kind] += count.count
    return found
