"""Rendering a message: templates to texts, once, at its intent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, assert_never

from upshotd.domain.errors import TemplateError
from upshotd.domain.message import (
    Attachment,
    Chat,
    Content,
    Email,
    Inbox,
    Message,
    Push,
    Sms,
    Webhook,
)
from upshotd.domain.names import DECIDING_LINKS
from upshotd.domain.values import NOTHING

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey


def rendered(
    content: Content, message: Message, journey: Journey, known: Mapping[str, object]
) -> Content:
    """Return *content* with its templates filled, which may name what is *known*; raises
    TemplateError."""
    names, templates = _Names(message, journey, known), journey.draft.definitions.templates

    def text(source: str) -> str:
        return templates.render(source, names.of(source)) if source else ""

    match content:
        case Email():
            return _email(content, message, journey, names, text)
        case Sms(body):
            return Sms(text(body))
        case Push(title, body, data):
            return Push(_line(text(title)), text(body), _texts(data, text))
        case Webhook(body):
            return Webhook(text(body))
        case Chat(body):
            return Chat(text(body))
        case Inbox(title, body, action_url):
            return Inbox(_line(text(title)), text(body), _line(text(action_url)))
        case _:
            assert_never(content)


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: Fields of an e-mail from here on are those that few have.
_PLAIN: Final = Email._fields.index("reply_to")


class _Names:
    """What the templates of a message may name; links are signed only for those that name them."""

    def __init__(self, message: Message, journey: Journey, known: Mapping[str, object]) -> None:
        self._message = message
        self._journey = journey
        self._names = known

    def of(self, source: str) -> Mapping[str, object]:
        """Return what *source* may name."""
        if "links" in source and "links" not in self._names:
            draft = self._journey.draft
            workspace_id = draft.changes.workspace_id
            links = draft.definitions.links.named(workspace_id, self._message.message_id)
            if "approval" not in self._names:  # where nothing is asked they would lead nowhere
                links = {word: links[word] for word in links.keys() - DECIDING_LINKS}
            self._names = {**self._names, "links": links}
        return self._names


def _email(
    email: Email, message: Message, journey: Journey, names: _Names, text: Callable[[str], str]
) -> Email:
    """Return the finished e-mail: written out, with its links made ours."""
    definitions = journey.draft.definitions
    source = email.mjml or email.html
    html = definitions.templates.render(source, names.of(source), html=True) if source else ""
    filled = Email(_line(text(email.subject)), html, text(email.text))
    if email[_PLAIN:] != filled[_PLAIN:]:
        filled = filled._replace(
            html="" if email.mjml else html,
            reply_to=_line(text(email.reply_to)),
            headers=_lines(email.headers, text),
            mjml=html if email.mjml else "",
            utm=_lines(email.utm, text),
            attachments=tuple([_attachment(attachment, text) for attachment in email.attachments]),
        )
    try:
        finished = definitions.letters.finish(filled)
    except ValueError as error:
        raise TemplateError(str(error)) from None
    workspace_id = journey.draft.changes.workspace_id
    return definitions.links.decorate(finished, workspace_id, message.message_id)


def _attachment(attachment: Attachment, text: Callable[[str], str]) -> Attachment:
    url = text(attachment.url).strip()
    if not url.startswith(("http://", "https://")):
        raise TemplateError(f"an attachment's address is {url[:100]!r}, not of http or https")
    return Attachment(url, _line(text(attachment.filename)))


def _line(text: str) -> str:
    """Return *text* as one line, without controls: no header takes any, and some are of others."""
    line = " ".join(text.split())
    return line if line.isprintable() else _CONTROL.sub("", line)


def _lines(texts: Mapping[str, str], text: Callable[[str], str]) -> Mapping[str, str]:
    if not texts:
        return NOTHING
    return {name: _line(text(value)) for name, value in texts.items()}


def _texts(texts: Mapping[str, str], text: Callable[[str], str]) -> Mapping[str, str]:
    return {name: text(value) for name, value in texts.items()} or NOTHING
