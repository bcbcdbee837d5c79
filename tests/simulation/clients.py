"""Everybody who calls: applications that send events, readers of the log, operators."""

import asyncio
import random
from typing import TYPE_CHECKING

from tests.simulation import audiences, flows, policies
from tests.simulation.node import Server
from tests.simulation.vocabulary import GROUPS, MIDDLES, NAMES, STARTS, TOPICS, USERS, WORKSPACES
from upshot.v1 import event_pb2
from upshotd.adapters.grpc import event_codec
from upshotd.application.in_flight import InFlightPolicy
from upshotd.application.outcomes import Start, StreamRequest
from upshotd.application.ports import Retention
from upshotd.domain import addresses
from upshotd.domain.consent import Topic
from upshotd.domain.errors import CursorExpired, UpshotError
from upshotd.domain.message import Channel
from upshotd.domain.profile import Suppression
from upshotd.domain.state import Identity, IdKind
from upshotd.domain.stimulus import IngestResult, PreferenceSet, SuppressionSet

if TYPE_CHECKING:
    from tests.simulation.world import Simulation


def mailboxes(workspace_id: str, user_id: str) -> tuple[str, str, str]:
    """Return the addresses that a person may have: most of the time their own."""
    own = f"{user_id}@{workspace_id}.example"
    return own, f"new-{own}", f"family@{workspace_id}.example"


def number(workspace_id: str, user_id: str) -> str:
    """Return the phone number that a person has."""
    return "+1555000" + user_id[-1] + ("1" if workspace_id == "north" else "2")


class Client:
    """An application: sends events, each again and again until it is acknowledged."""

    def __init__(self, sim: "Simulation", name: str, chance: random.Random) -> None:
        self._sim = sim
        self._name = name
        self._chance = chance
        self._sent = 0

    async def run(self, until_us: int, pause_s: float) -> None:
        """Send events at random times until then."""
        for workspace_id in WORKSPACES if self._name == "client-0" else ():
            for user_id in USERS:
                await self._send(workspace_id, [self._identify(workspace_id, user_id)])
        while self._sim.now_us() < until_us:
            await asyncio.sleep(self._chance.expovariate(1 / pause_s))
            workspace_id = self._chance.choice(WORKSPACES)
            count = self._chance.choice((1, 1, 1, 2, 5))
            events = [self._event(workspace_id) for _ in range(count)]
            await self._send(workspace_id, events)
            if self._sim.faults.strikes("event_twice", 0.1):
                await self._send(workspace_id, events)

    def _id(self) -> str:
        self._sent += 1
        return f"{self._name}-{self._sent}"

    def _event(self, workspace_id: str) -> event_pb2.Event:
        user_id = self._chance.choice(USERS)
        anonymous_id = f"anonymous-{user_id}" if self._chance.random() < 0.2 else ""
        draw = self._chance.random()
        if draw < 0.1:
            return self._identify(workspace_id, user_id)
        event = event_pb2.Event(event_id=self._id(), user_id=user_id, anonymous_id=anonymous_id)
        if draw < 0.15:
            event.group.group_id = self._chance.choice(GROUPS)
            event.group.traits.update({"home": workspace_id})
        elif self._sim.faults.strikes("merge", 0.05):
            # Somebody who was known by a device only until now.
            stranger = f"stranger-{self._sent}"
            event.user_id, event.anonymous_id = "", stranger
            event.track.event = STARTS[0]
            self._sim.outside(self._name_later(workspace_id, user_id, stranger))
        else:
            event.track.event = self._chance.choice((*STARTS, *MIDDLES))
            event.track.properties.update({"n": self._chance.randint(1, 9)})
            if self._chance.random() < 0.1:
                self._by_app(workspace_id, event)
            if draw > 0.95:  # it happened before it was sent
                ago_us = self._chance.choice((1_000_000, 3_600_000_000, 3 * 86_400_000_000))
                event.event_time.FromMicroseconds(self._sim.now_us() - ago_us)
        return event

    async def _name_later(self, workspace_id: str, user_id: str, stranger: str) -> None:
        await asyncio.sleep(self._chance.expovariate(1e6 / self._sim.unit_us))
        event = self._identify(workspace_id, user_id)
        event.event_id = f"{stranger}-{self._name}-named"
        event.anonymous_id = stranger
        await self._send(workspace_id, [event])

    def _identify(self, workspace_id: str, user_id: str) -> event_pb2.Event:
        event = event_pb2.Event(event_id=self._id(), user_id=user_id)
        traits: dict[str, object] = {
            "home": workspace_id,
            "plan": self._chance.choice(("pro", "x")),
        }
        if self._chance.random() < 0.9:
            boxes = mailboxes(workspace_id, user_id)
            traits["email"] = self._chance.choice((*boxes[:1] * 4, *boxes))
        if self._chance.random() < 0.3:
            traits["locale"] = self._chance.choice(("de-CH", "fr"))
        if self._chance.random() < 0.8:
            traits["phone"] = number(workspace_id, user_id)
        event.identify.traits.update(traits)
        if self._chance.random() < 0.4:
            self._by_app(workspace_id, event)
        return event

    def _by_app(self, workspace_id: str, event: event_pb2.Event) -> None:
        """Let *event* come from one of the person's devices."""
        name = f"{self._chance.choice(('phone', 'tablet'))}-{event.user_id}"
        token = self._sim.devices.token(workspace_id, name)
        event.context.update({"device": {"token": token}})

    async def _send(self, workspace_id: str, events: list[event_pb2.Event]) -> None:
        async def ingest(server: Server) -> list[IngestResult]:
            now_us = server.clock.now_us()
            return await server.loop.ingest(
                workspace_id, [event_codec.event(event, now_us) for event in events]
            )

        while True:
            try:
                results = await self._sim.node().call(ingest)
            except UpshotError:
                await asyncio.sleep(self._chance.uniform(0.1, 3.0))
                continue
            for event, result in zip(events, results, strict=True):
                self._sim.watcher.acknowledged(workspace_id, event, result)
            return


