"""Schedules of triggers: at each of their times everybody who meets the condition gets an event.

How far a time is done is a setting, written after each page of people; the id of an event is made
of workflow, time and person. So whoever finds a time begun, after a crash or beside another
replica, goes on with it, and nobody starts twice. After an outage the last time that was missed is
made up for, unless it is older than the trigger's `max_age`; those before it are passed over.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Final, TypeAlias

import structlog

from upshotd.application.codec import Codec
from upshotd.application.definitions import DefinitionBook
from upshotd.application.failpoints import failpoint
from upshotd.application.loop import Loop
from upshotd.application.ports import Clock, Store
from upshotd.application.waking import Waking
from upshotd.domain.definitions import Definitions
from upshotd.domain.errors import ResourceExhausted
from upshotd.domain.event import Event
from upshotd.domain.names import instant, names
from upshotd.domain.plan import Plan
from upshotd.domain.profile import Profile
from upshotd.domain.schedule import Schedule, coming
from upshotd.domain.state import Wanted, identity_of
from upshotd.domain.values import replace

log = structlog.get_logger()

PREFIX: Final = "schedule/"
#: People that are looked at at once.
PAGE: Final = 200
#: Longest pause between two looks at what there is to do, in microseconds.
INTERVAL_US: Final = 30_000_000
#: How long a replica that has begun a time is left alone with it; it says so after each page.
ALONE_US: Final = 30_000_000
#: Pause where the loop has no room, in microseconds.
PAUSE_US: Final = 200_000

#: In which audiences people are, by profile_id.
Inside: TypeAlias = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the schedule of a workflow is done."""

    workspace_id: str
    workflow_id: str
    #: The schedule that it is counted by.
    cron: str
    time_zone: str
    #: Times up to here are done, or passed over.
    done_us: int
    #: The time that is under way; 0: none.
    occurrence_us: int = 0
    #: People up to here have been looked at.
    cursor: str = ""
    #: People who met the condition.
    matched: int = 0
    #: The process that is at it, and until when others leave it alone.
    holder: str = ""
    until_us: int = 0

    @property
    def name(self) -> str:
        """The setting that it is kept in: one for each workflow."""
        return f"{PREFIX}{self.workspace_id}/{self.workflow_id}"


