"""An e-mail as bytes for SMTP: headers that cannot be injected into, and a body of plain ASCII.

The standard library decodes encoded words in whatever it is given as a header, so that the subject
`=?utf-8?q?a=0D=0ABcc:_x=40y?=` writes a Bcc line; it also breaks up long addresses of
List-Unsubscribe into encoded words, which no mailbox provider reads. Both end with `_Line`: our
headers are checked here, then written as they stand.
"""

import email.policy
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import Policy
from email.utils import format_datetime, formataddr

from upshotd.adapters.providers.attachments import File
from upshotd.adapters.providers.wording import has_controls
from upshotd.domain.message import Delivery, Email

#: Local part and domain without quoting, comments or literals: nothing that needs a parser.
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\\\"@]{1,64}@[^\s<>()\[\],;:\\\"@]{1,253}")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: RFC 5322 asks lines of at most 78 characters and forbids more than 998, in octets.
_SHORT = 66
_LONGEST = 900
#: Quoted-printable or base64 for anything but short ASCII lines, so that every relay can carry it.
_POLICY = email.policy.SMTP.clone(cte_type="7bit")


class Unsendable(Exception):
    """This e-mail may not be put on a wire; `reason` is one of the words of `Refused`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Letter:
    """An e-mail and its envelope."""

    message: EmailMessage
    #: The one recipient, its domain in ASCII.
    recipient: str
    #: Message-ID without its brackets: the same for every attempt of one message.
    internet_id: str


class _Line(str):
    """A header that is already checked and encoded: `name: value`, written as it stands."""

    name: str

    @classmethod
    def of(cls, name: str, value: str) -> "_Line":
        line = cls(value)
        line.name = name
        return line

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


def ascii_domain(address: str) -> str:
    """`address` with its domain in ASCII; ValueError when it is no plain address."""
    if has_controls(address) or "=?" in address or not _ADDRESS.fullmatch(address):
        raise ValueError("not a plain e-mail address")
    local, _, domain = address.rpartition("@")
    # UnicodeError, of labels that are empty or too long, is a ValueError.
    return f"{local}@{domain.encode('idna').decode('ascii')}"


def compose(
    delivery: Delivery,
    content: Email,
    sender: str,
    from_name: str,
    now_us: int,
    files: Sequence[File] = (),
) -> Letter:
    """The e-mail of `delivery` with its *files*; raises Unsendable.

    `sender` is a plain ASCII address, `from_name` the display name beside it or empty.
    """
    recipient = recipient_of(delivery.recipient)
    internet_id = f"{_plain_id(delivery.message_id)}@{sender.rpartition('@')[2]}"
    message = EmailMessage(policy=_POLICY)
    for name, value in (
        ("Date", format_datetime(datetime.fromtimestamp(now_us // 1_000_000, UTC))),
        ("From", _from(from_name, sender)),
        ("To", recipient),
        ("Subject", _words("subject", content.subject)),
        ("Message-ID", f"<{internet_id}>"),
        ("X-Upshot-Message-Id", _clean("message id", delivery.message_id)),
        *unsubscribe_headers(content.unsubscribe_url),
        *_reply_to(content.reply_to),
        *((name, _words(name, value)) for name, value in content.headers.items()),
    ):
        message[name] = _Line.of(name, value)
    _write_body(message, content)
    for file in files:
        _attach(message, file)
    return Letter(message, recipient, internet_id)


def recipient_of(address: str) -> str:
    """The address with its domain in ASCII; raises Unsendable."""
    try:
        return ascii_domain(address)
    except ValueError as error:
        raise Unsendable("INVALID_ADDRESS", str(error).partition(" (")[0]) from None


def _from(name: str, address: str) -> str:
    if has_controls(name + address) or not address.isascii():
        raise Unsendable("PROVIDER_ERROR", "the sender cannot be a header")
    if name.isascii():
        return formataddr((name, address))
    words = Header(name, "utf-8", header_name="From").encode(linesep="\r\n")
    return f"{words}\r\n <{address}>"


def _plain_id(message_id: str) -> str:
    if _ID.fullmatch(message_id):
        return message_id
    return hashlib.sha256(message_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _clean(what: str, value: str) -> str:
    if has_controls(value) or not value.isascii() or len(value) > _LONGEST:
        raise Unsendable("PROVIDER_ERROR", f"the {what} cannot be a header")
    return value


def _words(name: str, value: str) -> str:
    text = value.strip()
    if has_controls(text):
        raise Unsendable("PROVIDER_ERROR", f"the {name} has control characters")
    if text.isascii() and len(text) <= _SHORT and "=?" not in text:
        return text
    return Header(text, "utf-8", header_name=name).encode(linesep="\r\n")


def unsubscribe_headers(url: str) -> tuple[tuple[str, str], ...]:
    """The headers of one-click unsubscription (RFC 8058); raises Unsendable."""
    if not url:
        return ()
    if " " in url or ">" in url:
        raise Unsendable("PROVIDER_ERROR", "the unsubscribe address cannot be a header")
    return (
        ("List-Unsubscribe", f"<{_clean('unsubscribe address', url)}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    )


def _reply_to(address: str) -> tuple[tuple[str, str], ...]:
    if not address:
        return ()
    try:
        return (("Reply-To", ascii_domain(address)),)
    except ValueError as error:
        raise Unsendable("PROVIDER_ERROR", f"reply_to: {error}".partition(" (")[0]) from None


def _write_body(message: EmailMessage, content: Email) -> None:
    write: Callable[..., None] = message.set_content
    try:
        if content.text or not content.html:
            write(content.text, cte=_encoding(content.text))
            write = message.add_alternative
        if content.html:
            write(content.html, subtype="html", cte=_encoding(content.html))
    except UnicodeEncodeError:
        raise Unsendable("PROVIDER_ERROR", "the body is not valid Unicode") from None


def _attach(message: EmailMessage, file: File) -> None:
    # A folder in a name, or quotes around it, is what some mail programs would follow.
    name = file.name.replace("\\", "/").rpartition("/")[2].replace('"', "'")
    if has_controls(name):
        raise Unsendable("ATTACHMENT_ERROR", "the name of an attachment has control characters")
    message.add_attachment(
        file.data, maintype=file.maintype, subtype=file.subtype, filename=name[:200]
    )


def _encoding(text: str) -> str | None:
    # Left to itself the library sends NUL and its like as they are, which relays refuse.
    odd = any(ord(character) < 0x20 and character not in "\n\r\t" for character in text)
    return "quoted-printable" if odd else None
