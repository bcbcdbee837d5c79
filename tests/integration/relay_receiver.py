"""A receiver of webhooks that believes the standard's own library, and misbehaves when told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from aiohttp import web
from standardwebhooks import Webhook as StandardWebhook

SECRETS = ("whsec_" + "A" * 32, "whsec_" + "B" * 32)


class Receiver:
    """Keeps what was signed with the secret it knows."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        #: Statuses of the next answers; 204 when there are none left.
        self.answers: list[int] = []
        #: Outcomes that are always answered with 422.
        self.poison: set[str] = set()
        #: webhook-id of every request that was verified, in order, with repetitions.
        self.ids: list[str] = []
        self.taken: list[str] = []
        self.bodies: dict[str, bytes] = {}
        self.signatures: list[str] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        StandardWebhook(self.secret).verify(body, dict(request.headers))
        outcome_id = request.headers["webhook-id"]
        assert orjson.loads(body)["outcomeId"] == outcome_id
        assert self.bodies.setdefault(outcome_id, body) == body, "a repetition is the same"
        self.ids.append(outcome_id)
        self.signatures.append(request.headers["webhook-signature"])
        status = self.answers.pop(0) if self.answers else 204
        if outcome_id in self.poison:
            status = 422
        if status < 300:
            self.taken.append(outcome_id)
        return web.Response(status=status)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/outcomes", self.take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/outcomes"
        yield
        await runner.cleanup()
