"""The edge and the server in front of an approval; `Decisions` is its engine, in a few lines."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
import grpc
from yarl import URL

from tests import approvals
from tests.approvals import RUN, STEP, WORKSPACE
from tests.builders import HOUR, NOON, changes
from upshot.v1 import admin_pb2_grpc, engagement_pb2, service_pb2, service_pb2_grpc
from upshotd.adapters.clock import SystemClock, UuidIds
from upshotd.adapters.grpc.admin_service import AdminService
from upshotd.adapters.grpc.boundary import Boundary
from upshotd.adapters.grpc.key_service import KeyService
from upshotd.adapters.grpc.server import GrpcServer, Services
from upshotd.adapters.grpc.structs import plain
from upshotd.adapters.grpc.subscription_service import SubscriptionService
from upshotd.adapters.grpc.upshot_service import UpshotService
from upshotd.adapters.http.edge import Edge
from upshotd.adapters.links import LinkSigner
from upshotd.adapters.memory import MemoryStore
from upshotd.application.approvals import Approvals
from upshotd.application.credentials import KeyCredentials
from upshotd.application.keys import Keys, Scope
from upshotd.domain.approval import Approval, Question
from upshotd.domain.errors import Unavailable
from upshotd.domain.message import Message
from upshotd.domain.steps.approve import ApprovalDecision
from upshotd.domain.values import replace

PUBLIC = "http://links.example"
NOW_US = NOON + HOUR
_LONG_US = 20_000_000
_WAYS = {
    engagement_pb2.ENGAGEMENT_KIND_APPROVED: ApprovalDecision.APPROVED,
    engagement_pb2.ENGAGEMENT_KIND_DENIED: ApprovalDecision.DENIED,
}


@dataclass
class Decisions:
    """Stands where UpshotService does: the first decision counts, questions are kept."""

    store: MemoryStore
    #: What was taken.
    recorded: list[engagement_pb2.Engagement] = field(default_factory=list)
    #: In place of an answer.
    broken: bool = False

    async def RecordEngagement(
        self, workspace_id: str, request: service_pb2.RecordEngagementRequest
    ) -> service_pb2.RecordEngagementResponse:
        if self.broken:
            raise Unavailable("no database")
        results = [await self._take(workspace_id, fact) for fact in request.engagements]
        return service_pb2.RecordEngagementResponse(results=results)

    async def _take(
        self, workspace_id: str, fact: engagement_pb2.Engagement
    ) -> service_pb2.EngagementResult:
        if fact.engagement_id in {one.engagement_id for one in self.recorded}:
            return service_pb2.EngagementResult(state=service_pb2.ENGAGEMENT_STATE_DUPLICATE)
        message = await self.store.message(workspace_id, fact.message_id)
        if message is None or message.ask is None:
            return _rejected("NO_APPROVAL" if message is not None else "UNKNOWN_MESSAGE")
        made = await approvals.kept(self.store)
        if fact.kind == engagement_pb2.ENGAGEMENT_KIND_ANSWERED:
            return await self._answer(made, fact)
        if not made.open:
            return _rejected("APPROVAL_ENDED" if made.timed_out else "ALREADY_DECIDED")
        if len(made.questions) > 1:
            return _rejected("TOO_MANY_QUESTIONS")
        await self.put(_told(made, message, fact))
        self.recorded.append(fact)
        return service_pb2.EngagementResult(state=service_pb2.ENGAGEMENT_STATE_RECORDED)

    async def _answer(
        self, made: Approval, fact: engagement_pb2.Engagement
    ) -> service_pb2.EngagementResult:
        data = plain(fact.data)
        waiting = [one for one in made.questions if one.message_id == fact.message_id]
        waiting = [one for one in waiting if not one.answer_us]
        named = str(data.get("question_id", "")) or (waiting or [made.questions[0]])[0].question_id
        if named not in {one.question_id for one in waiting}:
            return _rejected("NO_QUESTION")
        answers = {named: {"answer": str(data["body"]), "answer_us": NOW_US}}
        told = [one._replace(**answers.get(one.question_id, {})) for one in made.questions]
        await self.put(made._replace(questions=tuple(told)))
        self.recorded.append(fact)
        return service_pb2.EngagementResult(state=service_pb2.ENGAGEMENT_STATE_RECORDED)

    async def put(self, made: Approval, **fields: Any) -> None:
        """Let the run stand as the engine would leave it."""
        run = await self.store.run(WORKSPACE, RUN)
        assert run is not None
        run = replace(run, steps={STEP: made.left()}, **fields)
        await self.store.commit([changes(run)])

    # What the real one has, and nobody calls here.
    Ingest = DefineWorkflow = StreamOutcomes = RecordEngagement


def _told(made: Approval, message: Message, fact: engagement_pb2.Engagement) -> Approval:
    who = message.profile_id.removeprefix("profile-")
    data = plain(fact.data)
    decision = _WAYS.get(fact.kind)
    if decision is not None:
        said = str(data.get("comment", ""))
        return made._replace(decision=decision, decided_by=who, comment=said, end_us=NOW_US)
    number = f"q-{len(made.questions) + 1}"
    question = Question(number, message.message_id, who, str(data["body"]), NOW_US)
    return made._replace(questions=(*made.questions, question))


def _rejected(reason: str) -> service_pb2.EngagementResult:
    state = service_pb2.ENGAGEMENT_STATE_REJECTED
    return service_pb2.EngagementResult(state=state, reason=reason)


@dataclass
class World:
    store: MemoryStore
    decisions: Decisions
    links: LinkSigner
    edge: Edge
    http: aiohttp.ClientSession
    upshot: Any
    admin: Any
    #: A key that may do everything.
    key: str
    #: Where the gRPC server listens.
    address: str

    def path(self, kind: str, message_id: str = "m-ann", workspace_id: str = WORKSPACE) -> str:
        """Return where a link leads, of any kind."""
        signer = self.links
        named = signer.named(workspace_id, message_id)
        urls = {
            "o": lambda: signer.open_url(workspace_id, message_id).removesuffix(".gif"),
            "c": lambda: signer.click_url(workspace_id, message_id, "https://shop.example/"),
            "k": lambda: f"/k/{signer.callback_token(workspace_id, message_id)}",
        }
        words = {"u": "unsubscribe", "p": "preferences", "a": "approve", "d": "deny", "q": "ask"}
        url = urls[kind]() if kind in urls else str(named[words.get(kind, "review")])
        return url.removeprefix(PUBLIC)

    def token(self, kind: str, message_id: str = "m-ann", workspace_id: str = WORKSPACE) -> str:
        return self.path(kind, message_id, workspace_id).rpartition("/")[2]

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

    async def approval(self) -> Approval:
        """Return what has come of it so far."""
        return await approvals.kept(self.store)


@asynccontextmanager
async def approval_world() -> AsyncIterator[World]:
    store = MemoryStore(encode_outcome=lambda *_: b"")
    await approvals.keep(store)
    links, decisions = LinkSigner(b"k" * 32, PUBLIC), Decisions(store)
    keys = Keys(store, SystemClock())
    _, key = await keys.create(WORKSPACE, {Scope.ADMIN}, "")
    credentials = KeyCredentials(keys, links.read_any, required=True)
    clock = SystemClock()
    boundary = Boundary(
        credentials, clock, UuidIds(), unary_limit_us=_LONG_US, write_limit_us=_LONG_US
    )
    server = GrpcServer("127.0.0.1", 0, _services(store, decisions), boundary, lambda: None)
    await server.start()
    try:
        async with (
            grpc.aio.insecure_channel(address := f"127.0.0.1:{server.port}") as channel,
            aiohttp.ClientSession() as http,
        ):
            upshot = service_pb2_grpc.UpshotServiceStub(channel)
            admin = admin_pb2_grpc.AdminServiceStub(channel)
            edge = Edge(
                listen_host="127.0.0.1",
                listen_port=0,
                stub=upshot,
                admin=admin,
                links=links,
                now_us=lambda: NOW_US,
            )
            await edge.start()
            try:
                yield World(store, decisions, links, edge, http, upshot, admin, key, address)
            finally:
                await edge.stop()
    finally:
        await server.stop(0)


def _services(store: MemoryStore, decisions: Decisions) -> Services:
    nobody = cast(Any, None)
    looking = Approvals(store, approvals.book(store))
    return Services(
        upshot=cast(UpshotService, decisions),
        subscriptions=SubscriptionService(nobody),
        admin=AdminService(*[nobody] * 10, looking),
        keys=KeyService(nobody),
        lab=None,
    )
