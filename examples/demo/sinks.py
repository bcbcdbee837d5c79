"""The outside world of the demo, each a process of its own that writes what it got to a ledger.

    sinks.py smtp PORT LEDGER        takes e-mail, as a mail server would
    sinks.py sms PORT LEDGER         takes signed webhooks, as an SMS gateway would
    sinks.py segment PORT LEDGER     takes /v1/batch, as Segment would

A ledger is a file of JSON lines, one for each thing that arrived, in order.
"""

import asyncio
import base64
import gzip
import json
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class Ledger:
    """Appends JSON lines to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.touch()

    def write(self, entry: dict[str, object]) -> None:
        """Append one entry and flush it."""
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


class Mailbox:
    """What aiosmtpd calls when a mail has arrived."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Keep one mail."""
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        html = mail.get_body(("html",))
        self._ledger.write(
            {
                "to": envelope.rcpt_tos[0],
                "subject": mail["Subject"],
                "message_id": mail["X-Upshot-Message-Id"],
                "unsubscribe": mail["List-Unsubscribe"],
                "html": html.get_content() if isinstance(html, EmailMessage) else "",
            }
        )
        return "250 OK"


def smtp(port: int, ledger: Ledger) -> None:
    """Take mail until killed."""
    Controller(Mailbox(ledger), hostname="127.0.0.1", port=port).start()
    asyncio.new_event_loop().run_forever()


def sms(port: int, ledger: Ledger) -> None:
    """Take webhooks until killed; answer with an id of our own."""

    async def take(request: web.Request) -> web.Response:
        body = await request.json()
        ledger.write({"webhook_id": request.headers["webhook-id"], **body["data"]})
        return web.json_response({"id": f"sms-{body['data']['message_id']}"})

    serve(port, {"/sms": take})


def segment(port: int, ledger: Ledger) -> None:
    """Take batches until killed, and drop what was taken before, as Segment does by messageId."""
    taken: set[str] = set()

    async def take(request: web.Request) -> web.Response:
        raw = await request.read()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        assert (kind, base64.b64decode(key)) == ("Basic", b"demo-outcomes:")
        for call in json.loads(raw)["batch"]:
            ledger.write({"repeated": call["messageId"] in taken, **call})
            taken.add(call["messageId"])
        return web.json_response({"success": True})

    serve(port, {"/v1/batch": take})


def serve(port: int, routes: dict[str, object]) -> None:
    """Take what comes to *routes* until killed."""
    app = web.Application()
    for path, take in routes.items():
        app.router.add_post(path, take)  # type: ignore[arg-type]
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    which, port, ledger = sys.argv[1], int(sys.argv[2]), Ledger(Path(sys.argv[3]))
    {"smtp": smtp, "sms": sms, "segment": segment}[which](port, ledger)
