"""The edge, the server and the engine around an approval: Pia wants to pay, Ann and Ben are asked.

All of it is the real thing but for the clock, which stands an hour after they were asked, and the
provider, which keeps what it was given.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
import grpc
from yarl import URL

from tests import world
from tests.approvals import ASKED, PAY, STEP, WORKSPACE
from tests.builders import HOUR, NOON, changes
from tests.flows import sms, track
from tests.sim import email, phone
from tests.world import LabManualClock
from upshot.v1 import admin_pb2_grpc, outcome_pb2, service_pb2_grpc
from upshotd.adapters.clock import SystemClock, UuidIds
from upshotd.adapters.grpc.admin_service import AdminCases, AdminService
from upshotd.adapters.grpc.boundary import Boundary
from upshotd.adapters.grpc.key_service import KeyService
from upshotd.adapters.grpc.server import GrpcServer, Services
from upshotd.adapters.grpc.subscription_service import SubscriptionService
from upshotd.adapters.grpc.upshot_service import UpshotService
from upshotd.adapters.http.edge import Edge
from upshotd.adapters.links import LinkSigner
from upshotd.application.admin import Admin
from upshotd.application.approvals import Approvals
from upshotd.application.credentials import KeyCredentials
from upshotd.application.keys import Keys, Scope
from upshotd.application.ports import RunFilter
from upshotd.domain.approval import Approval
from upshotd.domain.message import Sms
from upshotd.domain.profile import ContactRules
from upshotd.domain.run import Run
from upshotd.domain.values import replace

PUBLIC = "http://links.example"
NOW_US = NOON + HOUR
_LONG_US = 20_000_000
_ABOUT = (
    outcome_pb2.OUTCOME_KIND_APPROVAL_DECIDED,
    outcome_pb2.OUTCOME_KIND_APPROVAL_ASKED,
    outcome_pb2.OUTCOME_KIND_APPROVAL_ANSWERED,
)


@dataclass
class World:
    engine: world.World
    links: LinkSigner
    edge: Edge
    http: aiohttp.ClientSession
    upshot: Any
    admin: Any
    #: A key that may do everything.
    key: str
    #: Where the gRPC server listens.
    address: str
    #: The message that each of them got first: Ann and Ben are asked, Pia is told something.
    sent: dict[str, str]
    #: Pia's run, which waits.
    run_id: str

    def path(self, kind: str, whose: str = "ann", workspace_id: str = WORKSPACE) -> str:
        """Return where a link leads, of any kind, of somebody's message or of one by its id."""
        signer, message_id = self.links, self.sent.get(whose, whose)
        named = signer.named(workspace_id, message_id)
        urls = {
            "o": lambda: signer.open_url(workspace_id, message_id).removesuffix(".gif"),
            "c": lambda: signer.click_url(workspace_id, message_id, "https://shop.example/"),
            "k": lambda: f"/k/{signer.callback_token(workspace_id, message_id)}",
        }
        words = {"u": "unsubscribe", "p": "preferences", "a": "approve", "d": "deny", "q": "ask"}
        url = urls[kind]() if kind in urls else str(named[words.get(kind, "review")])
        return url.removeprefix(PUBLIC)

    def token(self, kind: str, whose: str = "ann", workspace_id: str = WORKSPACE) -> str:
        return self.path(kind, whose, workspace_id).rpartition("/")[2]

    def received(self, whose: str) -> str:
        """Return where the link leads that really stands in what somebody got."""
        (content,) = (
            one.content for one in self.engine.sms.ledger if one.message_id == self.sent[whose]
        )
        assert isinstance(content, Sms)
        return content.body.removeprefix(PUBLIC)

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, str, dict[str, str]]:
        """Return status, text and headers of the answer."""
        url = URL(f"http://127.0.0.1:{self.edge.port}{path}", encoded=True)
        async with self.http.request(
            method, url, data=body or None, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text(), dict(answer.headers)

    async def get(self, path: str) -> tuple[int, str]:
        status, text, _ = await self.send("GET", path)
        return status, text

    async def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Send a form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, text, _ = await self.send("POST", path, urlencode(fields).encode(), headers)
        return status, text

    async def run(self) -> Run:
        """Return the run as it is by now."""
        found = await self.engine.store.run(WORKSPACE, self.run_id)
        assert found is not None
        return found

    async def approval(self) -> Approval:
        """Return what has come of it so far."""
        return Approval.of((await self.run()).steps[STEP])

    async def told(self) -> list[outcome_pb2.Outcome]:
        """Return what the log has of decisions, questions and answers."""
        return [one for one in await self.engine.outcomes() if one.kind in _ABOUT]

    async def put(self, made: Approval, **fields: Any) -> None:
        """Let the run stand as if this had come of it."""
        run = replace(await self.run(), steps={STEP: made.left()}, **fields)
        await self.engine.store.commit([changes(run)])


@asynccontextmanager
async def approval_world() -> AsyncIterator[World]:
    links, clock = LinkSigner(b"k" * 32, PUBLIC), LabManualClock(NOON, patient=False)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(world.world(clock=clock, links=links))
        sent, run_id = await _asked(engine)
        keys = Keys(engine.store, SystemClock())
        _, key = await keys.create(WORKSPACE, {Scope.ADMIN}, "")
        server = await _serving(engine, KeyCredentials(keys, links.read_any, required=True))
        stack.push_async_callback(server.stop, 0)
        address = f"127.0.0.1:{server.port}"
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        upshot = service_pb2_grpc.UpshotServiceStub(channel)
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        edge = Edge(
            listen_host="127.0.0.1",
            listen_port=0,
            stub=upshot,
            admin=admin,
            links=links,
            now_us=clock.now_us,
        )
        await edge.start()
        stack.push_async_callback(edge.stop)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(engine, links, edge, http, upshot, admin, key, address, sent, run_id)


async def _asked(engine: world.World) -> tuple[dict[str, str], str]:
    """Let Pia want to pay an hour ago; return what each got, and Pia's run."""
    await engine.define(PAY, track("Told", sms(), workflow_id="told"))
    for number, name in enumerate(("pia", *ASKED)):
        await engine.identify(name, phone=f"+1555000{number}")
    await engine.track("pia", "Told")
    await engine.track("pia", PAY.trigger.event)
    await engine.settle()
    engine.clock.advance(HOUR)
    (run,) = await engine.store.runs(WORKSPACE, RunFilter(workflow_id=PAY.workflow_id), "", 9)
    names = {f"+1555000{number}": name for number, name in enumerate(("pia", *ASKED))}
    return {names[one.recipient]: one.message_id for one in engine.sms.ledger}, run.run_id


async def _serving(engine: world.World, credentials: KeyCredentials) -> GrpcServer:
    """Serve what pages and `upshot approval` call."""
    nobody = cast(Any, None)
    services = Services(
        upshot=UpshotService(
            engine.loop, nobody, nobody, engine.clock, ContactRules(email, phone), nobody
        ),
        subscriptions=SubscriptionService(nobody),
        admin=AdminService(
            AdminCases(
                Admin(engine.store),
                *[nobody] * 9,
                approvals=Approvals(engine.store, engine.book),
            )
        ),
        keys=KeyService(nobody),
        lab=None,
    )
    boundary = Boundary(
        credentials, SystemClock(), UuidIds(), unary_limit_us=_LONG_US, write_limit_us=_LONG_US
    )
    server = GrpcServer("127.0.0.1", 0, services, boundary, lambda: None)
    await server.start()
    return server
