"""The HTTP edge: a client of the contract that listens beside the gRPC server.

Segment's SDKs come in here, and the people who open, click, unsubscribe and decide. It has no door
of its own: everything goes through Ingest, RecordEngagement and the calls for its pages.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc
import structlog
from aiohttp import web

from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshotd.adapters.http.answers import Refusal, json_response
from upshotd.adapters.http.approvals import ApprovalPages
from upshotd.adapters.http.callbacks import Callbacks, Keys, no_keys
from upshotd.adapters.http.connections import Runner
from upshotd.adapters.http.links import LinkReader, MailLinks
from upshotd.adapters.http.preferences import PreferencePage
from upshotd.adapters.http.segment import BATCH_BYTES_MAX, CORS, TrackingApi
from upshotd.adapters.http.segment_inbound import Inbound
from upshotd.domain.errors import FailedPrecondition

if TYPE_CHECKING:
    from upshot.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from upshot.v1.service_pb2_grpc import UpshotServiceAsyncStub

log = structlog.get_logger("upshot.http")

#: What requests under way may take when the edge stops, in seconds.
SHUTDOWN_S: Final = 5.0

Next: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Edge:
    """One listening socket; `start` once, `stop` once, before the gRPC server stops."""

    def __init__(
        self,
        *,
        listen_host: str,
        listen_port: int,
        stub: "UpshotServiceAsyncStub",
        admin: "AdminServiceAsyncStub",
        links: LinkReader,
        now_us: Callable[[], int],
        keys: Callable[[], Keys] = no_keys,
        tls: ssl.SSLContext | None = None,
        door: socket.socket | None = None,
    ) -> None:
        """*stub* and *admin* call our own server, *now_us* is its clock; port 0 is any. *keys*
        returns those by which providers sign what they tell, as they are now.

        *door* is a socket that is bound already; it is used instead of host and port, and closed
        at the end.
        """
        if door is not None:
            listen_host, listen_port = door.getsockname()[:2]
        # localhost may mean two addresses, and with port 0 two ports.
        self._host = "127.0.0.1" if listen_host == "localhost" else listen_host
        self._asked_port = listen_port
        self._door = door
        self._tls = tls
        self._links = MailLinks(stub, links, now_us)
        self._preferences = PreferencePage(admin, links)
        self._approvals = ApprovalPages(stub, admin, links, now_us)
        self._callbacks = Callbacks(stub, links, keys)
        self._inbound = Inbound(stub, lambda: keys().segment)
        app = self._app(stub)
        self._runner = Runner(app, logger=_protocol_log(), shutdown_timeout=SHUTDOWN_S)
        #: Where it listens, once started.
        self.port = 0

    def _app(self, stub: "UpshotServiceAsyncStub") -> web.Application:
        app = web.Application(middlewares=[_boundary], client_max_size=BATCH_BYTES_MAX)
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/healthz", _healthz)
        TrackingApi(stub).add_to(app)
        self._inbound.add_to(app)
        self._links.add_to(app)
        self._preferences.add_to(app)
        self._approvals.add_to(app)
        self._callbacks.add_to(app)
        return app

    async def start(self) -> None:
        """Listen. Raises FailedPrecondition when the address is taken."""
        await self._runner.setup()
        try:
            await self._site().start()
        except OSError:
            await self._runner.cleanup()
            where = f"{self._host}:{self._asked_port}"
            text = f"cannot listen on {where}: another program does, or it is no address of ours"
            raise FailedPrecondition(text, subject=where) from None
        self.port = self._runner.addresses[0][1]

    def _site(self) -> web.BaseSite:
        if self._door is not None:
            return web.SockSite(self._runner, self._door, ssl_context=self._tls)
        return web.TCPSite(self._runner, self._host, self._asked_port, ssl_context=self._tls)

    async def stop(self) -> None:
        """Take no more requests, let those under way finish, and what they recorded as well."""
        await self._runner.cleanup()
        await self._links.finish()


@asynccontextmanager
async def serving(
    door: socket.socket,
    *,
    target: str,
    links: LinkReader,
    now_us: Callable[[], int],
    keys: Callable[[], Keys],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Edge]:
    """Serve behind a bound socket as a client of the gRPC server at *target*, our own."""
    # A proxy of the environment would not find the way back into this machine.
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        host, port = door.getsockname()[:2]
        edge = Edge(
            listen_host=host,
            listen_port=port,
            stub=UpshotServiceStub(channel),
            admin=AdminServiceStub(channel),
            links=links,
            now_us=now_us,
            keys=keys,
            tls=tls,
            door=door,
        )
        await edge.start()
        try:
            yield edge
        finally:
            await edge.stop()


async def _healthz(_request: web.Request) -> web.StreamResponse:
    return json_response({"status": "ok"})


@web.middleware
async def _boundary(request: web.Request, handler: Next) -> web.StreamResponse:
    """Answer errors without internals, and write one line per request: no token, no address."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    status = 499  # the sender went away
    try:
        response = await _answered(request, handler)
        status = response.status
        return response
    finally:
        resource = request.match_info.route.resource
        log.info(
            "http.request",
            method=request.method,
            route="none" if resource is None else resource.canonical,
            status=status,
            ms=round((loop.time() - begin) * 1_000, 3),
        )


async def _answered(request: web.Request, take: Next) -> web.StreamResponse:
    try:
        return await take(request)
    except Refusal as refusal:
        return refusal.response()
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return Refusal(error.status, error.reason, headers).response()
    except ConnectionError:
        raise  # nobody is there to be answered
    except Exception:
        log.exception("http.broke")
        return Refusal(500, "internal error").response()


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "upshot"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.path.startswith("/v1/"):
        response.headers.update(CORS)


def _protocol_log() -> logging.Logger:
    """Return where aiohttp tells of requests that are no HTTP, stripped of what they held."""
    logger = logging.getLogger("upshot.http.protocol")
    if _strip not in logger.filters:
        logger.addFilter(_strip)
    return logger


def _strip(record: logging.LogRecord) -> bool:
    record.msg, record.args = "a request could not be read as HTTP", ()
    record.exc_info = record.exc_text = None
    return True