class Schedules:
    """Brings what is due to an end."""

    def __init__(
        self, store: Store, loop: Loop, clock: Clock, codec: Codec, book: DefinitionBook
    ) -> None:
        self._store = store
        self._loop = loop
        self._clock = clock
        self._codec = codec
        self._book = book
        self._waking = Waking(clock)
        self._alone = asyncio.Lock()

    def wake(self) -> None:
        """Look at once: something was defined."""
        self._waking.wake()

    async def run(self) -> None:
        """Do what there is to do, for ever; what fails is tried again."""
        await self._waking.forever(self.fire, "schedules.failed", INTERVAL_US)

    async def fire(self) -> int | None:
        """Do everything that is due; return when the next comes, in microseconds."""
        async with self._alone:
            soonest: int | None = None
            for workspace_id in await self._store.workspaces():
                # Another replica may have defined something.
                await self._book.refresh(workspace_id)
                for plan in self._book.known(workspace_id).current.values():
                    schedule = plan.workflow.trigger.schedule
                    if schedule is None:
                        continue
                    next_us = await self._fire(workspace_id, plan, schedule)
                    soonest = min((t for t in (soonest, next_us) if t is not None), default=None)
            return soonest

    async def _fire(self, workspace_id: str, plan: Plan, schedule: Schedule) -> int | None:
        workflow_id, zone = plan.workflow.workflow_id, self._zone(workspace_id, schedule)
        max_age_us = plan.workflow.trigger.max_age_us
        progress = await self._progress(workspace_id, workflow_id, schedule)
        while True:
            now_us = self._clock.now_us()
            if progress.holder not in ("", self._book.owner) and now_us < progress.until_us:
                return progress.until_us
            if progress.occurrence_us:
                await self._finish(progress, max_age_us)
                progress = await self._progress(workspace_id, workflow_id, schedule)
                continue
            come = coming(schedule.cron, zone, progress.done_us, now_us, max_age_us)
            if come.due_us is None:
                return come.next_us
            if come.missed:
                log.warning("schedule.missed", **_words(progress), missed=come.missed)
            progress = replace(progress, occurrence_us=come.due_us, cursor="", matched=0)
            await self._keep(progress)

    def _zone(self, workspace_id: str, schedule: Schedule) -> tzinfo:
        definitions = self._book.known(workspace_id)
        named = definitions.zones(schedule.time_zone) if schedule.time_zone else None
        return named if named is not None else definitions.policy.zone

    async def _progress(self, workspace_id: str, workflow_id: str, schedule: Schedule) -> Progress:
        """Return how far it is done; another schedule than before begins with its definition."""
        new = Progress(workspace_id, workflow_id, schedule.cron, schedule.time_zone, 0)
        value = await self._store.setting(new.name)
        kept = Progress(**json.loads(value)) if value else None
        if kept is not None and (kept.cron, kept.time_zone) == (new.cron, new.time_zone):
            return kept
        if kept is not None and kept.occurrence_us:
            return kept  # begun before it was defined anew: those who come last get it, too
        stored = await self._store.workflow(workspace_id, workflow_id, 0)
        new = replace(new, done_us=stored.create_us if stored is not None else 0)
        # At once: a definition that changes no time does not move the beginning.
        value = json.dumps(asdict(new))
        if kept is None:
            value = await self._store.settle_setting(new.name, value)
        else:
            await self._store.put_setting(new.name, value)
        return Progress(**json.loads(value))

    async def _keep(self, progress: Progress) -> None:
        until_us = self._clock.now_us() + ALONE_US
        held = replace(progress, holder=self._book.owner, until_us=until_us)
        await self._store.put_setting(progress.name, json.dumps(asdict(held)))

    # one time

    async def _finish(self, progress: Progress, max_age_us: int) -> None:
        """Go on with the time that is under way to its end, unless it is too old by now."""
        workspace_id = progress.workspace_id
        while people := await self._page(progress, max_age_us):
            inside = await self._inside(progress, people)
            meant = await self._meant(progress, people)
            events = [e for person in meant for e in self._event(progress, person, inside)]
            await self._ingest(workspace_id, events)
            failpoint("schedule.page")
            matched = progress.matched + len(events)
            progress = replace(progress, cursor=people[-1].profile_id, matched=matched)
            await self._keep(progress)
        log.info("schedule.done", **_words(progress), matched=progress.matched)
        await self._keep(replace(progress, done_us=progress.occurrence_us, occurrence_us=0))

    async def _page(self, progress: Progress, max_age_us: int) -> list[Profile]:
        if self._clock.now_us() - progress.occurrence_us > max_age_us:
            return []
        workspace_id = progress.workspace_id
        plan = self._book.known(workspace_id).current.get(progress.workflow_id)
        schedule = plan.workflow.trigger.schedule if plan is not None else None
        if schedule is None or not schedule.audience_id:
            return await self._store.profile_page(workspace_id, progress.cursor, PAGE)
        rows = self._store.audience_rows
        members = await rows.members(workspace_id, schedule.audience_id, progress.cursor, PAGE)
        ids = [row.profile_id for row in members]
        people = await self._store.profiles(workspace_id, set(ids))
        # One who was merged or erased meanwhile is passed over, and does not end the page.
        return [people.get(profile_id) or Profile(profile_id) for profile_id in ids]

    async def _meant(self, progress: Progress, people: Sequence[Profile]) -> list[Profile]:
        """Return *people* without those who had this event as strangers, a page ago perhaps."""
        had = {event_id(progress, one): p.profile_id for p in people for one in p.former_ids}
        wanted = Wanted(event_ids=set(had))
        seen = (await self._store.load(progress.workspace_id, wanted)).seen if had else {}
        twice = {had[name] for name in seen}
        return [person for person in people if person.profile_id not in twice]

    async def _inside(self, progress: Progress, people: Sequence[Profile]) -> Inside:
        """Return in which audiences *people* are, where the condition asks for that."""
        definitions = self._book.known(progress.workspace_id)
        plan = definitions.current.get(progress.workflow_id)
        if plan is None or "audiences" not in plan.workflow.trigger.condition:
            return {}
        rows, ids = self._store.audience_rows, {person.profile_id for person in people}
        found = await rows.memberships_of(progress.workspace_id, ids)
        known = definitions.audiences.plans
        return {
            who: sorted(row.audience_id for row in some if row.member and row.audience_id in known)
            for who, some in found.items()
        }

    async def _ingest(self, workspace_id: str, events: Sequence[Event]) -> None:
        while events:
            try:
                await self._loop.ingest(workspace_id, events)
            except ResourceExhausted:
                await self._clock.sleep(PAUSE_US)
            else:
                return

    def _event(self, progress: Progress, person: Profile, inside: Inside) -> Sequence[Event]:
        """Return the event of a person who was there at the time and meets the condition."""
        definitions = self._book.known(progress.workspace_id)
        plan = definitions.current.get(progress.workflow_id)
        if plan is None or person.create_us > progress.occurrence_us:
            return ()
        if not person.is_person:
            return ()  # a row of ours that is no person
        event = self._codec.scheduled_event(
            event_id(progress, person.profile_id),
            identity_of(person),
            progress.workflow_id,
            progress.occurrence_us,
            self._clock.now_us(),
        )
        theirs = inside.get(person.profile_id, ())
        return (event,) if _meets(definitions, plan, person, event, theirs) else ()


def _meets(
    definitions: Definitions, plan: Plan, person: Profile, event: Event, inside: Sequence[str]
) -> bool:
    """Return whether a start is worth an event; it is decided with the event, once more."""
    condition = plan.workflow.trigger.condition
    if not condition:
        return True
    known = names(event, plan.parts, person, None, event.receive_us, audiences=inside)
    return definitions.conditions.holds(condition, known).holds


def event_id(progress: Progress, profile_id: str) -> str:
    """Return the id of a person's event at the time that is under way, or was done last."""
    workflow = hashlib.sha256(progress.workflow_id.encode()).hexdigest()[:12]
    time_us = progress.occurrence_us or progress.done_us
    return f"schedule:{workflow}:{time_us // 1_000_000}:{profile_id}"


def _words(progress: Progress) -> dict[str, str]:
    """Return what a line of the log says about it."""
    return {
        "workspace_id": progress.workspace_id,
        "workflow_id": progress.workflow_id,
        "time": instant(progress.occurrence_us or progress.done_us).isoformat(),
    }
