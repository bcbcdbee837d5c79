"""The edge's connections: how many there are, for how long, and what strangers to HTTP are told."""

import asyncio
import resource
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from upshotd.adapters.http.answers import Refusal

log = structlog.get_logger("upshot.http")

#: Most at a time, and at most half of the files that this process may open: more are closed as
#: they come, so that gRPC and the database keep theirs.
CONNECTIONS_MAX: Final = 4_096
#: Longest that a connection may stand without a whole request, in seconds.
IDLE_S: Final = 75.0
#: Longest that the rest of a refused body is read, so that its sender hears why, in seconds.
LINGER_S: Final = 2.0
#: Longest first line and header: a link with the longest target fits.
LINE_BYTES_MAX: Final = 20 * 1024


class Runner(web.AppRunner):
    """Serves an application over connections with bounds."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        bounds = {
            "auto_decompress": False,  # it would go on with a body that was refused
            "keepalive_timeout": IDLE_S,
            "lingering_time": LINGER_S,
            "max_line_size": LINE_BYTES_MAX,
            "max_field_size": LINE_BYTES_MAX,
        }
        self._bounds = {**bounds, **options}
        super().__init__(app, handle_signals=False, access_log=None, **self._bounds)

    async def _make_server(self) -> web.Server:
        # The library has no other way to bring a connection of one's own.
        made = await super()._make_server()
        factory, loop = made.request_factory, asyncio.get_running_loop()
        options = {**self._bounds, "access_log": None}
        options.pop("shutdown_timeout", None)
        return _Server(made.request_handler, request_factory=factory, loop=loop, **options)


class _Server(web.Server):
    """Makes our connections, and counts them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unbounded = files == resource.RLIM_INFINITY
        self._most = CONNECTIONS_MAX if unbounded else min(CONNECTIONS_MAX, files // 2)

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > self._most:
            log.warning("http.crowded", connections=self._most)
            transport.abort()


class _Connection(RequestHandler):
    """A connection that says nothing of itself where it was sent what is no HTTP."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what could not be read; neither it nor the fault is repeated."""
        log.info("http.unreadable", status=status, fault=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        response = Refusal(status, HTTPStatus(status).phrase).response()
        response.headers["Server"] = "upshot"
        response.force_close()
        return response
