"""Requests that nobody honest sends, as the bytes that go over the socket; by a seed."""

import base64
import gzip
import json
import random
import zlib
from dataclasses import dataclass, field
from urllib.parse import urlencode

#: Brackets that are never closed.
NESTED = b"[" * 100_000
LETTERS = b"abcXYZ019._-~%/+=&?;:@ \\\x00\x01\x7f\x80\xc3\xff"
STRANGE_TEXT = (
    "é",
    "\N{BEAR FACE}",
    "\x00",
    "%00",
    "%ff%fe",
    "..%2f..%2fetc%2fpasswd",
    "{{7*7}}",
    "' OR 1=1 --",
    "<script>",
    "A" * 5_000,
)


@dataclass
class Known:
    """What an attacker may have seen: genuine tokens, signatures, keys of no use here."""

    #: Signed links by their kind.
    tokens: dict[str, str]
    sendgrid_signature: str = ""
    twilio_signature: str = ""
    segment_signature: str = ""
    #: A genuine body of each kind.
    events: bytes = b"[]"
    form: bytes = b""
    #: Keys that open something else.
    keys: list[str] = field(default_factory=list)


@dataclass
class Request:
    """One request."""

    method: str
    path: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def raw(self) -> bytes:
        """What goes over the socket; the server is to close the connection behind it."""
        lines = [self.method.encode() + b" " + self.path + b" HTTP/1.1", b"Host: up.example"]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join([*lines, b"Connection: close", b"", self.body])