class Relay:
    """Reads one workspace by a named subscription, as a relay into Segment does.

    What it has written is never forgotten; where it is it knows only until it crashes.
    """

    def __init__(
        self, sim: "Simulation", workspace_id: str, name: str, chance: random.Random
    ) -> None:
        self.workspace_id = workspace_id
        self.received: list[str] = []
        self._sim = sim
        self._name = name
        self._chance = chance
        self._cursor = ""

    async def run(self) -> None:
        """Read for ever, whatever breaks."""
        while True:
            try:
                await self._read()
            except CursorExpired as error:
                self._cursor = error.metadata["earliest_cursor"]
            except UpshotError:
                await asyncio.sleep(self._chance.uniform(0.2, 3.0))
            else:
                self._cursor = ""  # it crashed

    async def _read(self) -> None:
        sim = self._sim
        request = StreamRequest(
            after_cursor=self._cursor,
            subscription=self._name,
            start=Start.EARLIEST,
            max_batch=self._chance.choice((1, 7, 100)),
            heartbeat_us=60_000_000,
        )
        stream = sim.validators[self.workspace_id].opened(
            name=f"{self._name} of {self.workspace_id}",
            after_cursor=self._cursor,
            max_batch=request.max_batch,
        )
        node = sim.node()
        pages = node.stream(self.workspace_id, request)
        try:
            async for page in pages:
                stream.saw(page)
                if not page.joined:
                    continue
                if sim.faults.strikes("relay_slow", 0.02):
                    await asyncio.sleep(self._chance.uniform(5.0, 45.0))
                names = [seen.outcome_id for seen in stream.responses[-1].outcomes]
                self.received += names
                sim.trace(f"{self._name} {self.workspace_id} {names[0]} {len(names)}")
                if sim.faults.strikes("relay_crash", 0.02):
                    return
                await self._commit(page.cursor)
                self._cursor = page.cursor
                if sim.faults.strikes("relay_crash", 0.01):
                    return
        finally:
            await pages.aclose()

    async def _commit(self, cursor: str) -> None:
        await self._sim.node().call(
            lambda server: server.subscriptions.commit(
                self.workspace_id, self._name, cursor, rewind=False
            )
        )


