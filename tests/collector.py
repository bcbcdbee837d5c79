"""A collector of calls and webhooks that misbehaves, with a ledger that survives its death.

    python -m tests.collector PORT LEDGER SEED [--calm]

What it answers with 2xx is on the disk before. What it answers with something else, or with
nothing, may be there as well. `--calm` misbehaves no more.
"""

import asyncio
import hashlib
import os
import random
import sys
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

#: Share of the requests that are answered so. Those in TAKEN are on the disk nevertheless.
SHARES: Final = {
    "429": 0.14,
    "500": 0.12,
    "500-taken": 0.08,
    "hang-up-taken": 0.08,
    "hang": 0.03,
    "hang-taken": 0.03,
}
#: One webhook is one outcome, so that there are many more requests of that kind.
WEBHOOK_SHARE: Final = 0.05
#: Longer than anybody waits, in seconds.
_HANG_S: Final = 3_600.0


class Collector:
    """Writes down what it takes, then answers, or does not."""

    def __init__(self, ledger: Path, seed: str, *, calm: bool) -> None:
        self._random = random.Random(seed)
        self._calm = calm
        self._fd = os.open(ledger, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")  # the line of the one before, who died in it

    async def batch(self, request: web.Request) -> web.StreamResponse:
        """Take track and identify calls as Segment does."""
        calls = orjson.loads(await request.read())["batch"]
        rows = [_row("segment", call["messageId"], call["userId"], call) for call in calls]
        return await self._answer(request, rows, self._manner(1.0))

    async def webhook(self, request: web.Request) -> web.StreamResponse:
        """Take one outcome."""
        outcome = orjson.loads(await request.read())
        row = _row("partner", request.headers["webhook-id"], outcome["userId"], outcome)
        return await self._answer(request, [row], self._manner(WEBHOOK_SHARE))

    def _manner(self, share: float) -> str:
        if self._calm:
            return "200"
        chance = self._random.random()
        for manner, part in SHARES.items():
            chance -= part * share
            if chance < 0:
                return manner
        return "200"

    async def _answer(
        self, request: web.Request, rows: list[dict[str, object]], manner: str
    ) -> web.StreamResponse:
        taken = rows if manner == "200" or manner.endswith("-taken") else []
        self._write([*taken, {"end": rows[0]["end"], "manner": manner}])
        if manner.startswith("hang-up"):
            assert request.transport is not None
            request.transport.abort()
        elif manner.startswith("hang"):
            await asyncio.sleep(_HANG_S)
        status = int(manner[:3]) if manner[0].isdigit() else 500
        return web.json_response({}, status=status, headers={"retry-after": "0"})

    def _write(self, rows: list[dict[str, object]]) -> None:
        os.write(self._fd, b"".join(orjson.dumps(row) + b"\n" for row in rows))
        os.fsync(self._fd)


def _row(end: str, id_: str, user_id: str, body: object) -> dict[str, object]:
    # What is told again must say the same.
    said = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    return {"end": end, "id": id_, "user": user_id, "said": said}


def main() -> None:
    """Serve until killed."""
    port, ledger, seed = sys.argv[1:4]
    collector = Collector(Path(ledger), seed, calm="--calm" in sys.argv)
    app = web.Application(client_max_size=1_000_000)
    app.router.add_post("/v1/batch", collector.batch)
    app.router.add_post("/outcomes", collector.webhook)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None)


if __name__ == "__main__":
    main()
