"""A far end that behaves as providers do on a bad day, with a ledger of its own.

    python -m tests.far_end LEDGER --seed 1        prints its port, serves until it is killed

It speaks what our adapters of `webhook`, `twilio` and `sendgrid` speak. Every request is a line of
the ledger, written before it is answered: whether it was taken, and how it was answered then. Who
takes webhooks knows repetitions by `webhook-id`, as the standard asks; the others take all of them.
Twilio tells of what it took by a signed callback: most times, and now and then before its answer.
"""

import argparse
import asyncio
import os
import random
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs

import aiohttp
import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook
from twilio.request_validator import RequestValidator

SECRET: Final = "whsec_c3RvcnkgdGhhdCBlbmRzIHdlbGwsIGFuZCBzb29u"
ACCOUNT: Final = "AC" + "0" * 32
TOKEN, API_KEY = "token of the story", "SG.of-the-story"
#: Longer than the senders wait, in seconds.
HANG_S: Final = 0.8
#: How senders are configured: less than it hangs, more than it is slow.
TIMEOUT: Final = "400ms"
SLOW_S: Final = 0.1
#: Share of the requests that are treated so; all others are taken and answered.
MOODS: Final = {
    "slow": 0.03,
    "hung_before": 0.01,
    "hung_after": 0.01,
    "dropped_before": 0.02,
    "dropped_after": 0.03,
    "busy": 0.03,
    "broken_before": 0.02,
    "broken_after": 0.02,
    "garbage": 0.02,
    "half": 0.01,
}
#: Moods in which it has taken the message, whatever the sender hears.
TAKING: Final = frozenset(
    {"fine", "slow", "hung_after", "dropped_after", "broken_after", "garbage", "half"}
)
#: Share of what is taken of which a callback tells; of those, before the answer.
TELLS, EARLY = 0.7, 0.2
#: How long after it the others come, in seconds, at most.
LATE_S: Final = 0.2
#: How long a callback waits for a server that is away, in seconds, before it comes again.
AGAIN_S: Final = 0.5
#: Of so many requests, the last ones find nobody at home: HTTP 503, one after the other.
SPELL, AWAY = 400, 12


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the ledger."""

    #: By which provider of the settings it came.
    by: str
    #: Which message: workflow/step/event, as its text says.
    key: str
    #: The idempotency key; empty where the provider has none.
    known_by: str
    mood: str
    #: Whether it counts as a message that went out: taken, and not known already.
    taken: bool


@dataclass
class FarEnd:
    """Takes messages, in moods that a seed decides."""

    write: Callable[[bytes], object]
    seed: int = 0
    asked: int = 0
    #: webhook-id -> the id it was given.
    _given: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._telling: set[asyncio.Task[None]] = set()
        self._validator = RequestValidator(TOKEN)

    async def webhook(self, request: web.Request) -> web.StreamResponse:
        """A receiver of Standard Webhooks."""
        body = await request.read()
        Webhook(SECRET).verify(body, dict(request.headers))
        key = orjson.loads(body)["data"]["content"]["body"]
        return await self._take(request, "hooks", key, request.headers["webhook-id"])

    async def twilio(self, request: web.Request) -> web.StreamResponse:
        """Twilio's Messages; two accounts, as two providers of one channel."""
        form = parse_qs((await request.read()).decode())
        assert request.headers["authorization"].startswith("Basic ")
        return await self._take(request, request.match_info["by"], form["Body"][0], "", form)

    async def sendgrid(self, request: web.Request) -> web.StreamResponse:
        """SendGrid's mail/send."""
        assert request.headers["authorization"] == f"Bearer {API_KEY}"
        mail = orjson.loads(await request.read())
        return await self._take(request, "mail", mail["subject"], "")

    async def _take(
        self,
        request: web.Request,
        by: str,
        key: str,
        known_by: str,
        form: Mapping[str, list[str]] = MappingProxyType({}),
    ) -> web.StreamResponse:
        mood = self._mood()
        new = known_by not in self._given
        taken = mood in TAKING and new
        if taken and known_by:
            self._given[known_by] = f"theirs-{self.asked}"
        line = Request(by, key, known_by, mood, taken)
        self.write(orjson.dumps(asdict(line)) + b"\n")
        if taken and "StatusCallback" in form and self._chance.random() < TELLS:
            early = self._chance.random() < EARLY
            telling = self._tell(form["StatusCallback"][0], f"theirs-{self.asked}", early=early)
            await (telling if early else self._later(telling))
        return await self._answer(request, by, mood, self._given.get(known_by))

    async def _later(self, telling: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, url: str, sid: str, *, early: bool) -> None:
        """Tell that it was delivered, until somebody has heard it; an early one tries once."""
        await asyncio.sleep(0 if early else self._chance.uniform(0, LATE_S))
        form = {"MessageSid": sid, "MessageStatus": "delivered"}
        headers = {"X-Twilio-Signature": self._validator.compute_signature(url, form)}
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.post(url, data=form, headers=headers) as response:
                        if response.status == 204 or early:
                            return
                except aiohttp.ClientError:
                    if early:
                        return
                await asyncio.sleep(AGAIN_S)

    def _mood(self) -> str:
        self.asked += 1
        if self.asked % SPELL >= SPELL - AWAY:
            return "broken_before"
        drawn = self._chance.random()
        for mood, share in MOODS.items():
            drawn -= share
            if drawn < 0:
                return mood
        return "fine"

    async def _answer(
        self, request: web.Request, by: str, mood: str, given: str | None
    ) -> web.StreamResponse:
        if mood == "slow":
            await asyncio.sleep(SLOW_S)
        if mood.startswith("hung"):
            await asyncio.sleep(HANG_S)
        if mood.startswith(("hung", "dropped")):
            return _cut(request)
        if mood == "garbage":
            return _cut(request, b"\x00\x17 no HTTP at all\r\n\r\n")
        if mood == "half":
            return _cut(request, b"HTTP/1.1 202 Accepted\r\ncontent-length: 99\r\n\r\n{")
        if mood == "busy":
            wait = str(self._chance.randint(1, 20))
            return web.json_response({}, status=429, headers={"retry-after": wait})
        if mood.startswith("broken"):
            return web.json_response({}, status=self._chance.choice((500, 502, 503)))
        name = given or f"theirs-{self.asked}"
        if by == "mail":
            return web.Response(status=202, headers={"x-message-id": name})
        return web.json_response({"id": name, "sid": name}, status=201)

    def application(self) -> web.Application:
        """Return it as something that can be served."""
        application = web.Application()
        application.router.add_post("/hooks", self.webhook)
        path = f"/{{by}}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
        application.router.add_post(path, self.twilio)
        application.router.add_post("/v3/mail/send", self.sendgrid)
        return application


