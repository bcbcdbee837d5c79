"""The gRPC server: services behind the boundary, health, reflection, and an orderly end."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import grpc
import structlog
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from upshot.v1 import admin_pb2, key_pb2, lab_pb2, service_pb2, subscription_pb2
from upshotd.adapters.grpc.admin_service import AdminService
from upshotd.adapters.grpc.boundary import Boundary
from upshotd.adapters.grpc.key_service import KeyService
from upshotd.adapters.grpc.lab_service import LabService
from upshotd.adapters.grpc.subscription_service import SubscriptionService
from upshotd.adapters.grpc.upshot_service import UpshotService
from upshotd.domain.errors import FailedPrecondition

log = structlog.get_logger("upshot.grpc")

#: Most bytes of one message, both ways.
MESSAGE_BYTES: Final = 4 * 1024 * 1024
#: Calls that may wait to be begun.
CALLS_PENDING: Final = 20_000
#: Calls that were told to end have this long to say so on the wire, in seconds.
_LAST_WORDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Services:
    """What the server serves."""

    upshot: UpshotService
    subscriptions: SubscriptionService
    admin: AdminService
    keys: KeyService
    #: None leaves the service out: the clock cannot be moved.
    lab: LabService | None = None


class GrpcServer:
    """One listening socket with everything behind it; `start` once, `stop` once."""

    def __init__(
        self,
        host: str,
        port: int,
        services: Services,
        boundary: Boundary,
        end_streams: Callable[[], None],
        *,
        connection_age_us: int = 0,
        tls: grpc.ServerCredentials | None = None,
        reflected: bool = True,
    ) -> None:
        """*end_streams* tells open streams to end; *connection_age_us* 0 lets connections live.

        Without *tls* the port is not encrypted; without *reflected* nobody is told what there is.
        """
        self._host = host
        self._asked_port = port
        self._boundary = boundary
        self._end_streams = end_streams
        self._server = grpc.aio.server(options=_options(connection_age_us))
        self._health = HealthServicer()
        self._tls = tls
        self._names = self._register(services, reflected)
        self.port = 0
        #: Where clients inside of this machine call, without TLS: HOST:PORT of loopback.
        self.near = ""

    def _register(self, services: Services, reflected: bool) -> list[str]:
        named: list[tuple[ModuleType, str, object | None]] = [
            (service_pb2, "UpshotService", services.upshot),
            (subscription_pb2, "SubscriptionService", services.subscriptions),
            (admin_pb2, "AdminService", services.admin),
            (key_pb2, "KeyService", services.keys),
            (lab_pb2, "LabService", services.lab),
        ]
        names = []
        for module, name, service in named:
            if service is not None:
                descriptor = module.DESCRIPTOR.services_by_name[name]
                handlers = handlers_of(descriptor, service, self._boundary)
                self._server.add_generic_rpc_handlers(
                    (grpc.method_handlers_generic_handler(descriptor.full_name, handlers),)
                )
                names.append(descriptor.full_name)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflected:
            shown = (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(shown, self._server)
        return names

    async def start(self) -> None:
        """Listen. Raises FailedPrecondition when the address is taken."""
        address = f"[{self._host}]" if ":" in self._host else self._host
        where = f"{address}:{self._asked_port}"
        try:
            if self._tls is None:
                self.port = self._server.add_insecure_port(where)
                self.near = f"{address}:{self.port}"
            else:
                self.port = self._server.add_secure_port(where, self._tls)
                self.near = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        except RuntimeError:
            self.port = 0
        if not self.port:
            text = f"cannot listen on {where}: another program does, or it is no address of ours"
            raise FailedPrecondition(text, subject=where)
        await self._server.start()
        for name in self._names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_us: int) -> None:
        """Say NOT_SERVING, end the streams, let calls finish within *grace_us*, then close.

        `server.stop` alone would wait its whole grace for streams that nobody ends, those of
        health watchers too. Calls are therefore counted at the boundary.
        """
        await self._health.enter_graceful_shutdown()
        self._boundary.drain()
        self._end_streams()
        if not await self._boundary.idle(grace_us):
            log.warning("grpc.cut_off", calls=self._boundary.active)
        await self._server.stop(_LAST_WORDS)


def handlers_of(
    descriptor: ServiceDescriptor, service: object, boundary: Boundary
) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """Return a handler for each method of the contract; *service* has a function for each."""
    return {
        method.name: _handler(method, getattr(service, method.name), boundary)
        for method in descriptor.methods
    }


def _handler(
    method: MethodDescriptor, call: Callable[..., Any], boundary: Boundary
) -> "grpc.RpcMethodHandler[Any, Any]":
    parse = message_factory.GetMessageClass(method.input_type).FromString
    name = f"{method.containing_service.name}/{method.name}"
    if method.server_streaming:
        return boundary.streaming(name, parse, call)
    return boundary.unary(name, parse, call)


def _options(connection_age_us: int) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        # Two servers on one port would share its connections without a word.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 2),
        # Of more than these, gRPC itself ends calls at random, with CANCELLED. By default that is
        # 1000: a burst would be refused before the inbox, which says why and when to come again.
        ("grpc.server.max_pending_requests", CALLS_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * CALLS_PENDING),
    ]
    if connection_age_us:
        options.append(("grpc.max_connection_age_ms", connection_age_us // 1_000))
        options.append(("grpc.max_connection_age_grace_ms", 30_000))
    return options
