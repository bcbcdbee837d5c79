"""The composition root: settings in, a running server out; `main` and tests share it.

Start: store, clock, loop, gRPC server, HTTP edge. Stop: the same backwards, so that what came in
through a door is done before what it needs goes away.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from upshotd import doors, routing, shelves
from upshotd.adapters import zones
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.clock import LabClock, SystemClock, UuidIds
from upshotd.adapters.contacts import contact_rules
from upshotd.adapters.grpc.admin_service import AdminService
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.grpc.key_service import KeyService
from upshotd.adapters.grpc.lab_service import LabService
from upshotd.adapters.grpc.server import GrpcServer, Services
from upshotd.adapters.grpc.subscription_service import SubscriptionService
from upshotd.adapters.grpc.upshot_service import UpshotService
from upshotd.adapters.http import edge as edges
from upshotd.adapters.letters import MailLetters
from upshotd.adapters.links import LinkSigner
from upshotd.adapters.memory import MemoryStore
from upshotd.adapters.providers.options import Home
from upshotd.adapters.storage.store import SqlStore
from upshotd.adapters.templates import SandboxTemplates
from upshotd.adapters.wakeups import LocalWakeups
from upshotd.application.admin import Admin
from upshotd.application.approvals import Approvals
from upshotd.application.audience_admin import AudienceAdmin
from upshotd.application.codec import Codec
from upshotd.application.definitions import DefinitionBook
from upshotd.application.dispatch import Dispatcher
from upshotd.application.erasing import Erasing
from upshotd.application.experiments import Experiments
from upshotd.application.failpoints import failpoint
from upshotd.application.fetching import Fetchers
from upshotd.application.filling import Fillings
from upshotd.application.health import ProviderHealth
from upshotd.application.housekeeping import Housekeeping
from upshotd.application.in_flight import InFlight
from upshotd.application.inbox import Limits
from upshotd.application.keys import Keys
from upshotd.application.lab import Lab
from upshotd.application.loop import Loop
from upshotd.application.outcomes import OutcomeStreams
from upshotd.application.ports import Store
from upshotd.application.preferences import Preferences
from upshotd.application.reviewers import ReviewerSearch
from upshotd.application.schedules import Schedules
from upshotd.application.subscriptions import Subscriptions
from upshotd.application.suppressions import Suppressions
from upshotd.application.watching import watch
from upshotd.application.workflows import Workflows
from upshotd.certificates import edge_context, grpc_credentials
from upshotd.config import IN_MEMORY, Settings
from upshotd.config_network import Address
from upshotd.domain import audience_validation, template_validation
from upshotd.domain.audience import Audience
from upshotd.domain.definitions import Definitions
from upshotd.domain.errors import Violation
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.template import Template
from upshotd.domain.validation import Faults, validate
from upshotd.domain.workflow import Workflow
from upshotd.routing import Sending
from upshotd.secret_files import SecretFiles

log = structlog.get_logger("upshot.app")

#: Name of the setting that keeps the key of signed links; links of old mail must go on working.
LINK_KEY_SETTING = "link_key"
_LINK_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class App:
    """A running server."""

    settings: Settings
    store: Store
    clock: SystemClock
    loop: Loop
    links: LinkSigner
    grpc_port: int
    http_port: int
    #: None unless the clock can be moved.
    lab: Lab | None
    #: Files of secrets and of certificates, which are looked at again when they are used.
    secrets: tuple[SecretFiles, ...]
    #: Ends only when the loop broke; a server without its loop must not go on.
    working: "asyncio.Task[None]"

    @property
    def grpc_address(self) -> str:
        """Where gRPC listens."""
        return str(Address(self.settings.network.listen.host, self.grpc_port))

    @property
    def http_address(self) -> str:
        """Where the HTTP edge listens."""
        return str(Address(self.settings.network.http.host, self.http_port))

    def look_again(self) -> None:
        """Look at the files of secrets and certificates now."""
        for files in self.secrets:
            files.look()

    async def wait(self, told: asyncio.Event) -> None:
        """Return when *told*; raises what the loop raised if it broke."""
        asked = asyncio.create_task(told.wait())
        done, _ = await asyncio.wait({asked, self.working}, return_when="FIRST_COMPLETED")
        asked.cancel()
        if self.working in done:
            self.working.result()


@asynccontextmanager
async def run(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[App]:
    """Start everything, yield the running server, and stop it in good order.

    *environ* is where secrets of providers are found. Raises InvalidArgument for faulty providers,
    FailedPrecondition when an address or the database is taken, Unavailable for a broken database.
    """
    async with AsyncExitStack() as stack:
        yield await _Start(settings, environ, stack).app()


class _Start:
    """Builds the parts in order; each leaves on the stack how it is stopped."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], stack: AsyncExitStack
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._stack = stack
        self._clock = LabClock() if settings.lab else SystemClock()
        self._ids = UuidIds()
        #: This process, as the owner of leases.
        self._owner = self._ids.next()
        self._wakeups = LocalWakeups()
        self._secrets = SecretFiles(self._clock.monotonic_us)
        #: Read by gRPC's threads, too.
        self._certificates = SecretFiles(self._clock.monotonic_us)
        self._codec: Codec = ContractCodec()
        self._conditions = CelConditions()
        self._templates = SandboxTemplates(MESSAGE_ROOTS)
        self._languages = (self._conditions, self._templates, zones.zone)

    async def app(self) -> App:
        """Return the running server."""
        tls = edge_context(self._settings.network.tls, self._certificates)
        store = await self._store()
        door = self._stack.enter_context(doors.bound(self._settings.network.http))
        http_port: int = door.getsockname()[1]
        links = LinkSigner(await _link_key(store), self._public_url(http_port))
        now_us, told = SystemClock().now_us, self._settings.public_url
        home = Home(now_us, self._environ, links.callback_token, told, self._secrets)
        keys = routing.current_keys(self._settings, home)
        sending = routing.sending(self._settings, home, self._clock.now_us)
        loop, book = self._loop(store, links, sending)
        schedules = Schedules(store, loop, self._clock, self._codec, book)
        lab = await self._lab(store, loop, schedules)
        working = self._work(loop)
        self._beside(schedules.run())
        self._keep_house(store)
        if store.shared:
            # Wakes streams for what other processes append to the log.
            self._beside(watch(store, self._wakeups, self._clock))
        server = await self._serve(store, loop, book, links, lab, schedules, sending.health)
        # Started last, the edge is the first to stop.
        edge = edges.serving(
            door,
            target=server.near,
            links=links,
            now_us=self._clock.now_us,
            keys=keys,
            tls=tls,
        )
        await self._stack.enter_async_context(edge)
        return App(
            settings=self._settings,
            store=store,
            clock=self._clock,
            loop=loop,
            links=links,
            grpc_port=server.port,
            http_port=http_port,
            lab=lab,
            secrets=(self._secrets, self._certificates),
            working=working,
        )

    async def _store(self) -> Store:
        store: Store
        encode = self._codec.encode_outcome
        if self._settings.database == IN_MEMORY:
            log.warning("store.in_memory", consequence="everything is gone at the end")
            store = MemoryStore(encode_outcome=encode)
        else:
            store = SqlStore(
                self._settings.database,
                encode_outcome=encode,
                lease_us=self._settings.limits.lease_us,
                told_time=self._clock.follow,
            )
        await store.open()
        self._stack.push_async_callback(store.close)
        await store.join(self._owner)
        return store

    def _public_url(self, http_port: int) -> str:
        network = self._settings.network
        scheme = "http" if network.tls.cert is None else "https"
        address = Address(network.http.host, http_port)
        return self._settings.public_url or f"{scheme}://{address}"

    def _loop(
        self, store: Store, links: LinkSigner, sending: Sending
    ) -> tuple[Loop, DefinitionBook]:
        """Return the loop with who sends for it; both are stopped on the stack by `_work`."""
        settings = self._settings
        blank = Definitions(
            conditions=self._conditions,
            templates=self._templates,
            links=links,
            contact=contact_rules(settings.contact, settings.default_region),
            decode_event=self._codec.decode_event,
            letters=MailLetters(),
            carriers=sending.carriers,
            policy=settings.policy,
            zones=zones.zone,
            owner=self._owner,
        )
        book = DefinitionBook(store, self._codec, blank)
        limits = Limits(batch=settings.limits.batch, inbox=settings.limits.inbox)
        loop = Loop(
            store,
            self._clock,
            self._ids,
            self._codec,
            book,
            self._wakeups,
            limits=limits,
        )
        dispatcher = Dispatcher(
            sending.providers,
            loop.settle,
            concurrency=settings.limits.sends,
            timeout_s=settings.limits.provider_us / 1e6,
            may_send=store.holds_lease,
            breakers=sending.breakers,
        )
        self._fetchers = Fetchers(sending.fetcher, loop.settle, ReviewerSearch(store).find)
        loop.attach(dispatcher, self._fetchers)
        self._dispatcher = dispatcher
        return loop, book

    async def _lab(self, store: Store, loop: Loop, schedules: Schedules) -> Lab | None:
        if not isinstance(self._clock, LabClock):
            return None
        lab = Lab(store, self._clock, loop, schedules)
        await lab.restore()
        return lab

    def _work(self, loop: Loop) -> "asyncio.Task[None]":
        """Start the loop; at the end let sends finish, then let it do what is in its inbox."""
        working = asyncio.create_task(loop.run())
        grace_s = self._settings.limits.drain_us / 1e6

        async def stop() -> None:
            failpoint("drain.begun")
            loop.drain()
            await asyncio.gather(self._dispatcher.close(grace_s), self._fetchers.close(grace_s))
            loop.stop()
            _, stuck = await asyncio.wait({working}, timeout=grace_s)
            if stuck:  # its store does not answer any more; what is not committed never happened
                log.error("loop.cut_off")
                working.cancel()
                await asyncio.wait(stuck)

        self._stack.push_async_callback(stop)
        return working

    def _keep_house(self, store: Store) -> None:
        ended = asyncio.Event()
        house = Housekeeping(store, self._clock, self._settings.keep)
        keeping = asyncio.create_task(house.run_until(ended))

        async def stop() -> None:
            ended.set()
            await keeping

        self._stack.push_async_callback(stop)

    def _beside(self, work: Coroutine[object, object, None]) -> None:
        """Do *work*, which has no end, beside everything else until the server stops."""
        working = asyncio.create_task(work)

        async def stop() -> None:
            working.cancel()
            await asyncio.wait({working})

        self._stack.push_async_callback(stop)

    async def _serve(
        self,
        store: Store,
        loop: Loop,
        book: DefinitionBook,
        links: LinkSigner,
        lab: Lab | None,
        schedules: Schedules,
        health: ProviderHealth,
    ) -> GrpcServer:
        settings, clock = self._settings, self._clock
        streams = OutcomeStreams(store, clock, self._wakeups)
        in_flight = InFlight(store, loop, clock)
        self._beside(in_flight.run())
        settle_us = 2 * settings.limits.lease_us if store.shared else 0
        erasing = Erasing(store, loop, clock, self._codec, settle_us=settle_us)
        self._beside(erasing.run())

        fillings = Fillings(store, loop, clock, self._codec, book, settle_us=settle_us)
        self._beside(fillings.run())

        def wake() -> None:
            in_flight.wake()
            schedules.wake()

        workflows = Workflows(store, self._codec, clock, self._faults, book.refresh, wake)
        templates = shelves.templates(
            store, clock, self._codec, self._template_faults, book.refresh
        )
        topics = shelves.topics(store, clock, self._codec, book.refresh)
        shelf = shelves.audiences(
            store, clock, self._codec, self._audience_faults, book.refresh, fillings.wake
        )
        rules = contact_rules(settings.contact, settings.default_region)
        keys = Keys(store, clock)
        await keys.refresh()
        self._beside(keys.run())
        services = Services(
            upshot=UpshotService(loop, workflows, streams, clock, rules, erasing.wake),
            subscriptions=SubscriptionService(Subscriptions(store, clock)),
            admin=AdminService(
                Admin(store),
                workflows,
                templates,
                Preferences(store, loop, clock, topics),
                Suppressions(store, loop, rules),
                erasing,
                Experiments(store, workflows),
                loop,
                health,
                AudienceAdmin(store, shelf, book, clock),
                Approvals(store, book),
            ),
            keys=KeyService(keys),
            lab=LabService(lab) if lab is not None else None,
        )
        boundary = doors.guarded(settings, keys, links.read_any, clock, self._ids)
        keys.on_revoked = boundary.revoke
        server = GrpcServer(
            settings.network.listen.host,
            settings.network.listen.port,
            services,
            boundary,
            streams.drain,
            connection_age_us=settings.limits.connection_us,
            tls=grpc_credentials(settings.network.tls, self._certificates),
            reflected=settings.network.reflected,
        )
        await server.start()
        self._stack.push_async_callback(server.stop, settings.limits.drain_us)
        return server

    def _faults(self, workflow: Workflow) -> Faults:
        return self._settings.outside.warned(workflow, validate(workflow, *self._languages))

    def _audience_faults(self, audience: Audience) -> tuple[Violation, ...]:
        return audience_validation.validate(audience, *self._languages)

    def _template_faults(self, template: Template) -> tuple[Violation, ...]:
        return template_validation.validate(template, *self._languages)


async def _link_key(store: Store) -> bytes:
    """Return the key that signs links, made at the first start."""
    made = secrets.token_hex(_LINK_KEY_BYTES)
    return bytes.fromhex(await store.settle_setting(LINK_KEY_SETTING, made))
