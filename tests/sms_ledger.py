"""A provider of text messages in this process: it takes webhooks, and forgets nothing."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_c3RvcnkgdGhhdCBlbmRzIHdlbGwsIGFuZCBzb29u"
#: What differs from attempt to attempt; everything else of a message is frozen.
PER_ATTEMPT = frozenset({"attempt", "possible_duplicate"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request that came, whether or not its sender lived to see the answer."""

    #: The idempotency key: our message id.
    webhook_id: str
    run_id: str
    #: Hash of what was to be delivered.
    content: str


@dataclass
class SmsLedger:
    """Every call in order; a key seen before is answered as it was the first time."""

    calls: list[Call] = field(default_factory=list)
    #: Requests with a signature or a body that is not right.
    faults: list[str] = field(default_factory=list)
    #: How long it thinks between taking a call and answering: there a sender may die.
    answer_s: Callable[[], float] = lambda: 0.0
    port: int = 0
    #: webhook-id -> the id it was given.
    _given: dict[str, str] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def config(self, name: str = "phone") -> str:
        """Return the settings of a server that sends its text messages here."""
        return (
            f'[providers.{name}]\nkind = "webhook"\nurl = "http://127.0.0.1:{self.port}/sms"\n'
            f'secret = "{SECRET}"\n[channels]\nsms = "{name}"\n'
        )

    async def take(self, request: web.Request) -> web.Response:
        """Take one call."""
        body = await request.read()
        webhook_id = request.headers.get("webhook-id", "")
        try:
            Webhook(SECRET).verify(body, dict(request.headers))
            data = orjson.loads(body)["data"]
        except Exception as error:
            self.faults.append(f"{webhook_id}: {error!r}")
            return web.Response(status=400)
        frozen = {name: value for name, value in data.items() if name not in PER_ATTEMPT}
        content = hashlib.sha256(orjson.dumps(frozen, option=orjson.OPT_SORT_KEYS)).hexdigest()
        self.calls.append(Call(webhook_id, data["run_id"], content))
        await asyncio.sleep(self.answer_s())
        given = self._given.setdefault(webhook_id, f"sms-{next(self._numbers)}")
        return web.json_response({"id": given})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["SmsLedger"]:
        """Listen on a port of loopback."""
        app = web.Application()
        app.router.add_post("/sms", self.take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()