class Operator:
    """Defines workflows, changes them while runs are on their way, cancels, forgets."""

    def __init__(self, sim: "Simulation", chance: random.Random) -> None:
        self._sim = sim
        self._chance = chance

    async def define_all(self) -> None:
        """Define every workflow everywhere."""
        for workspace_id in WORKSPACES:
            for topic_id, default in policies.topics(self._chance).items():
                await self._define_topic(workspace_id, Topic(topic_id, default=default))
            await self._define_templates(workspace_id)
            for name in audiences.NAMES:
                await self._define_audience(workspace_id, name)
            for name in NAMES:
                await self._define(workspace_id, name)

    async def _define_topic(self, workspace_id: str, topic: Topic) -> None:
        while True:
            try:
                await self._sim.node().call(
                    lambda server: server.topics.define(workspace_id, topic, validate_only=False)
                )
            except UpshotError:
                await asyncio.sleep(1.0)
            else:
                return

    async def _define_audience(self, workspace_id: str, name: str) -> None:
        audience = audiences.audience(self._chance, name, self._sim.unit_us)
        while True:
            try:
                await self._sim.node().call(
                    lambda server: server.audiences.define(
                        workspace_id, audience, validate_only=False
                    )
                )
            except UpshotError:
                await asyncio.sleep(1.0)
            else:
                return

    async def _define_templates(self, workspace_id: str) -> None:
        for template in flows.templates(self._chance):
            while True:
                try:
                    await self._sim.node().call(
                        lambda server, it=template: server.templates.define(  # type: ignore[misc]
                            workspace_id, it, validate_only=False
                        )
                    )
                except UpshotError:
                    await asyncio.sleep(1.0)
                else:
                    break

    async def _define(self, workspace_id: str, name: str) -> None:
        workflow = flows.workflow(self._chance, name, self._sim.unit_us)
        in_flight = InFlightPolicy.PIN
        if self._sim.faults.strikes("migrate", 0.3):
            in_flight = self._chance.choice((InFlightPolicy.MIGRATE, InFlightPolicy.CANCEL))
        while True:
            try:
                await self._sim.node().call(
                    lambda server: server.workflows.define(
                        workspace_id,
                        workflow,
                        validate_only=False,
                        expected_version=None,
                        in_flight=in_flight,
                    )
                )
            except UpshotError:
                await asyncio.sleep(1.0)
            else:
                return

    async def run(self, until_us: int, pause_s: float) -> None:
        """Change something now and then."""
        while self._sim.now_us() < until_us:
            await asyncio.sleep(self._chance.expovariate(1 / pause_s))
            workspace_id = self._chance.choice(WORKSPACES)
            if self._sim.faults.strikes("redefine", 0.5):
                await self._define(workspace_id, self._chance.choice(NAMES))
            if self._sim.faults.strikes("regroup", 0.5):
                await self._define_audience(workspace_id, self._chance.choice(audiences.NAMES))
            if self._sim.faults.strikes("retell", 0.2):
                await self._define_templates(workspace_id)
            if self._sim.faults.strikes("cancel", 0.3):
                await self._cancel(workspace_id)
            if self._sim.faults.strikes("choose", 0.8):
                await self._choose(workspace_id)
            if self._sim.faults.strikes("list", 0.8):
                await self._list(workspace_id)
            if self._sim.faults.strikes("erase", 0.5):
                await self._erase(workspace_id)
            if self._sim.faults.strikes("prune", 0.5):
                await self._prune()

    async def _cancel(self, workspace_id: str) -> None:
        key = self._chance.choice(STARTS)
        runs = sorted(self._sim.database._tables(workspace_id).runs)
        run_id = self._chance.choice(runs) if runs and self._chance.random() < 0.7 else ""
        try:
            result = await self._sim.node().call(
                lambda server: server.loop.cancel(
                    workspace_id, run_id=run_id, cancellation_key="" if run_id else key
                )
            )
        except UpshotError:
            return
        self._sim.watcher.canceled(workspace_id, result)

    async def _choose(self, workspace_id: str) -> None:
        """Somebody says what they want to hear about, and where."""
        wanted = self._chance.choice((True, False, None))
        off = self._chance.choice((None, frozenset({Channel.EMAIL}), frozenset[Channel]()))
        who = (IdKind.USER, self._chance.choice(USERS))
        choice = PreferenceSet(who, self._chance.choice(TOPICS[1:]), wanted, off)
        try:
            await self._sim.node().call(lambda server: server.loop.ask(workspace_id, [choice]))
        except UpshotError:
            return

    async def _list(self, workspace_id: str) -> None:
        """Put a person or an address on the suppression list, or take everybody's off it."""
        user_id = self._chance.choice(USERS)
        address = addresses.key(
            Channel.EMAIL, self._chance.choice(mailboxes(workspace_id, user_id))
        )
        owner: Identity | str = self._chance.choice(((IdKind.USER, user_id), address))
        held = Suppression(Channel.EMAIL, reason="COMPLAINED")
        asked = [SuppressionSet(held, owner, held=True)]
        if self._chance.random() < 0.6:
            listed = await self._sim.database.suppressions(workspace_id, "", 1000)
            # A number is its owner's to take off.
            known = (o for o in listed if addresses.of_key(o.owner)[0] is Channel.EMAIL)
            asked = [SuppressionSet(one.suppression, one.owner, held=False) for one in known]
        try:
            await self._sim.node().call(lambda server: server.loop.ask(workspace_id, asked))
        except UpshotError:
            return

    async def _erase(self, workspace_id: str) -> None:
        """Somebody wants to be forgotten. They may come back."""
        who = (IdKind.USER, self._chance.choice(USERS))
        try:
            await self._sim.node().call(lambda server: server.erasing.erase(workspace_id, who))
        except UpshotError:
            return

    async def _prune(self) -> None:
        keep_us = self._sim.span_us // 4
        retention = Retention(0, self._sim.now_us() - keep_us, 0)
        try:
            await self._sim.node().call(lambda server: server.store.prune(retention, 1000))
        except UpshotError:
            return
