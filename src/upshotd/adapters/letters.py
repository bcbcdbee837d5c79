"""E-mails made ready for mail programs: MJML, styles in the elements, UTM, a plain part."""

import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from html import escape, unescape
from html.parser import HTMLParser
from itertools import islice
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import css_inline
import mjml

from upshotd.domain.message import Email
from upshotd.domain.values import NOTHING

#: Nothing is ever fetched: what a letter says must be in the letter.
_INLINER = css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=True)
#: Tags that an ordinary stack has room for, all in each other, when MJML or styles are written out:
#: that goes down into every element, and where the stack ends the whole process does.
TAGS_MAX: Final = 500
#: A stack for as many as a text can have, in bytes; what is not used of it costs nothing.
STACK_BYTES: Final = 512 * 1024 * 1024
_STYLE = re.compile(r"<style\b", re.IGNORECASE)
_WEB_LINK = re.compile(r"""(<a\b[^<>]*?\bhref\s*=\s*)("https?://[^"]*"|'https?://[^']*')""", re.I)
#: Most tags that never end in what a plain part is made of: each is looked for to the very end.
STRAYS_MAX: Final = 50
_STRAY = re.compile(r"<[a-z/?](?![^<>]*>)", re.IGNORECASE)
#: What begins a new line of the plain part, and what begins a new paragraph.
_LINES: Final = frozenset({"br", "div", "li", "tr", "section", "header", "footer"})
_PARAGRAPHS: Final = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "hr"})
_SILENT: Final = frozenset({"style", "script", "title", "head"})
_WEB: Final = ("http://", "https://", "mailto:")


class MailLetters:
    """Finishes e-mails; knows nothing but their text."""

    def finish(self, email: Email) -> Email:
        """Return *email* as mail programs want it; raises ValueError for MJML that is none."""
        source = email.mjml or email.html
        if source.count("<") > TAGS_MAX and (email.mjml or _STYLE.search(source)):
            return _with_room(lambda: self._finished(email))
        return self._finished(email)

    def _finished(self, email: Email) -> Email:
        # Nothing is given that could load what mj-include names: such a letter is refused.
        html = mjml.mjml2html(email.mjml) if email.mjml else email.html
        if email.utm:
            html = _WEB_LINK.sub(lambda link: _tagged(link, email.utm), html)
        if _STYLE.search(html):
            html = _INLINER.inline(html)
        text = email.text or plain_text(html)
        if html is email.html and text is email.text and not email.utm:
            return email
        return email._replace(html=html, text=text, mjml="", utm=NOTHING)


def _with_room(work: Callable[[], Email]) -> Email:
    """Return what *work* returns in a thread of its own, with a stack of STACK_BYTES."""
    found: Future[Email] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:  # a panic of what is written in Rust is no Exception
            found.set_exception(error)

    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=run, name="upshot-letter")
        thread.start()
    finally:
        threading.stack_size(before)
    return found.result()


def _tagged(link: re.Match[str], utm: Mapping[str, str]) -> str:
    quote, target = link[2][0], unescape(link[2][1:-1])
    return f"{link[1]}{quote}{escape(with_utm(target, utm))}{quote}"


def with_utm(url: str, utm: Mapping[str, str]) -> str:
    """Return *url* with the parameters that it does not have yet; what is no address stays."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address, whatever it begins with
        return url
    known = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    more = {f"utm_{name}": value for name, value in utm.items() if value}
    added = urlencode({name: value for name, value in more.items() if name not in known})
    query = "&".join(part for part in (parts.query, added) if part)
    return urlunsplit(parts._replace(query=query))


def plain_text(html: str) -> str:
    """Return the text of *html* as people read it, with the targets of its links.

    Raises ValueError where more tags than STRAYS_MAX have no end.
    """
    strays = sum(1 for _ in islice(_STRAY.finditer(html), STRAYS_MAX + 1))
    if max(strays, html.rpartition("-->")[2].count("<!--")) > STRAYS_MAX:
        raise ValueError("too many tags have no end")
    reader = _Text()
    reader.feed(html)
    reader.close()
    return reader.text()


class _Text(HTMLParser):
    """Collects text; blank lines stand between paragraphs."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._silent = 0
        self._target = ""
        self._link_from = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        self._break(tag)
        if tag == "li":
            self._pieces.append("- ")
        if tag == "a":
            self._target = next((value or "" for name, value in attrs if name == "href"), "")
            self._link_from = len(self._pieces)
        if tag == "img":
            self._pieces.append(next((value or "" for name, value in attrs if name == "alt"), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        if tag == "a" and self._target:
            shown = "".join(self._pieces[self._link_from :]).strip()
            target, self._target = self._target, ""
            if target.startswith(_WEB) and shown != target.removeprefix("mailto:"):
                self._pieces.append(f" ({target.removeprefix('mailto:')})")
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._pieces.append(re.sub(r"\s+", " ", data))

    def _break(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._pieces.append("\n\n")
        elif tag in _LINES:
            self._pieces.append("\n")

    def text(self) -> str:
        """Return what was collected, without needless spaces and lines."""
        lines = [" ".join(line.split()) for line in "".join(self._pieces).split("\n")]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
