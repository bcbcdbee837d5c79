"""Filling a new audience with who belongs to it already: in the background, page by page.

First what people did is gathered from the kept events, then everybody is looked at. From its
definition on, whatever happens is also told to the audience as it happens: what comes both ways
counts once. How far it is stands in a setting, written in the transaction of the definition and
after each page, so that whoever finds it after a crash goes on. Done twice it does nothing more.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

import structlog

from upshotd.application.codec import Codec
from upshotd.application.definitions import DefinitionBook
from upshotd.application.failpoints import failpoint
from upshotd.application.loop import Loop
from upshotd.application.ports import Clock, Store
from upshotd.application.shelf import FILLED
from upshotd.application.waking import Waking
from upshotd.domain.audience import Happening, key_of
from upshotd.domain.audiences import AudiencePlan
from upshotd.domain.errors import ResourceExhausted
from upshotd.domain.message import Message
from upshotd.domain.profile import Profile
from upshotd.domain.stimulus import Answer, AudienceFill, FillResult
from upshotd.domain.values import replace

log = structlog.get_logger()

PREFIX: Final = "audience/"
#: Events that are looked through at once, and people that are looked at.
EVENTS: Final = 1_000
PEOPLE: Final = 200
#: Pause between two pages, in microseconds: others go first.
PAUSE_US: Final = 2_000
#: Pause where the loop has no room, in microseconds.
FULL_US: Final = 200_000
#: Pause between two looks at what others may have left behind, in microseconds.
INTERVAL_US: Final = 30_000_000
#: How long a replica that is at it is left alone with it; it says so after each page.
ALONE_US: Final = 30_000_000


class Stage(StrEnum):
    """What is being done."""

    #: What people did is gathered.
    EVENTS = "events"
    #: Everybody is looked at.
    PEOPLE = "people"
    #: Those are looked at who did something meanwhile and were not ready.
    REST = "rest"
    DONE = "done"


def setting(workspace_id: str, audience_id: str, version: int) -> str:
    """Return the name of the setting that says how far a version is filled."""
    return f"{PREFIX}{workspace_id}/{audience_id}/{version}"


@dataclass(frozen=True, slots=True)
class Filling:
    """How far an audience is filled."""

    workspace_id: str
    audience_id: str
    version: int
    #: When this stage began, in microseconds. Others may still commit what they decided before.
    begin_us: int
    stage: Stage = Stage.EVENTS
    #: Events, or people, up to here are done.
    after: str = ""
    #: Events that were looked through, people who were, and those who came in or left by it.
    events: int = 0
    people: int = 0
    moved: int = 0
    #: The process that is at it, and until when others leave it alone.
    holder: str = ""
    until_us: int = 0

    @property
    def name(self) -> str:
        """The setting that it is kept in: one for each version, so that nobody who goes on with an
        older one writes over it."""
        return setting(self.workspace_id, self.audience_id, self.version)

    def encoded(self) -> str:
        """Return it as the value of a setting."""
        return json.dumps(asdict(self))


def filling_of(value: str) -> Filling:
    """Return the filling of a setting's value."""
    fields = json.loads(value)
    return Filling(**{**fields, "stage": Stage(fields["stage"])})


