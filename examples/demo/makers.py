"""SendGrid and Twilio as the demo needs them: what they take, and what they tell afterwards.

    makers.py sendgrid PORT LEDGER EDGE KEY    takes /v3/mail/send; KEY is a file with a private key
    makers.py twilio PORT LEDGER EDGE TOKEN    takes Messages.json; TOKEN is that of the account

Both refuse what the real ones refuse of what the demo sends, sign what they tell, tell it twice and
in the wrong order, and the first of it before they answer. Until it is taken they try again.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import re
import sys
import time
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sinks import Ledger, serve

ACCOUNT = "AC" + "0" * 32
#: What the real ones send back for a long time, the demo for a short one.
AGAIN_S, TRIES = 0.2, 100
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")


class Teller:
    """Tells the edge what became of things; holds what it began until it is done."""

    def __init__(self) -> None:
        self._telling: set[asyncio.Task[None]] = set()
        self._first = True

    async def tell(self, calls: Iterable[Coroutine[None, None, None]]) -> None:
        """Make *calls*; those about the very first message are done before it is answered."""
        tasks = {asyncio.create_task(call) for call in calls}
        self._telling |= tasks
        for task in tasks:
            task.add_done_callback(self._telling.discard)
        if self._first:
            self._first = False
            await asyncio.wait(tasks)


async def post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Post until it is taken."""
    for _ in range(TRIES):
        try:
            async with aiohttp.ClientSession() as session:
                async with session.post(url, data=body, headers=headers) as response:
                    if response.status < 300:
                        return
                    print(f"{url}: {response.status} {await response.text()}", flush=True)
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(AGAIN_S)


def sendgrid(port: int, ledger: Ledger, edge: str, key_file: str) -> None:
    """Take mails until killed; tell of each that it was delivered and, late, that it was taken."""
    key = load_pem_private_key(Path(key_file).read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    teller, numbers = Teller(), itertools.count(1)

    async def take(request: web.Request) -> web.Response:
        mail = await request.json()
        if request.headers.get("Authorization") != "Bearer SG.demo":
            return _errors(401, "The provided authorization grant is invalid", None)
        if not mail.get("from", {}).get("email") or not mail.get("subject"):
            return _errors(400, "The from object and the subject are required", "from")
        kinds = [part["type"] for part in mail["content"]]
        if kinds != sorted(kinds, key=["text/plain", "text/html"].index):
            return _errors(400, "text/plain must come before text/html", "content")
        (envelope,) = mail["personalizations"]
        ledger.write(
            {
                "to": envelope["to"][0]["email"],
                "subject": mail["subject"],
                "message_id": mail["headers"]["X-Upshot-Message-Id"],
                "unsubscribe": mail["headers"]["List-Unsubscribe"],
                "html": {p["type"]: p["value"] for p in mail["content"]}["text/html"],
            }
        )
        number = next(numbers)
        events = [
            {
                **envelope["custom_args"],
                "email": envelope["to"][0]["email"],
                "event": name,
                "sg_event_id": f"{name}-{number}",
                "sg_message_id": f"sg{number}.filter-1",
                "timestamp": int(time.time()),
            }
            for name in ("delivered", "processed")
        ]
        batches = [events[:1], events, events[1:]]
        await teller.tell(_events(key, edge, batch) for batch in batches)
        return web.Response(status=202, headers={"X-Message-Id": f"sg{number}"})

    serve(port, {"/v3/mail/send": take})


def _errors(status: int, message: str, field: str | None) -> web.Response:
    return web.json_response({"errors": [{"message": message, "field": field}]}, status=status)


async def _events(key: EllipticCurvePrivateKey, edge: str, events: list[dict[str, object]]) -> None:
    body, second = json.dumps(events).encode(), str(int(time.time()))
    signature = key.sign(second.encode() + body, ECDSA(SHA256()))
    headers = {
        "Content-Type": "application/json",
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": second,
    }
    await post(f"{edge}/callbacks/sendgrid/mail", body, headers)


def twilio(port: int, ledger: Ledger, _edge: str, token: str) -> None:
    """Take texts until killed; tell of each that it was delivered and, late, that it was sent."""
    teller, numbers = Teller(), itertools.count(1)

    async def take(request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        login = base64.b64encode(f"{ACCOUNT}:{token}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {login}":
            return web.json_response({"code": 20003, "message": "Authenticate"}, status=401)
        if not _NUMBER.fullmatch(form.get("To", "")) or not form.get("From"):
            return web.json_response({"code": 21211, "message": "Invalid 'To'"}, status=400)
        sid, callback = f"SM{next(numbers):032x}", form["StatusCallback"]
        named = base64.urlsafe_b64decode(callback.rpartition("/")[2].partition(".")[0] + "==")
        entry = {"message_id": named.decode().split("\n")[1], "recipient": form["To"]}
        ledger.write({**entry, "body": form["Body"]})
        told = {"MessageSid": sid, "AccountSid": ACCOUNT, "From": form["From"], "To": form["To"]}
        statuses = ("delivered", "sent", "delivered")
        await teller.tell(_status(token, callback, {**told, "MessageStatus": s}) for s in statuses)
        return web.json_response({"sid": sid, "status": "queued"}, status=201)

    serve(port, {f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json": take})


async def _status(token: str, url: str, form: dict[str, str]) -> None:
    text = url + "".join(name + value for name, value in sorted(form.items()))
    digest = hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": base64.b64encode(digest).decode(),
    }
    await post(url, urlencode(form).encode(), headers)


if __name__ == "__main__":
    which, port, ledger, edge, secret = sys.argv[1:]
    {"sendgrid": sendgrid, "twilio": twilio}[which](int(port), Ledger(Path(ledger)), edge, secret)
