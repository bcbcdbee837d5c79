"""A whole Upshot without network or real time: store, loop, lab clock, providers with a ledger."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes import ManualClock, SeededIds
from tests.sim import DAY, HOUR, MINUTE, START, PlainLinks, email, phone
from upshot.v1 import event_pb2, outcome_pb2, service_pb2
from upshotd import shelves
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.grpc import event_codec
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.letters import MailLetters
from upshotd.adapters.memory import MemoryStore
from upshotd.adapters.templates import SandboxTemplates
from upshotd.adapters.wakeups import LocalWakeups
from upshotd.adapters.zones import zone
from upshotd.application.breakers import Breakers
from upshotd.application.definitions import DefinitionBook
from upshotd.application.dispatch import Dispatcher
from upshotd.application.fetching import Fetchers
from upshotd.application.filling import Fillings
from upshotd.application.inbox import Limits
from upshotd.application.lab import Lab
from upshotd.application.loop import Loop
from upshotd.application.ports import OutcomeFilter, Store
from upshotd.application.reviewers import ReviewerSearch
from upshotd.application.schedules import Schedules
from upshotd.domain import addresses, audience_validation
from upshotd.domain.audience import Audience
from upshotd.domain.breaker import Rules
from upshotd.domain.definitions import Carrier, Definitions, Policy
from upshotd.domain.event import Event, EventType
from upshotd.domain.fetching import Fetch, Fetched, FetchResult
from upshotd.domain.language import Links
from upshotd.domain.message import Accepted, Channel, Delivery, SendResult
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.profile import ContactRules
from upshotd.domain.stimulus import EngagementResult, IngestResult
from upshotd.domain.validation import validate
from upshotd.domain.values import replace
from upshotd.domain.workflow import Workflow

__all__ = ["DAY", "HOUR", "MINUTE", "START", "RecordingProvider", "World", "world"]

WORKSPACE = "default"


class RecordingProvider:
    """Keeps a ledger of what it was asked; answers as told, else takes everything."""

    def __init__(self, name: str, *, idempotent: bool) -> None:
        self._name = name
        self._idempotent = idempotent
        self.ledger: list[Delivery] = []
        self.answers: list[SendResult | Exception] = []
        #: Cleared to let sends hang until it is set.
        self.open = asyncio.Event()
        self.open.set()
        self.closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def idempotent(self) -> bool:
        return self._idempotent

    async def send(self, delivery: Delivery) -> SendResult:
        self.ledger.append(delivery)
        await self.open.wait()
        answer = self.answers.pop(0) if self.answers else Accepted(f"p-{delivery.message_id}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


class RecordingFetcher:
    """Keeps what it was asked; answers as told, else with an empty object."""

    def __init__(self) -> None:
        self.asked: list[Fetch] = []
        self.answers: list[FetchResult | Exception] = []
        #: Cleared to let attempts hang until it is set.
        self.open = asyncio.Event()
        self.open.set()
        self.closed = False

    async def fetch(self, fetch: Fetch) -> FetchResult:
        self.asked.append(fetch)
        await self.open.wait()
        answer = self.answers.pop(0) if self.answers else Fetched({})
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


class LabManualClock(ManualClock):
    """A manual clock that a lab can move."""

    @property
    def offset_us(self) -> int:
        return self.now_us() - START


#: Providers by channel, those that are asked first in front.
CARRIERS = {
    Channel.EMAIL: (Carrier("smtp", idempotent=False),),
    Channel.SMS: (Carrier("texts", idempotent=True),),
    Channel.PUSH: (Carrier("pushes", idempotent=False),),
}


class World:
    """Everything joined; `now` is a number, and providers are ledgers."""

    def __init__(
        self,
        store: Store,
        *,
        limits: Limits | None = None,
        clock: LabManualClock | None = None,
        policy: Policy | None = None,
        carriers: Mapping[Channel, tuple[Carrier, ...]] = CARRIERS,
        links: Links | None = None,
    ) -> None:
        self.store = store
        self.clock = clock or LabManualClock(START, patient=False)
        self.ids = SeededIds(1)
        self.codec = ContractCodec()
        self.conditions, self.templates = CelConditions(), SandboxTemplates(MESSAGE_ROOTS)
        self.providers = {
            one.provider: RecordingProvider(one.provider, idempotent=one.idempotent)
            for several in carriers.values()
            for one in several
        }
        self.email, self.sms = self.providers["smtp"], self.providers["texts"]
        blank = Definitions(
            conditions=self.conditions,
            templates=self.templates,
            links=links or PlainLinks(),
            contact=ContactRules(email, phone),
            decode_event=self.codec.decode_event,
            letters=MailLetters(),
            carriers=carriers,
            policy=policy or Policy(),
            zones=zone,
            owner="me",
        )
        self.book = DefinitionBook(store, self.codec, blank)
        self.wakeups = LocalWakeups()
        self.loop = Loop(
            store,
            self.clock,
            self.ids,
            self.codec,
            self.book,
            self.wakeups,
            limits=limits,
        )
        self.breakers = Breakers(self.clock.now_us, Rules())
        self.dispatcher = Dispatcher(self.providers, self.loop.settle, breakers=self.breakers)
        self.fetcher = RecordingFetcher()
        self.ask_by()
        self.schedules = Schedules(store, self.loop, self.clock, self.codec, self.book)
        self.fillings = Fillings(store, self.loop, self.clock, self.codec, self.book)
        self.audiences = shelves.audiences(
            store,
            self.clock,
            self.codec,
            lambda a: audience_validation.validate(a, self.conditions, self.templates, zone),
            self.book.refresh,
            self.fillings.wake,
        )
        self.lab = Lab(store, self.clock, self.loop, self.schedules)
        self._counter = 0
        self._working: asyncio.Task[None] | None = None

    def ask_by(self, **limits: Any) -> None:
        """Ask what runs want to know within other *limits* than a server's."""
        find = ReviewerSearch(self.store).find
        self.fetchers = Fetchers(self.fetcher, self.loop.settle, find, **limits)
        self.loop.attach(self.dispatcher, self.fetchers)

    async def start(self) -> None:
        self._working = asyncio.create_task(self.loop.run())

    async def stop(self) -> None:
        for provider in self.providers.values():
            provider.open.set()
        self.loop.drain()
        self.fetcher.open.set()
        await self.dispatcher.close(1.0)
        await self.fetchers.close(1.0)
        self.loop.stop()
        if self._working is not None:
            await self._working

    async def define(self, *workflows: Workflow, workspace_id: str = WORKSPACE) -> None:
        for workflow in workflows:
            faults = validate(workflow, self.conditions, self.templates, zone)
            assert not faults.violations
            definition = self.codec.encode_workflow(workflow)
            now_us = self.clock.now_us()
            workflow_id = workflow.workflow_id
            await self.store.define(workspace_id, workflow_id, definition, None, now_us)
            await self.book.refresh(workspace_id)

    async def define_audience(self, *audiences: Audience, fill: bool = True) -> None:
        """Define audiences, and let them be filled."""
        for audience in audiences:
            await self.audiences.define(WORKSPACE, audience, validate_only=False)
        if fill:
            await self.fillings.finish()

    async def members(self, audience_id: str) -> set[str]:
        """Return the user ids of who is in an audience, anonymous ones as they are."""
        rows = await self.store.audience_rows.members(WORKSPACE, audience_id, "", 100_000)
        people = await self.store.profiles(WORKSPACE, {row.profile_id for row in rows})
        return {person.user_id or person.anonymous_ids[0] for person in people.values()}

    def event(self, event: Event) -> Event:
        """Return *event* as the contract's codec would have made it."""
        pb = event_pb2.Event(event_id=event.event_id, user_id=event.user_id)
        pb.anonymous_id = event.anonymous_id
        pb.context.update(dict(event.context))
        if event.type is EventType.TRACK:
            pb.track.event = event.name
            pb.track.properties.update(dict(event.properties))
        elif event.type is EventType.IDENTIFY:
            pb.identify.traits.update(dict(event.traits))
        elif event.type is EventType.GROUP:
            pb.group.group_id = event.group_id
            pb.group.traits.update(dict(event.traits))
        elif event.type is EventType.PAGE:
            pb.page.name = event.name
        elif event.type is EventType.DELETE:
            pb.delete.SetInParent()
        elif event.type is EventType.ALIAS:
            pb.alias.previous_id = event.previous_id
        return event_codec.event(pb, self.clock.now_us())

    async def ingest(self, *events: Event, workspace_id: str = WORKSPACE) -> list[IngestResult]:
        return await self.loop.ingest(workspace_id, [self.event(e) for e in events])

    def next_event_id(self) -> str:
        self._counter += 1
        return f"e{self._counter}"

    async def track(self, user_id: str, name: str, **fields: object) -> IngestResult:
        event_id = str(fields.pop("event_id", "") or self.next_event_id())
        event = replace(Event(event_id, EventType.TRACK, user_id, name=name), **fields)
        return (await self.ingest(event))[0]

    async def identify(self, user_id: str, **traits: object) -> IngestResult:
        event = Event(self.next_event_id(), EventType.IDENTIFY, user_id, traits=traits)
        return (await self.ingest(event))[0]

    async def group(self, user_id: str, group_id: str) -> IngestResult:
        event = Event(self.next_event_id(), EventType.GROUP, user_id, group_id=group_id)
        return (await self.ingest(event))[0]

    async def engage(
        self, message_id: str, kind: EngagementKind, **fields: object
    ) -> EngagementResult:
        engagement_id = str(fields.pop("engagement_id", "") or self.next_event_id())
        engagement = Engagement(engagement_id, kind, self.clock.now_us(), message_id)
        (answer,) = await self.loop.engage(WORKSPACE, [replace(engagement, **fields)])
        return answer

    async def answer(self, number: str, body: str, engagement_id: str = "") -> EngagementResult:
        """Let somebody text back from *number*."""
        engagement = Engagement(
            engagement_id or self.next_event_id(),
            EngagementKind.REPLIED,
            self.clock.now_us(),
            recipient=addresses.key(Channel.SMS, number),
            data={"body": body},
        )
        (answer,) = await self.loop.engage(WORKSPACE, [engagement])
        return answer

    async def settle(self) -> None:
        """Let everything that is due now happen."""
        await self.lab.advance(0)

    async def advance(self, duration_us: int) -> None:
        await self.lab.advance(duration_us)

    async def outcomes(self, workspace_id: str = WORKSPACE) -> list[outcome_pb2.Outcome]:
        """Return the whole log, decoded."""
        found = []
        for partition in range(self.store.partitions):
            read = await self.store.read_outcomes(
                workspace_id, partition, 0, 100_000, OutcomeFilter(), 100_000
            )
            for page in read.pages:
                found += service_pb2.StreamOutcomesResponse.FromString(page.joined).outcomes
        return found

    async def story(self, user_id: str = "") -> list[str]:
        """Return the outcomes about messages: SENT EMAIL, IGNORED EMAIL ..."""
        kinds, channels = outcome_pb2.OutcomeKind, outcome_pb2.Channel
        return [
            f"{kinds.Name(o.kind).removeprefix('OUTCOME_KIND_MESSAGE_')} "
            f"{channels.Name(o.channel).removeprefix('CHANNEL_')}"
            for o in await self.outcomes()
            if o.message_id and user_id in ("", o.user_id)
        ]


@asynccontextmanager
async def world(store: Store | None = None, **options: object) -> AsyncIterator[World]:
    """A running world; on a store in memory unless one is given (and opened)."""
    codec = ContractCodec()
    made = store or MemoryStore(encode_outcome=codec.encode_outcome)
    if store is None:
        await made.open()
    running = World(made, **options)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