class Attacker:
    """Makes requests."""

    def __init__(self, seed: int, known: Known) -> None:
        self._random = random.Random(seed)
        self._known = known

    def request(self) -> Request:
        """Return the next one."""
        make = self._random.choice(
            (self._sendgrid, self._twilio, self._inbound, self._tracking, self._link)
        )
        request = make()
        if self._chance(0.1):
            request.method = self._random.choice(("PUT", "DELETE", "PATCH", "TRACE", "BREW"))
        if self._chance(0.3):
            request.headers += self._odd_headers()
        self._frame(request)
        return request

    # -- what is asked for

    def _sendgrid(self) -> Request:
        name = b"X-Twilio-Email-Event-Webhook-"
        signature = self._any_signature(self._known.sendgrid_signature)
        time = self._random.choice((b"1767225600", b"1", b"", b"1e9", b"\xff", b"9" * 30))
        headers = [(name + b"Signature", signature), (name + b"Timestamp", time)]
        body = self._changed(self._known.events)
        return Request("POST", b"/callbacks/sendgrid/mail", headers, body)

    def _twilio(self) -> Request:
        token = self._token("k")
        signature = self._any_signature(self._known.twilio_signature)
        path = b"/callbacks/twilio/texts/" + token
        if self._chance(0.2):
            path += b"?bodySHA256=" + self._junk(64)
        headers = [(b"X-Twilio-Signature", signature), (b"Content-Type", self._content_type())]
        return Request("POST", path, headers, self._changed(self._known.form))

    def _inbound(self) -> Request:
        headers = [(b"X-Signature", self._any_signature(self._known.segment_signature))]
        path = b"/inbound/segment/" + self._key()
        if self._chance(0.4):
            path, headers = b"/inbound/segment", [(b"Authorization", self._authorization())]
        return Request("POST", path, headers, self._json())

    def _tracking(self) -> Request:
        kind = self._random.choice(("batch", "track", "identify", "t", "i", "alias", "nothing"))
        headers = [
            (b"Authorization", self._authorization()),
            (b"Content-Type", self._content_type()),
        ]
        return Request("POST", f"/v1/{kind}".encode(), headers, self._json())

    def _link(self) -> Request:
        kind = self._random.choice("ocupadqr")
        # A genuine one of another kind, or one that was changed.
        other = self._random.choice([k for k in "ocupadqrk" if k != kind])
        token = self._token(kind) if self._chance(0.6) else self._known.tokens[other].encode()
        end = b".gif" if kind == "o" else b""
        method = self._random.choice(("GET", "POST", "HEAD"))
        headers = [(b"Content-Type", self._content_type())]
        body = b"" if method != "POST" else self._changed(self._known.form)
        return Request(method, b"/" + kind.encode() + b"/" + token + end, headers, body)

    # -- what is in it

    def _token(self, kind: str) -> bytes:
        """Return no genuine token of *kind*."""
        real = self._known.tokens[kind]
        text, _, mac = real.partition(".")
        forged = base64.urlsafe_b64encode(b"default\nmsg-1\nhttps://evil.example").decode()
        return self._random.choice(
            (
                real[:-1].encode(),
                self._flipped(real).encode(),
                f"{forged}.{mac}".encode(),
                f"{text}.".encode(),
                f"{text}.{mac}{mac}".encode(),
                self._junk(self._random.randrange(1, 200)).replace(b"/", b"%2F"),
                self._random.choice(STRANGE_TEXT).encode().replace(b" ", b"%20"),
                b"%80%ff",
                b"",
            )
        )

    def _any_signature(self, real: str) -> bytes:
        """Return a signature of something else, or none at all."""
        return self._random.choice(
            (
                real.encode(),
                self._flipped(real).encode() if real else b"",
                base64.b64encode(self._random.randbytes(70)),
                self._random.randbytes(20).hex().encode(),
                b"",
                "é".encode(),
                b"\xff\xfe",
                b"A" * 10_000,
            )
        )

    def _key(self) -> bytes:
        junk = self._junk(20).replace(b"/", b"%2F")
        return self._random.choice((junk, b"%ff", b"any", *(k.encode() for k in self._known.keys)))

    def _authorization(self) -> bytes:
        key = self._random.choice(("any", *self._known.keys)).encode()
        return self._random.choice(
            (
                b"Basic " + base64.b64encode(key + b":"),
                b"Basic \xff\xfe",
                b"Basic " + base64.b64encode(b"\xff\xfe:"),
                b"Bearer " + key,
                b"Bearer \xc3\x28\xff",
                "Bearer é\N{BEAR FACE}".encode(),
                b"Link " + self._known.tokens["k"].encode(),
                b"Bearer",
                b"",
            )
        )

    def _json(self) -> bytes:
        event = {"type": "track", "userId": "u", "event": "Go", "messageId": "m"}
        deep: object = "x"
        for _ in range(self._random.randrange(1, 900)):
            deep = {"a": deep} if self._chance(0.5) else [deep]
        value = self._random.choice(
            (
                event,
                [event] * 3,
                {"batch": [event, 5, None], "writeKey": self._random.choice(STRANGE_TEXT)},
                {"batch": [{**event, "properties": deep}]},
                {**event, "writeKey": "\ud800"},
                {"batch": [{}] * 2_501},
                {**event, "timestamp": 1e308, "context": {"a": 10**400}},
                deep,
            )
        )
        text = json.dumps(value).encode()
        return self._random.choice(
            (text, text[:-2], NESTED, b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"))
        ) + self._random.choice((b"", b"\x00", b" " * 1_000))

    def _changed(self, real: bytes) -> bytes:
        """Return *real* with something changed, or something else."""
        at = self._random.randrange(len(real))
        turned = real[:at] + bytes([real[at] ^ 1 << self._random.randrange(8)]) + real[at + 1 :]
        strange = urlencode({text: text for text in STRANGE_TEXT}).encode()
        many = b"&".join(b"a%d=1" % number for number in range(1_000))
        return self._random.choice(
            (turned, real + b" ", real * 2, b"", NESTED, strange, many, b"%" * 9_999, b"\xff" * 99)
        )

    def _content_type(self) -> bytes:
        form, charset = b"application/x-www-form-urlencoded", b"; charset="
        return self._random.choice(
            (
                form,
                form + charset + b"nonsense",
                form + charset + b"utf-16",
                form + charset + b"idna",
                form + charset + b"\xff",
                b"multipart/form-data; boundary=x",
                b"multipart/form-data",
                b"application/json" + charset + b"rot13",
                b"application/json",
                b"///",
                b"",
            )
        )

    def _odd_headers(self) -> list[tuple[bytes, bytes]]:
        many = [(b"X-%d" % number, b"x") for number in range(300)]
        return self._random.choice(
            (
                [(b"Expect", b"100-continue")],
                [(b"Expect", b"nonsense")],
                [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", b"x")],
                [(b"X-Long", b"x" * 30_000)],
                [(b"Cookie", b"a=" + b"\xff" * 100)],
                [(b"Range", b"bytes=0-0"), (b"If-Modified-Since", b"nonsense")],
                [(b"X-Forwarded-For", b"\xff"), (b"Forwarded", b'for=;;;="')],
                [(b"X-Request-Id", b"\x01")],
                [(b"Bad Name", b"x")],
                many,
            )
        )

    def _frame(self, request: Request) -> None:
        """Say how the body comes, and sometimes lie."""
        body = request.body
        how = self._random.choice(("plain",) * 6 + ("gzip", "deflate", "broken", "chunked", "lie"))
        match how:
            case "gzip":
                body = gzip.compress(body)
                request.headers.append((b"Content-Encoding", b"gzip"))
            case "deflate":
                body = zlib.compress(body)
                request.headers.append((b"Content-Encoding", b"deflate"))
            case "broken":
                coding = self._random.choice((b"gzip", b"br", b"zstd", b"deflate", b"nonsense"))
                request.headers.append((b"Content-Encoding", coding))
            case "chunked":
                request.headers.append((b"Transfer-Encoding", b"chunked"))
                end = self._random.choice((b"0\r\n\r\n", b"zz\r\n", b"0\r\nX: y\r\n\r\n"))
                request.body = b"%x\r\n%b\r\n%b" % (len(body), body, end)
                return
        request.body = body
        length = self._random.choice((b"-1", b"x", b"1")) if how == "lie" else b"%d" % len(body)
        request.headers.append((b"Content-Length", length))

    # -- chance

    def _chance(self, of: float) -> bool:
        return self._random.random() < of

    def _junk(self, length: int) -> bytes:
        return bytes(self._random.choices(LETTERS, k=length))

    def _flipped(self, text: str) -> str:
        at = self._random.randrange(len(text))
        return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