def _cut(request: web.Request, last_words: bytes = b"") -> web.StreamResponse:
    """Write what is no answer, and drop the line."""
    transport = request.transport
    if transport is not None:
        if last_words:
            transport.write(last_words)
            transport.close()
        else:
            transport.abort()
    raise asyncio.CancelledError


def config(port: int) -> str:
    """Return the settings of a server that sends everything there."""
    return f"""
        [providers.hooks]
        kind = "webhook"
        url = "http://127.0.0.1:{port}/hooks"
        secret = "{SECRET}"
        timeout = "{TIMEOUT}"
        {_account("texts", port)}
        {_account("spare", port)}
        [providers.mail]
        kind = "sendgrid"
        api_key = "{API_KEY}"
        from = "Story <story@example.com>"
        base_url = "http://127.0.0.1:{port}"
        timeout = "{TIMEOUT}"
        [channels]
        webhook = "hooks"
        sms = ["texts", "spare"]
        email = "mail"
    """


def _account(name: str, port: int) -> str:
    return f"""
        [providers.{name}]
        kind = "twilio"
        account_sid = "{ACCOUNT}"
        auth_token = "{TOKEN}"
        from = "+15550009999"
        base_url = "http://127.0.0.1:{port}/{name}"
        timeout = "{TIMEOUT}"
    """


async def _serve(ledger: Path, seed: int) -> None:
    file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    far_end = FarEnd(lambda line: os.write(file, line), seed)
    runner = web.AppRunner(far_end.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Serve until it is killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(_serve(given.ledger, given.seed))


if __name__ == "__main__":
    main()
