"""A server on the network that is called by Twilio, SendGrid and Segment, and by others."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256

from tests.integration.attacks import Known, Request
from tests.servers import Server
from tests.unit.test_sendgrid_events import KEY, event, shown
from tests.wire import mail, workflow
from upshot.v1 import admin_pb2, event_pb2, key_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.key_pb2_grpc import KeyServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshotd.adapters.links import LinkSigner

ROOT = "root-" + "r" * 40
SECRET = "a secret of the destination"
TOKEN = "a token of the account"
PUBLIC = "https://up.example"
CONFIG = f"""
public_url = "{PUBLIC}"
[auth]
required = true
root_key = "{ROOT}"
[segment]
webhook_secret = "{SECRET}"
[providers.mail]
kind = "sendgrid"
api_key = "SG.key"
from = "us@example.org"
base_url = "http://127.0.0.1:9"
webhook_key = "{shown(KEY)}"
[providers.texts]
kind = "twilio"
account_sid = "AC{"0" * 32}"
auth_token = "{TOKEN}"
from = "+15550009999"
base_url = "http://127.0.0.1:9"
[providers.nowhere]
kind = "null"
[channels]
email = "nowhere"
"""
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_DECIDING = {"approve": "a", "deny": "d", "ask": "q", "review": "r"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass
class World:
    """The server, and what its friends hold."""

    server: Server
    links: LinkSigner
    upshot: Any
    #: A key that may ingest, one that may not.
    ingest: str
    stream: str
    message_id: str

    async def send(self, raw: bytes, patience_s: float = 25) -> bytes:
        """Return the answer to *raw*, read until the server closes the connection."""
        host, port = self.server.http_address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(raw)
            return (await asyncio.wait_for(reader.read(), patience_s)).removeprefix(_CONTINUE)
        except ConnectionError:
            return b""  # closed before all of a refused body was read
        finally:
            writer.close()

    def ours(self) -> bytes:
        """Return the body of a genuine array of SendGrid's events."""
        token = self.links.callback_token("acme", self.message_id)
        return json.dumps([event("delivered", upshot=token, sg_event_id="genuine")]).encode()

    def sendgrid(self, body: bytes) -> Request:
        """Return what SendGrid would send."""
        signature = base64.b64encode(KEY.sign(b"1767225600" + body, ECDSA(SHA256())))
        name = b"X-Twilio-Email-Event-Webhook-"
        headers = [(name + b"Signature", signature), (name + b"Timestamp", b"1767225600")]
        return _framed(Request("POST", b"/callbacks/sendgrid/mail", headers, body))

    def twilio(self, status: str) -> Request:
        """Return what Twilio would send."""
        path = f"/callbacks/twilio/texts/{self.links.callback_token('acme', self.message_id)}"
        form = {"MessageSid": "SM1", "MessageStatus": status}
        text = PUBLIC + path + "".join(k + v for k, v in sorted(form.items()))
        digest = hmac.new(TOKEN.encode(), text.encode(), hashlib.sha1).digest()
        headers = [
            (b"X-Twilio-Signature", base64.b64encode(digest)),
            (b"Content-Type", b"application/x-www-form-urlencoded"),
        ]
        return _framed(Request("POST", path.encode(), headers, urlencode(form).encode()))

    def segment(self, body: bytes) -> Request:
        """Return what Segment would send."""
        digest = hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()
        path = f"/inbound/segment/{self.ingest}".encode()
        return _framed(Request("POST", path, [(b"X-Signature", digest.encode())], body))

    def known(self) -> Known:
        """Return what an attacker may have seen on the way."""
        body, links, sid = self.ours(), self.links, self.message_id
        target = "https://shop.example/"
        named = links.named("acme", sid)
        urls = {
            "o": links.open_url("acme", sid).removesuffix(".gif"),
            "c": links.click_url("acme", sid, target),
            "u": links.unsubscribe_url("acme", sid),
            "p": links.preferences_url("acme", sid),
            **{kind: named[word] for word, kind in _DECIDING.items()},
        }
        tokens = {kind: str(url).rpartition("/")[2] for kind, url in urls.items()}
        told = self.twilio("delivered")
        return Known(
            tokens={**tokens, "k": links.callback_token("acme", sid)},
            sendgrid_signature=self.sendgrid(body).headers[0][1].decode(),
            twilio_signature=told.headers[0][1].decode(),
            segment_signature=self.segment(b"{}").headers[0][1].decode(),
            events=body,
            form=told.body,
            keys=[self.stream, ROOT, self.ingest[:-1]],
        )

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything that is in the database."""
        with sqlite3.connect(self.server.database) as database:
            names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {
                name: sorted(database.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
                for (name,) in names.fetchall()
            }


def status_of(answer: bytes) -> int:
    """Return the status, 0 where there is none."""
    match = _STATUS.match(answer)
    return int(match[1]) if match is not None else 0


def _framed(request: Request) -> Request:
    request.headers.append((b"Content-Length", b"%d" % len(request.body)))
    return request


@asynccontextmanager
async def forged_world(folder: Path) -> AsyncIterator[World]:
    with Server(folder, config=CONFIG) as server:
        await server.started()
        async with grpc.aio.insecure_channel(server.address) as channel:
            keys = [await _key(channel, number) for number in (1, 3, 4, 5)]
            ingest, stream, define, admin = keys
            upshot: Any = UpshotServiceStub(channel)
            flow = pb.DefineWorkflowRequest(workflow=workflow("welcome", "Signed Up", mail()))
            await upshot.DefineWorkflow(flow, metadata=bearer(define))
            person = event_pb2.Event(event_id="e1", user_id="ana")
            person.identify.traits.update({"email": "ana@home.example"})
            start = event_pb2.Event(event_id="e2", user_id="ana")
            start.track.event = "Signed Up"
            await upshot.Ingest(pb.IngestRequest(events=[person, start]), metadata=bearer(ingest))
            message_id = await _sent(channel, admin)
            with sqlite3.connect(server.database) as database:
                sql = "SELECT value FROM settings WHERE name = 'link_key'"
                ((key,),) = database.execute(sql).fetchall()
            links = LinkSigner(bytes.fromhex(key), PUBLIC)
            yield World(server, links, upshot, ingest, stream, message_id)


async def _key(channel: Any, number: int) -> str:
    scopes: Iterable[Any] = [number]
    request = key_pb2.CreateKeyRequest(scopes=scopes, workspace_id="acme")
    stub: Any = KeyServiceStub(channel)
    made: str = (await stub.CreateKey(request, metadata=bearer(ROOT))).secret
    return made


async def _sent(channel: Any, admin: str) -> str:
    """Return the id of the message, once it was sent."""
    stub: Any = AdminServiceStub(channel)
    async with asyncio.timeout(10):
        while True:
            request = admin_pb2.ListMessagesRequest()
            found = (await stub.ListMessages(request, metadata=bearer(admin))).messages
            if found and found[0].state == admin_pb2.MESSAGE_STATE_ACCEPTED:
                return str(found[0].message_id)
            await asyncio.sleep(0.02)


def bearer(key: str) -> list[tuple[str, str]]:
    """Return the metadata of a call by *key*."""
    return [("authorization", f"Bearer {key}")]


def event_of(event_id: str) -> bytes:
    """Return an event as Segment sends it."""
    call = {"type": "track", "userId": "ben", "event": "Seen", "messageId": event_id}
    return json.dumps(call, separators=(",", ":")).encode()
