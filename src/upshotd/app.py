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

from upshotd import doors, routing
from upshotd.adapters import zones
from upshotd.adapters.clock import LabClock, SystemClock, UuidIds
from upshotd.adapters.contacts import contact_rules
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.grpc.server import GrpcServer
from upshotd.adapters.http import edge as edges
from upshotd.adapters.letters import MailLetters
from upshotd.adapters.links import LinkSigner
from upshotd.adapters.memory import MemoryStore
from upshotd.adapters.providers.options import Home
from upshotd.adapters.storage.store import SqlStore
from upshotd.adapters.wakeups import LocalWakeups
from upshotd.application.codec import Codec
from upshotd.application.definitions import DefinitionBook
from upshotd.application.dispatch import Dispatcher
from upshotd.application.failpoints import failpoint
from upshotd.application.fetching import Fetchers
from upshotd.application.housekeeping import Housekeeping
from upshotd.application.inbox import Limits
from upshotd.application.keys import Keys
from upshotd.application.lab import Lab
from upshotd.application.loop import Loop
from upshotd.application.outcomes import OutcomeStreams
from upshotd.application.ports import Store
from upshotd.application.reviewers import ReviewerSearch
from upshotd.application.schedules import Schedules
from upshotd.application.watching import watch
from upshotd.background import Background
from upshotd.certificates import edge_context, grpc_credentials
from upshotd.checks import Checks
from upshotd.config import IN_MEMORY, Settings
from upshotd.config_network import Address
from upshotd.domain.definitions import Definitions
from upshotd.routing import Sending
from upshotd.secret_files import SecretFiles
from upshotd.services import Parts, services

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
        self._checks = Checks(settings.outside)

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
        book = self._book(store, links, sending)
        loop = self._loop(store, book)
        senders = self._senders(store, loop, sending)
        loop.attach(*senders)
        lease_us = self._settings.limits.lease_us
        background = Background.of(store, loop, self._clock, self._codec, book, lease_us)
        lab = await self._lab(store, loop, background.schedules)
        working = self._work(loop, senders)
        for work in background:
            self._beside(work.run())
        self._keep_house(store)
        if store.shared:
            # Wakes streams for what other processes append to the log.
            self._beside(watch(store, self._wakeups, self._clock))
        parts = Parts(
            settings=self._settings,
            store=store,
            clock=self._clock,
            codec=self._codec,
            checks=self._checks,
            book=book,
            loop=loop,
            background=background,
            health=sending.health,
            streams=OutcomeStreams(store, self._clock, self._wakeups),
            keys=await self._keys(store),
            lab=lab,
        )
        server = await self._serve(parts, links)
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

    def _book(self, store: Store, links: LinkSigner, sending: Sending) -> DefinitionBook:
        settings = self._settings
        blank = Definitions(
            conditions=self._checks.conditions,
            templates=self._checks.templates,
            links=links,
            contact=contact_rules(settings.contact, settings.default_region),
            decode_event=self._codec.decode_event,
            letters=MailLetters(),
            carriers=sending.carriers,
            policy=settings.policy,
            zones=zones.zone,
            owner=self._owner,
        )
        return DefinitionBook(store, self._codec, blank)

    def _loop(self, store: Store, book: DefinitionBook) -> Loop:
        settings = self._settings
        limits = Limits(batch=settings.limits.batch, inbox=settings.limits.inbox)
        return Loop(
            store,
            self._clock,
            self._ids,
            self._codec,
            book,
            self._wakeups,
            limits=limits,
        )

    def _senders(self, store: Store, loop: Loop, sending: Sending) -> tuple[Dispatcher, Fetchers]:
        """Return who sends and who asks for the loop."""
        settings = self._settings
        dispatcher = Dispatcher(
            sending.providers,
            loop.settle,
            concurrency=settings.limits.sends,
            timeout_s=settings.limits.provider_us / 1e6,
            may_send=store.holds_lease,
            breakers=sending.breakers,
        )
        return dispatcher, Fetchers(sending.fetcher, loop.settle, ReviewerSearch(store).find)

    async def _lab(self, store: Store, loop: Loop, schedules: Schedules) -> Lab | None:
        if not isinstance(self._clock, LabClock):
            return None
        lab = Lab(store, self._clock, loop, schedules)
        await lab.restore()
        return lab

    def _work(self, loop: Loop, senders: tuple[Dispatcher, Fetchers]) -> "asyncio.Task[None]":
        """Start the loop; at the end let sends finish, then let it do what is in its inbox."""
        working = asyncio.create_task(loop.run())
        grace_s = self._settings.limits.drain_us / 1e6

        async def stop() -> None:
            failpoint("drain.begun")
            loop.drain()
            await asyncio.gather(*(one.close(grace_s) for one in senders))
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

    async def _keys(self, store: Store) -> Keys:
        keys = Keys(store, self._clock)
        await keys.refresh()
        self._beside(keys.run())
        return keys

    async def _serve(self, parts: Parts, links: LinkSigner) -> GrpcServer:
        network, limits, keys = self._settings.network, self._settings.limits, parts.keys
        boundary = doors.guarded(self._settings, keys, links.read_any, self._clock, self._ids)
        keys.on_revoked = boundary.revoke
        server = GrpcServer(
            network.listen.host,
            network.listen.port,
            services(parts),
            boundary,
            parts.streams.drain,
            connection_age_us=limits.connection_us,
            tls=grpc_credentials(network.tls, self._certificates),
            reflected=network.reflected,
        )
        await server.start()
        self._stack.push_async_callback(server.stop, limits.drain_us)
        return server


async def _link_key(store: Store) -> bytes:
    """Return the key that signs links, made at the first start."""
    made = secrets.token_hex(_LINK_KEY_BYTES)
    return bytes.fromhex(await store.settle_setting(LINK_KEY_SETTING, made))
