"""One server: the product's own loop, dispatcher and streams, in a process that can be killed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tests.fakes import SeededIds
from tests.sim import PlainLinks, email, phone
from tests.simulation.database import OUTSIDE, SimStore
from tests.simulation.fetching import SimFetcher
from tests.simulation.virtual import Process
from upshotd import shelves
from upshotd.adapters.clock import SystemClock
from upshotd.adapters.grpc import topic_codec
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.letters import MailLetters
from upshotd.adapters.wakeups import LocalWakeups
from upshotd.adapters.zones import zone
from upshotd.application.breakers import Breakers
from upshotd.application.definitions import DefinitionBook
from upshotd.application.dispatch import Dispatcher
from upshotd.application.erasing import Erasing
from upshotd.application.fetching import Fetchers
from upshotd.application.filling import Fillings
from upshotd.application.in_flight import InFlight
from upshotd.application.inbox import Limits
from upshotd.application.loop import Loop
from upshotd.application.outcomes import OutcomeStreams, StreamPage, StreamRequest
from upshotd.application.reviewers import ReviewerSearch
from upshotd.application.schedules import Schedules
from upshotd.application.shelf import TEMPLATES, TOPICS, Kind, Shelf
from upshotd.application.subscriptions import Subscriptions
from upshotd.application.watching import watch
from upshotd.application.workflows import Workflows
from upshotd.domain.audience import Audience
from upshotd.domain.breaker import Rules
from upshotd.domain.consent import Topic
from upshotd.domain.definitions import Carrier, Definitions
from upshotd.domain.errors import Unavailable, UpshotError
from upshotd.domain.message import Channel, Delivery, SendResult
from upshotd.domain.profile import ContactRules
from upshotd.domain.template import Template
from upshotd.domain.validation import validate

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

T = TypeVar("T")

#: Providers by channel; whether each delivers one message once, however often it is asked.
CARRIERS = {
    Channel.EMAIL: (Carrier("mail", idempotent=False), Carrier("post", idempotent=False)),
    Channel.SMS: (Carrier("texts", idempotent=True),),
    Channel.WEBHOOK: (Carrier("hooks", idempotent=True),),
    Channel.PUSH: (Carrier("pushes", idempotent=True), Carrier("spare", idempotent=False)),
}
GRACE_S = 10.0


class SimClock(SystemClock):
    """The product's clock over the time of the simulation."""

    def __init__(self, now_us: int) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.follow(now_us)

    def monotonic_us(self) -> int:
        return round(self._loop.time() * 1_000_000)


class SimProvider:
    """A provider as the server sees it: asked over a network, by whoever is still alive."""

    def __init__(self, sim: "Simulation", name: str, *, idempotent: bool) -> None:
        self._sim = sim
        self._name = name
        self._idempotent = idempotent

    @property
    def name(self) -> str:
        return self._name

    @property
    def idempotent(self) -> bool:
        return self._idempotent

    async def send(self, delivery: Delivery) -> SendResult:
        return await self._sim.providers.ask(self._name, self._idempotent, delivery)

    async def close(self) -> None:
        """There is nothing to close."""


class OpaqueLog(ContractCodec):
    """The log of a simulation is names of outcomes: there is nothing personal in it."""

    def erased_outcome(self, *_: object) -> None:
        return None


@dataclass
class Server:
    """What runs in one process."""

    store: SimStore
    clock: SimClock
    loop: Loop
    dispatcher: Dispatcher
    fetchers: Fetchers
    streams: OutcomeStreams
    subscriptions: Subscriptions
    workflows: Workflows
    topics: Shelf[Topic]
    templates: Shelf[Template]
    audiences: Shelf[Audience]
    working: "asyncio.Task[None]"
    moving: "asyncio.Task[None]"
    timing: "asyncio.Task[None]"
    erasing: Erasing
    forgetting: "asyncio.Task[None]"
    filling: "asyncio.Task[None]"