class Fillings:
    """Brings fillings to an end."""

    def __init__(
        self,
        store: Store,
        loop: Loop,
        clock: Clock,
        codec: Codec,
        book: DefinitionBook,
        *,
        settle_us: int = 0,
    ) -> None:
        """*settle_us* is how long another process may still commit what it decided before."""
        self._store = store
        self._loop = loop
        self._clock = clock
        self._codec = codec
        self._book = book
        self._settle_us = settle_us
        self._waking = Waking(clock)

    def wake(self) -> None:
        """Look for what is left to do at once."""
        self._waking.wake()

    async def run(self) -> None:
        """Do what there is to do, for ever; what fails is tried again."""
        await self._waking.forever(self.finish, "filling.failed", INTERVAL_US)

    async def finish(self) -> int | None:
        """Bring every filling as far as it can be; return when to go on, in microseconds."""
        soonest: int | None = None
        for value in (await self._store.settings(PREFIX)).values():
            filling = filling_of(value)
            next_us = await self._finish(filling) if filling.stage is not Stage.DONE else None
            soonest = min((t for t in (soonest, next_us) if t is not None), default=None)
        return soonest

    async def _finish(self, filling: Filling) -> int | None:
        """Go on with one; return from when on it can be gone on with, None when it is done."""
        while True:
            now_us = self._clock.now_us()
            if filling.holder not in ("", self._book.owner) and now_us < filling.until_us:
                return filling.until_us
            waits = filling.stage in (Stage.EVENTS, Stage.REST) and not filling.after
            if waits and now_us < filling.begin_us + self._settle_us:
                return filling.begin_us + self._settle_us
            plan = await self._plan(filling)
            if plan is None:
                await self._store.drop_setting(filling.name)
                return None
            filling = await self._page(filling, plan)
            failpoint("filling.page")
            held_us = self._clock.now_us() + ALONE_US
            held = replace(filling, holder=self._book.owner, until_us=held_us)
            await self._store.put_setting(filling.name, held.encoded())
            if filling.stage is Stage.DONE:
                return None
            await self._clock.sleep(PAUSE_US)

    async def _plan(self, filling: Filling) -> AudiencePlan | None:
        """Return what is filled; None where a newer version has come."""
        # Another replica may have defined it.
        await self._book.refresh(filling.workspace_id)
        plans = self._book.known(filling.workspace_id).audiences.plans
        plan = plans.get(filling.audience_id)
        return plan if plan is not None and plan.audience.version == filling.version else None

    async def _page(self, filling: Filling, plan: AudiencePlan) -> Filling:
        """Do the next page; return how far it is then."""
        if not filling.after:
            # Whatever the loop had decided before, it has committed when this is answered.
            nobody = AudienceFill(plan.audience_id, filling.version, "", {}, last=True)
            await self._ask(filling, [nobody])
        match filling.stage:
            case Stage.EVENTS:
                return await self._events(filling, plan)
            case Stage.PEOPLE:
                return await self._people(filling, plan)
            case _:
                return await self._rest(filling, plan)

    # what people did

    async def _events(self, filling: Filling, plan: AudiencePlan) -> Filling:
        rows, place = self._store.audience_rows, filling.workspace_id
        page = await rows.event_page(place, filling.after, EVENTS) if plan.did else []
        if not page:
            return replace(filling, stage=Stage.PEOPLE, after="")
        conditions = self._book.known(place).conditions
        found: defaultdict[str, defaultdict[str, list[Happening]]]
        found = defaultdict(lambda: defaultdict(list))
        for profile_id, stored in page:
            event = self._codec.decode_event(stored)
            for key, some in plan.done(event, conditions).items():
                found[profile_id][key] += some
        asked = [
            AudienceFill(
                plan.audience_id,
                filling.version,
                profile_id,
                {key: tuple(some) for key, some in happened.items()},
            )
            for profile_id, happened in found.items()
        ]
        for at in range(0, len(asked), PEOPLE):
            await self._ask(filling, asked[at : at + PEOPLE])
        last = page[-1][1].event_id
        return replace(filling, after=last, events=filling.events + len(page))

    # everybody

    async def _people(self, filling: Filling, plan: AudiencePlan) -> Filling:
        place = filling.workspace_id
        people = await self._store.profile_page(place, filling.after, PEOPLE)
        if not people:
            await self._filled(filling)
            return replace(filling, stage=Stage.REST, after="", begin_us=self._clock.now_us())
        named = [p for p in people if p.is_person]
        moved = await self._ask(filling, await self._last(filling, plan, named))
        return replace(
            filling,
            after=people[-1].profile_id,
            people=filling.people + len(named),
            moved=filling.moved + moved,
        )

    async def _last(
        self, filling: Filling, plan: AudiencePlan, people: Sequence[Profile]
    ) -> list[AudienceFill]:
        """Return what is to be asked of *people* once all that they did is gathered, with what they
        did with messages."""
        messages: dict[str, list[Message]] = {}
        if plan.engaged:
            rows, ids = self._store.audience_rows, {person.profile_id for person in people}
            messages = await rows.messages_of(filling.workspace_id, ids)
        return [
            AudienceFill(
                filling.audience_id,
                filling.version,
                person.profile_id,
                told(plan, messages.get(person.profile_id, ())),
                person.former_ids,
                last=True,
            )
            for person in people
        ]

    async def _filled(self, filling: Filling) -> None:
        """Say that whoever is not remembered from now on has done nothing that counts."""
        await self._store.define(
            filling.workspace_id,
            FILLED + filling.audience_id,
            str(filling.version).encode(),
            None,
            self._clock.now_us(),
        )
        await self._book.refresh(filling.workspace_id)

    async def _rest(self, filling: Filling, plan: AudiencePlan) -> Filling:
        place, which = filling.workspace_id, filling.audience_id
        rows = await self._store.audience_rows.unready(place, which, filling.after, PEOPLE)
        if not rows:
            words = {"workspace_id": place, "audience_id": which, "version": filling.version}
            log.info("audience.filled", **words, people=filling.people, moved=filling.moved)
            return replace(filling, stage=Stage.DONE)
        known = await self._store.profiles(place, {row.profile_id for row in rows})
        people = [known.get(row.profile_id, Profile(row.profile_id)) for row in rows]
        moved = await self._ask(filling, await self._last(filling, plan, people))
        return replace(filling, after=rows[-1].profile_id, moved=filling.moved + moved)

    async def _ask(self, filling: Filling, asked: Sequence[AudienceFill]) -> int:
        """Have it decided; return how many came in or left by it."""
        while asked:
            try:
                answers = await self._loop.ask(filling.workspace_id, asked)
            except ResourceExhausted:
                await self._clock.sleep(FULL_US)
            else:
                return sum(map(_moved, answers))
        return 0


def told(plan: AudiencePlan, messages: Sequence[Message]) -> dict[str, tuple[Happening, ...]]:
    """Return what *messages* have to say, by the keys of rules."""
    found: defaultdict[str, list[Happening]] = defaultdict(list)
    for message in messages:
        for key, some in plan.told(message, message.facts).items():
            found[key] += some
    often = {key_of(rule): rule.often for rule in plan.engaged}
    return {key: often[key].added((), happened) for key, happened in found.items()}


def _moved(answer: Answer) -> bool:
    return isinstance(answer, FillResult) and answer.moved
