"""Floods an edge with what is large, slow or deep, until it is killed.

    python -m tests.flood HOST:PORT

Prints how many requests were answered, by status, once a second.
"""

import asyncio
import gzip
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

#: Connections that send a byte a second, of their first line or of a body.
SLOW = 200
_MIB = 1024 * 1024
_FORM = "Content-Type: application/x-www-form-urlencoded"
_SIGNED = "X-Twilio-Email-Event-Webhook-Signature: MEUCIQDh"
_TIME = "X-Twilio-Email-Event-Webhook-Timestamp: 1767225600"

answered: Counter[str] = Counter()


def request(path: str, body: bytes, *headers: str) -> bytes:
    """Return a whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: up.example", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "Connection: close", "", ""]).encode() + body


def large() -> Iterator[bytes]:
    """Yield requests that would be work."""
    lists = b"[[" + b"[]," * 5_000_000 + b"[]]]"
    digits = b"[" + b'{"a":12345678901234567890},' * 500_000 + b"{}]"
    keys = {f"k{number:x}": number for number in range(30_000)}
    batch = json.dumps({"batch": [{"type": "track", "properties": keys}], "writeKey": "k"})
    for path in ("/inbound/segment/k", "/inbound/segment"):
        yield request(path, lists, "X-Signature: 00", "Authorization: Bearer k")
        yield request(path, digits, "X-Signature: 00", "Authorization: Bearer k")
    yield request("/v1/batch", batch.encode())
    yield request("/v1/track", b"[" * 30_000)
    yield request("/v1/batch", b'{"a":' * 90_000)
    yield request("/callbacks/twilio/texts/x", b"a=" + b"%41" * 10_000, _FORM)
    yield request("/callbacks/twilio/texts/x", b"a=" + b"%41" * 300_000, _FORM)
    yield request("/callbacks/sendgrid/mail", b" " * _MIB, _SIGNED, _TIME)
    bomb = gzip.compress(b"\0" * 100 * _MIB)
    for path in ("/v1/batch", "/callbacks/sendgrid/mail", "/inbound/segment/k"):
        yield request(path, bomb, "Content-Encoding: gzip", _SIGNED, _TIME)
    yield request("/v1/batch", b"{}", *(f"X-{number}: x" for number in range(1_000)))
    yield request("/v1/batch", b"{}", "X-Long: " + "x" * 60_000)
    yield request("/v1/batch", b"\xff\xfe" * 1_000, "Content-Type: text/x; charset=nonsense")


async def ask(host: str, port: int, raw: bytes) -> None:
    """Send one request; note what comes back."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(raw)
        answer = await asyncio.wait_for(reader.read(64), 30)
        answered[answer[9:12].decode() or "closed"] += 1
    except (ConnectionError, TimeoutError) as error:
        answered[type(error).__name__] += 1
    finally:
        writer.transport.abort()


async def slow(host: str, port: int, begun: bytes) -> None:
    """Hold a connection, a byte at a time."""
    try:
        _, writer = await asyncio.open_connection(host, port)
        writer.write(begun)
        while not writer.transport.is_closing():
            await asyncio.sleep(1)
            writer.write(b"x")
    except ConnectionError:
        answered["slow one closed"] += 1


async def again(work: Callable[[], Awaitable[None]]) -> None:
    """Do *work* for ever."""
    while True:
        try:
            await work()
        except OSError as error:
            answered[type(error).__name__] += 1
        await asyncio.sleep(0.01)


async def flood(host: str, port: int) -> None:
    """Do all of it at once."""
    requests = list(large())
    turn = iter(range(sys.maxsize))

    async def next_one() -> None:
        await ask(host, port, requests[next(turn) % len(requests)])

    begun = (b"POST /v1/ba", request("/v1/batch", b"")[:-20] + b"\r\nContent-Length: 90000\r\n\r\n")
    async with asyncio.TaskGroup() as tasks:
        for number in range(SLOW):
            raw = begun[number % 2]
            tasks.create_task(again(lambda raw=raw: slow(host, port, raw)))  # type: ignore[misc]
        for _ in range(8):
            tasks.create_task(again(next_one))
        while True:
            await asyncio.sleep(1)
            print(json.dumps(answered), flush=True)


if __name__ == "__main__":
    where, _, number = sys.argv[1].rpartition(":")
    asyncio.run(flood(where, int(number)))
