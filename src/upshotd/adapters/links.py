"""Signed links of messages: open pixel, click, unsubscribe, preferences, approvals, callbacks.

A token is the text it carries and a MAC over that very text and the link's kind, so that neither
another encoding of it, nor a click's token in an unsubscribe link, is ever read.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest
from html import escape, unescape
from typing import Final, get_args

from upshotd.domain.language import Link, LinkKind
from upshotd.domain.message import Email

KEY_BYTES: Final = 16
MAC_BYTES: Final = 16
#: Longest target that is signed; a longer link stays as it is.
TARGET_CHARS: Final = 2048
TOKEN_CHARS: Final = 16 * 1024
#: Attribute that keeps a link out of tracking.
NO_TRACK: Final = "data-upshot-notrack"

#: What templates call our pages, and the kind of their links.
_PAGES: Final[Mapping[str, LinkKind]] = {
    "unsubscribe": "u",
    "preferences": "p",
    "approve": "a",
    "deny": "d",
    "ask": "q",
    "review": "r",
}
_SEPARATOR = "\n"
#: Absolute, with a host, and nothing that browsers drop or read in two ways.
_TARGET = re.compile(r"https?://[^/\\?#\s\x00-\x20\x7f][^\\\s\x00-\x20\x7f]*", re.IGNORECASE)
_ANCHOR = re.compile(r"<a(?=[\s/])", re.IGNORECASE)
_TAG_END = re.compile(r"""(?:[^>"']++|"[^"]*+"|'[^']*+')*+>""")
_ATTRIBUTE = re.compile(r"""([^\s"'>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_BODY_END = re.compile(r"</body", re.IGNORECASE)


class LinkSigner:
    """Makes and reads signed links; see the `Links` port.

    *key* signs: at least 16 random bytes, kept as long as links should work. *base_url* is where
    this installation is reached from outside; while it is empty, mail leaves undecorated.
    """

    def __init__(self, key: bytes, base_url: str) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"the key of links needs at least {KEY_BYTES} bytes")
        # HMAC-SHA256 (RFC 2104) with both halves of the key hashed once, half the cost per link.
        block = (sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))
        self._base_url = base_url.rstrip("/")
        self._escaped_base_url = escape(self._base_url)
        #: Pages of ours, which are no clicks.
        self._own = tuple(f"{self._base_url}/{kind}/" for kind in _PAGES.values())

    def open_url(self, workspace_id: str, message_id: str) -> str:
        """Return the address of the pixel that tells of an opening."""
        return f"{self._base_url}/o/{self._token('o', _text(workspace_id, message_id))}.gif"

    def click_url(self, workspace_id: str, message_id: str, target: str) -> str:
        """Return the address that leads to *target*; ValueError if that is no http(s) URL."""
        if not _is_target(target):
            raise ValueError("a click leads to an absolute http or https URL only")
        text = _text(workspace_id, message_id, target)
        return f"{self._base_url}/c/{self._token('c', text)}"

    def unsubscribe_url(self, workspace_id: str, message_id: str) -> str:
        """Return the address that takes a one-click unsubscription by POST."""
        return self._page("u", _text(workspace_id, message_id))

    def preferences_url(self, workspace_id: str, message_id: str) -> str:
        """Return the address of the page where whoever got the message chooses what comes."""
        return self._page("p", _text(workspace_id, message_id))

    def callback_token(self, workspace_id: str, message_id: str) -> str:
        """Return the token by which a provider's callback names a message."""
        return self._token("k", _text(workspace_id, message_id))

    def named(self, workspace_id: str, message_id: str) -> dict[str, object]:
        """Return `links` as templates see it; empty where nobody could reach them."""
        if not self._base_url:
            return {}
        text = _text(workspace_id, message_id)
        return {word: self._page(kind, text) for word, kind in _PAGES.items()}

    def read(self, kind: LinkKind, token: str) -> Link | None:
        """Return what *token* says; None unless it was signed here for this *kind*."""
        text, dot, mac = (token.removesuffix(".gif") if kind == "o" else token).partition(".")
        if not dot or len(token) > TOKEN_CHARS or not token.isascii():
            return None
        if not compare_digest(mac.encode(), self._mac(kind, text.encode())):
            return None
        try:
            parts = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(_SEPARATOR)
        except (Base64Error, UnicodeDecodeError):
            return None
        if len(parts) != 3 or (kind == "c") != _is_target(parts[2]):
            return None
        return Link(kind, *parts)

    def read_any(self, token: str) -> Link | None:
        """Return what a link of any kind says; None for no such link."""
        kinds: tuple[LinkKind, ...] = get_args(LinkKind)
        found = (self.read(kind, token) for kind in kinds)
        return next((link for link in found if link is not None), None)

    def decorate(self, email: Email, workspace_id: str, message_id: str) -> Email:
        """Return *email* with signed links in its HTML, a pixel and an unsubscribe URL.

        Plain text keeps its links: people read them there.
        """
        if not self._base_url:
            return email
        text = _text(workspace_id, message_id)
        html = email.html
        if html:
            html = self._with_pixel(self._with_clicks(html, workspace_id, message_id), text)
        return email._replace(html=html, unsubscribe_url=self._page("u", text))

    def _page(self, kind: LinkKind, text: bytes) -> str:
        return f"{self._base_url}/{kind}/{self._token(kind, text)}"

    def _token(self, kind: LinkKind, text: bytes) -> str:
        return f"{text.decode()}.{self._mac(kind, text).decode()}"

    def _mac(self, kind: LinkKind, text: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(kind.encode() + b"|" + text)
        outer.update(inner.digest())
        return urlsafe_b64encode(outer.digest()[:MAC_BYTES]).rstrip(b"=")

    def _with_pixel(self, html: str, text: bytes) -> str:
        source = f"{self._escaped_base_url}/o/{self._token('o', text)}.gif"
        pixel = f'<img src="{source}" width="1" height="1" alt="" style="border:0">'
        end = html.rfind("</body")
        if end < 0:
            found = _BODY_END.search(html)  # there is one, in other letters, or none
            end = found.start() if found is not None else len(html)
        return f"{html[:end]}{pixel}{html[end:]}"

    def _with_clicks(self, html: str, workspace_id: str, message_id: str) -> str:
        pieces: list[str] = []
        done = 0
        while (anchor := _ANCHOR.search(html, done)) is not None:
            tag = _TAG_END.match(html, anchor.end())
            if tag is None:  # never closed: no reader of mail makes a link of it either
                break
            found = _target_of(html, anchor.end(), tag.end() - 1)
            if found is not None and not found[2].startswith(self._own):
                start, end, target = found
                token = self._token("c", _text(workspace_id, message_id, target))
                pieces += (html[done:start], f'"{self._escaped_base_url}/c/{token}"')
                done = end
            pieces.append(html[done : tag.end()])
            done = tag.end()
        return "".join((*pieces, html[done:]))


def _text(workspace_id: str, message_id: str, target: str = "") -> bytes:
    text = _SEPARATOR.join((workspace_id, message_id, target))
    if text.count(_SEPARATOR) != 2:
        raise ValueError("an id or a target holds a line break")
    return urlsafe_b64encode(text.encode()).rstrip(b"=")


def _target_of(html: str, start: int, end: int) -> tuple[int, int, str] | None:
    """Return where the value of href stands in a tag, and the target; None to leave the tag."""
    found = None
    for attribute in _ATTRIBUTE.finditer(html, start, end):
        name = attribute[1].lower()
        if name == NO_TRACK:
            return None
        # Of two attributes of one name readers take the first.
        if name == "href" and found is None and attribute[2] is not None:
            target = unescape(attribute[2].strip("\"'")).strip()
            found = (attribute.start(2), attribute.end(2), target)
    return found if found is not None and _is_target(found[2]) else None


def _is_target(target: str) -> bool:
    if len(target) > TARGET_CHARS or _TARGET.fullmatch(target) is None:
        return False
    try:
        target.encode()
    except UnicodeEncodeError:  # a lone surrogate cannot be signed
        return False
    return True
