"""What the edge answers: JSON without internals, and refusals that senders understand."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

import grpc
import orjson
from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from upshotd.adapters.http.inflating import TooLarge, inflated

#: A call to the server that failed.
RpcError: TypeAlias = grpc.aio.AioRpcError
#: Metadata of a call to the server.
Metadata: TypeAlias = tuple[tuple[str, str], ...]

_RETRY_S: Final = 1
#: Senders that wait long lose what they hold in memory.
_RETRY_MAX_S: Final = 60


#: Longest that a body may take to come, in seconds.
BODY_S: Final = 15.0
#: Most parameters of a form.
_FIELDS_MAX: Final = 200


class Refusal(Exception):
    """A request that is not served; the text is for its sender."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}

    def response(self) -> web.Response:
        """Return the answer."""
        body = {"success": False, "error": str(self)}
        return json_response(body, status=self.status, headers=self.headers)


def json_response(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return *value* as an answer."""
    return web.Response(
        body=orjson.dumps(value),
        status=status,
        content_type="application/json",
        headers=headers,
    )


async def body_of(request: web.Request, bytes_max: int) -> bytes:
    """Return the body, inflated.

    Raises Refusal where it is larger than this path takes, does not come, or is not what its
    headers say.
    """
    close, coding = {"Connection": "close"}, request.headers.get("Content-Encoding", "")
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.clone(client_max_size=bytes_max).read()
        return inflated(body, coding, bytes_max)
    except (web.HTTPRequestEntityTooLarge, TooLarge):
        raise Refusal(413, f"at most {bytes_max} bytes are taken at once", close) from None
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {BODY_S:g} s", close) from None
    except (web.RequestPayloadError, PayloadEncodingError, ValueError):
        text = "the body is not what its headers say"
        raise Refusal(400, text, close) from None


def form_of(request: web.Request, body: bytes) -> list[tuple[str, str]]:
    """Return the parameters of a form; none where the body is something else.

    Raises Refusal for a form without bound or sense.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        return []
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise Refusal(400, "the body is no form") from None


def refusal_of(error: RpcError) -> Refusal:
    """Return what a failed call means to a sender: come back (429, 503), or not (401, 500)."""
    match error.code():
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            wait = str(_retry_after_s(error))
            headers = {"Retry-After": wait, "X-RateLimit-Reset": wait}
            return Refusal(429, f"{_exhausted(error)}; send it again", headers)
        case (
            grpc.StatusCode.UNAVAILABLE
            | grpc.StatusCode.DEADLINE_EXCEEDED
            | grpc.StatusCode.CANCELLED
        ):
            headers = {"Retry-After": str(_retry_after_s(error))}
            return Refusal(503, "the server cannot take it now; send it again", headers)
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return Refusal(401, "the write key is not known")
        case _:
            return Refusal(500, "internal error")


def _exhausted(error: RpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    if _found(error, info) and info.reason == "QUOTA_EXCEEDED":
        return f"the quota of this key is used up: {info.metadata['quota']}"
    return "more work than the server can hold"


def _retry_after_s(error: RpcError) -> int:
    """Return whole seconds; at least 1, for 0 would read as no Retry-After at all."""
    info = error_details_pb2.RetryInfo()
    if not _found(error, info):
        return _RETRY_S
    delay_us: int = info.retry_delay.ToMicroseconds()
    return min(max(-(-delay_us // 1_000_000), _RETRY_S), _RETRY_MAX_S)


def _found(error: RpcError, info: Message) -> bool:
    """Fill *info* from the details of a status; False where it has none of the kind."""
    try:
        # The library's types know only calls, not the errors that it takes as well.
        status = rpc_status.from_call(_as_call(error))
    except ValueError:  # a status that contradicts its own details
        return False
    return any(detail.Unpack(info) for detail in (status.details if status is not None else ()))


def _as_call(error: RpcError) -> Any:
    return error