class Node:
    """A place where a server runs, dies, and is started again."""

    def __init__(self, sim: "Simulation", name: str) -> None:
        self._sim = sim
        self._name = name
        self._starts = 0
        self._loop = asyncio.get_running_loop()
        self.process = Process(name)
        self.process.dead = True
        self.server: Server | None = None
        #: Callers whose connection breaks with the process.
        self._calls: dict[asyncio.Future[Any], None] = {}

    @property
    def up(self) -> bool:
        """Whether a process is there, running or not."""
        return not self.process.dead

    # life

    def start(self) -> None:
        """Start a process; it serves a little later."""
        self._starts += 1
        self.server = None
        self.process = Process(f"{self._name}.{self._starts}")
        self.process.spawn(self._serve())

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.server = None
        for answer in self._calls:
            self._answer_later(answer, None, Unavailable("the connection was reset"))
        self._calls.clear()

    async def drain(self) -> None:
        """SIGTERM: stop in good order, as `app` does."""
        server = self.server
        if server is None:
            return
        over = self._loop.create_future()
        self.process.spawn(self._stop(server, over))
        await asyncio.wait([over], timeout=60.0)
        self.kill()

    async def _stop(self, server: Server, over: "asyncio.Future[None]") -> None:
        server.streams.drain()
        server.loop.drain()
        await server.dispatcher.close(GRACE_S)
        await server.fetchers.close(GRACE_S)
        server.loop.stop()
        await asyncio.wait([server.working], timeout=GRACE_S)
        with suppress(UpshotError):
            await server.store.leave()
        if not over.done():
            over.set_result(None)

    async def _serve(self) -> None:
        sim = self._sim
        clock = SimClock(sim.now_us())
        store = SimStore(sim.database, self.process, sim.network, clock.follow)
        ids = SeededIds(self._starts, self.process.name)
        owner = ids.next()
        try:
            await store.join(owner)
        except UpshotError:  # whoever watches over it starts it again
            self.kill()
            self._loop.call_later(1.0, self.start, context=OUTSIDE.copy())
            return
        blank = Definitions(
            conditions=sim.conditions,
            templates=sim.templates,
            links=PlainLinks(),
            contact=ContactRules(email, phone),
            decode_event=sim.codec.decode_event,
            letters=MailLetters(),
            carriers=CARRIERS,
            policy=sim.policy,
            zones=zone,
            owner=owner,
        )
        book = DefinitionBook(store, sim.codec, blank)
        wakeups = LocalWakeups()
        limits = Limits(batch=64, in_flight=32)
        loop = Loop(store, clock, ids, sim.codec, book, wakeups, limits=limits)
        providers = {
            one.provider: SimProvider(sim, one.provider, idempotent=one.idempotent)
            for several in CARRIERS.values()
            for one in several
        }
        dispatcher = Dispatcher(
            providers,
            loop.settle,
            # Quick to open: in a history of hours a provider fails now and then, never for long.
            breakers=Breakers(clock.now_us, Rules(failures=2)),
            concurrency=8,
            may_send=store.holds_lease,
        )
        fetchers = Fetchers(
            SimFetcher(sim.far_end),
            loop.settle,
            ReviewerSearch(store).find,
            # So few that some are put off.
            concurrency=1,
            longest=2,
            wait_s=1.0,
        )
        loop.attach(dispatcher, fetchers)
        in_flight = InFlight(store, loop, clock)
        schedules = Schedules(store, loop, clock, sim.codec, book)
        fillings = Fillings(store, loop, clock, sim.codec, book, settle_us=sim.settle_us)
        erasing = Erasing(store, loop, clock, OpaqueLog(), settle_us=sim.settle_us)

        def wake() -> None:
            in_flight.wake()
            schedules.wake()

        topic: Kind[Topic] = Kind(
            TOPICS,
            lambda topic: topic.topic_id,
            sim.codec.encode_topic,
            sim.codec.decode_topic,
            topic_codec.faults,
        )
        letter: Kind[Template] = Kind(
            TEMPLATES,
            lambda template: template.template_id,
            sim.codec.encode_template,
            sim.codec.decode_template,
            lambda _: (),
        )
        self.server = Server(
            store=store,
            clock=clock,
            loop=loop,
            dispatcher=dispatcher,
            fetchers=fetchers,
            streams=OutcomeStreams(store, clock, wakeups),
            subscriptions=Subscriptions(store, clock),
            workflows=Workflows(
                store,
                sim.codec,
                clock,
                lambda flow: validate(flow, sim.conditions, sim.templates, zone),
                book.refresh,
                wake,
            ),
            topics=Shelf(store, clock, topic, book.refresh),
            templates=Shelf(store, clock, letter, book.refresh),
            audiences=shelves.audiences(
                store, clock, sim.codec, lambda _: (), book.refresh, fillings.wake
            ),
            working=asyncio.create_task(loop.run()),
            moving=asyncio.create_task(in_flight.run()),
            timing=asyncio.create_task(schedules.run()),
            erasing=erasing,
            forgetting=asyncio.create_task(erasing.run()),
            filling=asyncio.create_task(fillings.run()),
        )
        if store.shared:
            await watch(store, wakeups, clock)

    # what others ask of it

    async def call(self, work: Callable[[Server], Awaitable[T]], within_s: float = 10.0) -> T:
        """Have *work* done there; raises Unavailable where no answer comes."""
        sim, answer = self._sim, self._loop.create_future()
        if sim.faults.strikes("request_lost", 0.02):
            self._loop.call_later(within_s, _end, answer, context=OUTSIDE.copy())
        else:
            delay = sim.network.delay()
            self._loop.call_later(delay, self._arrive, work, answer, context=OUTSIDE.copy())
        try:
            async with asyncio.timeout(within_s):
                result: T = await answer
                return result
        except TimeoutError:
            raise Unavailable("no answer in time") from None

    def _arrive(self, work: Callable[[Server], Awaitable[T]], answer: "asyncio.Future[T]") -> None:
        server = self.server
        if server is None:
            self._answer_later(answer, None, Unavailable("connection refused"))
            return
        self._calls[answer] = None
        self.process.spawn(self._work(server, work, answer))

    async def _work(
        self, server: Server, work: Callable[[Server], Awaitable[T]], answer: "asyncio.Future[T]"
    ) -> None:
        result: T | None = None
        error: UpshotError | None = None
        try:
            result = await work(server)
        except UpshotError as refused:
            error = refused
        if self._sim.faults.strikes("response_lost", 0.02):
            return
        self._answer_later(answer, result, error)

    def _answer_later(
        self, answer: "asyncio.Future[Any]", result: object, error: UpshotError | None
    ) -> None:
        delay = self._sim.network.delay()
        self._loop.call_later(delay, self._answer, answer, result, error, context=OUTSIDE.copy())

    def _answer(
        self, answer: "asyncio.Future[Any]", result: object, error: UpshotError | None
    ) -> None:
        self._calls.pop(answer, None)
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    # a stream: pages go out one by one, each when the reader has taken the one before

    async def stream(
        self, workspace_id: str, request: StreamRequest
    ) -> AsyncGenerator[StreamPage, None]:
        """Read the log there; raises Unavailable when the connection breaks."""
        pages: asyncio.Queue[StreamPage | UpshotError] = asyncio.Queue(maxsize=1)

        async def open_stream(server: Server) -> "asyncio.Task[Any]":
            return self.process.spawn(self._pump(server, workspace_id, request, pages))

        pumping = await self.call(open_stream)
        process = self.process
        try:
            while True:
                page = await self._next(pages, process)
                if isinstance(page, UpshotError):
                    raise page
                yield page
        finally:
            pumping.cancel()

    async def _next(
        self, pages: "asyncio.Queue[StreamPage | UpshotError]", process: Process
    ) -> StreamPage | UpshotError:
        while True:
            try:
                async with asyncio.timeout(90.0):
                    return await pages.get()
            except TimeoutError:
                if process.dead:
                    return Unavailable("the connection was reset")
                if not process.frozen:
                    return Unavailable("not even a checkpoint came")

    async def _pump(
        self,
        server: Server,
        workspace_id: str,
        request: StreamRequest,
        pages: "asyncio.Queue[StreamPage | UpshotError]",
    ) -> None:
        try:
            async with aclosing(server.streams.stream(workspace_id, request)) as stream:
                async for page in stream:
                    await pages.put(page)
        except UpshotError as error:
            await pages.put(error)


def _end(answer: "asyncio.Future[Any]") -> None:
    if not answer.done():
        answer.set_exception(Unavailable("no answer in time"))
